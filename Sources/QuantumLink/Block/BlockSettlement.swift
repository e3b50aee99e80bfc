// How a block is settled at each end, from its public numbers. Values: a replay comes to the same.

internal import Foundation
internal import KeyMaterial
internal import PostProcessing
internal import QKDModel

/// The transmitter's end's word.
struct BlockSettlement: Sendable {
    var result: BlockResult
    var account: BlockAccount
    static let recorded = "symbols are recorded: nothing is deposited"

    /// With what the pads get.
    var numbers: BlockNumbers

    /// - Parameters:
    ///   - withheld: why nothing may be deposited, whatever the length.
    ///   - random: for the seed, drawn now: everything that it will hash is fixed.
    init(_ numbers: BlockNumbers, pads: PadAccount, rawBits: Int, withheld: String?, random: any RandomSource) {
        var account = BlockAccount(numbers)
        let refill = withheld == nil ? pads.refill(secretBits: account.length.secretBits) : (0, 0)
        var charged = numbers
        charged.padBits = refill.0 + refill.1
        account = BlockAccount(charged)
        if let withheld { account.withhold(withheld) }
        let bits = account.length.secretBits
        let seed = bits > 0 ? random.bytes(ToeplitzHash.seedBytes(inputBits: rawBits, outputBits: bits)) : []
        result = BlockResult(
            block: numbers.plan.block, quadratures: UInt64(numbers.quadratures), xx: numbers.xx, xy: numbers.xy, yy: numbers.yy,
            decoded: UInt32(numbers.decoded), failed: UInt32(numbers.failed), secretBits: UInt64(bits),
            padBitsForward: UInt32(refill.0), padBitsBackward: UInt32(refill.1), limitedBy: account.length.limitedBy, seed: seed)
        self.account = account
        self.numbers = charged
    }
}

extension TransmitterBlock {
    /// What both ends know when the receiver's sums are there.
    /// - Throws: `SlotOver` with the reason when they contradict what its frames said.
    func numbers(_ sums: BlockSums, _ readiness: Readiness, unit: Double, driftAllowance: Double) throws -> BlockNumbers {
        guard Int(sums.quadratures) == self.sums.count, abs(sums.squares / self.sums.yy - 1) < 1e-3 else {
            throw SlotOver(reason: "the receiver's own sums contradict its frames")
        }
        return BlockNumbers(
            plan: plan, dark: sums.dark, shot: sums.shot, unit: unit, efficiency: readiness.efficiency,
            efficiencyError: readiness.efficiencyError, drift: max(sums.drift, driftAllowance), quadratures: self.sums.count,
            xx: self.sums.xx, xy: self.sums.xy, yy: sums.squares, saturated: Int(sums.saturated), decoded: life.decoded,
            failed: life.failed,
            decodedInRound: decodedInRound, padBits: 0)
    }
}

extension ReceiverBlock {
    /// This end computes the length too, and takes no more than that.
    /// - Returns: with the reason, where the far end's word is refused.
    func judge(_ result: BlockResult, _ sums: BlockSums, efficiency: Double, efficiencyError: Double) -> (
        account: BlockAccount, numbers: BlockNumbers, refusal: String?
    ) {
        let (forward, backward, bits) = (Int(result.padBitsForward), Int(result.padBitsBackward), Int(result.secretBits))
        let numbers = BlockNumbers(
            plan: plan, dark: sums.dark, shot: sums.shot, unit: unit, efficiency: efficiency, efficiencyError: efficiencyError,
            drift: sums.drift, quadratures: Int(sums.quadratures), xx: result.xx, xy: result.xy, yy: sums.squares,
            saturated: Int(sums.saturated), decoded: life.decoded, failed: life.failed, decodedInRound: decodedInRound,
            padBits: forward + backward)
        var account = BlockAccount(numbers)
        let own = account.length.secretBits
        let agrees =
            result.decoded == UInt32(life.decoded) && result.failed == UInt32(life.failed) && result.quadratures == sums.quadratures
            && result.yy == sums.squares && bits <= own
            && PadAccount.allows(forward: forward, backward: backward, secretBits: bits)
        if bits == 0, own > 0 { account.withhold(result.limitedBy) }
        return (account, numbers, agrees ? nil : "the two ends count differently: \(bits) bits there, \(own) here")
    }

    /// What this end says when all frames are decided.
    func sums(dark: CalibrationSums, shot: CalibrationSums, drift: Double, key: [UInt8], hash: UInt64) -> BlockSums {
        BlockSums(
            block: plan.block, dark: dark, shot: shot, quadratures: quadratures, squares: squares, saturated: saturated,
            verificationKey: key, verificationHash: hash, drift: min(0.49, drift))
    }
}
