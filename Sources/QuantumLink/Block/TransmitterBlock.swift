// The transmitter's end of one block: decisions on frames, raw key, correlations. A value; decoding itself is done by
// `DecodingSeat`s.

internal import Foundation
internal import KeyMaterial
internal import NIOCore
internal import PostProcessing
internal import QKDModel

/// What a decoder made of one frame.
struct DecidedFrame: Sendable {
    /// nil: failed, its values must be disclosed.
    var core: SecretBytes?
    /// Correlation of sent symbols and received quadratures, both in SNU.
    var sums: CorrelationSums
    var passes: Int
    /// How far the received quadratures are still turned, rad. Stays at this end.
    var residualPhase: Double
}

struct TransmitterBlock {
    let plan: BlockPlan
    let code: ReconciliationCode
    let variance: Double
    /// Which transmitter it is, and whether the receiver was emulated when the block was agreed on.
    let serial: String
    let receiverEmulated: Bool
    var life: BlockLife
    private(set) var sums = CorrelationSums()
    private(set) var raw: [SecretBytes] = []
    private var slotRaw: [UInt32: SecretBytes] = [:]
    /// Failed frames whose values have not come yet: what was sent.
    private var undisclosed: [UInt32: [Float]] = [:]
    private(set) var passes = 0

    init(plan: BlockPlan, variance: Double, facts: DeviceFacts, receiverEmulated: Bool) throws {
        self.plan = plan
        self.variance = variance
        serial = facts.serial
        self.receiverEmulated = receiverEmulated
        code = try ReconciliationCode.named(plan.code)
        life = BlockLife(block: plan.block, frames: Int(plan.frames))
    }

    /// Frames that failed and are not disclosed yet.
    var awaitingValues: Int { undisclosed.count }

    mutating func decide(_ index: UInt32, _ frame: DecidedFrame, sent: [Float]) throws {
        try life.take(.frame(decoded: frame.core != nil))
        passes += frame.passes
        if let core = frame.core {
            slotRaw[index] = core
            sums.merge(frame.sums)
        } else {
            undisclosed[index] = sent
        }
    }

    /// A failed frame in the clear: it enters the estimate, or the estimate would favour good frames.
    mutating func disclosed(_ values: FrameValues, _ reference: SlotFrameOfReference) throws {
        guard let sent = undisclosed.removeValue(forKey: values.index), values.samples.count == sent.count else {
            throw QuantumLinkError.badMessage("values of frame \(values.index), which did not fail or has another length")
        }
        let received = Quadratures.received(values.samples, reference)
        sums.merge(Self.correlate(sent, received))
    }

    mutating func endSlot() throws {
        raw += slotRaw.sorted { $0.key < $1.key }.map(\.value)
        slotRaw = [:]
        if life.stage == .generating { try life.take(.slotEnded) }
    }

    static func correlate(_ sent: [Float], _ received: [Float]) -> CorrelationSums {
        var sums = CorrelationSums()
        sent.withUnsafeBufferPointer { x in received.withUnsafeBufferPointer { y in sums.add(x: x, y: y) } }
        return sums
    }
}

/// One decoder and the core it keeps busy.
package actor DecodingSeat {
    package init() {}
    private var decoders: [String: FrameDecoder] = [:]

    /// - Returns: the frame, and what was sent as the receiver saw it: turned by the phase that earlier frames of the slot showed.
    ///   A frame's own phase never enters, it would make every correlation look a little better than it is.
    func decode(
        _ body: FrameBody, code: ReconciliationCode, sent samples: [Int16], scale: Float, phase: PhaseTrack, snr: Double, maximumPasses: Int
    ) throws -> (DecidedFrame, sent: [Float]) {
        let turned = phase.expected(at: body.index)
        let sent = Quadratures.sent(samples, scale: scale, phase: turned)
        let frame = try decode(body, code: code, sent: sent, snr: snr, maximumPasses: maximumPasses)
        if frame.core != nil { phase.saw(turned + frame.residualPhase, at: body.index) }
        return (frame, sent)
    }

    private func decode(_ body: FrameBody, code: ReconciliationCode, sent: [Float], snr: Double, maximumPasses: Int) throws -> DecidedFrame
    {
        let message = try body.message.withUnsafeReadableBytes { try FrameMessage(decoding: $0, for: code) }
        let outcome = try sent.withUnsafeBufferPointer {
            try decoder(code).decode(symbols: $0, message: message, snr: snr, hashKey: body.hashKey, maximumPasses: maximumPasses)
        }
        switch outcome {
        case .failed(let passes): return DecidedFrame(core: nil, sums: CorrelationSums(), passes: passes, residualPhase: 0)
        case .decoded(let core, let quadratures, let passes):
            return quadratures.withFloats { received in
                sent.withUnsafeBufferPointer { x in
                    var sums = CorrelationSums()
                    sums.add(x: x, y: received)
                    return DecidedFrame(core: core, sums: sums, passes: passes, residualPhase: Quadratures.residualPhase(x: x, y: received))
                }
            }
        }
    }

    private func decoder(_ code: ReconciliationCode) throws -> FrameDecoder {
        if let decoder = decoders[code.id] { return decoder }
        let decoder = try FrameDecoder(code: code)
        decoders[code.id] = decoder
        return decoder
    }
}
