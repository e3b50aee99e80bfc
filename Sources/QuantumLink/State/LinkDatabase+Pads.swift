// Pads in the database.

internal import Foundation
internal import GRDB
public import KeyMaterial
public import QKDModel

/// One epoch of a link as the channel uses it.
public struct EpochKeys: Sendable {
    public let epoch: Epoch
    public let forwardKey: SecretBytes
    public let backwardKey: SecretBytes
    public let forwardPad: any Pad
    public let backwardPad: any Pad
    let sequence: Int64
    let size: Int
    let queue: DatabaseQueue

    /// Whether an emulator's key went into the pads. Such key derives from a seed: tags under it prove nothing about a block of real devices.
    public func holdsEmulatedKey() throws -> Bool {
        try wrapDatabase {
            try queue.read { try Bool.fetchOne($0, sql: "SELECT emulated FROM epoch WHERE seq = ?", arguments: [sequence]) ?? true }
        }
    }

    /// Where the next tag of the end with this role may begin at the earliest, in its direction's pad.
    func position(of role: DeviceRole) throws -> UInt64 {
        let direction = role == .transmitter ? ChannelDirection.forward : .backward
        return try DurablePad(queue: queue, epoch: sequence, direction: direction).cursor
    }

    /// Why these pads cannot authenticate a block, or nil.
    package func obstacle(to provenance: KeyProvenance) throws -> String? {
        guard provenance != .emulated, try holdsEmulatedKey() else { return nil }
        return "the authentication key was refilled by an emulator: run 'qkdctl secret install' with a new secret at both ends"
    }

    public func account() throws -> PadAccount {
        PadAccount(remainingForward: try forwardPad.remaining, remainingBackward: try backwardPad.remaining, size: size)
    }
}

extension LinkDatabase {
    /// Starts a new epoch.
    /// - Returns: false when the link has this secret already: nothing is changed, what was used stays used.
    @discardableResult
    public func install(_ secret: InstalledSecret, on link: LinkID) throws -> Bool {
        try wrapDatabase {
            try queue.write { database in
                let id = Data(secret.epoch.bytes)
                // The id of any link: one secret serves one link, or two links would use the same pad.
                guard try Row.fetchOne(database, sql: "SELECT link FROM epoch WHERE id = ?", arguments: [id]) == nil else {
                    return false
                }
                try secret.forwardKey.withData { forward in
                    try secret.backwardKey.withData { backward in
                        try database.execute(
                            sql: "INSERT INTO epoch (link, id, key1, key2, size) VALUES (?, ?, ?, ?, ?)",
                            arguments: [link.rawValue, id, forward, backward, secret.forwardPad.count])
                    }
                }
                let sequence = database.lastInsertedRowID
                for (direction, pad) in [(ChannelDirection.forward, secret.forwardPad), (.backward, secret.backwardPad)] {
                    try database.execute(
                        sql: "INSERT INTO pad (epoch, direction, cursor, end) VALUES (?, ?, 0, 0)",
                        arguments: [sequence, direction.rawValue])
                    try Self.append(pad, to: sequence, direction, in: database)
                }
                return true
            }
        }
    }

    /// Whose secret an epoch is.
    public func owner(of epoch: Epoch) throws -> LinkID? {
        try wrapDatabase {
            try queue.read { database in
                try String.fetchOne(database, sql: "SELECT link FROM epoch WHERE id = ?", arguments: [Data(epoch.bytes)])
                    .flatMap(LinkID.init(rawValue:))
            }
        }
    }

    /// Newest first.
    public func epochs(of link: LinkID) throws -> [EpochKeys] {
        try wrapDatabase {
            try queue.read { database in
                try Row.fetchAll(database, sql: "SELECT * FROM epoch WHERE link = ? ORDER BY seq DESC", arguments: [link.rawValue])
                    .compactMap { row in
                        guard let forward = try row.secret("key1"), let backward = try row.secret("key2"), let id: Data = row["id"] else {
                            return nil
                        }
                        let sequence: Int64 = row["seq"]
                        return EpochKeys(
                            epoch: Epoch(Array(id)), forwardKey: forward, backwardKey: backward,
                            forwardPad: DurablePad(queue: queue, epoch: sequence, direction: .forward),
                            backwardPad: DurablePad(queue: queue, epoch: sequence, direction: .backward),
                            sequence: sequence, size: row["size"], queue: queue)
                    }
            }
        }
    }

    static func append(_ bytes: SecretBytes, to epoch: Int64, _ direction: ChannelDirection, in database: Database) throws {
        guard bytes.count > 0 else { return }
        let end = try Int64.fetchOne(
            database, sql: "SELECT end FROM pad WHERE epoch = ? AND direction = ?", arguments: [epoch, direction.rawValue])
        guard let end else { throw QuantumLinkError.database("the pad of epoch \(epoch) is missing") }
        try bytes.withData { data in
            try database.execute(
                sql: "INSERT INTO pad_part (epoch, direction, first, bytes) VALUES (?, ?, ?, ?)",
                arguments: [epoch, direction.rawValue, end, data])
        }
        try database.execute(
            sql: "UPDATE pad SET end = ? WHERE epoch = ? AND direction = ?",
            arguments: [end + Int64(bytes.count), epoch, direction.rawValue])
    }
}

/// One direction of one epoch.
struct DurablePad: Pad {
    let queue: DatabaseQueue
    let epoch: Int64
    let direction: ChannelDirection

    func burn(_ count: Int) throws -> (offset: UInt64, bytes: SecretBytes) {
        try wrapDatabase {
            try queue.write { database in
                let (cursor, end) = try position(in: database)
                guard Int64(count) <= end - cursor else {
                    throw KeyMaterialError.padExhausted(needed: count, remaining: Int(end - cursor))
                }
                let bytes = try read(at: cursor, count: count, in: database)
                try move(to: cursor + Int64(count), in: database)
                return (UInt64(cursor), bytes)
            }
        }
    }

    func burn(at offset: UInt64, count: Int) throws -> SecretBytes {
        try wrapDatabase {
            try queue.write { database in
                let start = try check(offset, count, in: database)
                let bytes = try read(at: start, count: count, in: database)
                try move(to: start + Int64(count), in: database)
                return bytes
            }
        }
    }

    func peek(at offset: UInt64, count: Int) throws -> SecretBytes {
        try wrapDatabase {
            try queue.read { database in try read(at: check(offset, count, in: database), count: count, in: database) }
        }
    }

    var cursor: UInt64 {
        get throws { try wrapDatabase { try queue.read { UInt64(clamping: try position(in: $0).cursor) } } }
    }

    var remaining: Int {
        get throws {
            try wrapDatabase {
                try queue.read { database in
                    let (cursor, end) = try position(in: database)
                    return Int(end - cursor)
                }
            }
        }
    }

    func append(_ bytes: SecretBytes) throws {
        try wrapDatabase { try queue.write { try LinkDatabase.append(bytes, to: epoch, direction, in: $0) } }
    }

    private func check(_ offset: UInt64, _ count: Int, in database: Database) throws -> Int64 {
        let (cursor, end) = try position(in: database)
        guard let start = Int64(exactly: offset), start <= end, count >= 0, Int64(count) <= end - start else {
            throw KeyMaterialError.padBeyond(offset: offset, count: count, end: UInt64(end))
        }
        guard start >= cursor else { throw KeyMaterialError.padUsed(offset: offset, cursor: UInt64(cursor)) }
        return start
    }

    private func position(in database: Database) throws -> (cursor: Int64, end: Int64) {
        let row = try Row.fetchOne(
            database, sql: "SELECT cursor, end FROM pad WHERE epoch = ? AND direction = ?", arguments: [epoch, direction.rawValue])
        guard let row else { throw QuantumLinkError.database("the pad of epoch \(epoch) is missing") }
        return (row["cursor"], row["end"])
    }

    private func read(at start: Int64, count: Int, in database: Database) throws -> SecretBytes {
        let last = start + Int64(count)
        let rows = try Row.fetchAll(
            database,
            sql: """
                SELECT first, bytes FROM pad_part WHERE epoch = ? AND direction = ? AND first < ? AND first + length(bytes) > ? ORDER BY first
                """,
            arguments: [epoch, direction.rawValue, last, start])
        let parts = try rows.compactMap { row -> SecretBytes? in
            let first: Int64 = row["first"]
            return try row.secret("bytes").map { bytes in
                bytes.slice(Int(max(start, first) - first)..<Int(min(last, first + Int64(bytes.count)) - first))
            }
        }
        let bytes = SecretBytes.concatenate(parts)
        guard bytes.count == count else { throw QuantumLinkError.database("the pad of epoch \(epoch) has a hole at \(start)") }
        return bytes
    }

    private func move(to cursor: Int64, in database: Database) throws {
        try database.execute(
            sql: "UPDATE pad SET cursor = ? WHERE epoch = ? AND direction = ?", arguments: [cursor, epoch, direction.rawValue])
        try database.execute(
            sql: "DELETE FROM pad_part WHERE epoch = ? AND direction = ? AND first + length(bytes) <= ?",
            arguments: [epoch, direction.rawValue, cursor])
    }
}
