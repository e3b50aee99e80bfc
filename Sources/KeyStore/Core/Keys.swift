// Keys in the store: cut out of blocks and offered (master's end), reserved (slave's end), delivered.

import Foundation
import GRDB
package import KeyMaterial
package import QKDModel

/// A run of keys that lie one after the other in a block, as `reserve` names it.
package struct KeyRun: Equatable, Sendable {
    package var block: BlockID
    package var offset: Int
    /// Of each key.
    package var keyBytes: Int
    package var count: Int

    package init(block: BlockID, offset: Int, keyBytes: Int, count: Int) {
        self.block = block
        self.offset = offset
        self.keyBytes = keyBytes
        self.count = count
    }

    package var ranges: [Range<Int>] {
        (0..<count).map { offset + $0 * keyBytes..<offset + ($0 + 1) * keyBytes }
    }
    package var ids: [KeyID] { ranges.map { KeyID(block: block, range: $0) } }
}

/// What one application asks for.
package struct KeyRequest: Equatable, Sendable {
    package var peer: NodeID
    package var master: SAEID
    package var slave: SAEID
    package var count: Int
    package var keyBytes: Int

    package init(peer: NodeID, master: SAEID, slave: SAEID, count: Int, keyBytes: Int) {
        self.peer = peer
        self.master = master
        self.slave = slave
        self.count = count
        self.keyBytes = keyBytes
    }
}

/// A key on its way to an application.
package struct DeliveredKey: Sendable {
    package var id: KeyID
    package var bits: SecretBytes
}

extension StoreTransaction {
    // MARK: Master's end

    /// Sets keys aside for a request: first those that an earlier exchange left in doubt, then new ones.
    ///
    /// - Parameter exchange: a number for the keys that go to the peer together. At most one exchange per peer is open
    ///   at a time, so every row in state `offered` of another exchange is such a leftover.
    /// - Throws: `KeyStoreError.notEnoughKey`; then nothing has changed.
    package func offer(_ request: KeyRequest, exchange: Int64) throws -> [KeyRun] {
        let old = try leftovers(request, exchange)
        var runs = merged(old)
        var missing = request.count - old.count
        for row in try openBlocks(request) where missing > 0 {
            var ledger = row.ledger
            guard let range = ledger.take(keys: missing, size: request.keyBytes) else { continue }
            let run = KeyRun(block: row.id, offset: range.lowerBound, keyBytes: request.keyBytes, count: range.count / request.keyBytes)
            try cut(run, out: row, ledger: ledger, master: true, request.master, request.slave, exchange: exchange)
            runs.append(run)
            missing -= run.count
        }
        guard missing == 0 else {
            throw KeyStoreError.notEnoughKey(
                "\(request.count - missing) of \(request.count) keys of \(request.keyBytes * 8) bits for \(request.peer) are in store")
        }
        return runs
    }

    private func leftovers(_ request: KeyRequest, _ exchange: Int64) throws -> [KeyRun] {
        let runs = try Row.fetchAll(
            database,
            sql: """
                SELECT block.id AS block, key.start AS start FROM key JOIN block ON block.number = key.block
                WHERE key.state = 'offered' AND key.peer = ? AND key.bytes = ? AND key.emulated <= ? AND key.claim != ?
                ORDER BY key.block, key.start LIMIT ?
                """,
            arguments: [request.peer.rawValue, request.keyBytes, rules.deliverEmulated, exchange, request.count]
        ).map { KeyRun(block: BlockID(try uuid($0["block"])), offset: $0["start"], keyBytes: request.keyBytes, count: 1) }
        for id in runs.flatMap(\.ids) {
            try database.execute(sql: "UPDATE key SET claim = ? WHERE id = ?", arguments: [exchange, data(id.uuid)])
        }
        return runs
    }

    private func openBlocks(_ request: KeyRequest) throws -> [BlockRow] {
        try Row.fetchAll(
            database,
            sql: """
                SELECT * FROM block WHERE peer = ? AND state = 'confirmed' AND own_free >= ? AND emulated <= ?
                ORDER BY number LIMIT 64
                """,
            arguments: [request.peer.rawValue, request.keyBytes, rules.deliverEmulated]
        ).map(BlockRow.init)
    }

    /// The bits leave the block and become rows of their own, in one transaction with the ledger.
    private func cut(
        _ run: KeyRun, out row: BlockRow, ledger: BlockLedger, master: Bool, _ masterSAE: SAEID, _ slaveSAE: SAEID,
        exchange: Int64 = 0
    ) throws {
        let bits = try takeOut(row, run.offset..<run.offset + run.count * run.keyBytes)
        for (index, id) in run.ids.enumerated() {
            let label = label(id, row.link, row.peer, master)
            let sealed = try bits.withBytes { bytes in
                try seals.seal(key: UnsafeRawBufferPointer(rebasing: bytes[index * run.keyBytes..<(index + 1) * run.keyBytes]), label)
            }
            try database.execute(
                sql: "INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                arguments: [
                    data(id.uuid), row.number, row.link.rawValue, row.peer.rawValue, row.emulated, master,
                    (master ? KeyState.offered : .reserved).rawValue, run.offset + index * run.keyBytes, run.keyBytes,
                    masterSAE.rawValue, slaveSAE.rawValue, sealed, seconds, exchange,
                ])
        }
        try save(ledger, number: row.number)
        if ledger.isSpent(smallest: rules.keyBytes.lowerBound) {
            try eraseBits(row.number)
            try database.execute(sql: "UPDATE block SET state = 'spent' WHERE number = ?", arguments: [row.number])
        }
    }

    /// The peer has reserved the keys: marks them delivered, erases them, and hands them out. The caller lets them
    /// leave only after the commit.
    package func deliver(_ ids: [KeyID]) throws -> [DeliveredKey] {
        try ids.map { try take($0, master: true, .deliver) }
    }

    /// The peer cannot give its copies of these keys: ours are erased.
    package func spoil(_ ids: [KeyID]) throws {
        for id in ids {
            let state = try row(id)?.state.after(.peerRefused)
            guard let state else { continue }
            try erase(id, state)
        }
    }

    // MARK: Slave's end

    /// Reserves what the peer offers. Repeating is harmless while the keys are still here: the newer names count.
    ///
    /// - Throws: `.rangeTaken` where a key is not free, `.noSuchKey` where the block is unknown or not confirmed.
    package func reserve(_ run: KeyRun, peer: NodeID, master: SAEID, slave: SAEID) throws {
        guard rules.keyBytes.contains(run.keyBytes), run.count > 0 else { throw KeyStoreError.badMessage("key size out of range") }
        guard var row = try block(run.block), row.peer == peer else { throw KeyStoreError.noSuchKey }
        guard row.state == .confirmed || row.state == .spent else { throw KeyStoreError.noSuchKey }
        if row.emulated && !rules.deliverEmulated { throw KeyStoreError.refusedByPeer("emulated") }
        // Before any id is made: an id is of 32-bit numbers, and the peer's may not fit.
        guard run.offset >= 0, run.offset <= row.bytes, run.count <= (row.bytes - run.offset) / run.keyBytes else {
            throw KeyStoreError.rangeTaken(run.block)
        }
        var fresh: [KeyRun] = []
        for (range, id) in zip(run.ranges, run.ids) {
            if let known = try self.row(id) {
                guard !known.master, known.state == .reserved else { throw KeyStoreError.rangeTaken(run.block) }
                try rename(id, try known.state.after(.reservedAgain), master, slave)
            } else {
                fresh.append(KeyRun(block: run.block, offset: range.lowerBound, keyBytes: run.keyBytes, count: 1))
            }
        }
        for piece in merged(fresh) {
            var ledger = row.ledger
            try ledger.accept(piece.offset..<piece.offset + piece.count * piece.keyBytes)
            try cut(piece, out: row, ledger: ledger, master: false, master, slave)
            row.ledger = ledger
        }
    }

    private func rename(_ id: KeyID, _ state: KeyState, _ master: SAEID, _ slave: SAEID) throws {
        try database.execute(
            sql: "UPDATE key SET state = ?, master_sae = ?, slave_sae = ?, changed = ? WHERE id = ?",
            arguments: [state.rawValue, master.rawValue, slave.rawValue, seconds, data(id.uuid)])
    }

    /// The slave's application fetches its keys: all or none.
    ///
    /// - Throws: `.noSuchKey` where one is unknown, gone, or of another master; `.notForCaller` where one is another's.
    package func fetch(_ ids: [KeyID], master: SAEID, slave: SAEID) throws -> [DeliveredKey] {
        for id in ids {
            guard let row = try row(id), !row.master, row.state == .reserved else { throw KeyStoreError.noSuchKey }
            guard row.slaveSAE == slave else { throw KeyStoreError.notForCaller }
            guard row.masterSAE == master else { throw KeyStoreError.noSuchKey }
            guard rules.deliverEmulated || !row.emulated else { throw KeyStoreError.refusedByPeer("emulated") }
        }
        return try ids.map { try take($0, master: false, .deliver) }
    }

    // MARK: Rows

    private struct KeyRow {
        var link: LinkID
        var peer: NodeID
        var master: Bool
        var emulated: Bool
        var state: KeyState
        var bytes: Int
        var masterSAE: SAEID
        var slaveSAE: SAEID
        var sealed: Data?
    }

    private func row(_ id: KeyID) throws -> KeyRow? {
        guard let row = try Row.fetchOne(database, sql: "SELECT * FROM key WHERE id = ?", arguments: [data(id.uuid)]) else { return nil }
        guard let state = KeyState(rawValue: row["state"]) else { throw KeyStoreError.database("unknown state of a key") }
        return KeyRow(
            link: LinkID(unchecked: row["link"]), peer: NodeID(unchecked: row["peer"]), master: row["master"], emulated: row["emulated"],
            state: state, bytes: row["bytes"], masterSAE: SAEID(unchecked: row["master_sae"]), slaveSAE: SAEID(unchecked: row["slave_sae"]),
            sealed: row["sealed"])
    }

    private func take(_ id: KeyID, master: Bool, _ event: KeyState.Event) throws -> DeliveredKey {
        guard let row = try row(id), row.master == master else { throw KeyStoreError.noSuchKey }
        let state = try row.state.after(event)
        guard let sealed = row.sealed else { throw KeyStoreError.noSuchKey }
        let bits = try seals.open(key: sealed, label(id, row.link, row.peer, master))
        try erase(id, state)
        try tally(row.link, "delivered", bits: row.bytes * 8)
        return DeliveredKey(id: id, bits: bits)
    }

    private func erase(_ id: KeyID, _ state: KeyState) throws {
        try database.execute(
            sql: "UPDATE key SET state = ?, sealed = NULL, changed = ? WHERE id = ?", arguments: [state.rawValue, seconds, data(id.uuid)])
    }

    private func label(_ id: KeyID, _ link: LinkID, _ peer: NodeID, _ master: Bool) -> String {
        "key \(id) \(link) \(peer) \(master ? "offered" : "reserved")"
    }

    /// Joins runs that touch.
    private func merged(_ runs: [KeyRun]) -> [KeyRun] {
        var merged: [KeyRun] = []
        for run in runs {
            if let last = merged.last, last.block == run.block, last.keyBytes == run.keyBytes,
                last.offset + last.count * last.keyBytes == run.offset
            {
                merged[merged.count - 1].count += run.count
            } else {
                merged.append(run)
            }
        }
        return merged
    }
}
