// Notifications to a broker: a thread that empties an outbox. docs/wire/notifications.md says what is on the wire.

import Foundation
import Glibc
public import Logging
public import QKDModel
import Synchronization

/// Delivers every notification at least once, in the order in which it was taken, as long as the outbox has room.
///
/// Entries leave the outbox when the broker has confirmed them. After a broken connection everything unconfirmed is sent
/// again in order, under the same message ids, so that a consumer can pass over what it has seen.
public final class RabbitMQSink: Sendable {
    public struct Status: Sendable, Equatable, Codable {
        public var connected = false
        /// Why it is not connected.
        public var reason: String?
        public var connections = 0
        /// Messages that no queue was bound for.
        public var unrouted: UInt64 = 0
        public var outbox = Outbox.Counts()
    }

    private struct Parts {
        var status = Status()
        var stopping = false
        var running = false
        var ended: [CheckedContinuation<Void, Never>] = []
    }

    public let outbox: Outbox
    private let settings: BrokerSettings
    private let node: String
    private let random: any RandomSource
    private let logger: Logger
    private let bell: Bell
    private let parts = Mutex(Parts())

    /// - Parameters:
    ///   - node: first word of every routing key: this node's `qkdn_id`.
    ///   - outboxPath: the outbox's file; its folder must exist.
    ///   - entries, bytes: the most that waits.
    /// - Throws: `SDNAgentError.outbox`.
    public init(
        _ settings: BrokerSettings, node: String, outboxPath: String, entries: Int = 20_000, bytes: Int = 32 << 20,
        random: any RandomSource = KernelRandom(), logger: Logger = Logger(label: "rabbitmq")
    ) throws(SDNAgentError) {
        let bell = Bell()
        outbox = try Outbox(path: outboxPath, entries: entries, bytes: bytes) { bell.ring() }
        (self.settings, self.node, self.random, self.logger, self.bell) = (settings, node, random, logger, bell)
    }

    public var status: Status {
        var status = parts.withLock { $0.status }
        status.outbox = outbox.counts
        return status
    }

    /// Runs until the task is cancelled; then gives the broker a moment to confirm what was just sent.
    public func run() async {
        parts.withLock { $0.running = true }
        let thread = Thread { [self] in
            work()
            for waiting in parts.withLock({ parts in
                parts.running = false
                return parts.ended
            }) { waiting.resume() }
        }
        thread.name = "rabbitmq"
        thread.start()
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = parts.withLock { parts in
                    if parts.running { parts.ended.append(continuation) }
                    return !parts.running
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            parts.withLock { $0.stopping = true }
            bell.ring()
        }
    }

    // MARK: The thread

    private var isStopping: Bool { parts.withLock { $0.stopping } }

    private func work() {
        var backOff = settings.backOff
        while !isStopping {
            do throws(SDNAgentError) {
                // What came in while nobody listened has to be on the disk, too.
                outbox.settleOnly()
                let connection = try BrokerConnection(settings)
                outbox.rewind()
                note(nil)
                backOff.reset()
                try serve(connection)
                connection.close()
            } catch {
                note(error)
                rest(backOff.next(random))
            }
        }
        outbox.settleOnly()
    }

    private func note(_ problem: SDNAgentError?) {
        let isNews = parts.withLock { parts in
            let before = (parts.status.connected, parts.status.reason)
            parts.status.connected = problem == nil
            parts.status.reason = problem?.description
            if problem == nil { parts.status.connections += 1 }
            return before.0 != parts.status.connected || before.1 != parts.status.reason
        }
        guard isNews else { return }
        if let problem {
            logger.warning("\(problem); notifications wait", metadata: ["waiting": "\(outbox.counts.waiting)"])
        } else {
            logger.info("notifications go to the broker", metadata: ["broker": "\(settings.address)", "exchange": "\(settings.exchange)"])
        }
    }

    /// Waits, but goes on making what comes in last.
    private func rest(_ duration: Duration) {
        let deadline = ContinuousClock.now + duration
        while !isStopping, ContinuousClock.now < deadline {
            outbox.settleOnly()
            bell.wait(also: nil, limit: min(.seconds(1), deadline - .now))
        }
    }

    /// Publishes until the connection breaks or the sink is asked to stop.
    private func serve(_ connection: BrokerConnection) throws(SDNAgentError) {
        var flight = Flight()
        var lastDeadline: ContinuousClock.Instant?
        while true {
            let room = settings.window - flight.count
            let entries = room > 0 ? outbox.settle(limit: min(room, 128)) : []
            for entry in entries {
                let notification = entry.notification
                try connection.publish(
                    notification.body, routingKey: "\(node).\(notification.name)", type: notification.name,
                    messageID: "\(outbox.identity.uuidString.lowercased())-\(entry.sequence)")
                flight.publish(entry.sequence)
            }
            try listen(connection, &flight)
            if isStopping {
                let deadline = lastDeadline ?? .now + .seconds(2)
                lastDeadline = deadline
                if flight.count == 0 && !outbox.hasUnsent || ContinuousClock.now > deadline { return }
            }
            if entries.isEmpty || flight.count >= settings.window { bell.wait(also: connection.socket, limit: idle) }
        }
    }

    /// Heartbeats are sent and missed ones noticed at least this often.
    private var idle: Duration { .milliseconds(max(100, min(1000, settings.heartbeatSeconds * 1000 / 4))) }

    private func listen(_ connection: BrokerConnection, _ flight: inout Flight) throws(SDNAgentError) {
        var confirmed: [UInt64] = []
        defer { outbox.confirm(confirmed) }
        for happening in try connection.hear(within: .zero) {
            switch happening {
            case .confirmed(let tag, let multiple): confirmed += flight.settle(tag, multiple)
            case .refused: throw .broker(address: settings.address, reason: "it could not keep a message; all unconfirmed ones go again")
            case .unrouted:
                let first = parts.withLock { parts in
                    parts.status.unrouted += 1
                    return parts.status.unrouted == 1
                }
                if first { logger.warning("no queue is bound to the exchange for some notifications: does the controller listen?") }
            }
        }
    }
}

/// Which delivery tag is which entry.
struct Flight {
    private var next: UInt64 = 1
    private var sequences: [UInt64: UInt64] = [:]
    /// No tag below is in flight.
    private var lowest: UInt64 = 1

    var count: Int { sequences.count }

    mutating func publish(_ sequence: UInt64) {
        sequences[next] = sequence
        next += 1
    }

    /// - Returns: the entries that `tag`, or all up to it, stood for.
    mutating func settle(_ tag: UInt64, _ multiple: Bool) -> [UInt64] {
        guard multiple else { return sequences.removeValue(forKey: tag).map { [$0] } ?? [] }
        guard tag >= lowest, tag < next else { return [] }
        defer { lowest = tag + 1 }
        return (lowest...tag).compactMap { sequences.removeValue(forKey: $0) }
    }
}

/// Wakes one thread that sleeps in poll(2): a pipe to itself.
private final class Bell: Sendable {
    private let ends: (read: Int32, write: Int32)

    init() {
        var pair: [Int32] = [-1, -1]
        _ = pipe(&pair)
        for end in pair {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        ends = (pair[0], pair[1])
    }

    deinit {
        close(ends.read)
        close(ends.write)
    }

    /// A pipe that is full has been rung often enough.
    func ring() {
        var one: UInt8 = 1
        _ = write(ends.write, &one, 1)
    }

    /// Returns when the bell was rung, `other` can be read, or the time is over.
    func wait(also other: Int32?, limit: Duration) {
        var polled = [pollfd(fd: ends.read, events: Int16(POLLIN), revents: 0)]
        if let other { polled.append(pollfd(fd: other, events: Int16(POLLIN), revents: 0)) }
        _ = poll(&polled, nfds_t(polled.count), Int32(max(0, limit / .milliseconds(1))))
        var rung = [UInt8](repeating: 0, count: 4096)
        _ = read(ends.read, &rung, rung.count)
    }
}
