// The one-time pads of the KM links: installed secrets, refills, durable cursors.

import Foundation
import GRDB
package import KeyMaterial
package import QKDModel
import Synchronization

extension StoreTransaction {
    /// Cuts the installed secret of a pair of stores into hash keys and pads (docs/wire/km-link.md). The same file
    /// again changes nothing; another one starts a new epoch.
    ///
    /// - Returns: true where the secret was new.
    /// - Throws: `KeyStoreError.secret` where it is too short, or was in use before the present one or with another peer: its pads
    ///   would serve twice.
    @discardableResult
    package func install(secret: SecretBytes, peer: NodeID) throws -> Bool {
        guard secret.count >= 4096 else { throw KeyStoreError.secret("the one for \(peer) has \(secret.count) bytes, 4096 are needed") }
        let mark = seals.mark(secret, "secret \(peer)")
        let known = try Row.fetchOne(database, sql: "SELECT epoch, mark FROM pad_state WHERE peer = ?", arguments: [peer.rawValue])
        if let known, known["mark"] as Data == mark { return false }
        let seen = try Bool.fetchOne(
            database, sql: "SELECT EXISTS (SELECT 1 FROM secret_mark WHERE peer = ? AND mark = ?)", arguments: [peer.rawValue, mark])
        guard seen == false else {
            throw KeyStoreError.secret("the one for \(peer) was in use before and may not serve twice: make a new one, for both ends")
        }
        let content = seals.mark(secret, "secret")
        let other = try String.fetchOne(database, sql: "SELECT peer FROM secret_mark WHERE mark = ?", arguments: [content])
        if let other, other != peer.rawValue {
            throw KeyStoreError.secret("the one for \(peer) is or was the one for \(other): its pads would serve twice, make a new one")
        }
        for mark in [mark, content] {
            try database.execute(sql: "INSERT OR IGNORE INTO secret_mark VALUES (?, ?)", arguments: [peer.rawValue, mark])
        }
        let epoch = (known?["epoch"] ?? 0) + 1
        let half = (secret.count - 32) / 2
        let first = rules.node < peer
        try database.execute(sql: "DELETE FROM pad WHERE peer = ?", arguments: [peer.rawValue])
        let hashKeys = try [0, 16].map { start in
            try secret.withBytes { bytes in
                try seals.seal(pad: UnsafeRawBufferPointer(rebasing: bytes[start..<start + 16]), "hash key \(peer) \(epoch) \(start == 0)")
            }
        }
        try database.execute(
            sql: "INSERT OR REPLACE INTO pad_state VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0)",
            arguments: [peer.rawValue, epoch, mark, hashKeys[first ? 0 : 1], hashKeys[first ? 1 : 0]])
        try forgetRefills(peer)
        try addPad(peer, sending: first, start: 0, bits: secret.slice(32..<32 + half))
        try addPad(peer, sending: !first, start: 0, bits: secret.slice(32 + half..<32 + 2 * half))
        return true
    }

    /// The hash keys of both directions.
    package func hashKeys(_ peer: NodeID) throws -> (send: SecretBytes, receive: SecretBytes) {
        let state = try padState(peer)
        let first = rules.node < peer
        func open(_ column: String, _ forward: Bool) throws -> SecretBytes {
            try seals.open(pad: state[column], "hash key \(peer) \(state["epoch"] as Int) \(forward)")
        }
        return (try open("send_hash_key", first), try open("receive_hash_key", !first))
    }

    /// Refills that were decided under an older secret continue pads that are no more: whoever still asks about their
    /// blocks is told to erase as many bytes, and to append none.
    private func forgetRefills(_ peer: NodeID) throws {
        let rows = try Row.fetchAll(
            database, sql: "SELECT number, refill FROM block WHERE peer = ? AND refill IS NOT NULL", arguments: [peer.rawValue])
        for row in rows {
            var refill = try PadRefill(decoding: Array(row["refill"] as Data))
            (refill.forwardStart, refill.backwardStart) = (PadRefill.nowhere, PadRefill.nowhere)
            try database.execute(
                sql: "UPDATE block SET refill = ?, refill_settled = 1 WHERE number = ?",
                arguments: [Data(refill.encoded()), row["number"] as Int64])
        }
    }

    /// The asking end has followed a refill that this end decided, or never will.
    package func settleRefill(_ id: BlockID, peer: NodeID, applied: Bool) throws {
        guard let row = try block(id), row.peer == peer, !row.refillSettled, let refill = row.refill else { return }
        let first = rules.node < peer
        for (sending, start, count) in [
            (first, refill.forwardStart, refill.forwardCount), (!first, refill.backwardStart, refill.backwardCount),
        ]
        where start != PadRefill.nowhere {
            let change = applied ? "UPDATE pad SET open = 1" : "DELETE FROM pad"
            try database.execute(
                sql: "\(change) WHERE peer = ? AND sending = ? AND start >= ? AND start < ?",
                arguments: [peer.rawValue, sending, Int64(start), Int64(start) + Int64(count)])
        }
        try database.execute(sql: "UPDATE block SET refill_settled = 1 WHERE number = ?", arguments: [row.number])
    }

    /// Blocks whose refill the peer has not settled.
    package func unsettled(_ peer: NodeID) throws -> [BlockID] {
        try Data.fetchAll(
            database, sql: "SELECT id FROM block WHERE peer = ? AND refill_settled = 0 ORDER BY number", arguments: [peer.rawValue]
        ).map { BlockID(try uuid($0)) }
    }

    /// Continues a pad at `start`; what lies below the cursor already is left out.
    ///
    /// - Parameter open: whether it may be used at once.
    func addPad(_ peer: NodeID, sending: Bool, start: UInt64, bits: SecretBytes, open: Bool = true) throws {
        guard bits.count > 0 else { return }
        let state = try padState(peer)
        let epoch = state["epoch"] as Int
        let cursor = UInt64(state[sending ? "send_cursor" : "receive_cursor"] as Int64)
        try bits.withBytes { bytes in
            for offset in stride(from: 0, to: bytes.count, by: Schema.padBytes) where start + UInt64(offset) >= cursor {
                let piece = UnsafeRawBufferPointer(rebasing: bytes[offset..<min(offset + Schema.padBytes, bytes.count)])
                let at = start + UInt64(offset)
                try database.execute(
                    sql: "INSERT OR REPLACE INTO pad VALUES (?, ?, ?, ?, ?, ?)",
                    arguments: [
                        peer.rawValue, sending, Int64(at), piece.count, try seals.seal(pad: piece, label(peer, epoch, sending, Int64(at))),
                        open,
                    ])
            }
        }
        let end = sending ? "send_end" : "receive_end"
        try database.execute(
            sql: "UPDATE pad_state SET \(end) = MAX(\(end), ?) WHERE peer = ?",
            arguments: [Int64(start) + Int64(bits.count), peer.rawValue])
    }

    /// How the answering end tops up both pads out of a block of `bytes` bytes. A quarter per direction is what single
    /// requests for keys of 256 bits use up: 16 bytes of each pad for 32 bytes of key.
    package func planRefill(_ peer: NodeID, bytes: Int) throws -> PadRefill {
        let state = try padState(peer)
        func wish(_ sending: Bool) throws -> Int {
            max(0, min(rules.padLevel - (try padLeft(peer, sending: sending)), bytes / 4)) / 16 * 16
        }
        let first = rules.node < peer
        var refill = PadRefill()
        refill.forwardStart = UInt64(state[first ? "send_end" : "receive_end"] as Int64)
        refill.backwardStart = UInt64(state[first ? "receive_end" : "send_end"] as Int64)
        refill.forwardCount = try wish(first)
        refill.backwardCount = try wish(!first)
        return refill
    }

    /// Where a pad's cursor stands.
    func padCursor(_ peer: NodeID, sending: Bool) throws -> UInt64 {
        UInt64(try padState(peer)[sending ? "send_cursor" : "receive_cursor"] as Int64)
    }

    /// Bytes of pad on disk that may still be used.
    package func padLeft(_ peer: NodeID, sending: Bool) throws -> Int {
        let state = try padState(peer)
        let cursor = state[sending ? "send_cursor" : "receive_cursor"] as Int64
        return try Int.fetchOne(
            database,
            sql:
                "SELECT COALESCE(SUM(start + bytes - MAX(start, ?)), 0) FROM pad WHERE peer = ? AND sending = ? AND start + bytes > ? AND open",
            arguments: [cursor, peer.rawValue, sending, cursor]) ?? 0
    }

    /// Takes at least `count` bytes of the sending pad that lie together, and erases them: whole rows while there is plenty,
    /// small pieces once it runs low, so that restarts do not eat what a refill needs.
    func takeSendingPad(_ peer: NodeID, atLeast count: Int) throws -> (offset: UInt64, bytes: SecretBytes) {
        let state = try padState(peer)
        let rows = try Row.fetchAll(
            database,
            sql: "SELECT start, bytes, sealed FROM pad WHERE peer = ? AND sending = 1 AND start >= ? AND open ORDER BY start LIMIT ?",
            arguments: [peer.rawValue, state["send_cursor"] as Int64, count / 16 + 2])
        let isLow = try padLeft(peer, sending: true) <= Schema.padReserve
        var taken: [SecretBytes] = []
        var (first, next, total) = (Int64(0), Int64(0), 0)
        for row in rows where total < count {
            let start = row["start"] as Int64
            if start != next || taken.isEmpty { (taken, first, total) = ([], start, 0) }
            taken.append(try seals.open(pad: row["sealed"], label(peer, state["epoch"], true, start)))
            total += row["bytes"] as Int
            next = start + (row["bytes"] as Int64)
        }
        guard total >= count else { throw KeyMaterialError.padExhausted(needed: count, remaining: total) }
        let spare = isLow ? max(0, total - (count + Schema.padPiece - 1) / Schema.padPiece * Schema.padPiece) : 0
        try moveCursor(peer, sending: true, to: next - Int64(spare))
        if spare > 0, let last = taken.last { try putBack(peer, last, spare: spare, end: next) }
        return (UInt64(first), SecretBytes.concatenate(taken).slice(0..<total - spare))
    }

    /// The last `spare` bytes of a sending row stay, as a row of their own; what was before them is overwritten.
    private func putBack(_ peer: NodeID, _ row: SecretBytes, spare: Int, end: Int64) throws {
        let epoch = try padState(peer)["epoch"] as Int
        let (old, new) = (end - Int64(row.count), end - Int64(spare))
        try database.execute(sql: "DELETE FROM pad WHERE peer = ? AND sending = 1 AND start = ?", arguments: [peer.rawValue, old])
        let sealed = try row.withBytes { bytes in
            try seals.seal(pad: UnsafeRawBufferPointer(rebasing: bytes[(row.count - spare)...]), label(peer, epoch, true, new))
        }
        try database.execute(sql: "INSERT INTO pad VALUES (?, ?, ?, ?, ?, 1)", arguments: [peer.rawValue, true, new, spare, sealed])
    }

    /// Reads the receiving pad without moving its cursor.
    func peekReceivingPad(_ peer: NodeID, at offset: UInt64, count: Int) throws -> SecretBytes {
        let state = try padState(peer)
        let (cursor, end) = (UInt64(state["receive_cursor"] as Int64), UInt64(state["receive_end"] as Int64))
        guard offset >= cursor else { throw KeyMaterialError.padUsed(offset: offset, cursor: cursor) }
        guard count > 0, offset <= end, UInt64(count) <= end - offset else {
            throw KeyMaterialError.padBeyond(offset: offset, count: count, end: end)
        }
        let (low, high) = (Int64(offset), Int64(offset) + Int64(count))
        let rows = try Row.fetchAll(
            database,
            sql: "SELECT start, sealed FROM pad WHERE peer = ? AND sending = 0 AND start + bytes > ? AND start < ? ORDER BY start",
            arguments: [peer.rawValue, low, high])
        let parts = try rows.map { row in
            let start = row["start"] as Int64
            let bytes = try seals.open(pad: row["sealed"], label(peer, state["epoch"], false, start))
            return bytes.slice(Int(max(low, start) - start)..<Int(min(high - start, Int64(bytes.count))))
        }
        let whole = SecretBytes.concatenate(parts)
        guard whole.count == count else { throw KeyMaterialError.padBeyond(offset: offset, count: count, end: end) }
        return whole
    }

    /// What lies below the new cursor is erased.
    func moveCursor(_ peer: NodeID, sending: Bool, to cursor: Int64) throws {
        let column = sending ? "send_cursor" : "receive_cursor"
        try database.execute(sql: "UPDATE pad_state SET \(column) = ? WHERE peer = ?", arguments: [cursor, peer.rawValue])
        try database.execute(
            sql: "DELETE FROM pad WHERE peer = ? AND sending = ? AND start + bytes <= ?", arguments: [peer.rawValue, sending, cursor])
    }

    private func padState(_ peer: NodeID) throws -> Row {
        guard let row = try Row.fetchOne(database, sql: "SELECT * FROM pad_state WHERE peer = ?", arguments: [peer.rawValue]) else {
            throw KeyStoreError.unknownPeer(peer)
        }
        return row
    }

    private func label(_ peer: NodeID, _ epoch: Int, _ sending: Bool, _ start: Int64) -> String {
        "pad \(peer) \(epoch) \(sending) \(start)"
    }
}

/// The pad for what this end says. A kilobyte at a time leaves the disk, 64 bytes once it runs low; what a crash finds in
/// memory is lost.
package final class SendingPad: Pad {
    private let store: Store
    private let peer: NodeID
    private let chunk = Mutex<(offset: UInt64, bytes: SecretBytes, used: Int)>((0, SecretBytes(count: 0), 0))

    package init(store: Store, peer: NodeID) {
        self.store = store
        self.peer = peer
    }

    package func burn(_ count: Int) throws -> (offset: UInt64, bytes: SecretBytes) {
        try chunk.withLock { chunk in
            while chunk.bytes.count - chunk.used < count {
                let left = chunk.bytes.slice(chunk.used..<chunk.bytes.count)
                let (offset, bytes) = try store.changeNow { try $0.takeSendingPad(peer, atLeast: count - left.count) }
                // After a hole what was left cannot be joined to what comes: it is dropped.
                let joins = chunk.offset + UInt64(chunk.bytes.count) == offset
                chunk = joins ? (offset - UInt64(left.count), SecretBytes.concatenate([left, bytes]), 0) : (offset, bytes, 0)
            }
            defer { chunk.used += count }
            return (chunk.offset + UInt64(chunk.used), chunk.bytes.slice(chunk.used..<chunk.used + count))
        }
    }

    /// Where the next byte to be used lies, at the least.
    package var position: UInt64 {
        get throws {
            let inMemory = chunk.withLock { $0.used < $0.bytes.count ? $0.offset + UInt64($0.used) : nil }
            return try inMemory ?? store.changeNow { try $0.padCursor(peer, sending: true) }
        }
    }

    package var remaining: Int {
        get throws {
            let inMemory = chunk.withLock { $0.bytes.count - $0.used }
            return try inMemory
                + store.pool.read { database in
                    try StoreTransaction(database: database, seals: store.seals, rules: store.rules, now: .distantPast)
                        .padLeft(peer, sending: true)
                }
        }
    }

    package func burn(at offset: UInt64, count: Int) throws -> SecretBytes {
        throw KeyStoreError.badMessage("a sending pad used to receive")
    }
    package func peek(at offset: UInt64, count: Int) throws -> SecretBytes {
        throw KeyStoreError.badMessage("a sending pad used to receive")
    }
    /// Refills come with the confirmation of a block, in its transaction.
    package func append(_ bytes: SecretBytes) throws { throw KeyStoreError.badMessage("a stored pad is refilled by blocks") }
}

/// The pad for what the peer says; its cursor moves durably with every accepted message.
package final class ReceivingPad: Pad {
    private let store: Store
    private let peer: NodeID

    package init(store: Store, peer: NodeID) {
        self.store = store
        self.peer = peer
    }

    package func peek(at offset: UInt64, count: Int) throws -> SecretBytes {
        try store.changeNow { try $0.peekReceivingPad(peer, at: offset, count: count) }
    }

    package func burn(at offset: UInt64, count: Int) throws -> SecretBytes {
        try store.changeNow { transaction in
            let bytes = try transaction.peekReceivingPad(peer, at: offset, count: count)
            try transaction.moveCursor(peer, sending: false, to: Int64(offset) + Int64(count))
            return bytes
        }
    }

    /// Up to where the peer's tags were taken.
    package var position: UInt64 {
        get throws { try store.changeNow { try $0.padCursor(peer, sending: false) } }
    }

    package var remaining: Int {
        get throws { try store.changeNow { try $0.padLeft(peer, sending: false) } }
    }

    package func burn(_ count: Int) throws -> (offset: UInt64, bytes: SecretBytes) {
        throw KeyStoreError.badMessage("a receiving pad used to send")
    }
    package func append(_ bytes: SecretBytes) throws { throw KeyStoreError.badMessage("a stored pad is refilled by blocks") }
}
