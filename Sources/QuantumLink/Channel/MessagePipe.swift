// The seam between the channel's protocol and the network: whole messages in order, and a pair of pipes in memory
// for tests and for distillation inside one process.

public import NIOCore
internal import Synchronization

/// An ordered pipe of messages to the far end.
public protocol MessagePipe: Sendable {
    /// Queues length, type and body; never waits. The protocol bounds what is under way (28 frames).
    func send(_ message: ByteBuffer)
    /// The next message: type and body without the length. One caller at a time.
    /// - Returns: nil when the pipe is closed.
    func receive() async throws -> ByteBuffer?
    /// The most a message from the far end may have, bytes.
    func setLimit(_ bytes: Int)
    func close()
}

/// Two pipes joined in memory. `tamper` sees every message on its way and may change, drop or repeat it.
public final class MemoryPipe: MessagePipe {
    public typealias Tamper = @Sendable (ByteBuffer) -> [ByteBuffer]

    private let inbound: MessageQueue<ByteBuffer>
    private let outbound: MessageQueue<ByteBuffer>
    private let tamper: Tamper?

    private init(inbound: MessageQueue<ByteBuffer>, outbound: MessageQueue<ByteBuffer>, tamper: Tamper?) {
        self.inbound = inbound
        self.outbound = outbound
        self.tamper = tamper
    }

    public static func pair(tamperForward: Tamper? = nil, tamperBackward: Tamper? = nil) -> (MemoryPipe, MemoryPipe) {
        let forward = MessageQueue<ByteBuffer>()
        let backward = MessageQueue<ByteBuffer>()
        return (
            MemoryPipe(inbound: backward, outbound: forward, tamper: tamperForward),
            MemoryPipe(inbound: forward, outbound: backward, tamper: tamperBackward)
        )
    }

    public func send(_ message: ByteBuffer) {
        for message in tamper?(message) ?? [message] {
            outbound.put(message.getSlice(at: message.readerIndex + 4, length: max(0, message.readableBytes - 4)) ?? ByteBuffer())
        }
    }

    public func receive() async throws -> ByteBuffer? { await inbound.next() }
    public func setLimit(_ bytes: Int) {}

    public func close() {
        inbound.close()
        outbound.close()
    }
}

/// A queue for one consumer. Closing lets the consumer take what is left and then gives nil.
public final class MessageQueue<Element: Sendable>: Sendable {
    private struct State {
        var elements: [Element] = []
        var head = 0
        var waiter: CheckedContinuation<Element?, Never>?
        var isClosed = false

        mutating func pop() -> Element? {
            guard head < elements.count else { return nil }
            defer {
                head += 1
                if head > 64, head * 2 > elements.count {
                    elements.removeFirst(head)
                    head = 0
                }
            }
            return elements[head]
        }
    }

    private let state = Mutex(State())

    public init() {}

    public func put(_ element: Element) {
        let waiter: CheckedContinuation<Element?, Never>? = state.withLock { state in
            guard !state.isClosed else { return nil }
            if let waiter = state.waiter {
                state.waiter = nil
                return waiter
            }
            state.elements.append(element)
            return nil
        }
        waiter?.resume(returning: element)
    }

    /// What waits already.
    public func takeNow() -> Element? { state.withLock { $0.pop() } }

    /// Elements that wait.
    public var count: Int { state.withLock { $0.elements.count - $0.head } }

    public func close() {
        let waiter: CheckedContinuation<Element?, Never>? = state.withLock { state in
            state.isClosed = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(returning: nil)
    }

    /// The next element, or nil when the queue is closed and empty or the task is cancelled.
    public func next() async -> Element? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now: Element?? = state.withLock { state in
                    if let element = state.pop() { return .some(element) }
                    if state.isClosed || Task.isCancelled { return .some(nil) }
                    precondition(state.waiter == nil, "a message queue has one consumer")
                    state.waiter = continuation
                    return nil
                }
                if let now { continuation.resume(returning: now) }
            }
        } onCancel: {
            let waiter: CheckedContinuation<Element?, Never>? = state.withLock { state in
                defer { state.waiter = nil }
                return state.waiter
            }
            waiter?.resume(returning: nil)
        }
    }
}
