import Foundation
import QKDModel
import Testing

@Suite("Identifiers")
struct IdentifierTests {
    @Test(
        "What is safe in a path, a URL and a log line is a name",
        arguments: ["almagro", "ALM-TX-1", "kme_1.madrid:2", "0", String(repeating: "a", count: 64)])
    func names(text: String) throws {
        #expect(try NodeID(text).rawValue == text)
        #expect(LinkID(rawValue: text)?.description == text)
    }

    @Test(
        "Anything else is refused, and the error says which text",
        arguments: ["", "-a", ".", "..", "a/b", "a b", "a\n", "é", "a%2f", String(repeating: "a", count: 65)])
    func noNames(text: String) {
        #expect(throws: QKDModelError.badIdentifier(kind: "NodeID", text: text)) { try NodeID(text) }
        #expect(SAEID(rawValue: text) == nil)
    }

    @Test("JSON carries the bare name and is checked on the way in")
    func json() throws {
        let id = try DeviceSerial("NOR-RX-1")
        #expect(String(decoding: try JSONEncoder().encode([id]), as: UTF8.self) == "[\"NOR-RX-1\"]")
        #expect(try JSONDecoder().decode([DeviceSerial].self, from: Data("[\"NOR-RX-1\"]".utf8)) == [id])
        #expect(throws: (any Error).self) { try JSONDecoder().decode([DeviceSerial].self, from: Data("[\"a/b\"]".utf8)) }
    }

    @Test("Ids of blocks and keys are written in lower case, as ETSI GS QKD 014's examples are")
    func uuids() throws {
        let uuid = try #require(UUID(uuidString: "BC490419-7D60-487F-ADC1-4DDCC177C139"))
        #expect(KeyID(uuid).description == "bc490419-7d60-487f-adc1-4ddcc177c139")
        #expect(BlockID(uuid).description == KeyID(uuid).description)
    }
}

@Suite("Units")
struct UnitTests {
    @Test(
        "Decibels and transmittance are each other's inverse",
        arguments: [(0.0, 1.0), (3.0, 0.5011872), (6.0, 0.2511886), (11.0, 0.07943282), (20.0, 0.01)])
    func decibels(loss: Double, transmittance: Double) {
        #expect(abs(Decibels(loss).transmittance / transmittance - 1) < 1e-6)
        #expect(abs(Decibels(transmittance: Decibels(loss).transmittance).value - loss) < 1e-12)
    }

    @Test("Losses in a row add up, and transmittances multiply")
    func sum() {
        let (a, b) = (Decibels(7), Decibels(4))
        #expect(a + b == Decibels(11))
        #expect(abs((a + b).transmittance - a.transmittance * b.transmittance) < 1e-15)
    }
}

@Suite("Grid channels")
struct GridChannelTests {
    @Test(
        "ITU-T G.694.1: channel 34 is 193.4 THz, 1550.12 nm",
        arguments: [(17, 191.7e12, 1563.863), (34, 193.4e12, 1550.116), (60, 196e12, 1529.553)])
    func places(number: Int, hertz: Double, nanometres: Double) {
        let channel = GridChannel(number)
        #expect(channel.frequency == hertz)
        #expect(abs(channel.wavelength - nanometres) < 0.001)
        #expect(GridChannel.nearest(nanometres: nanometres + 0.3) == channel)
    }

    @Test("A range of wavelengths holds the channels whose middle lies in it")
    func ranges() {
        #expect(GridChannel.numbers(between: 1528, and: 1568) == 12...61)
        #expect(GridChannel.numbers(between: 1550.1, and: 1550.2) == 34...34)
        #expect(GridChannel.numbers(between: 1550.2, and: 1550.3) == nil)
        #expect(GridChannel.numbers(between: 1568, and: 1528) == nil)
    }
}

@Suite("Randomness")
struct RandomnessTests {
    @Test("The kernel's bytes fill any length and never come twice", arguments: [1, 255, 256, 257, 5000])
    func kernel(count: Int) {
        let random = KernelRandom()
        #expect(random.bytes(count).count == count)
        // Two runs of 32 bytes are equal with a probability of 2^-256.
        #expect(random.bytes(32) != random.bytes(32))
        #expect(random.word() != random.word())
    }

    @Test("Long fills have bytes of every value in equal shares")
    func shares() {
        var counts = [Int](repeating: 0, count: 256)
        for byte in KernelRandom().bytes(1 << 20) { counts[Int(byte)] += 1 }
        // Each count is binomial with mean 4096 and deviation 64; 8 deviations fail once in 1e13 runs.
        #expect(counts.allSatisfy { abs($0 - 4096) < 8 * 64 })
    }
}
