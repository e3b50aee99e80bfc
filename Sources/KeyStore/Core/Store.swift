// The store: one database, its seals, and the queue through which all changes go.

package import Foundation
package import GRDB
package import KeyMaterial
package import QKDModel

/// Limits and rules of one store.
package struct StoreRules: Sendable {
    package var node: NodeID
    /// Links' limit in store, in bits.
    package var capacityBits = 1 << 33
    /// Smallest and largest key, in bytes.
    package var keyBytes = 8...1024
    package var deliverEmulated = false
    /// How long a reserved key waits for its application, and an unconfirmed block for the peer.
    package var reservedLife: TimeInterval = 86_400
    package var heldLife: TimeInterval = 7 * 86_400
    /// How long the row of a key is kept after its bits are gone, for people; the ledger does not need it.
    package var traceLife: TimeInterval = 3600
    /// What each pad is topped up to, in bytes.
    package var padLevel = 65_536

    package init(node: NodeID) { self.node = node }
}

/// One node's keys on disk.
package final class Store: Sendable {
    package let rules: StoreRules
    package let pool: DatabasePool
    package let seals: Seals
    private let now: @Sendable () -> Date
    private let committer: Committer

    /// Opens or makes the database at `path`.
    ///
    /// - Parameter now: wall-clock time, for expiry and what people read.
    /// - Throws: `KeyStoreError.database`, or `.sealBroken` where the database was made under another master key.
    package init(
        path: String, masterKey: SecretBytes, rules: StoreRules, random: any RandomSource = KernelRandom(),
        now: @escaping @Sendable () -> Date = { Date() }
    ) throws {
        self.rules = rules
        self.now = now
        seals = try Seals(masterKey: masterKey, random: random)
        do { pool = try Schema.open(path: path) } catch { throw KeyStoreError.database("'\(path)': \(error)") }
        committer = Committer(pool: pool)
        try checkMasterKey()
    }

    /// Runs `body` in a transaction and returns once it is durable. Changes that arrive together share a commit; a body
    /// that throws takes back only its own.
    package func change<T: Sendable>(_ body: @escaping @Sendable (StoreTransaction) throws -> T) async throws -> T {
        let (rules, seals, time) = (rules, seals, now())
        return try await committer.perform { database in
            try body(StoreTransaction(database: database, seals: seals, rules: rules, now: time))
        }
    }

    /// The same at once, for callers that cannot wait asynchronously (pads).
    @discardableResult
    package func changeNow<T>(_ body: (StoreTransaction) throws -> T) throws -> T {
        do {
            return try pool.write { try body(StoreTransaction(database: $0, seals: seals, rules: rules, now: now())) }
        } catch let error as DatabaseError { throw KeyStoreError.database("\(error)") }
    }

    /// Looks without changing.
    package func look<T: Sendable>(_ body: @escaping @Sendable (StoreTransaction) throws -> T) async throws -> T {
        let (rules, seals, time) = (rules, seals, now())
        return try await pool.read { try body(StoreTransaction(database: $0, seals: seals, rules: rules, now: time)) }
    }

    /// Truncates the write-ahead log, so that what was erased is gone from it too.
    package func tidy() async throws {
        try await pool.writeWithoutTransaction { _ = try $0.checkpoint(.truncate) }
    }

    package func close() throws { try pool.close() }

    private func checkMasterKey() throws {
        let label = "master key check of \(rules.node)"
        try changeNow { transaction in
            if let sealed = try Data.fetchOne(transaction.database, sql: "SELECT value FROM fact WHERE name = 'check'") {
                guard (try? seals.open(key: sealed, label)) != nil else {
                    throw KeyStoreError.sealBroken("the key database of \(rules.node)")
                }
            } else {
                let sealed = try label.utf8CString.withUnsafeBytes { try seals.seal(key: $0, label) }
                try transaction.database.execute(sql: "INSERT INTO fact VALUES ('check', ?)", arguments: [sealed])
            }
        }
    }
}

/// Groups changes: whoever comes while a commit runs shares the next one. One synchronised commit takes as long as a
/// thousand, so this is what makes many small deliveries quick.
actor Committer {
    private struct Job {
        /// Runs the change; what it returns tells the caller, after the commit or after its failure.
        var run: @Sendable (Database) throws -> @Sendable () -> Void
        var fail: @Sendable (any Error) -> Void
    }

    private let pool: DatabasePool
    private var waiting: [Job] = []
    private var running = false

    init(pool: DatabasePool) { self.pool = pool }

    func perform<T: Sendable>(_ body: @escaping @Sendable (Database) throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            waiting.append(
                Job(
                    run: { database in
                        let value = try body(database)
                        return { continuation.resume(returning: value) }
                    },
                    fail: { continuation.resume(throwing: $0) }))
            if !running {
                running = true
                Task { await drain() }
            }
        }
    }

    private func drain() async {
        while !waiting.isEmpty {
            let jobs = waiting
            waiting = []
            let tell: [@Sendable () -> Void]
            do {
                tell = try await pool.write { database in try jobs.map { try Self.attempt($0, database) } }
            } catch {
                let failure = KeyStoreError.database("\(error)")
                tell = jobs.map { job in { job.fail(failure) } }
            }
            tell.forEach { $0() }
        }
        running = false
    }

    /// One change in a savepoint of its own.
    private static func attempt(_ job: Job, _ database: Database) throws -> @Sendable () -> Void {
        var tell: @Sendable () -> Void = {}
        var refused: (any Error)?
        try database.inSavepoint {
            do {
                tell = try job.run(database)
                return .commit
            } catch {
                refused = error
                return .rollback
            }
        }
        guard let refused else { return tell }
        let error = refused is DatabaseError ? KeyStoreError.database("\(refused)") : refused
        return { job.fail(error) }
    }
}
