// What happens in the store, for status, events and the log. Never key.

public import Foundation
public import QKDModel
import Synchronization

/// One thing that happened; programs turn it into NodeAPI's `StoreEvent` and into a log line.
public struct StoreHappening: Sendable {
    public enum Kind: String, Sendable {
        case peer, deposited, confirmed, delivered, voided, zeroised, alarm, cleared
        case applicationNew, applicationChanged, applicationDisconnected, consumption, peerAdded, peerRemoved
    }
    public var kind: Kind
    public var link: LinkID?
    public var peer: NodeID?
    public var block: BlockID?
    public var bits: Int?
    public var keys: Int?
    public var message: String
    public var application: ApplicationRecord?
    public var consumption: Consumption?
}

/// Something wrong, as long as it lasts.
public struct StoreAlarmRecord: Sendable, Equatable {
    public enum Kind: String, Sendable, Hashable {
        case peerUnreachable = "peer-unreachable"
        case tagRefused = "tag-refused"
        case padLow = "pad-low"
        case keyMismatch = "key-mismatch"
        case storeFull = "store-full"
        case database
    }
    public var kind: Kind
    public var severity: Severity
    public var peer: NodeID?
    public var link: LinkID?
    public var message: String
    public var since: Date
}

/// Collects happenings and alarms, and passes them to whoever listens.
public final class StoreJournal: Sendable {
    private struct Key: Hashable {
        var kind: StoreAlarmRecord.Kind
        var peer: NodeID?
        var link: LinkID?
    }
    private struct Inner {
        var alarms: [Key: StoreAlarmRecord] = [:]
        var listeners: [Int: AsyncStream<StoreHappening>.Continuation] = [:]
        var next = 0
    }
    private let inner = Mutex(Inner())
    private let now: @Sendable () -> Date

    package init(now: @escaping @Sendable () -> Date) { self.now = now }

    /// Everything from now on. A listener that falls behind by 1000 loses the oldest.
    public func listen() -> AsyncStream<StoreHappening> {
        let (stream, continuation) = AsyncStream.makeStream(of: StoreHappening.self, bufferingPolicy: .bufferingNewest(1000))
        let number = inner.withLock { inner in
            inner.next += 1
            inner.listeners[inner.next] = continuation
            return inner.next
        }
        continuation.onTermination = { [weak self] _ in self?.inner.withLock { _ = $0.listeners.removeValue(forKey: number) } }
        return stream
    }

    public var alarms: [StoreAlarmRecord] { inner.withLock { $0.alarms.values.sorted { $0.since < $1.since } } }

    package func note(
        _ kind: StoreHappening.Kind, link: LinkID? = nil, peer: NodeID? = nil, block: BlockID? = nil, bits: Int? = nil, keys: Int? = nil,
        _ message: String
    ) {
        tell(StoreHappening(kind: kind, link: link, peer: peer, block: block, bits: bits, keys: keys, message: message))
    }

    func note(_ kind: StoreHappening.Kind, _ application: ApplicationRecord, _ message: String, consumption: Consumption? = nil) {
        tell(
            StoreHappening(
                kind: kind, peer: application.peer, bits: consumption?.bits, keys: consumption?.keys, message: message,
                application: application, consumption: consumption))
    }

    private func tell(_ happening: StoreHappening) {
        for listener in inner.withLock({ Array($0.listeners.values) }) { listener.yield(happening) }
    }

    /// Raises an alarm, once as long as it lasts.
    package func raise(
        _ kind: StoreAlarmRecord.Kind, _ severity: Severity, peer: NodeID? = nil, link: LinkID? = nil, _ message: String
    ) {
        let time = now()
        let isNew = inner.withLock { inner in
            let key = Key(kind: kind, peer: peer, link: link)
            defer {
                inner.alarms[key] = StoreAlarmRecord(
                    kind: kind, severity: severity, peer: peer, link: link, message: message, since: inner.alarms[key]?.since ?? time)
            }
            return inner.alarms[key] == nil
        }
        if isNew { note(.alarm, link: link, peer: peer, "\(kind.rawValue): \(message)") }
    }

    package func clear(_ kind: StoreAlarmRecord.Kind, peer: NodeID? = nil, link: LinkID? = nil) {
        let was = inner.withLock { $0.alarms.removeValue(forKey: Key(kind: kind, peer: peer, link: link)) != nil }
        if was { note(.cleared, link: link, peer: peer, "\(kind.rawValue) is over") }
    }
}
