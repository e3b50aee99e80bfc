// One reader of an event stream: a bounded queue between a publisher that never waits and a reader that may.

import Synchronization

final class Subscriber: Sendable {
    private enum Ending { case open, ended, dropped }

    private struct State {
        var queue: [Notification] = []
        var isPoked = false
        var ending = Ending.open
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let backlog: Int
    private let onDrop: @Sendable () -> Void
    private let state = Mutex(State())

    /// - Parameters:
    ///   - backlog: notifications that the reader may be behind.
    ///   - onDrop: called when it is further behind: the reader itself may be waiting elsewhere.
    init(backlog: Int, onDrop: @escaping @Sendable () -> Void = {}) {
        self.backlog = max(1, backlog)
        self.onDrop = onDrop
    }

    /// The reader was too slow.
    var wasDropped: Bool { state.withLock { $0.ending == .dropped } }

    /// - Returns: whether it is still of interest: false once the reader has gone, or was dropped because it is too far behind.
    func offer(_ notification: Notification) -> Bool {
        let ending = change { state in
            guard state.ending == .open else { return Ending.ended }
            if state.queue.count < backlog {
                state.queue.append(notification)
            } else {
                state.ending = .dropped
                state.queue = []
            }
            return state.ending
        }
        if ending == .dropped { onDrop() }
        return ending == .open
    }

    /// What a replay begins with; may be longer than the backlog.
    func begin(with notifications: [Notification]) {
        change { $0.queue = notifications }
    }

    /// The reader gets an empty batch, if nothing else.
    func poke() { change { $0.isPoked = true } }

    /// No more notifications; those that wait are still taken.
    func finish() { change { if $0.ending == .open { $0.ending = .ended } } }

    private func change<R>(_ body: (inout State) -> R) -> R {
        let (result, waiter) = state.withLock { state in
            let result = body(&state)
            defer { state.waiter = nil }
            return (result, state.waiter)
        }
        waiter?.resume()
        return result
    }

    /// Everything that waits; empty after `poke`; nil at the end. One reader only.
    func take() async -> [Notification]? {
        while true {
            switch next() {
            case .some(let batch): return batch
            case .none: await sleep()
            }
        }
    }

    private func next() -> [Notification]?? {
        state.withLock { state in
            if !state.queue.isEmpty || (state.isPoked && state.ending == .open) {
                defer { (state.queue, state.isPoked) = ([], false) }
                return .some(state.queue)
            }
            return state.ending == .open ? .none : .some(nil)
        }
    }

    private func sleep() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isIdle = state.withLock { state in
                    let isIdle = state.queue.isEmpty && !state.isPoked && state.ending == .open
                    if isIdle { state.waiter = continuation }
                    return isIdle
                }
                if !isIdle { continuation.resume() }
            }
        } onCancel: {
            finish()
        }
    }
}
