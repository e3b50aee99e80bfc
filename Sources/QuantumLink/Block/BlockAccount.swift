// From a block's public numbers to its key length. Both ends compute this from the same bytes, so it reads nothing else.

internal import Foundation
internal import PostProcessing
internal import QKDModel

/// What both ends know of a block when its frames are decided.
struct BlockNumbers: Sendable {
    var plan: BlockPlan
    var dark: CalibrationSums
    var shot: CalibrationSums
    /// LSB per sqrt(SNU) that the receiver's end divided by during the block.
    var unit: Double
    var efficiency: Double
    var efficiencyError: Double
    /// What the receiver's noise may have moved between calibrations and signal, a share of it.
    var drift: Double
    /// Quadratures and second moments, y in the block's unit.
    var quadratures: Int
    var xx: Double
    var xy: Double
    var yy: Double
    var saturated: Int
    var decoded: Int
    var failed: Int
    /// Decoded frames by the rounds of disclosure they took: at once, after one, ...
    var decodedInRound: [Int]
    /// Both pads' refill, bits.
    var padBits: Int
}

struct BlockAccount: Sendable {
    /// When a verdict comes tells how many passes the decoder made, 255 at most: bits per decoded frame.
    static let timingBits = 8
    /// The same for each round: 50 passes at most.
    static let roundTimingBits = 6
    /// Two sums that depend on what both ends hold go out as numbers of 64 bits; the third follows from the norms of the frames.
    static let sumsBits = 128
    /// The key store takes no block of less, bits.
    static let leastDeposit = 512

    /// For the public log; nil where budget or efficiency make no sense.
    var record: AccountingRecord?
    var length: KeyLength
    var estimate: ParameterEstimate? { record?.estimate }

    /// Never throws: what cannot be computed gives no key and says why.
    init(_ numbers: BlockNumbers) {
        do {
            let record = try Self.record(numbers)
            self.record = record
            let isEnough = record.length.secretBits == 0 || record.length.depositedBits >= Self.leastDeposit
            length =
                isEnough
                ? record.length
                : KeyLength.refused("what is left for the key store is below 64 bytes: longer blocks", budget: record.budget)
        } catch {
            length = KeyLength.refused(describe(error), budget: Self.anyBudget)
        }
    }

    /// There is a length, but nothing may come of it.
    mutating func withhold(_ reason: String) { length = KeyLength.refused(reason, budget: record?.budget ?? Self.anyBudget) }

    /// Labels a length of nothing.
    private static let anyBudget: SecurityBudget = {
        do { return try SecurityBudget() } catch { preconditionFailure("the default budget is sound") }
    }()

    private static func record(_ numbers: BlockNumbers) throws -> AccountingRecord {
        let code = try ReconciliationCode.named(numbers.plan.code)
        let decided = numbers.decoded + numbers.failed
        // One bit per frame is the decoder's verdict.
        let verification = numbers.decoded * (FrameMessage.verificationBits + 1) + BlockVerification.digestBits
        let rounds = numbers.decodedInRound.enumerated().reduce(0) { $0 + $1.offset * $1.element }
        let observed = numbers.decoded * timingBits + rounds * roundTimingBits + sumsBits
        let counts = AccountingRecord.Counts(
            symbols: decided * code.frameSymbols, verifiedSymbols: numbers.decoded * code.frameSymbols, frames: decided,
            failedFrames: numbers.failed, syndromeBits: numbers.decoded * (code.disclosedBits - FrameMessage.verificationBits),
            verificationBits: verification, observedBits: observed, authenticationBits: numbers.padBits,
            decodedInRound: numbers.decodedInRound,
            bitsPerRound: code.disclosureBits)
        // The block was received in the unit that was known when it began; it is judged by all of its calibration.
        let calibration = try? NoiseCalibration(dark: numbers.dark, shot: numbers.shot, drift: numbers.drift)
        let gain = numbers.unit / (calibration?.shotNoiseVariance.squareRoot() ?? numbers.unit)
        let sums = CorrelationSums(
            count: numbers.quadratures, xx: numbers.xx, xy: numbers.xy * gain, yy: numbers.yy * gain * gain, saturated: numbers.saturated)
        return AccountingRecord(
            counts: counts, dark: numbers.dark, shot: numbers.shot, drift: numbers.drift, sums: sums,
            efficiency: try ReceiverEfficiency(numbers.efficiency, standardError: numbers.efficiencyError),
            budget: try SecurityBudget(total: numbers.plan.epsilon))
    }

    /// For the public log.
    func report(
        _ numbers: BlockNumbers, link: LinkID, began: Date, slots: Int, variance: Double, tagBits: Int, provenance: KeyProvenance,
        deviceSeconds: Double, padBits: Int
    ) -> BlockReport {
        let symbols = UInt64(numbers.quadratures / 2)
        return BlockReport(
            block: numbers.plan.block, link: link, began: began, ended: Date(), symbols: symbols, framesDecoded: numbers.decoded,
            framesFailed: numbers.failed, slots: slots, modulationVariance: estimate?.modulationVariance ?? variance,
            snr: estimate?.signalToNoise ?? 0, transmittance: estimate?.transmittance ?? 0,
            transmittanceWorst: estimate?.minimalTransmittance ?? 0, excessNoise: estimate?.excessNoise ?? 0,
            excessNoiseWorst: estimate?.maximalExcessNoise ?? 0, electronicNoise: estimate?.electronicNoise ?? 0,
            efficiency: numbers.efficiency, reconciliationEfficiency: length.reconciliationEfficiency,
            calibrationSymbols: UInt64(numbers.shot.symbols), epsilon: numbers.plan.epsilon, rawBits: Self.whole(length.rawBits),
            disclosedBits: Self.whole(length.disclosedBits), holevoBits: Self.whole(length.holevoBits), secretBits: length.secretBits,
            padBits: padBits,
            tagBitsSpent: tagBits, depositedBits: max(0, length.secretBits - padBits), limitedBy: length.limitedBy, terms: terms,
            provenance: provenance, deviceSeconds: deviceSeconds, accounting: json, code: numbers.plan.code,
            framesInRound: numbers.decodedInRound, disclosureBits: record?.counts.disclosureBits ?? 0,
            secretBitsSelecting: length.secretBitsOtherConvention)
    }

    /// The record as text.
    var json: String? {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return (try? encoder.encode(record)).map { String(decoding: $0, as: UTF8.self) }
    }

    private static func whole(_ bits: Double) -> Int { bits.magnitude < 0x1p52 ? Int(bits) : 0 }

    private var terms: [String: Double] {
        var terms = [
            "observed": Double(record?.counts.observedBits ?? 0), "saving": Double(record?.counts.disclosureBits ?? 0),
            "raw": length.rawBits, "disclosed": length.disclosedBits,
            "holevo": length.holevoBits, "smoothing": length.smoothingBits,
            "hashing": length.hashingBits, "balance": length.balance, "secret": Double(length.secretBits),
            "secretOtherConvention": Double(length.secretBitsOtherConvention), "asymptotic": length.asymptoticBits,
        ]
        guard let estimate else { return terms }
        terms["i_ab"] = estimate.mutualInformation
        terms["chi_be"] = estimate.holevoBound
        terms["chi_be_worst"] = estimate.worstHolevoBound
        terms["t_error"] = estimate.transmittanceError
        terms["xi_error"] = estimate.excessNoiseError
        terms["eps_pe"] = estimate.boundEpsilon
        return terms
    }
}
