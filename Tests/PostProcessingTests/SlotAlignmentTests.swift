import Foundation
import PostProcessing
import Testing

@Suite struct SlotAlignmentTests {
    struct Slot {
        var disclosure: SlotDisclosure
        var received: [Int16]
        var firstSymbol: UInt64
    }

    static let reach = 1 << 17

    /// A slot whose receiver's counter runs `offset` ahead, turned by `phase`; samples cover all offsets in reach.
    static func slot(
        snr: Double = 0.163, offset: Int, phase: Double, positions count: Int = 4000, span: Int = 300_000, seed: UInt64
    ) throws -> Slot {
        var draws = Draws(seed)
        let random = Bytes(seed)
        let positions = SlotDisclosure.choosePositions(count: count, span: span, random: random)
        let va = 1.7
        let first: UInt64 = 5_000_000
        let length = span + 2 * reach
        // Transmitter's symbol k arrives as index k + reach of the received stretch.
        let (gain, scale) = ((snr / va).squareRoot(), 150.0)
        var (x, p, received) = ([Float](), [Float](), [Int16]())
        var next = 0
        for index in 0..<length {
            let (a, b) = (va.squareRoot() * draws.normal(), va.squareRoot() * draws.normal())
            if next < count, index - reach == Int(positions[next]) {
                x.append(Float(a))
                p.append(Float(b))
                next += 1
            }
            let (y, q) = (gain * (cos(phase) * a - sin(phase) * b), gain * (sin(phase) * a + cos(phase) * b))
            received += [Int16((scale * (y + draws.normal()) + 12).rounded()), Int16((scale * (q + draws.normal()) - 9).rounded())]
        }
        return Slot(
            disclosure: try SlotDisclosure(firstSymbol: first, positions: positions, x: x, p: p), received: received,
            firstSymbol: UInt64(Int(first) + offset - reach))
    }

    static func align(_ slot: Slot, disclosure: SlotDisclosure? = nil, range: ClosedRange<Int> = -reach...reach) throws -> SlotAlignment? {
        try slot.received.withUnsafeBufferPointer {
            try SlotAlignment.correlate(disclosure ?? slot.disclosure, received: $0, firstSymbol: slot.firstSymbol, searchRange: range)
        }
    }

    @Test(arguments: [(0, 0.0), (1, 3.1), (-1, -3.1), (131_072, 1.0), (-131_072, -1.0), (77_777, 2.0)])
    func findsOffsetAndPhase(offset: Int, phase: Double) throws {
        for (seed, snr) in [(UInt64(1), 0.163), (2, 0.078)] {
            let slot = try Self.slot(snr: snr, offset: offset, phase: phase, seed: seed)
            let alignment = try #require(try Self.align(slot))
            #expect(alignment.offset == offset)
            #expect(abs(alignment.phase - phase) < 5 * alignment.phaseError)
            #expect(alignment.phaseError < 0.06)
            #expect(alignment.significance > 100 && alignment.falseAlarm < 1e-30)
        }
    }

    @Test func phaseErrorIsHonest() throws {
        var pull = 0.0
        for seed in 0..<60 {
            let slot = try Self.slot(offset: 3, phase: 0.5, positions: 1000, span: 4000, seed: 100 + UInt64(seed))
            let alignment = try #require(try Self.align(slot, range: -500...500))
            let deviation = (alignment.phase - 0.5) / alignment.phaseError
            pull += deviation * deviation
        }
        #expect((25...110).contains(pull), "\(pull)")
    }

    @Test func noiseIsNoSlot() throws {
        // The disclosure of another slot, a range that misses the offset, and a dark receiver.
        let (slot, other) = (try Self.slot(offset: 10, phase: 0, seed: 3), try Self.slot(offset: 10, phase: 0, seed: 4))
        #expect(try Self.align(slot, disclosure: other.disclosure) == nil)
        #expect(try Self.align(slot, range: 11...131_072) == nil)
        #expect(try Self.align(Self.slot(snr: 0, offset: 10, phase: 0, seed: 5)) == nil)
        var still = slot
        still.received = [Int16](repeating: 40, count: slot.received.count)
        #expect(try Self.align(still) == nil)
    }

    @Test func isQuick() throws {
        let slot = try Self.slot(offset: -5, phase: 0, seed: 6)
        let clock = ContinuousClock()
        let start = clock.now
        _ = try Self.align(slot)
        #expect(start.duration(to: clock.now) < .seconds(5))
    }

    @Test func disclosureTravels() throws {
        let disclosure = try Self.slot(offset: 0, phase: 0, positions: 50, span: 1000, seed: 7).disclosure
        let bytes = disclosure.encoded()
        #expect(try SlotDisclosure(decoding: bytes) == disclosure)
        for cut in [0, 5, 11, 12, bytes.count - 1] {
            #expect(throws: PostProcessingError.self) { try SlotDisclosure(decoding: Array(bytes.prefix(cut))) }
        }
        var draws = Draws(8)
        for _ in 0..<2000 {
            // Whatever a stranger makes of it is an error or a disclosure, never a trap.
            var forged = bytes
            for _ in 0..<1 + draws.next() % 4 { forged[Int(draws.next() % UInt64(forged.count))] = UInt8(truncatingIfNeeded: draws.next()) }
            guard let read = try? SlotDisclosure(decoding: forged) else { continue }
            #expect(read.positions.count == 50)
        }
    }

    @Test func positionsAreDifferentAndSpread() {
        let positions = SlotDisclosure.choosePositions(count: 4000, span: 100_000, random: Bytes(9))
        #expect(zip(positions, positions.dropFirst()).allSatisfy(<))
        let mean = positions.reduce(0.0) { $0 + Double($1) } / 4000
        #expect(abs(mean - 50_000) < 5 * 28_868 / 4000.0.squareRoot())
    }

    @Test func badWindowsAreErrors() throws {
        let slot = try Self.slot(offset: 0, phase: 0, positions: 50, span: 1000, seed: 10)
        #expect(throws: PostProcessingError.self) { try Self.align(slot, range: Int.min...Int.max) }
        #expect(throws: PostProcessingError.self) { try Self.align(slot, range: 0...1 << 23) }
    }
}
