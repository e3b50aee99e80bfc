// The transmitter's end of one block: decisions on frames, raw key, correlations. A value; decoding itself is done by
// `DecodingSeat`s. Frames are decided in any order; what is kept of them is put together in the order of slot and index, so that the
// same frames give the same sums to the last digit.

internal import Foundation
internal import KeyMaterial
internal import NIOCore
internal import PostProcessing
internal import QKDModel

struct TransmitterBlock {
    let plan: BlockPlan
    let code: ReconciliationCode
    let variance: Double
    /// Which transmitter it is, and whether the receiver was emulated when the block was agreed on.
    let serial: String
    let receiverEmulated: Bool
    var life: BlockLife
    /// Of the slots that have ended.
    private(set) var sums = CorrelationSums()
    private(set) var raw: [SecretBytes] = []
    /// Verified frames by the rounds of disclosure they took.
    private(set) var decodedInRound: [Int] = []
    private var slotRaw: [UInt32: SecretBytes] = [:]
    private var slotSums: [UInt32: CorrelationSums] = [:]
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

    mutating func decide(_ index: UInt32, _ frame: DecidedFrame) throws {
        try life.take(.frame(decoded: frame.core != nil))
        passes += frame.passes
        if let core = frame.core {
            slotRaw[index] = core
            slotSums[index] = frame.sums
            decodedInRound.count(frame.rounds)
        } else {
            undisclosed[index] = frame.sent
        }
    }

    /// A failed frame in the clear: it enters the estimate, or the estimate would favour good frames.
    mutating func disclosed(_ values: FrameValues, _ reference: SlotFrameOfReference) throws {
        guard let sent = undisclosed.removeValue(forKey: values.index), values.samples.count == sent.count else {
            throw QuantumLinkError.badMessage("values of frame \(values.index), which did not fail or has another length")
        }
        let received = Quadratures.received(values.samples, reference)
        slotSums[values.index] = Self.correlate(sent, received)
    }

    mutating func endSlot() throws {
        raw += slotRaw.sorted { $0.key < $1.key }.map(\.value)
        for (_, frame) in slotSums.sorted(by: { $0.key < $1.key }) { sums.merge(frame) }
        (slotRaw, slotSums) = ([:], [:])
        if life.stage == .generating { try life.take(.slotEnded) }
    }

    /// With the frames of the running slot, for show.
    var sumsSoFar: CorrelationSums {
        var all = sums
        for frame in slotSums.values { all.merge(frame) }
        return all
    }

    static func correlate(_ sent: [Float], _ received: [Float]) -> CorrelationSums {
        var sums = CorrelationSums()
        sent.withUnsafeBufferPointer { x in received.withUnsafeBufferPointer { y in sums.add(x: x, y: y) } }
        return sums
    }
}

extension [Int] {
    /// One more frame that took so many rounds.
    mutating func count(_ rounds: Int) {
        while self.count <= rounds { append(0) }
        self[rounds] += 1
    }
}
