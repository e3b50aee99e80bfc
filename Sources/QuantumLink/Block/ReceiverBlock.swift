// The receiver's end of one block: frames under way, raw key of the decided ones, its own sums. A value but for the encoder.

internal import Foundation
internal import KeyMaterial
internal import NIOCore
internal import PostProcessing
internal import QKDModel

struct ReceiverBlock {
    private struct Pending {
        var core: SecretBytes
        var samples: [Int16]
        var squares: Double
        /// Rounds of its core that were disclosed.
        var rounds = 0
    }

    let plan: BlockPlan
    let code: ReconciliationCode
    /// Calibration windows from this device time on count for the block, ns.
    let calibrationSince: UInt64
    /// Of the station's log when the block began: after a restart of the device the block is void.
    let generation: Int
    /// What the receiver said of itself when the block was accepted.
    let emulated: Bool
    /// Device time of the first and the newest symbols, and of the end of each slot, ns.
    private(set) var seen: ClosedRange<UInt64>?
    private(set) var slotEnds: [UInt64] = []
    /// LSB per sqrt(SNU), and the converter's means: fixed for the whole block, so that sums of all slots add up.
    let unit: Double
    let meanX: Double
    let meanP: Double
    var life: BlockLife
    private let encoder: FrameEncoder
    private var pending: [UInt32: Pending] = [:]
    /// In the order of slot and index.
    private(set) var raw: [SecretBytes] = []
    /// Verified frames by the rounds of disclosure they took.
    private(set) var decodedInRound: [Int] = []
    /// Decoded frames of the running slot, by index: verdicts may come out of order.
    private var slotRaw: [UInt32: SecretBytes] = [:]
    private var slotSquares: [UInt32: Double] = [:]
    /// Of the slots that have ended.
    private(set) var squares = 0.0
    private(set) var quadratures: UInt64 = 0
    var saturated: UInt64 = 0

    init(
        plan: BlockPlan, calibrationSince: UInt64, generation: Int, emulated: Bool, unit: Double, meanX: Double, meanP: Double,
        random: any RandomSource
    ) throws {
        self.plan = plan
        self.generation = generation
        self.emulated = emulated
        self.calibrationSince = calibrationSince
        self.unit = unit
        self.meanX = meanX
        self.meanP = meanP
        code = try ReconciliationCode.named(plan.code)
        encoder = try FrameEncoder(code: code, random: random)
        life = BlockLife(block: plan.block, frames: Int(plan.frames))
    }

    mutating func saw(deviceTime: UInt64) {
        seen = min(seen?.lowerBound ?? deviceTime, deviceTime)...max(seen?.upperBound ?? deviceTime, deviceTime)
    }

    var inFlight: Int { pending.count }

    /// Symbols of the frames that were decided.
    var symbols: UInt64 { quadratures / 2 }

    /// Encodes one frame and keeps what its verdict will need.
    mutating func encode(_ samples: [Int16], _ reference: SlotFrameOfReference, index: UInt32, hashKey: UInt64) throws -> FrameBody {
        let values = Quadratures.received(samples, reference)
        let (message, core) = try values.withUnsafeBufferPointer { try encoder.encode(quadratures: $0, hashKey: hashKey) }
        pending[index] = Pending(core: core, samples: samples, squares: Quadratures.squares(values))
        let bytes = message.encoded()
        return FrameBody(slot: reference.slot, index: index, hashKey: hashKey, message: ByteBuffer(bytes: bytes))
    }

    /// - Returns: the samples to disclose when the frame failed.
    mutating func decide(_ verdict: Verdict) throws -> [Int16]? {
        guard let frame = pending.removeValue(forKey: verdict.index) else {
            throw QuantumLinkError.badMessage("a verdict on frame \(verdict.index), which is not under way")
        }
        try life.take(.frame(decoded: verdict.decoded))
        slotSquares[verdict.index] = frame.squares
        quadratures += UInt64(frame.samples.count)
        if verdict.decoded {
            slotRaw[verdict.index] = frame.core
            decodedInRound.count(frame.rounds)
        }
        return verdict.decoded ? nil : frame.samples
    }

    /// The bits that the transmitter's end asks for. They count against the key only where the frame is decoded in the end: otherwise it
    /// is disclosed whole.
    mutating func disclose(_ more: FrameMore) throws -> FrameDisclosed {
        let parts = try more.frames.map { request in
            guard let frame = pending[request.index], Int(request.round) == frame.rounds + 1 else {
                throw QuantumLinkError.badMessage("round \(request.round) of frame \(request.index) is not due")
            }
            let disclosure = try FrameDisclosure(of: frame.core, round: frame.rounds + 1, code: code)
            pending[request.index]?.rounds += 1
            return FrameDisclosed.Part(index: request.index, disclosure: ByteBuffer(bytes: disclosure.encoded()))
        }
        return FrameDisclosed(slot: more.slot, frames: parts)
    }

    /// - Parameter frames: how many the transmitter's end decided; the rest is void.
    mutating func endSlot(frames: UInt32) throws {
        guard pending.keys.allSatisfy({ $0 >= frames }) else {
            throw QuantumLinkError.badMessage("the slot ends with frames that have no verdict")
        }
        pending = [:]
        if let seen, frames > 0 { slotEnds.append(seen.upperBound) }
        raw += slotRaw.sorted { $0.key < $1.key }.map(\.value)
        // In one order, so that the same frames give the same sum to the last digit.
        squares += slotSquares.sorted { $0.key < $1.key }.reduce(0) { $0 + $1.value }
        (slotRaw, slotSquares) = ([:], [:])
        if life.stage == .generating { try life.take(.slotEnded) }
    }

    /// `BlockVerification`'s digest of the whole raw key, as a number.
    static func verificationHash(_ raw: [SecretBytes], key: [UInt8]) throws -> UInt64 {
        try BlockVerification.digest(of: raw, key: key).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
