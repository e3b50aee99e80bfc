// The messages of docs/wire/km-link.md as values, and their bytes.

import Foundation
package import QKDModel

/// One message of the KM link.
package enum KMMessage: Equatable, Sendable {
    case hello(version: UInt16, node: NodeID)
    case ping(UInt64)
    case pong(UInt64)
    case have([BlockID])
    case confirm(Confirm)
    case confirmed(BlockID, ConfirmedStatus, PadRefill)
    case reserve(request: UInt64, [ReserveItem])
    case reserved(request: UInt64, [ReservedStatus])
    case void(request: UInt64, VoidReason, [BlockID])
    case voided(request: UInt64)
    case settled(BlockID, applied: Bool)
    /// Where the sender's receiving pad stands: up to there it has taken tags of the peer.
    case taken(UInt64)

    package struct Confirm: Equatable, Sendable {
        package var block: BlockID
        package var link: LinkID
        package var emulated: Bool
        package var firstEnd: Bool
        package var byteCount: Int
        package var hashPadOffset: UInt64
        /// Hash of the content under 16 pad bytes, xor the 16 that follow.
        package var maskedHash: [UInt8]

        package init(
            block: BlockID, link: LinkID, emulated: Bool, firstEnd: Bool, byteCount: Int, hashPadOffset: UInt64, maskedHash: [UInt8]
        ) {
            self.block = block
            self.link = link
            self.emulated = emulated
            self.firstEnd = firstEnd
            self.byteCount = byteCount
            self.hashPadOffset = hashPadOffset
            self.maskedHash = maskedHash
        }
    }

    package enum ConfirmedStatus: UInt8, Sendable, CaseIterable { case agreed, notHeld, differs, void }

    package struct ReserveItem: Equatable, Sendable {
        package var run: KeyRun
        package var master: SAEID
        package var slave: SAEID

        package init(run: KeyRun, master: SAEID, slave: SAEID) {
            self.run = run
            self.master = master
            self.slave = slave
        }
    }

    package enum ReservedStatus: UInt8, Sendable, CaseIterable {
        case reserved, unknownBlock, notFree, emulated, unknownSAE, unavailable, refused
    }

    package enum VoidReason: UInt8, Sendable, CaseIterable { case differs, zeroised, tooOld }

    var type: UInt8 {
        switch self {
        case .hello: 1
        case .ping: 2
        case .pong: 3
        case .have: 4
        case .confirm: 5
        case .confirmed: 6
        case .reserve: 7
        case .reserved: 8
        case .void: 9
        case .voided: 10
        case .settled: 11
        case .taken: 12
        }
    }

    /// Whether it travels under a tag.
    var isTagged: Bool { Self.isTagged(type: type) }

    /// Neither changes anything; and `taken` is said before this end knows that its pad is fresh.
    static func isTagged(type: UInt8) -> Bool { ![2, 3, 12].contains(type) }
}

// MARK: - Bytes

extension KMMessage {
    func payload() -> [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .hello(let version, let node):
            writer.put(version)
            writer.put(node.rawValue)
        case .ping(let number), .pong(let number), .voided(let number), .taken(let number): writer.put(number)
        case .have(let blocks): writer.put(blocks)
        case .confirm(let confirm): confirm.put(into: &writer)
        case .confirmed(let block, let status, let refill):
            writer.put(block.uuid)
            writer.put(status.rawValue)
            writer.put(raw: refill.encoded())
        case .reserve(let request, let items):
            writer.put(request)
            writer.put(UInt16(items.count))
            for item in items { item.put(into: &writer) }
        case .reserved(let request, let statuses):
            writer.put(request)
            writer.put(UInt16(statuses.count))
            for status in statuses { writer.put(status.rawValue) }
        case .void(let request, let reason, let blocks):
            writer.put(request)
            writer.put(reason.rawValue)
            writer.put(blocks)
        case .settled(let block, let applied):
            writer.put(block.uuid)
            writer.put(UInt8(applied ? 1 : 0))
        }
        return writer.bytes
    }

    init(type: UInt8, payload: [UInt8]) throws(KeyStoreError) {
        var reader = ByteReader(payload)
        self = try Self.read(type, &reader)
        guard reader.isAtEnd else { throw .badMessage("bytes after the end of a message of type \(type)") }
    }

    private static func read(_ type: UInt8, _ reader: inout ByteReader) throws(KeyStoreError) -> KMMessage {
        switch type {
        case 1: return .hello(version: try reader.number(UInt16.self), node: try reader.word(NodeID.self))
        case 2: return .ping(try reader.number(UInt64.self))
        case 3: return .pong(try reader.number(UInt64.self))
        case 4: return .have(try reader.blocks())
        case 5: return .confirm(try Confirm(from: &reader))
        case 6: return .confirmed(BlockID(try reader.uuid()), try reader.code(ConfirmedStatus.self), try PadRefill(from: &reader))
        case 7:
            let request = try reader.number(UInt64.self)
            var items: [ReserveItem] = []
            for _ in 0..<(try reader.number(UInt16.self)) { items.append(try ReserveItem(from: &reader)) }
            return .reserve(request: request, items)
        case 8:
            let request = try reader.number(UInt64.self)
            var statuses: [ReservedStatus] = []
            for _ in 0..<(try reader.number(UInt16.self)) { statuses.append(try reader.code(ReservedStatus.self)) }
            return .reserved(request: request, statuses)
        case 9: return .void(request: try reader.number(UInt64.self), try reader.code(VoidReason.self), try reader.blocks())
        case 10: return .voided(request: try reader.number(UInt64.self))
        case 11: return .settled(BlockID(try reader.uuid()), applied: try reader.flag())
        case 12: return .taken(try reader.number(UInt64.self))
        default: throw .badMessage("unknown type \(type)")
        }
    }
}

extension KMMessage.Confirm {
    fileprivate func put(into writer: inout ByteWriter) {
        writer.put(block.uuid)
        writer.put(link.rawValue)
        writer.put(UInt8(emulated ? 1 : 0))
        writer.put(UInt8(firstEnd ? 1 : 0))
        writer.put(UInt32(byteCount))
        writer.put(hashPadOffset)
        writer.put(raw: maskedHash)
    }

    fileprivate init(from reader: inout ByteReader) throws(KeyStoreError) {
        block = BlockID(try reader.uuid())
        link = try reader.word(LinkID.self)
        emulated = try reader.flag()
        firstEnd = try reader.flag()
        byteCount = Int(try reader.number(UInt32.self))
        hashPadOffset = try reader.number(UInt64.self)
        maskedHash = try reader.bytes(16)
        guard hashPadOffset < 1 << 62 else { throw .badMessage("a pad offset out of range") }
    }
}

extension KMMessage.ReserveItem {
    fileprivate func put(into writer: inout ByteWriter) {
        writer.put(run.block.uuid)
        writer.put(UInt32(run.offset))
        writer.put(UInt16(run.keyBytes))
        writer.put(UInt16(run.count))
        writer.put(master.rawValue)
        writer.put(slave.rawValue)
    }

    fileprivate init(from reader: inout ByteReader) throws(KeyStoreError) {
        run = KeyRun(
            block: BlockID(try reader.uuid()), offset: Int(try reader.number(UInt32.self)), keyBytes: Int(try reader.number(UInt16.self)),
            count: Int(try reader.number(UInt16.self)))
        master = try reader.word(SAEID.self)
        slave = try reader.word(SAEID.self)
    }
}

extension ByteWriter {
    fileprivate mutating func put(_ blocks: [BlockID]) {
        put(UInt16(blocks.count))
        for block in blocks { put(block.uuid) }
    }
}

extension ByteReader {
    fileprivate mutating func blocks() throws(KeyStoreError) -> [BlockID] {
        var blocks: [BlockID] = []
        for _ in 0..<(try number(UInt16.self)) { blocks.append(BlockID(try uuid())) }
        return blocks
    }

    fileprivate mutating func code<T: RawRepresentable<UInt8>>(_ type: T.Type) throws(KeyStoreError) -> T {
        let number = try number(UInt8.self)
        guard let code = T(rawValue: number) else { throw .badMessage("unknown \(T.self) \(number)") }
        return code
    }

    fileprivate mutating func flag() throws(KeyStoreError) -> Bool {
        switch try number(UInt8.self) {
        case 0: return false
        case 1: return true
        case let other: throw .badMessage("\(other) where 0 or 1 is due")
        }
    }
}
