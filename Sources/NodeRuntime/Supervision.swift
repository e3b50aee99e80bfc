// What a service tells the manager that started it: when it is ready, what it does, that it makes progress, that it ends.
//
//   start --every expected part up--> READY=1 --WATCHDOG=1 while every part beats--> ... --asked to stop--> STOPPING=1
//
// The watchdog is fed by the working loops, not by a timer: each part says `beat` as it gets something done, and the timer passes
// that on only while no part has been silent for longer than it said it might. So a service whose timer runs on while a loop
// hangs is restarted. Outside systemd (no NOTIFY_SOCKET) all of this does nothing.
//
// Sources: sd_notify(3), sd_watchdog_enabled(3).

import CSystemd
import Dispatch
package import Logging
import ServiceLifecycle
import Synchronization

public final class Supervision: Sendable {
    /// The one of this process, by its environment.
    public static let shared = Supervision(
        interval: Supervision.watchdogInterval(), send: { Supervision.notify($0) })

    /// By the library's own function: to the socket that NOTIFY_SOCKET names. - Returns: whether it was sent.
    package static func notify(_ text: String) -> Bool { sd_notify(0, text) > 0 }

    private struct Part {
        var limit: Duration
        var last: ContinuousClock.Instant
    }
    private struct State {
        var expected: Set<String> = []
        var isReady = false
        var isStopping = false
        var status = ""
        var parts: [String: Part] = [:]
        var complained: Set<String> = []
    }
    private let state = Mutex(State())
    private let send: @Sendable (String) -> Bool
    /// How long the manager waits for a sign of life; nil where it does not.
    package let interval: Duration?

    package init(interval: Duration?, send: @escaping @Sendable (String) -> Bool) {
        self.interval = interval
        self.send = send
    }

    private static func watchdogInterval() -> Duration? {
        var microseconds: UInt64 = 0
        return sd_watchdog_enabled(0, &microseconds) > 0 ? .microseconds(Int64(clamping: microseconds)) : nil
    }

    // MARK: Readiness

    /// Readiness is told once each of these is `up`.
    public func expect(_ parts: String...) { state.withLock { $0.expected.formUnion(parts) } }

    public func up(_ part: String) {
        let status = state.withLock { state -> String? in
            guard state.expected.remove(part) != nil, state.expected.isEmpty, !state.isReady, !state.isStopping else { return nil }
            state.isReady = true
            return state.status
        }
        if let status { _ = send(status.isEmpty ? "READY=1" : "READY=1\nSTATUS=\(status)") }
    }

    package var isReady: Bool { state.withLock { $0.isReady } }

    /// One sentence for `systemctl status`; told only where it is another than before.
    public func status(_ text: String) {
        let line = text.split(whereSeparator: \.isNewline).joined(separator: " ")
        let isNew = state.withLock { state in
            defer { state.status = line }
            return state.status != line
        }
        if isNew { _ = send("STATUS=\(line)") }
    }

    /// Runs a reload between its two notices.
    public func reloading<R>(_ body: () async throws -> R) async rethrows -> R {
        let isReady = state.withLock { $0.isReady && !$0.isStopping }
        if isReady { _ = send("RELOADING=1\nMONOTONIC_USEC=\(DispatchTime.now().uptimeNanoseconds / 1000)") }
        defer { if isReady { _ = send("READY=1") } }
        return try await body()
    }

    public func stopping() {
        let isFirst = state.withLock { state in
            defer { state.isStopping = true }
            return !state.isStopping
        }
        if isFirst { _ = send("STOPPING=1") }
    }

    // MARK: Progress

    /// A working loop got something done. The first call makes the part one that is watched.
    /// - Parameter limit: how long it may be silent while all is well; the watchdog's own interval at least.
    public func beat(_ part: String, within limit: Duration = .seconds(30)) {
        let limit = max(limit, interval ?? .zero)
        state.withLock { state in
            state.parts[part] = Part(limit: limit, last: .now)
            state.complained.remove(part)
        }
    }

    /// The part has ended as it should: it is watched no more.
    public func rest(_ part: String) { state.withLock { $0.parts[part] = nil } }

    /// Parts that have been silent for too long.
    package var silent: [String] {
        let now = ContinuousClock.now
        return state.withLock { $0.parts.filter { now - $0.value.last > $0.value.limit }.keys.sorted() }
    }

    /// Passes signs of life on. - Returns: parts that are newly silent.
    package func pass() -> [String] {
        let silent = silent
        if silent.isEmpty { _ = send("WATCHDOG=1") }
        return state.withLock { state in
            defer { state.complained.formUnion(silent) }
            return silent.filter { !state.complained.contains($0) }
        }
    }

    /// Feeds the watchdog until cancelled.
    package func feed(_ logger: Logger) async {
        repeat {
            guard interval != nil else { continue }
            for part in pass() {
                logger.critical("no progress: the watchdog is not fed any more", metadata: ["part": "\(part)"])
            }
        } while (try? await Task.sleep(for: interval.map { $0 / 4 } ?? .seconds(3600))) != nil
    }

    /// The part of a daemon that feeds the watchdog and tells of the end.
    func service(logger: Logger) -> any Service { SupervisionService(supervision: self, logger: logger) }
}

private struct SupervisionService: Service {
    let supervision: Supervision
    let logger: Logger

    func run() async throws {
        await withGracefulShutdownHandler {
            await cancelWhenGracefulShutdown { await supervision.feed(logger) }
        } onGracefulShutdown: {
            supervision.stopping()
        }
    }
}
