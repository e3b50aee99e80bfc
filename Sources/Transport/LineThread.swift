// A thread that belongs to one line: blocking work goes there, never onto Swift's cooperative pool.

import Dispatch
import Foundation
import Synchronization

/// Runs blocking jobs one after the other, in order of arrival.
///
/// A caller whose task is cancelled resumes at once if its job still waits, and as soon as the line's poll returns if it runs.
package final class LineThread: Sendable {
    private struct Job {
        var cancellation: Cancellation
        var work: @Sendable () -> Void
        var refuse: @Sendable (any Error) -> Void
    }

    private struct State {
        var jobs: [Job] = []
        var stopped: TransportError?
    }

    private final class Shared: Sendable {
        let state = Mutex(State())
        let pending = DispatchSemaphore(value: 0)
    }

    private let shared = Shared()

    package init(name: String) {
        let thread = Thread { [shared] in Self.work(shared) }
        thread.name = String(name.suffix(15))
        thread.start()
    }

    deinit { stop(.closed("line", reason: "nobody uses it any more")) }

    private static func work(_ shared: Shared) {
        while true {
            shared.pending.wait()
            let (job, isStopped) = shared.state.withLock { state in
                (state.jobs.isEmpty ? nil : state.jobs.removeFirst(), state.stopped != nil)
            }
            if let job { job.work() } else if isStopped { return }
        }
    }

    /// - Throws: what `body` throws, `CancellationError`, or the reason given to `stop`.
    package func run<R: Sendable>(_ body: @escaping @Sendable (Cancellation) throws -> R) async throws -> R {
        let cancellation = Cancellation()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<R, any Error>) in
                add(
                    Job(
                        cancellation: cancellation,
                        work: { continuation.resume(with: Result { try body(cancellation) }) },
                        refuse: { continuation.resume(throwing: $0) }))
            }
        } onCancel: {
            cancellation.cancel()
            take(cancellation)?.refuse(CancellationError())
        }
    }

    private func add(_ job: Job) {
        let refusal: (any Error)? = shared.state.withLock { state in
            if let stopped = state.stopped { return stopped }
            if job.cancellation.isCancelled { return CancellationError() }
            state.jobs.append(job)
            return nil
        }
        if let refusal { job.refuse(refusal) } else { shared.pending.signal() }
    }

    private func take(_ cancellation: Cancellation) -> Job? {
        shared.state.withLock { state in
            state.jobs.firstIndex { $0.cancellation === cancellation }.map { state.jobs.remove(at: $0) }
        }
    }

    /// Refuses waiting and later jobs; the running one ends by itself (close its line).
    package func stop(_ reason: TransportError) {
        let jobs = shared.state.withLock { state in
            state.stopped = state.stopped ?? reason
            defer { state.jobs = [] }
            return state.jobs
        }
        for job in jobs { job.refuse(reason) }
        shared.pending.signal()
    }
}
