// Symbols over the data connection: a thread reads frames into pooled buffers as long as the consumer keeps up.

import Synchronization
import Transport

/// The stream of a device with a data connection.
///
/// `depth` frames at most wait unread; the device gets one credit for each that is taken. A connection that breaks is opened
/// again with a new token, and the stream goes on with the frame that was due.
final class DataStream: SymbolSource {
    /// Times in a row that the connection may fail without a frame in between.
    static let failures = 4

    private let shared: Shared

    /// - Parameter connect: opens a data connection with a fresh token.
    init(depth: Int = 8, connect: @escaping @Sendable () async throws -> DataConnection) {
        shared = Shared(depth: depth)
        let task = Task.detached { [shared] in await shared.pump(connect) }
        shared.hold(task)
    }

    deinit { shared.close() }

    func next() async throws -> SymbolFrame? {
        let frame = try await shared.queue.next()
        if frame != nil { shared.grant() }
        return frame
    }

    func release(through number: UInt64) async throws { try shared.release(through: number) }
    func begin(at number: UInt64) { shared.begin(at: number) }
    func end(at number: UInt64) { shared.queue.end(at: number) }
    func cutShort(at number: UInt64) { shared.queue.cutShort(at: number) }
    func close() { shared.close() }
    var statistics: StreamStatistics { shared.statistics }

    /// What the reader and the consumer share; outlives neither.
    private final class Shared: Sendable {
        private struct State {
            var connection: DataConnection?
            var task: Task<Void, Never>?
            var isClosed = false
            /// Credits that the device holds.
            var outstanding = 0
            /// Frames that may be sent before the consumer takes one.
            var room: Int
            var released: UInt64?
            /// What the reader must skip before it takes its next frame.
            var skipTo: UInt64?
            var statistics = StreamStatistics()
        }

        let queue = FrameQueue()
        private let pool: BufferPool
        private let state: Mutex<State>

        init(depth: Int) {
            pool = BufferPool(kept: 4 * depth)
            state = Mutex(State(room: depth))
        }

        var statistics: StreamStatistics { state.withLock { $0.statistics } }

        func hold(_ task: Task<Void, Never>) {
            let isClosed = state.withLock { state in
                state.task = task
                return state.isClosed
            }
            if isClosed { task.cancel() }
        }

        func close() {
            let (connection, task) = state.withLock { state in
                state.isClosed = true
                return (state.connection, state.task)
            }
            queue.finish(.success(()))
            task?.cancel()
            connection?.close()
        }

        // MARK: Messages to the device

        /// The consumer took a frame: one more may come.
        func grant() {
            let connection = state.withLock { state in
                state.room += 1
                return state.connection
            }
            // A broken connection is the reader's to notice.
            try? spendRoom(connection)
        }

        private func spendRoom(_ connection: DataConnection?) throws {
            guard let connection else { return }
            let credits = state.withLock { state in
                guard state.connection === connection else { return 0 }
                defer {
                    state.outstanding += state.room
                    state.room = 0
                }
                return state.room
            }
            if credits > 0 { try connection.credit(credits) }
        }

        /// Forgets frames before `number`, here and in the device.
        func begin(at number: UInt64) {
            state.withLock { $0.skipTo = number }
            let dropped = queue.begin(at: number)
            let connection = state.withLock { state in
                state.room += dropped
                return state.connection
            }
            try? spendRoom(connection)
            if number > 0 { try? release(through: number - 1) }
        }

        fileprivate func takeSkip() -> UInt64? {
            state.withLock { state in
                defer { state.skipTo = nil }
                return state.skipTo
            }
        }

        func release(through number: UInt64) throws {
            let connection = state.withLock { state in
                state.released = max(state.released ?? 0, number)
                return state.connection
            }
            // Without a connection the release is sent when there is one again.
            try? connection?.release(through: number)
        }

        // MARK: The reader

        func pump(_ connect: @escaping @Sendable () async throws -> DataConnection) async {
            let thread = LineThread(name: "symbols")
            defer { thread.stop(.closed("symbol stream", reason: "ended")) }
            let order = Reader(self)
            var failures = 0
            while !state.withLock({ $0.isClosed }) {
                do {
                    let connection = try await connect()
                    guard adopt(connection) else { return }
                    try await thread.run { _ in try Self.reading { try order.run(connection) } }
                } catch {
                    disown()
                    failures = order.takeProgress() ? 1 : failures + 1
                    guard failures < DataStream.failures, canRetry(error) else { return queue.finish(.failure(plain(error))) }
                    state.withLock { $0.statistics.reconnections += 1 }
                    do { try await Task.sleep(for: .milliseconds(50 << failures)) } catch { return }
                }
            }
        }

        /// Marks errors of the data connection, which a new connection may cure; those of the control session it cannot.
        private struct Broken: Error { var cause: any Error }

        private static func reading(_ body: () throws -> Void) throws {
            do { try body() } catch { throw Broken(cause: error) }
        }

        private func plain(_ error: any Error) -> any Error { (error as? Broken)?.cause ?? error }

        private func canRetry(_ error: any Error) -> Bool {
            switch error {
            case let broken as Broken:
                if case InstrumentError.streamFailed = broken.cause { false } else { true }
            // The device may not have noticed yet that the old connection is gone.
            case TransportError.dataRefused, TransportError.timedOut, TransportError.cannotOpen: true
            default: false
            }
        }

        private func adopt(_ connection: DataConnection) -> Bool {
            let isClosed = state.withLock { state in
                state.connection = connection
                return state.isClosed
            }
            if isClosed { connection.close() }
            return !isClosed
        }

        private func disown() {
            let connection = state.withLock { state in
                defer {
                    state.connection = nil
                    state.room += state.outstanding
                    state.outstanding = 0
                }
                return state.connection
            }
            connection?.close()
        }

        fileprivate func begin(_ connection: DataConnection, at number: UInt64?) throws {
            if let released = state.withLock({ $0.released }) { try connection.release(through: released) }
            if let number { try connection.seek(number) }
            try spendRoom(connection)
        }

        /// One frame came: one credit is spent. - Returns: the credits left.
        fileprivate func spent() -> Int {
            state.withLock { state in
                state.outstanding -= 1
                return state.outstanding
            }
        }

        fileprivate func buffer(_ header: FrameHeader) -> SymbolBuffer {
            pool.take(headerBytes: FrameHeader.bytes, payloadBytes: header.payloadBytes)
        }

        fileprivate func count(_ order: FrameOrder, frames: UInt64, bytes: Int) {
            state.withLock { state in
                state.statistics.frames += frames
                state.statistics.bytes += UInt64(bytes)
                state.statistics.corrupt = order.corrupt
                state.statistics.refetched = order.refetched
                state.statistics.lost = order.lost
                state.statistics.spoiled = order.spoiled
            }
        }

        /// A frame was not delivered: its place in the queue is free again.
        fileprivate func dropped(_ connection: DataConnection) throws {
            state.withLock { $0.room += 1 }
            try spendRoom(connection)
        }
    }

    /// Reads one connection to its end. Lives on the reader's thread.
    private final class Reader: @unchecked Sendable {
        // Used by one `pump` only, and by its thread only while `pump` waits for it.
        private unowned let shared: Shared
        private var order = FrameOrder()
        private var progressed = false

        init(_ shared: Shared) { self.shared = shared }

        func takeProgress() -> Bool {
            defer { progressed = false }
            return progressed
        }

        func run(_ connection: DataConnection) throws {
            order.reconnected()
            skip()
            try shared.begin(connection, at: order.expected)
            var headerBytes = [UInt8](repeating: 0, count: FrameHeader.bytes)
            while true {
                // Frames may be hours apart; within one, bytes may not.
                try headerBytes.withUnsafeMutableBytes { try connection.read(into: $0, Patience(.seconds(100 * 365 * 86_400))) }
                let header = try headerBytes.withUnsafeBytes { try FrameHeader($0) }
                let buffer = shared.buffer(header)
                buffer.header.copyBytes(from: headerBytes)
                try connection.read(into: buffer.payload, Patience(.seconds(10)))
                try take(header, buffer, connection)
            }
        }

        private func skip() {
            if let number = shared.takeSkip() { order.skip(to: number) }
        }

        private func take(_ header: FrameHeader, _ buffer: SymbolBuffer, _ connection: DataConnection) throws {
            skip()
            let isWhole = CRC32C.checksum(UnsafeRawBufferPointer(buffer.payload)) == header.payloadChecksum
            let verdict = order.input(
                header.number, overrun: header.flags.contains(.overrun), isWhole: isWhole, outstanding: shared.spent())
            switch verdict {
            case .deliver(let lost):
                progressed = true
                shared.count(order, frames: 1, bytes: header.payloadBytes)
                if shared.queue.push(SymbolFrame(header, samples: buffer, lostBefore: lost)) { return }
            case .drop: break
            case .seek(let number): try connection.seek(number)
            case .restarted: throw InstrumentError.streamFailed(reason: "the device counts its frames from the start again")
            }
            shared.count(order, frames: 0, bytes: header.payloadBytes)
            if let expected = order.expected { shared.queue.reach(expected) }
            try shared.dropped(connection)
        }
    }
}
