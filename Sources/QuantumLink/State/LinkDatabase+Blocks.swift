// Blocks between the two ends and the key store: the durable part of docs/wire/classical-channel.md, section 6.

internal import Foundation
internal import GRDB
public import KeyMaterial
public import QKDModel

/// A finished block with its key, on its way to both-or-none.
public struct FinishedBlock: Sendable {
    public var link: LinkID
    public var peer: NodeID
    public var block: BlockID
    /// Pads' part first, then what is deposited.
    public var key: SecretBytes
    public var padBytesForward: Int
    public var padBytesBackward: Int
    public var provenance: KeyProvenance
    /// This end's, so that a link that is gone from the configuration still deposits.
    public var role: DeviceRole

    package init(
        link: LinkID, peer: NodeID, block: BlockID, key: SecretBytes, padBytesForward: Int, padBytesBackward: Int,
        provenance: KeyProvenance, role: DeviceRole
    ) {
        self.link = link
        self.peer = peer
        self.block = block
        self.key = key
        self.padBytesForward = padBytesForward
        self.padBytesBackward = padBytesBackward
        self.provenance = provenance
        self.role = role
    }
}

extension LinkDatabase {
    /// The receiver's end, before its tag leaves.
    public func holdInDoubt(_ block: FinishedBlock, epoch: EpochKeys) throws {
        try write(block, state: .doubt, epoch: epoch)
    }

    /// The transmitter's end decides: the block counts, the pads grow, the rest waits for deposit. One transaction.
    public func commit(_ block: FinishedBlock, epoch: EpochKeys) throws {
        try wrapDatabase {
            try queue.write { database in
                try Self.insert(block, state: .doubt, epoch: epoch, in: database)
                try Self.settle(block.block, in: database)
            }
        }
    }

    /// The receiver's end learns how a block in doubt was decided. Unknown and settled blocks stay as they are.
    public func resolve(_ block: BlockID, committed: Bool) throws {
        try wrapDatabase {
            try queue.write { database in
                guard try Self.state(of: block, in: database) == .doubt else { return }
                if committed {
                    try Self.settle(block, in: database)
                } else {
                    try database.execute(
                        sql: "UPDATE block SET state = 'void', key = NULL WHERE id = ?", arguments: [block.data])
                }
            }
        }
    }

    public func blocksInDoubt(on link: LinkID) throws -> [BlockID] {
        try wrapDatabase {
            try queue.read { database in
                try Data.fetchAll(database, sql: "SELECT id FROM block WHERE link = ? AND state = 'doubt'", arguments: [link.rawValue])
                    .compactMap(BlockID.init(data:))
            }
        }
    }

    /// The transmitter's answer about a block: committed or never.
    public func isCommitted(_ block: BlockID) throws -> Bool {
        let state = try wrapDatabase { try queue.read { try Self.state(of: block, in: $0) } }
        return state == .committed || state == .deposited || state == .refused
    }

    public func state(of block: BlockID) throws -> LedgerState? {
        try wrapDatabase { try queue.read { try Self.state(of: block, in: $0) } }
    }

    /// Oldest first; the key store has not confirmed these.
    public func pendingDeposits() throws -> [PendingDeposit] {
        try wrapDatabase {
            try queue.read { database in
                try Row.fetchAll(database, sql: "SELECT * FROM block WHERE state = 'committed' ORDER BY rowid LIMIT 16").compactMap { row in
                    guard let data: Data = row["id"], let id = BlockID(data: data), let key = try row.secret("key"),
                        let link = LinkID(rawValue: row["link"]), let peer = NodeID(rawValue: row["peer"]),
                        let provenance = KeyProvenance(rawValue: row["provenance"])
                    else { return nil }
                    return PendingDeposit(
                        link: link, block: id, peer: peer, key: key, provenance: provenance,
                        role: (row["role"] as String?).flatMap(DeviceRole.init))
                }
            }
        }
    }

    /// The key store has the block durably; the key is deleted here.
    public func markDeposited(_ block: BlockID) throws {
        try wrapDatabase {
            try queue.write { database in
                try database.execute(
                    sql: "UPDATE block SET state = 'deposited', key = NULL WHERE id = ? AND state = 'committed'", arguments: [block.data])
            }
        }
    }

    /// The key store will never take the block; the key is deleted here.
    public func markRefused(_ block: BlockID) throws {
        try wrapDatabase {
            try queue.write { database in
                try database.execute(
                    sql: "UPDATE block SET state = 'refused', key = NULL WHERE id = ? AND state = 'committed'", arguments: [block.data])
            }
        }
    }

    private func write(_ block: FinishedBlock, state: LedgerState, epoch: EpochKeys) throws {
        try wrapDatabase { try queue.write { try Self.insert(block, state: state, epoch: epoch, in: $0) } }
    }

    private static func insert(_ block: FinishedBlock, state: LedgerState, epoch: EpochKeys, in database: Database) throws {
        try block.key.withData { key in
            try database.execute(
                sql: """
                    INSERT INTO block (id, link, peer, state, provenance, epoch, forward_bytes, backward_bytes, made, key, role)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, datetime('now'), ?, ?)
                    """,
                arguments: [
                    block.block.data, block.link.rawValue, block.peer.rawValue, state.rawValue, block.provenance.rawValue, epoch.sequence,
                    block.padBytesForward, block.padBytesBackward, key, block.role.rawValue,
                ])
        }
    }

    /// doubt -> committed: the first bytes to the pads, the rest stays for deposit.
    private static func settle(_ block: BlockID, in database: Database) throws {
        guard let row = try Row.fetchOne(database, sql: "SELECT * FROM block WHERE id = ?", arguments: [block.data]),
            let key = try row.secret("key")
        else { throw QuantumLinkError.database("block \(block) has no key to settle") }
        let epoch: Int64 = row["epoch"]
        let forward: Int = row["forward_bytes"]
        let backward: Int = row["backward_bytes"]
        guard forward >= 0, backward >= 0, forward + backward < key.count else {
            throw QuantumLinkError.database("block \(block) is shorter than its share for the pads")
        }
        let provenance: String = row["provenance"]
        if forward + backward > 0, provenance != KeyProvenance.hardware.rawValue {
            try database.execute(sql: "UPDATE epoch SET emulated = 1 WHERE seq = ?", arguments: [epoch])
        }
        try append(key.slice(0..<forward), to: epoch, .forward, in: database)
        try append(key.slice(forward..<forward + backward), to: epoch, .backward, in: database)
        try key.slice(forward + backward..<key.count).withData { rest in
            try database.execute(sql: "UPDATE block SET state = 'committed', key = ? WHERE id = ?", arguments: [rest, block.data])
        }
    }

    private static func state(of block: BlockID, in database: Database) throws -> LedgerState? {
        try String.fetchOne(database, sql: "SELECT state FROM block WHERE id = ?", arguments: [block.data]).flatMap(LedgerState.init)
    }
}
