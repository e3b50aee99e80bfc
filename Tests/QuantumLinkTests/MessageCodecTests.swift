// The wire format: what is written reads back, and whatever comes is a message or an error.

import Foundation
import NIOCore
import PostProcessing
import QKDModel
import QKDTesting
import QuantumLink
import Testing

@Suite("Messages of the classical channel")
struct MessageCodecTests {
    static let block = BlockID(UUID())

    static let samples: [ChannelMessage] = [
        .hello(
            Hello(
                node: "almagro", peer: "norte", link: "almagro-norte", role: .transmitter, nonce: Array(0..<32),
                epochs: [Epoch(Array(repeating: 7, count: 16))], taken: [1 << 40], inDoubt: [block])),
        .resolve(Resolve(epoch: Epoch(Array(repeating: 9, count: 16)), answers: [.init(block: block, committed: true)])),
        .tag(TagMessage(purpose: .commit, padOffset: 1 << 40, tag: Array(0..<16))),
        .bye("why"),
        .readiness(
            Readiness(
                ready: true, reason: "é", emulated: true, captured: false, efficiency: 0.8, efficiencyError: 0.001, shotNoise: 22500,
                electronicNoise: 0.05, symbolRate: 5e6, calibrationSymbols: 12)),
        .blockPrepare(BlockPlan(block: block, code: "r10-n204800", frames: 488, epsilon: 1e-10, designSNR: 0.163, emulated: true)),
        .alive(sent: 77), .blockAccept(block), .blockRefuse(block, reason: "no"), .blockAbort(block, reason: ""), .blockClose(block),
        .blockSums(
            BlockSums(
                block: block, dark: CalibrationSums(), shot: CalibrationSums(), quadratures: 5, squares: 6.5, saturated: 1,
                verificationKey: Array(0..<16), verificationHash: .max)),
        .blockResult(
            BlockResult(
                block: block, quadratures: 3, xx: 1, xy: -1, yy: 2, decoded: 4, failed: 1, secretBits: 1000, padBitsForward: 8,
                padBitsBackward: 16, limitedBy: "length", seed: [1, 2, 3])),
        .blockAck(block), .blockCommit(block), .blockDone(block), .slotOffer(slot: 1, frames: 97, variance: 1.7),
        .slotAnswer(slot: 1, accepted: false, reason: "calibrating"), .slotLit(slot: 2), .slotLocked(slot: 3),
        .slotRunning(slot: 4, utc: 5), .slotReceiving(slot: 4, utc: .max, symbols: 77),
        .slotDisclose(Disclosure(slot: 1, utc: 2, window: 10, scale: 0.01, positions: [.init(index: 9, x: -5, p: 6)])),
        .slotAligned(SlotFrameOfReference(slot: 1, aligned: true, significance: 80, phase: -1, unit: 150, meanX: 2, meanP: 3)),
        .slotEnd(slot: 1, frames: 3, reason: "done"),
        .frame(FrameBody(slot: 1, index: 2, hashKey: 3, message: ByteBuffer(bytes: [1, 2, 3]))),
        .verdict(Verdict(slot: 1, index: 2, decoded: true)), .frameValues(FrameValues(slot: 1, index: 2, samples: [1, -2, .max, .min])),
        .frameMore(FrameMore(slot: 1, frames: [.init(index: 2, round: 3), .init(index: 5, round: 1)])),
        .frameDisclosed(FrameDisclosed(slot: 1, frames: [.init(index: 2, disclosure: ByteBuffer(bytes: [1, 2, 3]))])),
    ]

    private func bytes(_ message: ChannelMessage) -> ByteBuffer {
        var buffer = ByteBuffer()
        MessageCodec.write(message, to: &buffer)
        return buffer
    }

    @Test("Every message reads back, and its length is its length", arguments: samples)
    func roundTrip(message: ChannelMessage) throws {
        var buffer = bytes(message)
        let length = buffer.readInteger(endianness: .little, as: UInt32.self)
        #expect(length.map(Int.init) == buffer.readableBytes)
        #expect(try MessageCodec.read(buffer) == message)
    }

    @Test("A body that is cut or too long is refused", arguments: samples)
    func lengths(message: ChannelMessage) throws {
        var buffer = bytes(message)
        buffer.moveReaderIndex(forwardBy: 4)
        for cut in 0..<min(buffer.readableBytes, 200) {
            let part = try #require(buffer.getSlice(at: buffer.readerIndex, length: cut))
            // Messages that end with their payload read a shorter one; all others refuse.
            if let read = try? MessageCodec.read(part) { #expect(read != message) }
        }
        switch message {
        case .frame, .frameValues: break
        default:
            var long = buffer
            long.writeBytes([0])
            #expect(throws: QuantumLinkError.self) { try MessageCodec.read(long) }
        }
    }

    @Test("A list's count is checked before anything is allocated")
    func hugeCounts() {
        var buffer = ByteBuffer(bytes: [0x16])
        buffer.writeBytes(Array(repeating: 0xFF, count: 16 + 8 + 24 + 4 + 4 + 8 + 4 + 4))
        buffer.writeInteger(UInt16(0), endianness: .little)
        buffer.writeInteger(UInt32.max, endianness: .little)
        #expect(throws: QuantumLinkError.self) { try MessageCodec.read(buffer) }
    }

    @Test("Numbers outside what their fields can mean are refused", arguments: [0x05, 0x15, 0x16, 0x27])
    func extremes(type: UInt8) throws {
        let message = try #require(Self.samples.first { bytes($0).getInteger(at: 4, as: UInt8.self) == type })
        var frame = bytes(message)
        frame.moveReaderIndex(forwardBy: 4)
        // The place of a field of eight bytes, from the end of the body.
        let place =
            switch type {
            case 0x05: 16  // symbol rate
            case 0x15: 56  // quadratures
            case 0x16: 31  // secret bits
            default: 24  // unit
            }
        let values: [UInt64] = [.max, 1 << 63, (1e300).bitPattern, (1e-300).bitPattern, Double.nan.bitPattern, (-1e300).bitPattern]
        for value in values {
            frame.setInteger(value, at: frame.writerIndex - place, endianness: .little)
            #expect(throws: QuantumLinkError.self) { try MessageCodec.read(frame) }
        }
    }

    @Test("Any bytes are a message or an error, and messages write back to the bytes they came from")
    func fuzz() throws {
        let random = SeededRandom(42)
        for round in 0..<40_000 {
            var frame: ByteBuffer
            if round % 2 == 0 {
                frame = ByteBuffer(bytes: [UInt8(truncatingIfNeeded: random.word() % 0x36)] + random.bytes(Int(random.word() % 120)))
            } else {
                frame = bytes(Self.samples[Int(random.word() % UInt64(Self.samples.count))])
                frame.moveReaderIndex(forwardBy: 4)
                let place = frame.readerIndex + Int(random.word() % UInt64(frame.readableBytes))
                frame.setInteger(UInt8(truncatingIfNeeded: random.word()), at: place)
            }
            guard let message = try? MessageCodec.read(frame) else { continue }
            var again = bytes(message)
            again.moveReaderIndex(forwardBy: 4)
            #expect(again == frame)
        }
    }
}
