// What waits for a sink, in order, and what goes first where too much waits.

public import Foundation

/// How dear a notification is when something has to go.
public enum NotificationWeight: UInt8, Sendable, Codable, Comparable, CaseIterable {
    /// A newer one of the same object says all that it says.
    case performance = 0
    case event = 1
    case alarm = 2

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// One notification as sinks take it: made, validated and encoded.
public struct OutgoingNotification: Sendable, Equatable {
    /// Without its module: `sdqkdn_link_down`.
    public var name: String
    /// What it is about (`link/<uuid>`); order is kept among notifications of the same object.
    public var object: String
    public var weight: NotificationWeight
    /// RFC 8040, section 6.4, as JSON.
    public var body: Data

    public init(name: String, object: String, weight: NotificationWeight, body: Data) {
        self.name = name
        self.object = object
        self.weight = weight
        self.body = body
    }
}

/// A notification with its place in the outbox.
package struct OutboxEntry: Sendable, Equatable {
    package var sequence: UInt64
    package var notification: OutgoingNotification
    /// What it counts against the limit of bytes.
    package var size: Int { notification.body.count + notification.object.utf8.count + notification.name.utf8.count + 32 }
}

/// A bounded queue as a value. Sequence numbers go up by one and are never used twice.
///
/// Beyond its limits the oldest performance update that a newer one of the same object has overtaken goes first
/// (coalesced); then the oldest performance update, then the oldest event, and an alarm only where nothing else is left
/// (dropped: counted, and worth an alarm).
package struct OutboxQueue: Sendable {
    package struct Limits: Sendable, Equatable {
        package var entries: Int
        package var bytes: Int
        package init(entries: Int, bytes: Int) {
            self.entries = entries
            self.bytes = bytes
        }
    }

    package struct Loss: Sendable, Equatable {
        package enum Kind: Sendable, Equatable { case coalesced, dropped }
        package var sequence: UInt64
        package var kind: Kind
        package init(sequence: UInt64, kind: Kind) { (self.sequence, self.kind) = (sequence, kind) }
    }

    package let limits: Limits
    package private(set) var nextSequence: UInt64
    package private(set) var count = 0
    package private(set) var bytes = 0
    /// Entry number `first + i` stands at `head + i`; nil is one that has gone.
    private var slots: [OutboxEntry?] = []
    private var head = 0
    private var first: UInt64
    /// Waiting performance updates of each object.
    private var updates: [String: Int] = [:]
    /// Waiting entries of each weight, so that nobody searches for what is not there.
    private var weights = [0, 0, 0]

    package init(limits: Limits, nextSequence: UInt64 = 1) {
        self.limits = limits
        self.nextSequence = nextSequence
        first = nextSequence
    }

    /// Takes a notification, and says what had to go for it.
    /// - Parameter sent: entries up to here are on their way to the broker and stay.
    package mutating func append(_ notification: OutgoingNotification, sent: UInt64 = 0) -> (entry: OutboxEntry, losses: [Loss]) {
        let entry = OutboxEntry(sequence: nextSequence, notification: notification)
        restore(entry)
        var losses: [Loss] = []
        while count > limits.entries || bytes > limits.bytes, let loss = makeRoom(sent: sent) { losses.append(loss) }
        return (entry, losses)
    }

    /// Puts back what was read from disk; entries come in order, numbers may be missing.
    package mutating func restore(_ entry: OutboxEntry) {
        guard entry.sequence >= nextSequence else { return }
        if count == 0 {
            slots.removeAll(keepingCapacity: true)
            (head, first) = (0, entry.sequence)
        }
        while first + UInt64(slots.count - head) < entry.sequence { slots.append(nil) }
        slots.append(entry)
        nextSequence = entry.sequence + 1
        tally(entry, 1)
    }

    /// Numbers up to `sequence` will not be given again.
    package mutating func skip(to sequence: UInt64) { nextSequence = max(nextSequence, sequence + 1) }

    /// - Returns: whether it was there.
    @discardableResult
    package mutating func remove(_ sequence: UInt64) -> Bool {
        guard let index = index(of: sequence), let entry = slots[index] else { return false }
        slots[index] = nil
        tally(entry, -1)
        while head < slots.count, slots[head] == nil { head += 1; first += 1 }
        if head > 1024, head > slots.count / 2 {
            slots.removeFirst(head)
            head = 0
        }
        return true
    }

    package mutating func remove(through sequence: UInt64) {
        while let oldest, oldest <= sequence { remove(oldest) }
    }

    /// The oldest entries beyond `sequence`, `limit` of them at most.
    package func entries(after sequence: UInt64, limit: Int) -> [OutboxEntry] {
        var found: [OutboxEntry] = []
        var index = head + (sequence >= first ? Int(min(sequence - first + 1, UInt64(slots.count))) : 0)
        while index < slots.count, found.count < limit {
            if let entry = slots[index] { found.append(entry) }
            index += 1
        }
        return found
    }

    package var oldest: UInt64? { count == 0 ? nil : first }
    package func contains(_ sequence: UInt64) -> Bool { index(of: sequence).map { slots[$0] != nil } ?? false }

    private func index(of sequence: UInt64) -> Int? {
        guard sequence >= first, sequence - first < UInt64(slots.count - head) else { return nil }
        return head + Int(sequence - first)
    }

    private mutating func tally(_ entry: OutboxEntry, _ sign: Int) {
        count += sign
        bytes += sign * entry.size
        weights[Int(entry.notification.weight.rawValue)] += sign
        guard entry.notification.weight == .performance else { return }
        let left = updates[entry.notification.object, default: 0] + sign
        updates[entry.notification.object] = left == 0 ? nil : left
    }

    private mutating func makeRoom(sent: UInt64) -> Loss? {
        if weights[Int(NotificationWeight.performance.rawValue)] > updates.count,
            let victim = oldest(after: sent, where: { $0.weight == .performance && updates[$0.object, default: 0] > 1 })
        {
            remove(victim)
            return Loss(sequence: victim, kind: .coalesced)
        }
        for weight in NotificationWeight.allCases where weights[Int(weight.rawValue)] > 0 {
            guard let victim = oldest(after: sent, where: { $0.weight == weight }) else { continue }
            remove(victim)
            return Loss(sequence: victim, kind: .dropped)
        }
        return nil
    }

    private func oldest(after sent: UInt64, where fits: (OutgoingNotification) -> Bool) -> UInt64? {
        let start = head + (sent >= first ? Int(min(sent - first + 1, UInt64(slots.count - head))) : 0)
        return slots[start...].lazy.compactMap { $0 }.first { fits($0.notification) }?.sequence
    }
}
