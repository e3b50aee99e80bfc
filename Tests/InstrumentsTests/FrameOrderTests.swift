import Instruments
import QKDModel
import QKDTesting
import Testing
import Transport

/// A device's data connection without sockets: a ring, credits, frames on their way, a SEEK that arrives later.
private struct ModelDevice {
    var ring: [UInt64]
    /// Frames whose numbering has a hole before them because the ring was full.
    var overruns: Set<UInt64>
    var position: UInt64 = 0
    var credits: Int
    var onTheWay: [UInt64] = []

    mutating func send(_ count: Int) {
        for _ in 0..<count where credits > 0 {
            guard let number = ring.first(where: { $0 >= position }) else { return }
            position = number + 1
            credits -= 1
            onTheWay.append(number)
        }
    }
}

@Suite struct FrameOrderTests {
    /// Holes with and without notice, frames corrupt once or for ever, SEEKs that overtake nothing: what comes out is in
    /// order, complete but for what is truly gone, and every loss is counted.
    @Test(arguments: 0..<300)
    func keepsOrderWhateverHappens(seed: Int) throws {
        let random = SeededRandom(UInt64(seed))
        func chance(_ one: UInt64) -> Bool { random.word() % one == 0 }
        var numbers: [UInt64] = []
        var overruns: Set<UInt64> = []
        var number: UInt64 = random.word() % 5
        for _ in 0..<60 {
            if chance(12) {
                number += 1 + random.word() % 4
                overruns.insert(number)
            } else if chance(25) {
                number += 1
            }
            numbers.append(number)
            number += 1
        }
        let hopeless = Set(numbers.filter { _ in chance(30) })
        var corruptOnce = Set(numbers.filter { _ in chance(8) })
        let depth = 1 + Int(random.word() % 8)
        var device = ModelDevice(ring: numbers, overruns: overruns, credits: depth)
        var order = FrameOrder()
        var delivered: [UInt64] = []
        var lost: UInt64 = 0
        var idle = 0
        while idle < 3 {
            device.send(1 + Int(random.word() % 4))
            guard !device.onTheWay.isEmpty else {
                idle += 1
                continue
            }
            idle = 0
            let arrived = device.onTheWay.removeFirst()
            let isWhole = !hopeless.contains(arrived) && corruptOnce.remove(arrived) == nil
            let outstanding = device.credits + device.onTheWay.count
            switch order.input(arrived, overrun: overruns.contains(arrived), isWhole: isWhole, outstanding: outstanding) {
            case .deliver(let missing):
                #expect(isWhole)
                delivered.append(arrived)
                lost += missing
            case .drop: break
            case .seek(let wanted): device.position = wanted
            case .restarted: Issue.record("nothing restarted")
            }
            device.credits += 1
        }
        #expect(zip(delivered, delivered.dropFirst()).allSatisfy { $0 < $1 }, "in order, nothing twice")
        #expect(delivered == numbers.filter { !hopeless.contains($0) }, "nothing is given up that can be had")
        let first = try #require(delivered.first)
        let last = try #require(delivered.last)
        // Losses before the first delivered frame are known only where a corrupt frame named them.
        let inside = last - first + 1 - UInt64(delivered.count)
        #expect(lost >= inside && lost <= inside + first)
    }

    @Test func aDeviceThatCountsFromTheStartIsNoticed() {
        var order = FrameOrder(expected: 1000)
        var verdict = FrameOrder.Verdict.drop
        for number in 0..<400 as Range<UInt64> {
            verdict = order.input(number, overrun: false, isWhole: true, outstanding: 8)
            if verdict == .restarted { break }
        }
        #expect(verdict == .restarted)
    }
}

@Suite struct FrameHeaderTests {
    private func header(_ change: (inout [UInt8]) -> Void) -> [UInt8] {
        var bytes = Array(FrameSpecification(number: 7, symbols: 64).bytes().prefix(72))
        change(&bytes)
        let crc = FrameSpecification.crc(Array(bytes[..<68]))
        withUnsafeBytes(of: crc.littleEndian) { bytes.replaceSubrange(68..<72, with: $0) }
        return bytes
    }

    private func parse(_ bytes: [UInt8]) throws -> FrameHeader { try bytes.withUnsafeBytes { try FrameHeader($0) } }

    @Test func goodHeaderIsRead() throws {
        let read = try parse(header { _ in })
        #expect(read.number == 7 && read.count == 64 && read.payloadBytes == 256 && read.kind == .signal)
    }

    /// Each of these has a right checksum and a wrong content.
    @Test(arguments: [
        (4, 2), (6, 80), (8, 1), (12, 65), (11, 0x40), (48, 0), (48, 9), (59, 0xFF),
    ])
    func wrongContentIsRefused(offset: Int, value: UInt8) {
        #expect(throws: InstrumentError.self) { try parse(header { $0[offset] = value }) }
    }

    @Test func lengthsAreBounded() {
        // 64 MiB that fit their count: longer than any frame of the protocol.
        let bytes = header { bytes in
            withUnsafeBytes(of: UInt32(64 << 20).littleEndian) { bytes.replaceSubrange(8..<12, with: $0) }
            withUnsafeBytes(of: UInt32(16 << 20).littleEndian) { bytes.replaceSubrange(12..<16, with: $0) }
        }
        #expect(throws: InstrumentError.self) { try parse(bytes) }
        #expect(throws: InstrumentError.self) { try parse(header { $0.replaceSubrange(8..<16, with: [UInt8](repeating: 0, count: 8)) }) }
        #expect(throws: InstrumentError.self) { try parse(Array(header { _ in }.prefix(71))) }
    }

    @Test func anyFlippedBitIsNoticed() {
        let good = header { _ in }
        for bit in 0..<(72 * 8) where !(64 * 8..<68 * 8).contains(bit) {
            var bytes = good
            bytes[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: InstrumentError.self) { try parse(bytes) }
        }
    }

    @Test func randomHeaders() {
        let random = SeededRandom(9)
        for _ in 0..<20_000 {
            let bytes = header { bytes in
                for _ in 0..<(random.word() % 6) { bytes[4 + Int(random.word() % 64)] = UInt8(truncatingIfNeeded: random.word()) }
            }
            guard let read = try? parse(bytes) else { continue }
            #expect(read.payloadBytes == 4 * read.count && read.payloadBytes <= FrameHeader.longestPayload && read.scale > 0)
        }
    }
}
