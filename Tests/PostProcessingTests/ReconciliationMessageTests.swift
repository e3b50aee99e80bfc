import PostProcessing
import QKDModel
import Testing

@Suite struct ReconciliationMessageTests {
    let code: ReconciliationCode
    let message: FrameMessage

    init() throws {
        code = try ReconciliationCode.named(r10)
        message = try Trial(code, efficiency: 0.9, seed: 21).message
    }

    @Test func bytesAndBack() throws {
        let bytes = message.encoded()
        #expect(bytes.count == FrameMessage.byteCount(code))
        #expect(bytes.count == 16 + 204_800 + 102_400 + 23_040)
        #expect(Array(bytes.prefix(12)) == [0x53, 0x52, 0x4D, 0x31, 0x00, 0x20, 0x03, 0x00, 0x00, 0xD0, 0x02, 0x00])
        #expect(UInt32(bytes[12]) | UInt32(bytes[13]) << 8 | UInt32(bytes[14]) << 16 == message.verification)
        #expect(try FrameMessage(decoding: bytes, for: code) == message)
    }

    @Test func otherLengthsAndCodesAreRefused() throws {
        let bytes = message.encoded()
        for length in [0, 3, 15, 16, 17, bytes.count - 1] {
            #expect(throws: ReconciliationError.messageLength(expected: bytes.count, found: length)) {
                try FrameMessage(decoding: Array(bytes.prefix(length)), for: code)
            }
        }
        #expect(throws: ReconciliationError.self) { try FrameMessage(decoding: bytes + [0], for: code) }
        #expect(throws: ReconciliationError.self) { try FrameMessage(decoding: bytes, for: ReconciliationCode.named(r05)) }
    }

    @Test func impossibleFieldsAreRefused() {
        let normStart = 16 + code.frameBits
        let changes: [(Int, [UInt8], String)] = [
            (0, [0x54], "magic"), (4, [1], "number of code bits"), (8, [1], "number of syndrome bits"), (15, [1], "hash"),
            (1000, [0x80], "rotation"), (normStart, [0, 0, 0xC0, 0x7F], "norm"), (normStart + 4, [0, 0, 0x80, 0x7F], "norm"),
            (normStart + 8, [0, 0, 0x80, 0xBF], "norm"),
        ]
        for (offset, bytes, field) in changes {
            var changed = message.encoded()
            changed.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            #expect(throws: ReconciliationError.messageField(field)) { try FrameMessage(decoding: changed, for: code) }
        }
    }

    /// Random bytes give errors; random bytes behind a sound head give a message that decodes to nothing.
    @Test func noiseIsNeverAccepted() throws {
        let random = SplitMix(22)
        let decoder = try FrameDecoder(code: code)
        let trial = try Trial(code, efficiency: 0.9, seed: 23)
        for round in 0..<20 {
            #expect(throws: ReconciliationError.self) { try FrameMessage(decoding: random.bytes(Int(random.word() % 400_000)), for: code) }
            var bytes = random.bytes(FrameMessage.byteCount(code))
            bytes.replaceSubrange(0..<12, with: trial.message.encoded().prefix(12))
            #expect(throws: ReconciliationError.self) { try FrameMessage(decoding: bytes, for: code) }
            guard round < 3 else { continue }
            var noise = trial
            noise.message.rotations = random.bytes(code.frameBits).map { Int8(clamping: Int($0) - 127) }
            noise.message.norms = noise.message.norms.map { _ in Float(random.word() % 1000) }
            noise.message.syndrome = random.bytes(code.syndromeBits / 8)
            #expect(try noise.decode(with: decoder).core == nil)
        }
    }

    /// A message whose arrays do not belong together (built in code, not from bytes) is an error as well.
    @Test func arraysAreCheckedBeforeDecoding() throws {
        let decoder = try FrameDecoder(code: code)
        var trial = try Trial(code, efficiency: 0.9, seed: 24)
        trial.message.syndrome.removeLast()
        #expect(throws: ReconciliationError.messageField("number of syndrome bits")) { try trial.decode(with: decoder) }
        trial = try Trial(code, efficiency: 0.9, seed: 24)
        trial.message.norms[3] = .infinity
        #expect(throws: ReconciliationError.messageField("norm")) { try trial.decode(with: decoder) }
        trial.sent.removeLast()
        #expect(throws: ReconciliationError.frameLength(expected: 204_800, found: 204_799)) { try trial.decode(with: decoder) }
    }
}
