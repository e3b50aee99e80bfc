// The outbox as a value and on disk: order, bounds, what goes first, torn tails.

import Foundation
import SDNAgent
import Testing

private func performance(_ object: String, _ number: Int = 0) -> OutgoingNotification {
    .init(name: "sdqkdn_link_perf_update", object: object, weight: .performance, body: Data("\(number)".utf8))
}

private func event(_ object: String, _ number: Int = 0) -> OutgoingNotification {
    .init(name: "sdqkdn_link_down", object: object, weight: .event, body: Data("\(number)".utf8))
}

private func alarm(_ number: Int = 0) -> OutgoingNotification {
    .init(name: "alarm", object: "link/x", weight: .alarm, body: Data("\(number)".utf8))
}

@Suite struct OutboxQueueTests {
    @Test("full: first superseded updates, then updates, then events, alarms last")
    func order() {
        var queue = OutboxQueue(limits: .init(entries: 4, bytes: 1 << 20))
        var losses: [OutboxQueue.Loss]
        _ = queue.append(performance("a", 1))
        _ = queue.append(alarm(2))
        _ = queue.append(performance("b", 3))
        _ = queue.append(performance("a", 4))
        // 1 is overtaken by 4.
        losses = queue.append(event("c", 5)).losses
        #expect(losses == [.init(sequence: 1, kind: .coalesced)])
        // Nothing is overtaken: the oldest update goes.
        losses = queue.append(alarm(6)).losses
        #expect(losses == [.init(sequence: 3, kind: .dropped)])
        losses = queue.append(alarm(7)).losses
        #expect(losses == [.init(sequence: 4, kind: .dropped)])
        losses = queue.append(alarm(8)).losses
        #expect(losses == [.init(sequence: 5, kind: .dropped)])
        // A new update goes before any alarm, an alarm only before a newer alarm.
        losses = queue.append(performance("d", 9)).losses
        #expect(losses == [.init(sequence: 9, kind: .dropped)])
        losses = queue.append(alarm(10)).losses
        #expect(losses == [.init(sequence: 2, kind: .dropped)])
        #expect(queue.entries(after: 0, limit: 9).map(\.sequence) == [6, 7, 8, 10])
    }

    @Test("what is on its way is left alone")
    func inFlight() {
        var queue = OutboxQueue(limits: .init(entries: 2, bytes: 1 << 20))
        var losses: [OutboxQueue.Loss]
        _ = queue.append(performance("a", 1))
        _ = queue.append(performance("a", 2))
        losses = queue.append(performance("a", 3), sent: 1).losses
        #expect(losses == [.init(sequence: 2, kind: .coalesced)])
        losses = queue.append(performance("b", 4), sent: 3).losses
        #expect(losses == [.init(sequence: 4, kind: .dropped)])
        losses = queue.append(alarm(5), sent: 5).losses
        #expect(losses.isEmpty)
        #expect(queue.count == 3)
    }

    @Test("bytes count as well as entries")
    func bytes() {
        var queue = OutboxQueue(limits: .init(entries: 1000, bytes: 4000))
        for number in 0..<100 { _ = queue.append(performance("link/\(number % 3)", number)) }
        #expect(queue.bytes <= 4000)
        // The newest of each object is what is left last.
        #expect(Set(queue.entries(after: 0, limit: 999).suffix(3).map(\.notification.object)) == ["link/0", "link/1", "link/2"])
    }

    /// Against a plain array that does the same slowly.
    @Test("order per object and counts hold over random histories", arguments: 0..<8)
    func histories(seed: UInt64) {
        var generator = SplitMix(state: seed)
        var queue = OutboxQueue(limits: .init(entries: 50, bytes: 1 << 20))
        var plain: [OutboxEntry] = []
        for step in 0..<3000 {
            if generator.next() % 3 == 0, let entry = plain.randomElement(using: &generator) {
                let wasThere = queue.remove(entry.sequence)
                #expect(wasThere)
                plain.removeAll { $0.sequence == entry.sequence }
            } else {
                let weight = NotificationWeight.allCases.randomElement(using: &generator) ?? .alarm
                let object = "o\(generator.next() % 5)"
                let (entry, losses) = queue.append(.init(name: "n", object: object, weight: weight, body: Data("\(step)".utf8)))
                plain.append(entry)
                for loss in losses {
                    let gone = plain.first { $0.sequence == loss.sequence }
                    let overtaken = plain.contains {
                        $0.notification.object == gone?.notification.object && $0.sequence > loss.sequence
                            && $0.notification.weight == .performance
                    }
                    #expect((loss.kind == .coalesced) == (gone?.notification.weight == .performance && overtaken))
                    if let weight = gone?.notification.weight, loss.kind == .dropped {
                        #expect(!plain.contains { $0.notification.weight < weight }, "something less dear was there")
                    }
                    plain.removeAll { $0.sequence == loss.sequence }
                }
            }
            #expect(queue.count == plain.count)
        }
        #expect(queue.entries(after: 0, limit: .max) == plain)
        #expect(queue.bytes == plain.reduce(0) { $0 + $1.size })
    }
}

/// A small generator for tests (Steele, Lea, Flood 2014).
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}

@Suite struct OutboxFileTests {
    let folder = TemporaryFolder()
    var path: String { folder.path + "/outbox" }

    @Test("what was taken is there after a restart, what was confirmed is not, numbers go on")
    func restart() throws {
        let name: UUID
        do {
            let outbox = try Outbox(path: path)
            name = outbox.identity
            for number in 0..<10 { outbox.take(event("link/\(number % 2)", number)) }
            #expect(outbox.settle(limit: 4).map(\.sequence) == [1, 2, 3, 4])
            outbox.confirm([1, 2, 4])
        }
        let again = try Outbox(path: path)
        #expect(again.identity == name)
        #expect(again.settle(limit: 99).map(\.sequence) == [3, 5, 6, 7, 8, 9, 10])
        again.confirm([3, 5, 6, 7, 8, 9, 10])
        let third = try Outbox(path: path)
        #expect(third.counts.waiting == 0)
        third.take(alarm())
        #expect(third.settle(limit: 9).map(\.sequence) == [11])
    }

    @Test("rewinding hands out again what is unconfirmed, in order")
    func rewind() throws {
        let outbox = try Outbox(path: path)
        for number in 0..<6 { outbox.take(event("a", number)) }
        #expect(outbox.settle(limit: 3).count == 3)
        outbox.confirm([1])
        outbox.rewind()
        #expect(outbox.settle(limit: 99).map(\.sequence) == [2, 3, 4, 5, 6])
        #expect(!outbox.hasUnsent)
    }

    @Test("a tail that was cut at any byte costs only the record it belonged to")
    func tornTail() throws {
        do {
            let outbox = try Outbox(path: path)
            for number in 0..<3 { outbox.take(event("a", number)) }
        }
        let whole = try Data(contentsOf: URL(filePath: path))
        let record = (whole.count - 24) / 3
        for cut in stride(from: whole.count, through: 24, by: -1) {
            try whole.prefix(cut).write(to: URL(filePath: path))
            let outbox = try Outbox(path: path)
            #expect(outbox.counts.waiting == (cut - 24) / record)
            // It can go on from there.
            outbox.take(alarm())
            #expect(try Outbox(path: path).counts.waiting == (cut - 24) / record + 1)
        }
    }

    @Test("a flipped bit is found by the checksum; another file is refused")
    func damage() throws {
        do {
            let outbox = try Outbox(path: path)
            for number in 0..<3 { outbox.take(event("a", number)) }
        }
        var bytes = try Data(contentsOf: URL(filePath: path))
        bytes[bytes.count - 3] ^= 4
        try bytes.write(to: URL(filePath: path))
        #expect(try Outbox(path: path).counts.waiting == 2)
        try Data("a letter that somebody keeps here, which is no outbox".utf8).write(to: URL(filePath: path))
        #expect(throws: SDNAgentError.self) { try Outbox(path: path) }
    }

    @Test("the log is written anew before history fills the disk")
    func compaction() throws {
        let outbox = try Outbox(path: path, entries: 100)
        let body = Data(repeating: 7, count: 1000)
        for round in 0..<60 {
            for _ in 0..<100 { outbox.take(.init(name: "n", object: "o", weight: .event, body: body)) }
            outbox.confirm(outbox.settle(limit: 100).map(\.sequence))
            let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
            #expect(size < 2 << 20, "round \(round)")
        }
        #expect(try Outbox(path: path).counts.waiting == 0)
    }

    /// In a process of its own: the limit on file sizes is the whole process's.
    @Test("a full disk is a state: notifications go on from memory, and the log is whole once there is room")
    func fullDisk() async {
        await #expect(processExitsWith: .success) {
            let folder = TemporaryFolder()
            let path = folder.path + "/outbox"
            let outbox = try Outbox(path: path)
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            signal(SIGXFSZ, SIG_IGN)
            var small = rlimit(rlim_cur: 500, rlim_max: limit.rlim_max)
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &small)
            for number in 0..<20 { outbox.take(event("a", number)) }
            try #require(outbox.counts.problem != nil)
            let handedOut = outbox.settle(limit: 99).count
            try #require(handedOut == 20)
            setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            outbox.settleOnly()
            try #require(outbox.counts.problem == nil)
            let waiting = try Outbox(path: path).counts.waiting
            try #require(waiting == 20)
        }
    }
}

final class TemporaryFolder: Sendable {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "sdnagent-" + UUID().uuidString.prefix(8)
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
