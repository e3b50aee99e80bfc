// One transaction on the store: the helpers that all parts share. The parts are in Blocks, Keys, Pads and Figures.

package import Foundation
package import GRDB
import KeyMaterial
package import QKDModel

/// What can be done to the store while a transaction is open. Lives only inside `Store.change` and `Store.look`.
package struct StoreTransaction {
    package let database: Database
    let seals: Seals
    package let rules: StoreRules
    package let now: Date

    var seconds: Double { now.timeIntervalSince1970 }

    /// Adds to a link's running account.
    func tally(_ link: LinkID, _ name: String, bits: Int) throws {
        try database.execute(
            sql: """
                INSERT INTO tally VALUES (?, ?, ?) ON CONFLICT (link, name) DO UPDATE SET bits = bits + excluded.bits
                """, arguments: [link.rawValue, name, bits])
    }
}

/// One row of the table `block`.
package struct BlockRow: Sendable {
    package var number: Int64
    package var id: BlockID
    package var link: LinkID
    package var peer: NodeID
    package var emulated: Bool
    package var firstEnd: Bool
    package var bytes: Int
    package var state: BlockState
    var mark: Data
    var dataKey: Data?
    package var created: Date
    package var ledger: BlockLedger
    package var refill: PadRefill?
    /// Whether the asking end is known to have followed the refill, or not to.
    package var refillSettled: Bool

    init(_ row: Row) throws {
        number = row["number"]
        id = BlockID(try uuid(row["id"]))
        link = LinkID(unchecked: row["link"])
        peer = NodeID(unchecked: row["peer"])
        emulated = row["emulated"]
        firstEnd = row["first_end"]
        bytes = row["bytes"]
        guard let state = BlockState(rawValue: row["state"]) else { throw KeyStoreError.database("unknown state of a block") }
        self.state = state
        mark = row["mark"]
        dataKey = row["data_key"]
        created = Date(timeIntervalSince1970: row["created"])
        ledger = BlockLedger(
            block: id, start: row["start"], split: row["split"], end: bytes, firstEnd: firstEnd, ownCursor: row["own_cursor"],
            peerCursor: row["peer_cursor"], gaps: gaps(from: row["gaps"]))
        refill = try (row["refill"] as Data?).map { try PadRefill(decoding: Array($0)) }
        refillSettled = row["refill_settled"]
    }

    /// What the wrapped data key is bound to: a record cannot be moved or its state turned back.
    func label(_ state: BlockState) -> String { "block \(id) \(link) \(peer) \(emulated) \(firstEnd) \(state.rawValue)" }
}

extension StoreTransaction {
    package func block(_ id: BlockID) throws -> BlockRow? {
        try Row.fetchOne(database, sql: "SELECT * FROM block WHERE id = ?", arguments: [data(id.uuid)]).map(BlockRow.init)
    }

    /// Blocks of a peer in one state, oldest first.
    package func blocks(peer: NodeID, state: BlockState) throws -> [BlockRow] {
        try Row.fetchAll(
            database, sql: "SELECT * FROM block WHERE peer = ? AND state = ? ORDER BY number",
            arguments: [peer.rawValue, state.rawValue]
        ).map(BlockRow.init)
    }

    func save(_ ledger: BlockLedger, number: Int64) throws {
        try database.execute(
            sql: """
                UPDATE block SET start = ?, split = ?, own_cursor = ?, peer_cursor = ?, gaps = ?, own_free = ?, peer_free = ?
                WHERE number = ?
                """,
            arguments: [
                ledger.start, ledger.split, ledger.ownCursor, ledger.peerCursor,
                ledger.gaps.map { "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: " "), ledger.ownRemaining,
                ledger.peerRemaining, number,
            ])
    }

    // MARK: Segments

    /// Reads a range of a block without taking it out.
    func bits(_ block: BlockRow, _ range: Range<Int>) throws -> SecretBytes {
        let key = try dataKey(block)
        let bits = SecretBytes(count: range.count)
        try bits.withMutableBytes { target in
            try eachSegment(of: block, in: range) { part, _, sealed in
                let segment = try seals.open(segment: sealed, key, "\(block.id) \(part)")
                let shared = range.clamped(to: extent(part, segment.count))
                segment.withBytes { source in
                    UnsafeMutableRawBufferPointer(rebasing: target[(shared.lowerBound - range.lowerBound)...])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[shift(shared, part)]))
                }
            }
        }
        return bits
    }

    /// Reads a range and overwrites it on disk.
    func takeOut(_ block: BlockRow, _ range: Range<Int>) throws -> SecretBytes {
        let bits = try bits(block, range)
        let key = try dataKey(block)
        try eachSegment(of: block, in: range) { part, remaining, sealed in
            let segment = try seals.open(segment: sealed, key, "\(block.id) \(part)")
            let shared = range.clamped(to: extent(part, segment.count))
            guard remaining > shared.count else { return try drop(block.number, part) }
            segment.withMutableBytes { buffer in for index in shift(shared, part) { buffer[index] = 0 } }
            let again = try segment.withBytes { try seals.seal(segment: $0, key, "\(block.id) \(part)") }
            try database.execute(
                sql: "UPDATE segment SET remaining = ?, sealed = ? WHERE block = ? AND part = ?",
                arguments: [remaining - shared.count, again, block.number, part])
        }
        return bits
    }

    /// Erases all that is left of a block's bits and its data key.
    func eraseBits(_ number: Int64) throws {
        try database.execute(sql: "DELETE FROM segment WHERE block = ?", arguments: [number])
        try database.execute(sql: "UPDATE block SET data_key = NULL, own_free = 0, peer_free = 0 WHERE number = ?", arguments: [number])
    }

    private func drop(_ number: Int64, _ part: Int) throws {
        try database.execute(sql: "DELETE FROM segment WHERE block = ? AND part = ?", arguments: [number, part])
    }

    private func dataKey(_ block: BlockRow) throws -> Seals.DataKey {
        guard let wrapped = block.dataKey else { throw KeyStoreError.database("the bits of block \(block.id) have been erased") }
        return try seals.unwrap(wrapped, block.label(block.state))
    }

    private func eachSegment(of block: BlockRow, in range: Range<Int>, _ body: (Int, Int, Data) throws -> Void) throws {
        guard !range.isEmpty else { return }
        let parts = (range.lowerBound / Schema.segmentBytes)...((range.upperBound - 1) / Schema.segmentBytes)
        let rows = try Row.fetchAll(
            database, sql: "SELECT part, remaining, sealed FROM segment WHERE block = ? AND part BETWEEN ? AND ? ORDER BY part",
            arguments: [block.number, parts.lowerBound, parts.upperBound])
        guard rows.count == parts.count else { throw KeyStoreError.database("block \(block.id) lacks segments") }
        for row in rows { try body(row["part"], row["remaining"], row["sealed"]) }
    }

    private func extent(_ part: Int, _ count: Int) -> Range<Int> {
        part * Schema.segmentBytes..<part * Schema.segmentBytes + count
    }

    private func shift(_ range: Range<Int>, _ part: Int) -> Range<Int> {
        range.lowerBound - part * Schema.segmentBytes..<range.upperBound - part * Schema.segmentBytes
    }
}

// MARK: - Columns

func data(_ uuid: UUID) -> Data { withUnsafeBytes(of: uuid.uuid) { Data($0) } }

func uuid(_ data: Data) throws -> UUID {
    guard data.count == 16 else { throw KeyStoreError.database("an id of \(data.count) bytes") }
    var raw: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    withUnsafeMutableBytes(of: &raw) { $0.copyBytes(from: data) }
    return UUID(uuid: raw)
}

private func gaps(from text: String) -> [Range<Int>] {
    text.split(separator: " ").compactMap { gap in
        let ends = gap.split(separator: "-").compactMap { Int($0) }
        return ends.count == 2 && ends[0] < ends[1] ? ends[0]..<ends[1] : nil
    }
}

extension StoreTransaction {
    /// Runs a part that may fail without taking the rest of the transaction with it.
    func attempt<T>(_ body: () throws -> T) throws -> Result<T, any Error> {
        var outcome: Result<T, any Error> = .failure(KeyStoreError.database("nothing was run"))
        try database.inSavepoint {
            outcome = Result { try body() }
            if case .success = outcome { return .commit }
            return .rollback
        }
        if case .failure(let error as DatabaseError) = outcome { throw error }
        return outcome
    }
}
