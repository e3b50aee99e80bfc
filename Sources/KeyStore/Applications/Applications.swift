// The registry of applications: who asks is written down before it is served, and held to what it may have.
//
//   first request --> provisional --registered by a controller or operator--> registered <--> disabled
//                          \---------------------disabled by one-------------------------------^
//
// The rows live in the store's database; this keeps a copy of them, the buckets of the enforced bandwidths, and who is
// connected. An account changes in the transaction that delivers the keys (`StoreTransaction.consume`).

package import Foundation
import KeyMaterial
package import QKDModel
import Synchronization

/// Which node serves which application. Peers that come and go bring and take theirs.
package final class Directory: Sendable {
    private let homes: Mutex<[SAEID: NodeID]>

    package init(_ homes: [SAEID: NodeID]) { self.homes = Mutex(homes) }

    package func home(of application: SAEID) -> NodeID? { homes.withLock { $0[application] } }
    package func applications(of node: NodeID) -> [SAEID] { homes.withLock { $0.filter { $0.value == node }.keys.sorted() } }

    /// Replaces all that `node` serves. - Throws: `KeyStoreError.configuration` where one is served elsewhere.
    package func set(_ applications: [SAEID], of node: NodeID) throws(KeyStoreError) {
        let taken: (SAEID, NodeID)? = homes.withLock { homes in
            for application in applications {
                if let home = homes[application], home != node { return (application, home) }
            }
            homes = homes.filter { $0.value != node }
            for application in applications { homes[application] = node }
            return nil
        }
        if let taken { throw .configuration("application \(taken.0) lives at \(taken.1) already") }
    }
}

/// Why an application does not get what it asks for.
package enum ApplicationRefusal: Error, Equatable {
    case disabled
    case expired
    /// Nobody has registered it, and the policy serves none of those.
    case provisional
    case bandwidth(bitsPerSecond: Int, seconds: Int)
    case tooMany

    package var message: String {
        switch self {
        case .disabled: "the application is disabled at this KME"
        case .expired: "the application's registration at this KME has expired"
        case .provisional: "the application is not registered at this KME yet"
        case .bandwidth(let rate, let seconds): "the application's max_bandwidth is \(rate) bit/s: try again in \(seconds) s"
        case .tooMany: "this KME knows as many applications as it can"
        }
    }
}

package final class Applications: Sendable {
    static let most = 10_000

    fileprivate struct Entry {
        var record: ApplicationRecord
        var bucket: Bucket?
        var connected: Bool
        var refused = 0
        /// `record.lastRequest` is newer than what the database has.
        var stale = false
    }
    private struct Inner {
        var entries: [UUID: Entry] = [:]
        var byAppID: [UUID: UUID] = [:]
    }

    package let policy: ApplicationPolicy
    private let node: NodeID
    private let store: Store
    private let journal: StoreJournal
    private let now: @Sendable () -> Date
    /// Time by a clock that nobody sets.
    private let elapsed: @Sendable () -> Duration
    private let inner: Mutex<Inner>

    package init(
        store: Store, journal: StoreJournal, policy: ApplicationPolicy, now: @escaping @Sendable () -> Date,
        elapsed: (@Sendable () -> Duration)? = nil
    ) throws {
        let (start, idle, time) = (ContinuousClock.now, Double(policy.idleSeconds), now())
        var loaded = Inner()
        for record in try store.changeNow({ try $0.applications() }) {
            let connected = record.lastRequest.map { time.timeIntervalSince($0) < idle } ?? false
            loaded.entries[record.id] = Entry(record: record, connected: connected)
            if let appID = record.appID { loaded.byAppID[appID] = record.id }
        }
        (self.store, self.journal, self.policy, self.now) = (store, journal, policy, now)
        node = store.rules.node
        self.elapsed = elapsed ?? { ContinuousClock.now - start }
        inner = Mutex(loaded)
    }

    // MARK: Requests

    /// Lets a request in, and writes the pair down if it is new.
    ///
    /// - Parameter bits: how much new key is asked for; 0 where keys are fetched that were given already.
    /// - Returns: the application's id and priority.
    /// - Throws: `ApplicationRefusal`, or `KeyStoreError.database`.
    package func admit(server: SAEID, client: SAEID, peer: NodeID, servesServer: Bool, bits: Int) async throws -> (id: UUID, priority: Int)
    {
        let id = try await know(server: server, client: client, peer: peer, servesServer: servesServer)
        let (time, clock, policy) = (now(), elapsed(), policy)
        let (refusal, isBack, priority) = inner.withLock { inner -> (ApplicationRefusal?, Bool, Int) in
            guard var entry = inner.entries[id] else { return (nil, false, 0) }
            defer { inner.entries[id] = entry }
            let isBack = !entry.connected && entry.record.firstRequest != nil
            entry.connected = true
            entry.record.firstRequest = entry.record.firstRequest ?? time
            entry.record.lastRequest = time
            entry.stale = true
            let refusal = entry.standing(policy, at: time) ?? entry.take(bits, policy, at: clock)
            if refusal != nil { entry.refused += 1 }
            return (refusal, isBack, entry.record.priority)
        }
        if isBack, let record = record(id) { journal.note(.applicationChanged, record, "\(server) and \(client) ask again") }
        if let refusal { throw refusal }
        return (id, priority)
    }

    /// What was let in and not delivered after all does not count against the bandwidth.
    package func giveBack(_ id: UUID, bits: Int) { inner.withLock { $0.entries[id]?.bucket?.giveBack(bits) } }

    /// Whether keys may be set aside here for what the peer's application asks for.
    package func mayReserve(server: SAEID, client: SAEID, peer: NodeID) async throws -> Bool {
        let id = try await know(server: server, client: client, peer: peer, servesServer: false)
        let (time, policy) = (now(), policy)
        return inner.withLock { $0.entries[id]?.standing(policy, at: time) == nil }
    }

    /// Writes a pair down, durably, where it is new.
    private func know(server: SAEID, client: SAEID, peer: NodeID, servesServer: Bool) async throws -> UUID {
        let id = ApplicationRecord.id(server: server, client: client)
        let count = inner.withLock { inner in inner.entries[id] == nil ? inner.entries.count : nil }
        guard let count else { return id }
        guard count < Self.most else { throw ApplicationRefusal.tooMany }
        let record = ApplicationRecord(
            id: id, server: server, client: client, peer: peer, servesServer: servesServer, state: .provisional, created: now())
        try await store.change { transaction in
            guard try transaction.application(id) == nil else { return }
            try transaction.save(record)
        }
        let isFirst = inner.withLock { inner in
            guard inner.entries[id] == nil else { return false }
            inner.entries[id] = Entry(record: record, connected: true)
            return true
        }
        if isFirst { journal.note(.applicationNew, record, "\(server) asks for keys shared with \(client) for the first time") }
        return id
    }

    // MARK: Registration

    /// - Parameter id: the pair's own id, or the one that a controller gave it.
    private func resolve(_ id: UUID) -> UUID { inner.withLock { $0.byAppID[id] ?? id } }

    private func record(_ id: UUID) -> ApplicationRecord? { inner.withLock { $0.entries[id]?.record } }

    /// Registers a pair that may not have asked yet.
    package func register(server: SAEID, client: SAEID, peer: NodeID, servesServer: Bool, _ change: ApplicationChange) async throws
        -> ApplicationRecord
    {
        let id = ApplicationRecord.id(server: server, client: client)
        if let known = try await alter(id, change, registers: true) { return known }
        guard inner.withLock({ $0.entries.count }) < Self.most else {
            throw KeyStoreError.configuration(ApplicationRefusal.tooMany.message)
        }
        var record = ApplicationRecord(
            id: id, server: server, client: client, peer: peer, servesServer: servesServer, state: .registered, created: now())
        record.apply(change, registers: true)
        return try await keep(record, connected: false)
    }

    /// - Parameter registers: whether a provisional one becomes a registered one by it.
    /// - Returns: nil where the application is unknown.
    package func alter(_ id: UUID, _ change: ApplicationChange, registers: Bool) async throws -> ApplicationRecord? {
        let id = resolve(id)
        guard var record = record(id) else { return nil }
        record.apply(change, registers: registers)
        return try await keep(record, connected: nil)
    }

    private func keep(_ record: ApplicationRecord, connected: Bool?) async throws -> ApplicationRecord {
        let stored = try await store.change { transaction in
            try transaction.save(record)
            return try transaction.application(record.id) ?? record
        }
        inner.withLock { inner in
            if let old = inner.entries[stored.id]?.record.appID { inner.byAppID[old] = nil }
            if let appID = stored.appID { inner.byAppID[appID] = stored.id }
            var entry = inner.entries[stored.id] ?? Entry(record: stored, connected: connected ?? false)
            let limit = policy.bandwidth(of: entry.record)
            entry.record = stored
            if policy.bandwidth(of: stored) != limit { entry.bucket = nil }
            inner.entries[stored.id] = entry
        }
        journal.note(.applicationChanged, stored, "\(stored.server) and \(stored.client) are \(stored.state.rawValue)")
        return stored
    }

    /// - Returns: what it was; nil where the application is unknown.
    package func forget(_ id: UUID) async throws -> ApplicationReport? {
        let id = resolve(id)
        guard let report = try await report(id, intervals: 96) else { return nil }
        try await store.change { try $0.forgetApplication(id) }
        inner.withLock { inner in
            let gone = inner.entries.removeValue(forKey: id)
            if let appID = gone?.record.appID { inner.byAppID[appID] = nil }
        }
        journal.note(.applicationChanged, report.record, "\(report.record.server) and \(report.record.client) are forgotten")
        return report
    }

    // MARK: What is known

    package func report(_ id: UUID, intervals: Int) async throws -> ApplicationReport? {
        let id = resolve(id)
        let found = try await store.look { transaction -> (ApplicationRecord, [Consumption])? in
            guard let record = try transaction.application(id) else { return nil }
            return (record, try transaction.consumption(id, newest: intervals))
        }
        guard let (stored, consumption) = found else { return nil }
        return report(stored, consumption)
    }

    package func reports(intervals: Int) async throws -> [ApplicationReport] {
        try await store.look { transaction in
            try transaction.applications().map { ($0, try transaction.consumption($0.id, newest: intervals)) }
        }.map { report($0.0, $0.1) }
    }

    private func report(_ stored: ApplicationRecord, _ consumption: [Consumption]) -> ApplicationReport {
        var record = stored
        let (connected, refused, first, last) = inner.withLock { inner in
            let entry = inner.entries[stored.id]
            return (entry?.connected ?? false, entry?.refused ?? 0, entry?.record.firstRequest, entry?.record.lastRequest)
        }
        record.firstRequest = first ?? record.firstRequest
        record.lastRequest = [last, record.lastRequest].compactMap(\.self).max()
        return ApplicationReport(
            record: record, enforcedBandwidth: policy.bandwidth(of: record), connected: connected, refused: refused,
            consumption: consumption)
    }

    // MARK: Housekeeping

    /// Notes who has not asked for long, writes down who asked when, and tells of accounting intervals that are over.
    package func keepHouse() async throws {
        let (time, idle) = (now(), Double(policy.idleSeconds))
        let (gone, stale) = inner.withLock { inner -> ([ApplicationRecord], [ApplicationRecord]) in
            var (gone, stale): ([ApplicationRecord], [ApplicationRecord]) = ([], [])
            for (id, entry) in inner.entries {
                if entry.stale {
                    inner.entries[id]?.stale = false
                    stale.append(entry.record)
                }
                guard entry.connected, time.timeIntervalSince(entry.record.lastRequest ?? entry.record.created) >= idle else { continue }
                inner.entries[id]?.connected = false
                gone.append(entry.record)
            }
            return (gone, stale)
        }
        for record in gone {
            journal.note(
                .applicationDisconnected, record, "\(record.server) and \(record.client) have not asked for \(policy.idleSeconds) s")
        }
        let (length, kept) = (policy.accountingSeconds, policy.intervalsKept)
        let isDue = try await store.look { try !$0.accountsAreSettled() }
        guard isDue || !stale.isEmpty else { return }
        let over = try await store.change { transaction in
            for record in stale { try transaction.noteRequests(record) }
            return try transaction.settleAccounts(intervalSeconds: length, kept: kept)
        }
        for (id, consumption) in over {
            guard let record = record(id) else { continue }
            journal.note(
                .consumption, record, "\(record.server) and \(record.client) took \(consumption.bits) bits", consumption: consumption)
        }
    }
}

extension Applications {
    /// Bits of a delivery, for the transaction that makes it.
    func account(_ keys: [DeliveredKey], server: SAEID, client: SAEID, in transaction: StoreTransaction) throws {
        try transaction.consume(
            server: server, client: client, bits: keys.reduce(0) { $0 + $1.bits.count * 8 }, keys: keys.count,
            intervalSeconds: policy.accountingSeconds)
    }
}

extension ApplicationRecord {
    mutating func apply(_ change: ApplicationChange, registers: Bool) {
        if let appID = change.appID { self.appID = appID }
        if let priority = change.priority { self.priority = priority }
        if let qos = change.qos { self.qos = qos }
        if let expires = change.expires { self.expires = expires }
        if let enabled = change.enabled {
            state = enabled ? .registered : .disabled
        } else if registers, state == .provisional {
            state = .registered
        }
    }
}

extension ApplicationPolicy {
    /// bit/s that an application may have; nil: no limit.
    func bandwidth(of record: ApplicationRecord) -> Int? {
        let own = record.qos.maxBandwidth.flatMap { $0 > 0 ? $0 : nil }
        guard record.state == .provisional, let limit = provisionalBandwidth else { return own }
        return min(own ?? limit, limit)
    }
}

extension Applications.Entry {
    fileprivate func standing(_ policy: ApplicationPolicy, at time: Date) -> ApplicationRefusal? {
        if record.state == .disabled { return .disabled }
        if let expires = record.expires, expires <= time { return .expired }
        if record.state == .provisional, policy.provisional == .refuse { return .provisional }
        return nil
    }

    fileprivate mutating func take(_ bits: Int, _ policy: ApplicationPolicy, at clock: Duration) -> ApplicationRefusal? {
        guard bits > 0, let rate = policy.bandwidth(of: record) else { return nil }
        var bucket = bucket ?? Bucket(rate: Double(rate), at: clock)
        let wait = bucket.take(bits, at: clock)
        self.bucket = bucket
        return wait.map { .bandwidth(bitsPerSecond: rate, seconds: max(1, Int($0.rounded(.up)))) }
    }
}
