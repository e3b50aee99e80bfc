// Symbols in-band: `FETCh:SYMBols?` on the control session, for serial lines and tests.

import Synchronization
import Transport

/// The stream of a device without a data connection: asks for frames as they appear in the ring.
///
/// An actor: one fetch at a time. The device time between two looks at an empty ring is `pause`.
actor FetchStream: SymbolSource {
    /// In-band answers are at most 4 MiB (instrument-protocol.md 1.8).
    private static let longestBlock = 4 << 20

    private let scpi: SCPISession
    private let clock: any Clock<Duration>
    private let pause: Duration
    private let deadline: Duration
    private let pool = BufferPool(kept: 16)
    private var order = FrameOrder()
    private nonisolated let shared = Mutex(Shared())

    private struct Shared {
        var begin: UInt64?
        var end: UInt64?
        var isClosed = false
        var statistics = StreamStatistics()
    }

    /// - Parameter deadline: for one frame on this line.
    init(_ scpi: SCPISession, clock: any Clock<Duration>, pause: Duration, deadline: Duration) {
        self.scpi = scpi
        self.clock = clock
        self.pause = pause
        self.deadline = deadline
    }

    nonisolated var statistics: StreamStatistics { shared.withLock { $0.statistics } }
    nonisolated func begin(at number: UInt64) { shared.withLock { ($0.begin, $0.end) = (number, nil) } }
    nonisolated func end(at number: UInt64) { shared.withLock { $0.end = number } }
    nonisolated func close() { shared.withLock { $0.isClosed = true } }

    func release(through number: UInt64) async throws { try await scpi.run("ACQuire:RELease \(number)") }

    func next() async throws -> SymbolFrame? {
        while true {
            let (end, isClosed) = shared.withLock { ($0.end, $0.isClosed) }
            if isClosed { return nil }
            try await skip()
            if let end, let expected = order.expected, expected >= end { return nil }
            let ring = try await scpi.numbers("ACQuire:AVAilable?", count: 2...2, in: 0...0x1p53).map { UInt64($0) }
            let wanted = max(order.expected ?? 0, ring[0])
            guard wanted < ring[1] else {
                try await clock.sleep(for: pause)
                continue
            }
            if let frame = try await fetch(wanted) { return frame }
        }
    }

    private func skip() async throws {
        let begin = shared.withLock { shared in
            defer { shared.begin = nil }
            return shared.begin
        }
        guard let begin else { return }
        order.skip(to: begin)
        if begin > 0 { try await release(through: begin - 1) }
    }

    private func fetch(_ number: UInt64) async throws -> SymbolFrame? {
        let result = try await scpi.block("FETCh:SYMBols? \(number),1", maximum: Self.longestBlock, within: deadline) {
            [pool] length, read in
            var bytes = [UInt8](repeating: 0, count: FrameHeader.bytes)
            guard length >= bytes.count else { throw InstrumentError.badFrame(reason: "a block of \(length) bytes holds no frame") }
            try bytes.withUnsafeMutableBytes { try read($0) }
            let header = try bytes.withUnsafeBytes { try FrameHeader($0) }
            guard length == bytes.count + header.payloadBytes else {
                throw InstrumentError.badFrame(reason: "a block of \(length) bytes holds \(header.payloadBytes) bytes of symbols")
            }
            let buffer = pool.take(headerBytes: bytes.count, payloadBytes: header.payloadBytes)
            buffer.header.copyBytes(from: bytes)
            try read(buffer.payload)
            return (header, buffer)
        }
        return take(result.0, result.1)
    }

    private func take(_ header: FrameHeader, _ buffer: SymbolBuffer) -> SymbolFrame? {
        let isWhole = CRC32C.checksum(UnsafeRawBufferPointer(buffer.payload)) == header.payloadChecksum
        // A hole in the ring was seen in AVAilable?: it is as good as the flag.
        let verdict = order.input(header.number, overrun: true, isWhole: isWhole, outstanding: 0)
        let frame: SymbolFrame? =
            if case .deliver(let lost) = verdict { SymbolFrame(header, samples: buffer, lostBefore: lost) } else { nil }
        shared.withLock { shared in
            if frame != nil { shared.statistics.frames += 1 }
            shared.statistics.bytes += UInt64(header.payloadBytes)
            shared.statistics.corrupt = order.corrupt
            shared.statistics.refetched = order.refetched
            shared.statistics.lost = order.lost
            shared.statistics.spoiled = order.spoiled
        }
        return frame
    }
}
