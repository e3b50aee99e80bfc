// The queue and its file together, for one sink and many callers.

package import Foundation
import Synchronization

/// Notifications that a sink has not got rid of yet; kept over restarts and broken power.
///
/// `take` writes at once and returns; whoever drains the outbox calls `settle`, which makes a burst of entries last with
/// one sync, and only then sends. A disk that fails leaves the outbox working from memory: `problem` says so.
public final class Outbox: Sendable {
    public struct Counts: Sendable, Equatable, Codable {
        public var waiting = 0
        public var taken: UInt64 = 0
        public var delivered: UInt64 = 0
        /// Performance updates that a newer one of the same object replaced, for want of room.
        public var coalesced: UInt64 = 0
        /// Lost for want of room.
        public var dropped: UInt64 = 0
        /// Why the disk does not hold what waits; nil where it does.
        public var problem: String?
    }

    fileprivate struct Parts {
        var queue: OutboxQueue
        let file: OutboxFile
        var counts = Counts()
        var sent: UInt64 = 0
        /// The file lacks something that is in the queue.
        var isBehind = false
        var isUnsynced = false
    }

    private let parts: Mutex<Parts>
    private let wake: @Sendable () -> Void
    /// First half of every message id.
    package let identity: UUID

    /// - Parameters:
    ///   - path: the log's file; its folder must exist.
    ///   - entries, bytes: the most that waits.
    ///   - wake: called after every `take`, on the caller's thread; must not block.
    /// - Throws: `SDNAgentError.outbox`.
    public init(
        path: String, entries: Int = 20_000, bytes: Int = 32 << 20, wake: @escaping @Sendable () -> Void = {}
    ) throws(SDNAgentError) {
        var queue = OutboxQueue(limits: .init(entries: entries, bytes: bytes))
        let file = try OutboxFile(path: path) { record in
            switch record {
            case .taken(let entry): queue.restore(entry)
            case .gone(let sequence): queue.remove(sequence)
            case .goneUpTo(let sequence):
                queue.remove(through: sequence)
                queue.skip(to: sequence)
            }
        }
        identity = file.identity
        var first = Parts(queue: queue, file: file)
        first.counts.waiting = queue.count
        parts = Mutex(first)
        self.wake = wake
    }

    public var counts: Counts { parts.withLock { $0.counts } }

    /// Queues a notification. Never blocks on a broker, never fails: what had to go is counted.
    /// - Returns: how many entries were dropped for it.
    @discardableResult
    public func take(_ notification: OutgoingNotification) -> Int {
        let dropped = parts.withLock { $0.take(notification) }
        wake()
        return dropped
    }

    /// What to send next, on the disk: entries behind the last ones that were handed out.
    package func settle(limit: Int) -> [OutboxEntry] {
        parts.withLock { parts in
            parts.settle()
            let entries = parts.queue.entries(after: parts.sent, limit: limit)
            if let last = entries.last { parts.sent = last.sequence }
            return entries
        }
    }

    /// Makes what waits last, without handing it out.
    package func settleOnly() { parts.withLock { $0.settle() } }

    /// The broker has these.
    package func confirm(_ sequences: [UInt64]) {
        guard !sequences.isEmpty else { return }
        parts.withLock { $0.confirm(sequences) }
    }

    /// What was handed out and not confirmed will be handed out again, in order.
    package func rewind() { parts.withLock { $0.sent = 0 } }

    package var hasUnsent: Bool {
        parts.withLock { parts in parts.isUnsynced || !parts.queue.entries(after: parts.sent, limit: 1).isEmpty }
    }
}

extension Outbox.Parts {
    mutating func take(_ notification: OutgoingNotification) -> Int {
        let (entry, losses) = queue.append(notification, sent: sent)
        counts.taken += 1
        let dropped = losses.count { $0.kind == .dropped }
        counts.dropped += UInt64(dropped)
        counts.coalesced += UInt64(losses.count - dropped)
        counts.waiting = queue.count
        isUnsynced = true
        write([.taken(entry)] + losses.map { .gone($0.sequence) })
        return dropped
    }

    mutating func confirm(_ sequences: [UInt64]) {
        let before = queue.oldest ?? 0
        let gone = sequences.filter { queue.remove($0) }
        counts.delivered += UInt64(gone.count)
        counts.waiting = queue.count
        // In order, one record says all; out of order, each is named. A lost record means a message sent twice.
        let through = queue.oldest.map { $0 - 1 } ?? (queue.nextSequence - 1)
        let named = gone.filter { $0 > through }
        write((through >= before ? [.goneUpTo(through)] : []) + named.map { .gone($0) })
        if queue.count == 0, file.length > 1 << 16 { rewrite() }
    }

    /// Puts what is not on the disk there.
    mutating func settle() {
        let history = file.length - queue.bytes
        if isBehind || history > 1 << 20 && history > 2 * queue.bytes { rewrite() }
        guard isUnsynced, !isBehind else { return }
        do {
            try file.sync()
            isUnsynced = false
        } catch {
            fail(error)
        }
    }

    private mutating func write(_ records: [OutboxFile.Record]) {
        // A log with a hole would tell the next start something wrong: it is written anew instead, once it can be.
        guard !isBehind, !records.isEmpty else { return }
        do { try file.append(records) } catch { fail(error) }
    }

    private mutating func rewrite() {
        let entries = queue.entries(after: 0, limit: .max)
        let last = (queue.oldest ?? queue.nextSequence) - 1
        do {
            try file.rewrite([.goneUpTo(last)] + entries.map { .taken($0) })
            (isBehind, isUnsynced, counts.problem) = (false, false, nil)
        } catch {
            fail(error)
        }
    }

    private mutating func fail(_ error: SDNAgentError) {
        isBehind = true
        counts.problem = "\(error)"
    }
}
