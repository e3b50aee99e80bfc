// Between the thread that reads frames and the task that wants them.

import Synchronization

/// A queue of frames with one async consumer; how full it may get is the producer's business (credits).
final class FrameQueue: Sendable {
    private struct State {
        var frames: [SymbolFrame] = []
        var first = 0
        var waiter: CheckedContinuation<SymbolFrame?, any Error>?
        var finished: Result<Void, any Error>?
        /// Number behind the last frame that will come.
        var end: UInt64?
        /// Frames before this number belong to something earlier.
        var begin: UInt64 = 0
        /// Number behind the last frame that came.
        var reached: UInt64 = 0

        mutating func pop() -> SymbolFrame? {
            guard first < frames.count else { return nil }
            defer {
                first += 1
                if first == frames.count { (frames, first) = ([], 0) }
            }
            return frames[first]
        }

        /// What `next` returns without waiting, if anything.
        mutating func ready() -> Result<SymbolFrame?, any Error>? {
            if let frame = pop() { return .success(frame) }
            if let finished { return finished.map { nil } }
            if let end, reached >= end { return .success(nil) }
            return nil
        }
    }

    private let state = Mutex(State())

    func next() async throws -> SymbolFrame? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let now: Result<SymbolFrame?, any Error>? = state.withLock { state in
                    if let ready = state.ready() { return ready }
                    if Task.isCancelled { return .failure(CancellationError()) }
                    guard state.waiter == nil else {
                        return .failure(InstrumentError.streamFailed(reason: "two tasks wait for its next frame"))
                    }
                    state.waiter = continuation
                    return nil
                }
                if let now { continuation.resume(with: now) }
            }
        } onCancel: {
            take()?.resume(throwing: CancellationError())
        }
    }

    private func take() -> CheckedContinuation<SymbolFrame?, any Error>? {
        state.withLock { state in
            defer { state.waiter = nil }
            return state.waiter
        }
    }

    /// - Returns: whether the frame is wanted.
    func push(_ frame: SymbolFrame) -> Bool {
        var isWanted = false
        change { state in
            isWanted = frame.number >= state.begin
            guard isWanted else { return }
            state.frames.append(frame)
            state.reached = frame.number + 1
        }
        return isWanted
    }

    /// Everything below `number` has come or is lost.
    func reach(_ number: UInt64) { change { $0.reached = max($0.reached, number) } }

    func end(at number: UInt64) { change { $0.end = number } }

    /// Nothing that is missing below `number` will come any more.
    func cutShort(at number: UInt64) {
        change { state in
            guard state.reached < number else { return }
            (state.reached, state.end) = (number, number)
        }
    }

    /// Drops what waits and is older than `number`.
    /// - Returns: how many frames were dropped.
    func begin(at number: UInt64) -> Int {
        state.withLock { state in
            let waiting = state.frames[state.first...]
            let kept = waiting.filter { $0.number >= number }
            (state.frames, state.first) = (kept, 0)
            (state.begin, state.end) = (number, nil)
            state.reached = max(state.reached, number)
            return waiting.count - kept.count
        }
    }

    /// Frames that came before are still delivered.
    func finish(_ result: Result<Void, any Error>) { change { $0.finished = $0.finished ?? result } }

    private func change(_ body: (inout State) -> Void) {
        let resume: (CheckedContinuation<SymbolFrame?, any Error>, Result<SymbolFrame?, any Error>)? = state.withLock { state in
            body(&state)
            guard let waiter = state.waiter, let ready = state.ready() else { return nil }
            state.waiter = nil
            return (waiter, ready)
        }
        if let (waiter, result) = resume { waiter.resume(with: result) }
    }
}
