// Ends a wait for symbols that will not come. A stream tells of lost frames only with the next one: where the last ones of a
// calibration or an acquisition are lost, no next one comes, and only the device can say that it is done.

internal import Synchronization

/// Watches one calibration or acquisition.
package final class SilenceWatch: Sendable {
    package struct Patience: Sendable {
        /// How often it looks.
        package var every = Duration.seconds(1)
        /// Silence before the device is asked.
        package var quiet = Duration.seconds(2)
        /// Silence of a device that says it works.
        package var most = Duration.seconds(30)

        package init() {}
    }

    private struct State {
        var last = ContinuousClock.now
        var isDone = 0
        var isStuck = false
        var task: Task<Void, Never>?
    }

    private let patience: Patience
    private let isBusy: @Sendable () async throws -> Bool
    private let cut: @Sendable () -> Void
    private let state = Mutex(State())

    /// - Parameters:
    ///   - isBusy: whether the device still calibrates or acquires; an error ends the watch: whoever waits gets it too.
    ///   - cut: ends the wait; called once at most.
    package init(
        _ patience: Patience = Patience(), isBusy: @escaping @Sendable () async throws -> Bool, cut: @escaping @Sendable () -> Void
    ) {
        (self.patience, self.isBusy, self.cut) = (patience, isBusy, cut)
    }

    package func start() {
        let task = Task { [weak self, patience] in
            while (try? await Task.sleep(for: patience.every)) != nil {
                guard let self, await self.look() else { return }
            }
        }
        state.withLock { $0.task = task }
    }

    /// A frame came.
    package func saw() { state.withLock { ($0.last, $0.isDone) = (.now, 0) } }

    package func stop() { state.withLock { $0.task }?.cancel() }

    /// The device said that it works, and gave nothing.
    package var isStuck: Bool { state.withLock { $0.isStuck } }

    /// - Returns: whether to go on.
    private func look() async -> Bool {
        let silence = state.withLock { ContinuousClock.now - $0.last }
        guard silence >= patience.quiet else { return true }
        guard let isBusy = try? await isBusy(), !Task.isCancelled else { return false }
        let isOver = state.withLock { state in
            state.isDone = isBusy ? 0 : state.isDone + 1
            state.isStuck = isBusy && silence >= patience.most
            // Twice: what was under way when it was asked first has come by now.
            return state.isDone >= 2 || state.isStuck
        }
        guard isOver, !Task.isCancelled else { return !Task.isCancelled }
        cut()
        return false
    }

    deinit { state.withLock { $0.task }?.cancel() }
}
