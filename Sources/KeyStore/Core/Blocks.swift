// Blocks in the store: deposit, confirmation by the peer, void.

import Foundation
import GRDB
package import KeyMaterial
package import QKDModel

/// Which bytes at the front of a block go on to the pads, and where in them: decided by the answering end, followed by
/// the asking one.
package struct PadRefill: Equatable, Sendable {
    /// Pad of the first-sorting node towards the other: where it continues, and by how many bytes; then the other direction.
    package var forwardStart: UInt64 = 0
    package var forwardCount = 0
    package var backwardStart: UInt64 = 0
    package var backwardCount = 0
    package var count: Int { forwardCount + backwardCount }
    /// A start that means: the bytes are erased and continue no pad.
    package static let nowhere = UInt64.max

    package init() {}

    package init(decoding bytes: [UInt8]) throws(KeyStoreError) {
        var reader = ByteReader(bytes)
        try self.init(from: &reader)
    }
}

/// What a deposit came to.
package enum DepositOutcome: Sendable, Equatable { case stored, alreadyHeld }

/// What the answering end found.
package enum ConfirmOutcome: Sendable, Equatable {
    case agreed(PadRefill, newly: Bool)
    case notHeld
    case differs
    case void
}

extension StoreTransaction {
    /// Takes a block from the link service. Idempotent by id and content.
    package func deposit(
        link: LinkID, block id: BlockID, peer: NodeID, bits: SecretBytes, provenance: KeyProvenance, firstEnd: Bool
    ) throws -> DepositOutcome {
        guard (64...64 << 20).contains(bits.count) else { throw KeyStoreError.blockSize(bits.count) }
        let mark = seals.mark(bits, "\(id) \(link) \(peer) \(provenance) \(firstEnd)")
        if let known = try block(id) {
            guard known.mark == mark else { throw KeyStoreError.otherContent(id) }
            return .alreadyHeld
        }
        guard try storedBits(link) + bits.count * 8 <= rules.capacityBits else {
            throw KeyStoreError.storeFull(link, limitBits: rules.capacityBits)
        }
        try database.execute(
            sql: """
                INSERT INTO block (id, link, peer, emulated, first_end, bytes, state, mark, created)
                VALUES (?, ?, ?, ?, ?, ?, 'held', ?, ?)
                """,
            arguments: [
                data(id.uuid), link.rawValue, peer.rawValue, provenance == .emulated, firstEnd, bits.count, mark, seconds,
            ])
        guard let row = try block(id) else { throw KeyStoreError.database("a block vanished") }
        try store(bits, in: row)
        try tally(link, "deposited", bits: bits.count * 8)
        return .stored
    }

    private func store(_ bits: SecretBytes, in block: BlockRow) throws {
        let key = seals.newDataKey()
        try database.execute(
            sql: "UPDATE block SET data_key = ? WHERE number = ?", arguments: [try seals.wrap(key, block.label(.held)), block.number])
        try bits.withBytes { bytes in
            for (part, start) in stride(from: 0, to: bytes.count, by: Schema.segmentBytes).enumerated() {
                let piece = UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + Schema.segmentBytes, bytes.count)])
                try database.execute(
                    sql: "INSERT INTO segment VALUES (?, ?, ?, ?)",
                    arguments: [block.number, part, piece.count, try seals.seal(segment: piece, key, "\(block.id) \(part)")])
            }
        }
    }

    private func storedBits(_ link: LinkID) throws -> Int {
        try Int.fetchOne(
            database,
            sql: """
                SELECT COALESCE(SUM(CASE state WHEN 'held' THEN bytes ELSE own_free + peer_free END), 0) * 8
                FROM block WHERE link = ? AND state IN ('held', 'confirmed')
                """, arguments: [link.rawValue]) ?? 0
    }

    /// The whole content of a held block, for its hash.
    package func content(_ block: BlockRow) throws -> SecretBytes { try bits(block, 0..<block.bytes) }

    /// Counts a block as confirmed, and moves its first bytes on to the pads as `refill` says. Does nothing to a
    /// block that is confirmed already.
    ///
    /// - Parameter settled: whether the other end is known to have done the same; if not, nothing is sent out of the refill.
    package func confirm(_ id: BlockID, refill: PadRefill, settled: Bool = true) throws {
        guard var row = try block(id), row.state == .held else { return }
        guard refill.count <= row.bytes else { throw KeyStoreError.badMessage("a refill larger than its block") }
        if let wrapped = row.dataKey {
            let key = try seals.unwrap(wrapped, row.label(.held))
            row.dataKey = try seals.wrap(key, row.label(.confirmed))
        }
        row.state = .confirmed
        try database.execute(
            sql: "UPDATE block SET state = 'confirmed', data_key = ?, refill = ?, refill_settled = ? WHERE number = ?",
            arguments: [row.dataKey, Data(refill.encoded()), settled || refill.count == 0, row.number])
        try move(refill, of: row, settled: settled)
        let ledger = BlockLedger(block: id, byteCount: row.bytes, pads: refill.count, firstEnd: row.firstEnd)
        try save(ledger, number: row.number)
        try tally(row.link, "confirmed", bits: row.bytes * 8)
    }

    private func move(_ refill: PadRefill, of row: BlockRow, settled: Bool) throws {
        guard refill.count > 0 else { return }
        let bits = try takeOut(row, 0..<refill.count)
        let first = rules.node < row.peer
        for (sending, start, part) in [
            (first, refill.forwardStart, 0..<refill.forwardCount), (!first, refill.backwardStart, refill.forwardCount..<refill.count),
        ] where start != PadRefill.nowhere {
            try addPad(row.peer, sending: sending, start: start, bits: bits.slice(part), open: settled || !sending)
        }
        try tally(row.link, "pad", bits: refill.count * 8)
    }

    /// Ends a block: its bits and all its keys that still hold bits are erased at this end.
    ///
    /// - Parameter tell: whether the peer has to be told.
    /// - Returns: bits and keys that were erased; nil where the block is unknown or over already.
    @discardableResult
    package func void(_ id: BlockID, tell: Bool) throws -> (bits: Int, keys: Int)? {
        guard let row = try block(id), row.state == .held || row.state == .confirmed || row.state == .spent else { return nil }
        let free = row.state == .held ? row.bytes : row.ledger.ownRemaining + row.ledger.peerRemaining
        let inKeys = try Int.fetchOne(
            database, sql: "SELECT COALESCE(SUM(bytes), 0) FROM key WHERE block = ? AND sealed IS NOT NULL", arguments: [row.number])
        try database.execute(
            sql: "UPDATE key SET state = 'void', sealed = NULL, changed = ? WHERE block = ? AND sealed IS NOT NULL",
            arguments: [seconds, row.number])
        let keys = database.changesCount
        // A block that is spent here may still have keys at the peer.
        guard row.state != .spent || keys > 0 || tell else { return nil }
        try eraseBits(row.number)
        try database.execute(sql: "UPDATE block SET state = 'void', void_told = ? WHERE number = ?", arguments: [!tell, row.number])
        let bits = ((row.state == .spent ? 0 : free) + (inKeys ?? 0)) * 8
        try tally(row.link, "voided", bits: bits)
        return (bits, keys)
    }

    /// Blocks that are void here and that the peer has to be told of.
    package func voidsToTell(_ peer: NodeID) throws -> [BlockID] {
        try Data.fetchAll(
            database, sql: "SELECT id FROM block WHERE peer = ? AND void_told = 0 ORDER BY number",
            arguments: [peer.rawValue]
        ).map { BlockID(try uuid($0)) }
    }

    package func voidsTold(_ blocks: [BlockID]) throws {
        for id in blocks { try database.execute(sql: "UPDATE block SET void_told = 1 WHERE id = ?", arguments: [data(id.uuid)]) }
    }

    /// Voids every block of a link that still holds bits.
    package func zeroise(_ link: LinkID) throws -> (blocks: Int, bits: Int, keys: Int) {
        let ids = try Data.fetchAll(
            database, sql: "SELECT id FROM block WHERE link = ? AND state != 'void' ORDER BY number", arguments: [link.rawValue])
        var (blocks, bits, keys) = (0, 0, 0)
        for id in ids {
            guard let erased = try void(BlockID(try uuid(id)), tell: true) else { continue }
            (blocks, bits, keys) = (blocks + (erased.bits > 0 ? 1 : 0), bits + erased.bits, keys + erased.keys)
        }
        return (blocks, bits, keys)
    }

    /// What is too old goes: keys that nobody fetched, blocks that the peer never confirmed.
    ///
    /// - Parameter elapsed: seconds by a clock that nobody sets since the call before, or since the start. Then only time
    ///   that passed while the store ran counts: neither a clock that is set nor a long absence erases key.
    /// - Returns: keys and blocks that were erased.
    package func expire(elapsed: Double? = nil) throws -> (keys: Int, blocks: [BlockID]) {
        if let elapsed { try leaveOut(timeBeyond: elapsed) }
        try database.execute(
            sql: "UPDATE key SET state = 'expired', sealed = NULL, changed = ? WHERE state = 'reserved' AND changed < ?",
            arguments: [seconds, seconds - rules.reservedLife])
        let keys = database.changesCount
        try database.execute(
            sql: "DELETE FROM key WHERE sealed IS NULL AND changed < ?", arguments: [seconds - rules.traceLife])
        let old = try Data.fetchAll(
            database, sql: "SELECT id FROM block WHERE state = 'held' AND created < ?", arguments: [seconds - rules.heldLife]
        ).map { BlockID(try uuid($0)) }
        for id in old { try void(id, tell: true) }
        return (keys, old)
    }
}

extension StoreTransaction {
    /// Makes what waits younger by whatever the wall clock has moved beyond `elapsed`.
    private func leaveOut(timeBeyond elapsed: Double) throws {
        let last = try Double.fetchOne(database, sql: "SELECT value FROM fact WHERE name = 'clock'")
        let jump = last.map { max(0, seconds - $0 - elapsed) } ?? 0
        // Also what was stamped by a clock that went ahead counts as new.
        let shift = jump > 5 ? jump : 0
        try database.execute(
            sql: "UPDATE key SET changed = MIN(changed + ?, ?) WHERE state = 'reserved' AND (? > 0 OR changed > ?)",
            arguments: [shift, seconds, shift, seconds])
        try database.execute(
            sql: "UPDATE block SET created = MIN(created + ?, ?) WHERE state = 'held' AND (? > 0 OR created > ?)",
            arguments: [shift, seconds, shift, seconds])
        try database.execute(sql: "INSERT OR REPLACE INTO fact VALUES ('clock', ?)", arguments: [seconds])
    }
}

extension PadRefill {
    init(from reader: inout ByteReader) throws(KeyStoreError) {
        forwardStart = try reader.number(UInt64.self)
        forwardCount = Int(try reader.number(UInt32.self))
        backwardStart = try reader.number(UInt64.self)
        backwardCount = Int(try reader.number(UInt32.self))
        guard [forwardStart, backwardStart].allSatisfy({ $0 < 1 << 62 || $0 == Self.nowhere }) else {
            throw .badMessage("a pad offset out of range")
        }
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.put(forwardStart)
        writer.put(UInt32(forwardCount))
        writer.put(backwardStart)
        writer.put(UInt32(backwardCount))
        return writer.bytes
    }
}
