// The database: how it is opened and what its tables are.

import Foundation
import GRDB

enum Schema {
    /// Bytes of a block that are sealed together: cutting a key out seals one of these anew.
    static let segmentBytes = 4096
    /// Bytes of pad that are sealed, taken and erased together.
    static let padBytes = 1024
    /// Where no more than this is left, pads leave the disk in pieces of `padPiece` bytes.
    static let padReserve = 4 * padBytes
    static let padPiece = 64

    /// Opens or makes the database, with write-ahead log, full synchronisation and overwriting deletion.
    static func open(path: String) throws -> DatabasePool {
        var configuration = Configuration()
        configuration.label = "key store"
        configuration.maximumReaderCount = 3
        configuration.busyMode = .timeout(10)
        configuration.prepareDatabase { database in
            try database.execute(sql: "PRAGMA secure_delete = ON")
            try database.execute(sql: "PRAGMA foreign_keys = ON")
            try database.execute(sql: "PRAGMA temp_store = MEMORY")
        }
        let old = umask(0o077)
        defer { umask(old) }
        let pool = try DatabasePool(path: path, configuration: configuration)
        // The pool sets NORMAL for its writer after prepareDatabase: a commit would not survive a power failure.
        try pool.writeWithoutTransaction { database in
            try database.execute(sql: "PRAGMA synchronous = FULL")
            try database.execute(sql: "PRAGMA wal_autocheckpoint = 2000")
        }
        try migrator.migrate(pool)
        return pool
    }

    private static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1") { try $0.execute(sql: version1) }
        migrator.registerMigration("2") { try $0.execute(sql: version2) }
        migrator.registerMigration("3") { try $0.execute(sql: version3) }
        migrator.registerMigration("4") { try $0.execute(sql: version4) }
        return migrator
    }

    private static let version1 = """
        CREATE TABLE fact (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

        CREATE TABLE block (
            number INTEGER PRIMARY KEY,          -- order of arrival
            id BLOB NOT NULL UNIQUE,             -- UUID
            link TEXT NOT NULL, peer TEXT NOT NULL,
            emulated INTEGER NOT NULL, first_end INTEGER NOT NULL, bytes INTEGER NOT NULL,
            state TEXT NOT NULL,                 -- held, confirmed, spent, void
            mark BLOB NOT NULL,                  -- keyed fingerprint of the content
            data_key BLOB,                       -- wrapped; dropped with the bits
            created REAL NOT NULL,
            start INTEGER NOT NULL DEFAULT 0, split INTEGER NOT NULL DEFAULT 0,
            own_cursor INTEGER NOT NULL DEFAULT 0, peer_cursor INTEGER NOT NULL DEFAULT 0,
            gaps TEXT NOT NULL DEFAULT '',
            own_free INTEGER NOT NULL DEFAULT 0, peer_free INTEGER NOT NULL DEFAULT 0,
            refill BLOB,                         -- what went to the pads, as 'confirmed' says it
            void_told INTEGER NOT NULL DEFAULT 1 -- 0: the peer has not acknowledged yet that it is void
        );
        CREATE INDEX block_peer ON block (peer, state, number);

        CREATE TABLE segment (
            block INTEGER NOT NULL REFERENCES block (number), part INTEGER NOT NULL,
            remaining INTEGER NOT NULL, sealed BLOB NOT NULL,
            PRIMARY KEY (block, part)
        ) WITHOUT ROWID;

        CREATE TABLE key (
            id BLOB PRIMARY KEY, block INTEGER NOT NULL REFERENCES block (number),
            link TEXT NOT NULL, peer TEXT NOT NULL, emulated INTEGER NOT NULL,
            master INTEGER NOT NULL,             -- 1: this end is the master's
            state TEXT NOT NULL,
            start INTEGER NOT NULL, bytes INTEGER NOT NULL,
            master_sae TEXT NOT NULL, slave_sae TEXT NOT NULL,
            sealed BLOB, changed REAL NOT NULL,
            claim INTEGER NOT NULL DEFAULT 0     -- the exchange that offered it last
        ) WITHOUT ROWID;
        CREATE INDEX key_state ON key (state, peer, bytes);
        CREATE INDEX key_over ON key (changed) WHERE sealed IS NULL;

        CREATE TABLE pad_state (
            peer TEXT PRIMARY KEY, epoch INTEGER NOT NULL, mark BLOB NOT NULL,
            send_hash_key BLOB NOT NULL, receive_hash_key BLOB NOT NULL,
            send_cursor INTEGER NOT NULL, send_end INTEGER NOT NULL,
            receive_cursor INTEGER NOT NULL, receive_end INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE TABLE pad (
            peer TEXT NOT NULL, sending INTEGER NOT NULL, start INTEGER NOT NULL, bytes INTEGER NOT NULL,
            sealed BLOB NOT NULL, PRIMARY KEY (peer, sending, start)
        ) WITHOUT ROWID;

        CREATE TABLE tally (
            link TEXT NOT NULL, name TEXT NOT NULL, bits INTEGER NOT NULL, PRIMARY KEY (link, name)
        ) WITHOUT ROWID;
        """

    /// Every installed secret there ever was, by its keyed fingerprint: none may come back.
    private static let version2 = """
        CREATE TABLE secret_mark (peer TEXT NOT NULL, mark BLOB NOT NULL, PRIMARY KEY (peer, mark)) WITHOUT ROWID;
        INSERT INTO secret_mark SELECT peer, mark FROM pad_state;
        """

    /// A refill that the asking end has not acknowledged yet: nothing may be sent from it.
    private static let version3 = """
        ALTER TABLE pad ADD COLUMN open INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE block ADD COLUMN refill_settled INTEGER NOT NULL DEFAULT 1;
        CREATE INDEX block_unsettled ON block (peer) WHERE refill_settled = 0;
        """

    /// Applications and their accounts, peers that were added at run time.
    private static let version4 = """
        CREATE TABLE application (
            id BLOB PRIMARY KEY, server TEXT NOT NULL, client TEXT NOT NULL, peer TEXT NOT NULL, serves_server INTEGER NOT NULL,
            app_id BLOB UNIQUE, state TEXT NOT NULL, priority INTEGER NOT NULL, qos TEXT NOT NULL, expires REAL,
            created REAL NOT NULL, first_request REAL, last_request REAL,
            bits INTEGER NOT NULL DEFAULT 0, keys INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID;
        CREATE TABLE consumption (
            application BLOB NOT NULL REFERENCES application (id) ON DELETE CASCADE, start REAL NOT NULL, "end" REAL NOT NULL,
            bits INTEGER NOT NULL, keys INTEGER NOT NULL, told INTEGER NOT NULL, PRIMARY KEY (application, start)
        ) WITHOUT ROWID;
        CREATE INDEX consumption_untold ON consumption ("end") WHERE told = 0;

        CREATE TABLE peer (
            node TEXT PRIMARY KEY, address TEXT NOT NULL, certificate_name TEXT NOT NULL, secret TEXT NOT NULL,
            applications TEXT NOT NULL       -- SAE ids, a space between
        ) WITHOUT ROWID;
        """
}
