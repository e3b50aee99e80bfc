// What a link service must not forget: pads with their cursors, and blocks between the two ends and the key store.
//
// One SQLite file per node, mode 0600, synchronous EXTRA, secure_delete on. A pad's cursor is in the file before pad
// is used; used pad is deleted. A block goes through
//
//     receiver's end:     doubt -> committed -> deposited         (or doubt -> void)
//     transmitter's end:           committed -> deposited         (or, at either end, committed -> refused)
//
// and keeps its key only until the key store has it. Ids stay, so that the answer to a block in doubt is known for ever.

internal import Foundation
internal import GRDB
public import KeyMaterial
public import QKDModel

/// A block that the key store does not have yet.
public struct PendingDeposit: Sendable {
    public var link: LinkID
    public var block: BlockID
    public var peer: NodeID
    public var key: SecretBytes
    public var provenance: KeyProvenance
    /// This end's role when the block was made; nil: a block of an earlier version.
    public var role: DeviceRole?
}

/// How a block of the ledger stands.
public enum LedgerState: String, Sendable {
    case doubt, committed, deposited, void
    /// Committed at both ends, but this node's key store will never take it.
    case refused
}

public final class LinkDatabase: Sendable {
    let queue: DatabaseQueue

    /// - Parameter path: the file, made with mode 0600 when it is not there.
    public init(path: String) throws {
        queue = try wrapDatabase {
            if !FileManager.default.fileExists(atPath: path) {
                _ = FileManager.default.createFile(atPath: path, contents: nil, attributes: [.posixPermissions: 0o600])
            }
            var configuration = Configuration()
            configuration.busyMode = .timeout(5)
            configuration.publicStatementArguments = false
            configuration.prepareDatabase { database in
                try database.execute(sql: "PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON")
            }
            // EXTRA: the folder is synchronised too, or a rollback journal that was deleted could come back after a loss of power
            // and with it a pad's old cursor.
            let queue = try DatabaseQueue(path: path, configuration: configuration)
            try queue.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = EXTRA") }
            try Self.migrator.migrate(queue)
            return queue
        }
    }

    /// The level of `PRAGMA synchronous`: 3 is EXTRA.
    package func synchronousLevel() throws -> Int {
        try wrapDatabase { try queue.read { try Int.fetchOne($0, sql: "PRAGMA synchronous") ?? -1 } }
    }

    private static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { database in
            try database.execute(
                sql: """
                    CREATE TABLE epoch (
                        seq INTEGER PRIMARY KEY AUTOINCREMENT, link TEXT NOT NULL, id BLOB NOT NULL,
                        key1 BLOB NOT NULL, key2 BLOB NOT NULL, size INTEGER NOT NULL, UNIQUE (link, id));
                    CREATE TABLE pad (
                        epoch INTEGER NOT NULL REFERENCES epoch(seq), direction INTEGER NOT NULL,
                        cursor INTEGER NOT NULL, end INTEGER NOT NULL, PRIMARY KEY (epoch, direction));
                    CREATE TABLE pad_part (
                        epoch INTEGER NOT NULL, direction INTEGER NOT NULL, first INTEGER NOT NULL, bytes BLOB NOT NULL,
                        PRIMARY KEY (epoch, direction, first));
                    CREATE TABLE block (
                        id BLOB PRIMARY KEY, link TEXT NOT NULL, peer TEXT NOT NULL, state TEXT NOT NULL, provenance TEXT NOT NULL,
                        epoch INTEGER NOT NULL, forward_bytes INTEGER NOT NULL, backward_bytes INTEGER NOT NULL,
                        made TEXT NOT NULL, key BLOB);
                    CREATE INDEX block_by_state ON block (link, state);
                    """)
        }
        migrator.registerMigration("2") { database in
            try database.execute(
                sql: """
                    ALTER TABLE epoch ADD COLUMN emulated INTEGER NOT NULL DEFAULT 0;
                    UPDATE epoch SET emulated = 1 WHERE seq IN (
                        SELECT epoch FROM block WHERE provenance = 'emulated' AND forward_bytes + backward_bytes > 0
                            AND state IN ('committed', 'deposited'));
                    ALTER TABLE block ADD COLUMN role TEXT;
                    """)
        }
        migrator.registerMigration("3") { database in
            try database.execute(
                sql: """
                    CREATE TABLE peer (node TEXT PRIMARY KEY, content BLOB NOT NULL);
                    CREATE TABLE link (id TEXT PRIMARY KEY, content BLOB NOT NULL);
                    """)
        }
        migrator.registerMigration("4") { try $0.execute(sql: Self.referenceTable) }
        return migrator
    }
}

/// Turns the database's errors into this target's, without statement arguments.
func wrapDatabase<R>(_ body: () throws -> R) throws -> R {
    do { return try body() } catch let error as DatabaseError {
        throw QuantumLinkError.database("\(error.resultCode): \(error.message ?? "no message")")
    }
}

extension SecretBytes {
    /// For a statement: the bytes are copied by SQLite while it runs.
    func withData<R>(_ body: (Data) throws -> R) rethrows -> R {
        try withBytes { bytes in
            guard let base = bytes.baseAddress, bytes.count > 0 else { return try body(Data()) }
            return try body(Data(bytesNoCopy: UnsafeMutableRawPointer(mutating: base), count: bytes.count, deallocator: .none))
        }
    }
}

extension Row {
    func secret(_ column: String) throws -> SecretBytes? {
        try withUnsafeData(named: column) { data in data.map { $0.withUnsafeBytes { SecretBytes(copying: $0) } } }
    }
}

extension BlockID {
    var data: Data { withUnsafeBytes(of: uuid.uuid) { Data($0) } }

    init?(data: Data) {
        guard data.count == 16 else { return nil }
        self.init(UUID(uuid: data.withUnsafeBytes { $0.loadUnaligned(as: uuid_t.self) }))
    }
}
