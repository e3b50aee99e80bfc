// ChannelMessage <-> bytes. Total on the reading side: any bytes give a message or an error, and what is read writes
// back to the same bytes.

public import NIOCore
internal import QKDModel

public enum MessageCodec {
    /// The most a message may have before and after the handshake, type and body, bytes.
    public static let handshakeLimit = 64 << 10
    public static let limit = 64 << 20

    /// Appends length, type and body.
    public static func write(_ message: ChannelMessage, to buffer: inout ByteBuffer) {
        let start = buffer.writerIndex
        buffer.put(UInt32(0))
        buffer.put(message.type.rawValue)
        message.writeBody(to: &buffer)
        buffer.setInteger(UInt32(buffer.writerIndex - start - 4), at: start, endianness: .little)
    }

    /// - Parameter frame: type and body, without the length.
    public static func read(_ frame: ByteBuffer) throws -> ChannelMessage {
        var frame = frame
        guard let raw = frame.readInteger(as: UInt8.self) else { throw QuantumLinkError.badMessage("an empty message") }
        guard let type = MessageType(rawValue: raw) else { throw QuantumLinkError.badMessage("unknown type \(raw)") }
        var reader = WireReader(frame, message: type.name)
        let message = try ChannelMessage(type, from: &reader)
        try reader.end()
        return message
    }
}

enum MessageType: UInt8, CaseIterable {
    case hello = 0x01
    case resolve = 0x02
    case tag = 0x03
    case bye = 0x04
    case readiness = 0x05
    case alive = 0x06
    case blockPrepare = 0x10
    case blockAccept = 0x11
    case blockRefuse = 0x12
    case blockAbort = 0x13
    case blockClose = 0x14
    case blockSums = 0x15
    case blockResult = 0x16
    case blockAck = 0x17
    case blockCommit = 0x18
    case blockDone = 0x19
    case slotOffer = 0x20
    case slotAnswer = 0x21
    case slotLit = 0x22
    case slotLocked = 0x23
    case slotRunning = 0x24
    case slotReceiving = 0x25
    case slotDisclose = 0x26
    case slotAligned = 0x27
    case slotEnd = 0x28
    case frame = 0x30
    case verdict = 0x31
    case frameValues = 0x32
    case frameMore = 0x33
    case frameDisclosed = 0x34

    var name: String { "\(self)" }
}

extension ChannelMessage {
    var type: MessageType {
        switch self {
        case .hello: .hello
        case .resolve: .resolve
        case .tag: .tag
        case .bye: .bye
        case .readiness: .readiness
        case .alive: .alive
        case .blockPrepare: .blockPrepare
        case .blockAccept: .blockAccept
        case .blockRefuse: .blockRefuse
        case .blockAbort: .blockAbort
        case .blockClose: .blockClose
        case .blockSums: .blockSums
        case .blockResult: .blockResult
        case .blockAck: .blockAck
        case .blockCommit: .blockCommit
        case .blockDone: .blockDone
        case .slotOffer: .slotOffer
        case .slotAnswer: .slotAnswer
        case .slotLit: .slotLit
        case .slotLocked: .slotLocked
        case .slotRunning: .slotRunning
        case .slotReceiving: .slotReceiving
        case .slotDisclose: .slotDisclose
        case .slotAligned: .slotAligned
        case .slotEnd: .slotEnd
        case .frame: .frame
        case .verdict: .verdict
        case .frameValues: .frameValues
        case .frameMore: .frameMore
        case .frameDisclosed: .frameDisclosed
        }
    }

    /// The word for logs and errors; never the content.
    public var name: String { type.name }

    /// The slot that a message of a slot's conversation belongs to.
    var slotNumber: UInt32? {
        switch self {
        case .slotOffer(let slot, _, _), .slotAnswer(let slot, _, _), .slotLit(let slot), .slotLocked(let slot), .slotRunning(let slot, _),
            .slotReceiving(let slot, _, _), .slotEnd(let slot, _, _):
            slot
        case .slotDisclose(let value): value.slot
        case .slotAligned(let value): value.slot
        case .frame(let value): value.slot
        case .verdict(let value): value.slot
        case .frameValues(let value): value.slot
        case .frameMore(let value): value.slot
        case .frameDisclosed(let value): value.slot
        default: nil
        }
    }

    fileprivate func writeBody(to buffer: inout ByteBuffer) {
        switch self {
        case .hello(let value): value.write(to: &buffer)
        case .resolve(let value): value.write(to: &buffer)
        case .tag(let value): value.write(to: &buffer)
        case .bye(let reason): buffer.put(reason)
        case .readiness(let value): value.write(to: &buffer)
        case .alive(let sent): buffer.put(sent)
        case .blockPrepare(let value): value.write(to: &buffer)
        case .blockAccept(let block), .blockClose(let block), .blockAck(let block), .blockCommit(let block), .blockDone(let block):
            buffer.put(block)
        case .blockRefuse(let block, let reason), .blockAbort(let block, let reason):
            buffer.put(block)
            buffer.put(reason)
        case .blockSums(let value): value.write(to: &buffer)
        case .blockResult(let value): value.write(to: &buffer)
        case .slotOffer(let slot, let frames, let variance):
            buffer.put(slot)
            buffer.put(frames)
            buffer.put(variance)
        case .slotAnswer(let slot, let accepted, let reason):
            buffer.put(slot)
            buffer.put(accepted)
            buffer.put(reason)
        case .slotLit(let slot), .slotLocked(let slot): buffer.put(slot)
        case .slotRunning(let slot, let utc):
            buffer.put(slot)
            buffer.put(utc)
        case .slotReceiving(let slot, let utc, let symbols):
            buffer.put(slot)
            buffer.put(utc)
            buffer.put(symbols)
        case .slotDisclose(let value): value.write(to: &buffer)
        case .slotAligned(let value): value.write(to: &buffer)
        case .slotEnd(let slot, let frames, let reason):
            buffer.put(slot)
            buffer.put(frames)
            buffer.put(reason)
        case .frame(let value): value.write(to: &buffer)
        case .verdict(let value): value.write(to: &buffer)
        case .frameValues(let value): value.write(to: &buffer)
        case .frameMore(let value): value.write(to: &buffer)
        case .frameDisclosed(let value): value.write(to: &buffer)
        }
    }

    fileprivate init(_ type: MessageType, from reader: inout WireReader) throws {
        switch type {
        case .hello: self = .hello(try Hello(from: &reader))
        case .resolve: self = .resolve(try Resolve(from: &reader))
        case .tag: self = .tag(try TagMessage(from: &reader))
        case .bye: self = .bye(try reader.string())
        case .readiness: self = .readiness(try Readiness(from: &reader))
        case .alive: self = .alive(sent: try reader.integer())
        case .blockPrepare: self = .blockPrepare(try BlockPlan(from: &reader))
        case .blockAccept: self = .blockAccept(try reader.block())
        case .blockRefuse: self = .blockRefuse(try reader.block(), reason: try reader.string())
        case .blockAbort: self = .blockAbort(try reader.block(), reason: try reader.string())
        case .blockClose: self = .blockClose(try reader.block())
        case .blockSums: self = .blockSums(try BlockSums(from: &reader))
        case .blockResult: self = .blockResult(try BlockResult(from: &reader))
        case .blockAck: self = .blockAck(try reader.block())
        case .blockCommit: self = .blockCommit(try reader.block())
        case .blockDone: self = .blockDone(try reader.block())
        case .slotOffer: self = .slotOffer(slot: try reader.integer(), frames: try reader.integer(), variance: try reader.finite())
        case .slotAnswer: self = .slotAnswer(slot: try reader.integer(), accepted: try reader.flag(), reason: try reader.string())
        case .slotLit: self = .slotLit(slot: try reader.integer())
        case .slotLocked: self = .slotLocked(slot: try reader.integer())
        case .slotRunning: self = .slotRunning(slot: try reader.integer(), utc: try reader.integer())
        case .slotReceiving: self = .slotReceiving(slot: try reader.integer(), utc: try reader.integer(), symbols: try reader.integer())
        case .slotDisclose: self = .slotDisclose(try Disclosure(from: &reader))
        case .slotAligned: self = .slotAligned(try SlotFrameOfReference(from: &reader))
        case .slotEnd: self = .slotEnd(slot: try reader.integer(), frames: try reader.integer(), reason: try reader.string())
        case .frame: self = .frame(try FrameBody(from: &reader))
        case .verdict: self = .verdict(try Verdict(from: &reader))
        case .frameValues: self = .frameValues(try FrameValues(from: &reader))
        case .frameMore: self = .frameMore(try FrameMore(from: &reader))
        case .frameDisclosed: self = .frameDisclosed(try FrameDisclosed(from: &reader))
        }
    }
}
