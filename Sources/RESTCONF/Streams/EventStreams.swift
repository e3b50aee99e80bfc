// The event streams of a server (RFC 8040, section 6): notifications are published once, checked, kept for replay, and
// handed to subscribers through bounded queues. Publishing never waits for a subscriber: one that is too far behind is dropped.

public import Foundation

/// One stream, as `ietf-restconf-monitoring` names it.
public struct EventStream: Sendable {
    public var name: String
    public var description: String
    /// Which notifications (`module:notification`) it carries.
    public var carries: @Sendable (_ notification: String) -> Bool

    public init(name: String, description: String, carries: @escaping @Sendable (_ notification: String) -> Bool = { _ in true }) {
        self.name = name
        self.description = description
        self.carries = carries
    }

    /// The stream that every server has: everything.
    public static let netconf = EventStream(name: "NETCONF", description: "every notification of this server")
}

public actor EventStreams {
    /// The first is `NETCONF`.
    public nonisolated let streams: [EventStream]
    /// From when on notifications are kept.
    public nonisolated let created: Date

    private let schema: YANGSchema
    private let capacity: Int
    private let now: @Sendable () -> Date
    /// The latest notifications in order; a quarter more than `capacity` before the oldest go.
    private var kept: [Notification] = []
    private var subscriptions: [ObjectIdentifier: Subscription] = [:]

    private struct Subscription {
        var subscriber: Subscriber
        var stream: EventStream
        var until: Date?
        var timer: Task<Void, Never>?
    }

    /// - Parameters:
    ///   - streams: besides `NETCONF`.
    ///   - replayCapacity: notifications that are kept for replay.
    public init(
        schema: YANGSchema, streams: [EventStream] = [], replayCapacity: Int = 4096, now: @escaping @Sendable () -> Date = { Date() }
    ) {
        self.schema = schema
        self.streams = [.netconf] + streams
        capacity = max(0, replayCapacity)
        self.now = now
        created = now()
    }

    /// Publishes a notification to every stream that carries it.
    /// - Parameters:
    ///   - name: `module:notification`.
    ///   - contents: what stands inside, a JSON object with the names of RFC 7951.
    ///   - time: when it happened; now where nil. Times should not go back.
    /// - Throws: where the schema does not accept it; then nobody gets it.
    @discardableResult
    public func publish(_ name: String, _ contents: String, time: Date? = nil) throws(RESTCONFError) -> Notification {
        let notification = try Notification(name: name, contents: contents, time: time ?? now(), schema: schema)
        keep(notification)
        for (id, subscription) in subscriptions where subscription.stream.carries(name) {
            if let until = subscription.until, notification.time > until { continue }
            if !subscription.subscriber.offer(notification) { subscriptions.removeValue(forKey: id)?.timer?.cancel() }
        }
        return notification
    }

    private func keep(_ notification: Notification) {
        guard capacity > 0 else { return }
        kept.append(notification)
        if kept.count > capacity + capacity / 4 { kept.removeFirst(kept.count - capacity) }
    }

    /// The notifications of a stream, from now on.
    /// - Parameters:
    ///   - from: begins with those kept since then.
    ///   - until: the stream ends then.
    ///   - backlog: how many the reader may be behind before its stream ends.
    /// - Throws: 404 where there is no such stream.
    public func subscribe(
        stream: String = EventStream.netconf.name, from: Date? = nil, until: Date? = nil, backlog: Int = 1024
    ) throws(RESTCONFError) -> AsyncStream<Notification> {
        let subscriber = try open(stream: stream, from: from, until: until, backlog: backlog)
        let (notifications, out) = AsyncStream.makeStream(of: Notification.self, bufferingPolicy: .bufferingOldest(backlog))
        let pump = Task {
            while let batch = await subscriber.take() {
                for notification in batch {
                    if case .dropped = out.yield(notification) { return out.finish() }
                }
            }
            out.finish()
        }
        out.onTermination = { _ in
            pump.cancel()
            subscriber.finish()
        }
        return notifications
    }

    /// How many readers there are.
    public var subscribers: Int { subscriptions.count }

    func open(
        stream name: String, from: Date?, until: Date?, backlog: Int, onDrop: @escaping @Sendable () -> Void = {}
    ) throws(RESTCONFError) -> Subscriber {
        guard let stream = streams.first(where: { $0.name == name }) else {
            throw RESTCONFError(.protocol, .invalidValue, "there is no event stream '\(name.prefix(80))'", status: 404)
        }
        let subscriber = Subscriber(backlog: backlog, onDrop: onDrop)
        if let from {
            subscriber.begin(with: kept.filter { $0.time >= from && $0.time <= until ?? .distantFuture && stream.carries($0.name) })
        }
        if let until, until <= now() {
            subscriber.finish()
            return subscriber
        }
        let timer = until.map { end(subscriber, in: min($0.timeIntervalSince(now()), Self.longestWait)) }
        subscriptions[ObjectIdentifier(subscriber)] = Subscription(subscriber: subscriber, stream: stream, until: until, timer: timer)
        return subscriber
    }

    private static let longestWait = 366.0 * 86_400

    private func end(_ subscriber: Subscriber, in seconds: TimeInterval) -> Task<Void, Never> {
        Task { [weak self, weak subscriber] in
            guard (try? await Task.sleep(for: .seconds(seconds))) != nil, let subscriber else { return }
            await self?.close(subscriber)
        }
    }

    /// The reader has gone, or its time is over.
    func close(_ subscriber: Subscriber) {
        subscriptions.removeValue(forKey: ObjectIdentifier(subscriber))?.timer?.cancel()
        subscriber.finish()
    }
}
