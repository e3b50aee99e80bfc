// A recording's entries as bytes: u8 kind, u64 time (ns since any moment), body. Messages as on the classical channel, little-endian
// numbers elsewhere (docs/wire/link-recording.md).

internal import Foundation
internal import NIOCore
internal import PostProcessing
internal import QKDModel

enum LinkRecordCodec {
    /// Kind of the last entry.
    static let whole: UInt8 = 255

    static func write(_ record: LinkRecord, at time: UInt64, to buffer: inout ByteBuffer) {
        buffer.put(record.kind)
        buffer.put(time)
        switch record {
        case .session: break
        case .heard(let message), .said(let message): MessageCodec.write(message, to: &buffer)
        case .random(let bytes):
            buffer.put(UInt32(bytes.count))
            buffer.writeBytes(bytes)
        case .frame(let index, let scale, let samples):
            buffer.put(index)
            buffer.put(scale)
            buffer.put(samples)
        case .opening(let start, let samples, let expected, let margin):
            for value in [start, expected, margin] { buffer.put(Int64(value)) }
            buffer.put(samples)
        case .begins(let plan, let dark, let shot, let emulated):
            plan.write(to: &buffer)
            dark.write(to: &buffer)
            shot.write(to: &buffer)
            buffer.put(emulated)
        case .saturated(let count): buffer.put(count)
        case .slotBegan(let slot, let frames):
            buffer.put(slot)
            buffer.put(frames)
        case .slotEnded(let frames): buffer.put(frames)
        case .transmitter(let serial, let emulated, let receiverEmulated):
            buffer.put(serial)
            buffer.put(emulated)
            buffer.put(receiverEmulated)
        case .calibration(let dark, let shot, let drift):
            dark.write(to: &buffer)
            shot.write(to: &buffer)
            buffer.put(drift)
        case .efficiency(let value, let error):
            buffer.put(value)
            buffer.put(error)
        case .pads(let pads): for value in [pads.remainingForward, pads.remainingBackward, pads.size] { buffer.put(UInt64(value)) }
        case .account(let text):
            buffer.put(UInt32(text.utf8.count))
            buffer.writeString(text)
        case .whole(let entries, let hash):
            buffer.put(entries)
            buffer.put(UInt32(hash.count))
            buffer.writeBytes(hash)
        }
    }

    /// - Throws: `QuantumLinkError.badMessage`.
    static func read(_ body: ByteBuffer) throws -> LinkRecord {
        var reader = WireReader(body, message: "a recorded entry")
        let kind: UInt8 = try reader.integer()
        let _: UInt64 = try reader.integer()
        let record = try record(kind, from: &reader)
        try reader.end()
        return record
    }

    private static func record(_ kind: UInt8, from reader: inout WireReader) throws -> LinkRecord {
        switch kind {
        case 0: return .session
        case 1: return .heard(try message(from: &reader))
        case 2: return .said(try message(from: &reader))
        case 3: return .random(try reader.bytes(reader.count(elementSize: 1)))
        case 4: return .frame(index: try reader.integer(), scale: try reader.float(), samples: try reader.samples())
        case 5:
            let places = try (0..<3).map { _ in Int(try reader.integer(Int64.self)) }
            return .opening(start: places[0], samples: try reader.samples(), expected: places[1], margin: places[2])
        case 6:
            return .begins(
                plan: try BlockPlan(from: &reader), dark: try CalibrationSums(from: &reader), shot: try CalibrationSums(from: &reader),
                emulated: try reader.flag())
        case 7: return .saturated(try reader.integer())
        case 8: return .slotBegan(slot: try reader.integer(), frames: try reader.integer())
        case 9: return .slotEnded(frames: try reader.integer())
        case 10: return .transmitter(serial: try reader.string(), emulated: try reader.flag(), receiverEmulated: try reader.flag())
        case 11:
            return .calibration(
                dark: try CalibrationSums(from: &reader), shot: try CalibrationSums(from: &reader), drift: try reader.finite())
        case 12: return .efficiency(try reader.finite(), error: try reader.finite())
        case 13:
            return .pads(PadAccount(remainingForward: try reader.size(), remainingBackward: try reader.size(), size: try reader.size()))
        case 14: return .account(String(decoding: try reader.bytes(reader.count(elementSize: 1)), as: UTF8.self))
        case whole: return .whole(entries: try reader.integer(), hash: try reader.bytes(reader.count(elementSize: 1)))
        default: throw QuantumLinkError.badMessage("a recorded entry of unknown kind \(kind)")
        }
    }

    private static func message(from reader: inout WireReader) throws -> ChannelMessage {
        try MessageCodec.read(reader.slice(reader.count(elementSize: 1)))
    }
}

extension LinkRecord {
    fileprivate var kind: UInt8 {
        switch self {
        case .session: 0
        case .heard: 1
        case .said: 2
        case .random: 3
        case .frame: 4
        case .opening: 5
        case .begins: 6
        case .saturated: 7
        case .slotBegan: 8
        case .slotEnded: 9
        case .transmitter: 10
        case .calibration: 11
        case .efficiency: 12
        case .pads: 13
        case .account: 14
        case .whole: LinkRecordCodec.whole
        }
    }
}

extension ByteBuffer {
    fileprivate mutating func put(_ samples: [Int16]) {
        put(UInt32(samples.count))
        for sample in samples { put(sample) }
    }
}

extension WireReader {
    fileprivate mutating func samples() throws -> [Int16] {
        let count = try count(elementSize: 2)
        let raw = try slice(2 * count)
        return raw.withUnsafeReadableBytes { bytes in
            (0..<count).map { Int16(littleEndian: bytes.loadUnaligned(fromByteOffset: 2 * $0, as: Int16.self)) }
        }
    }
}
