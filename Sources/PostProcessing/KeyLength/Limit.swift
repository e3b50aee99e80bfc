internal import Foundation

/// Says in words which term decides a block's length.
struct Limit {
    private let terms: KeyLength.Terms
    private let input: KeyLengthInput
    private var estimate: ParameterEstimate { input.estimate }

    init(_ terms: KeyLength.Terms, _ input: KeyLengthInput) {
        self.terms = terms
        self.input = input
    }

    var words: String {
        guard terms.balance < 0x1p52 else { return "the sums: they belong to no channel" }
        if terms.balance < 8 { return deadly }
        if input.authenticationBits >= Int(terms.balance) { return "authentication takes all \(Int(terms.balance)) bits: longer blocks" }
        return costly
    }

    /// Terms are charged one after the other, the least avoidable first; the one that exhausts the raw key is named.
    private var deadly: String {
        let n = Double(input.verifiedSymbols)
        let charged = input.convention == .conservative ? Double(input.symbols) : n
        if input.verifiedSymbols == 0 {
            return input.frames > 0 ? "no frame decoded: all \(input.frames) failed" : "no frame was reconciled"
        }
        var left = terms.left
        if left <= 0 { return "disclosure: \(round(terms.disclosed)) bits were disclosed of \(round(terms.raw)) raw bits" }
        left -= estimate.holevoBound * n
        if left <= 0 {
            return
                "excess noise: at xi = \(short(estimate.excessNoise)) SNU an eavesdropper may know \(short(estimate.holevoBound)) bits per symbol, "
                + "after disclosure only \(short(terms.left / n)) are left"
        }
        left -= estimate.holevoBound * (charged - n)
        if left <= 0 { return "frame errors: \(input.failedFrames) of \(input.frames) frames failed" }
        left -= terms.holevo - estimate.holevoBound * charged
        if left <= 0 { return statistics }
        left -= terms.smoothing
        if left <= 0 {
            return "block length: smoothing costs \(round(terms.smoothing)) bits at \(input.symbols) symbols: use longer blocks"
        }
        return "hashing and rounding: \(round(terms.hashing)) bits: use longer blocks"
    }

    private var statistics: String {
        let surplus = estimate.holevoSurplus
        let bound =
            "the bound on excess noise is \(short(estimate.maximalExcessNoise)) SNU at an estimate of \(short(estimate.excessNoise))"
        switch max(surplus.signal, surplus.calibration, surplus.efficiency) {
        case surplus.efficiency: return "uncertainty of the receiver's efficiency (\(short(estimate.efficiency))): calibrate it better"
        case surplus.calibration: return "statistics of the noise calibration (\(estimate.shotSymbols) symbols): \(bound): calibrate longer"
        default: return "statistics of the estimate (\(estimate.symbols) symbols): \(bound): use longer blocks"
        }
    }

    /// For a block that has key: the largest cost that something could be done about.
    private var costly: String {
        let n = Double(input.verifiedSymbols)
        let charged = input.convention == .conservative ? Double(input.symbols) : n
        let surplus = estimate.holevoSurplus
        let failed = Double(input.symbols) - n
        let costs: [(String, Double)] = [
            ("block length (smoothing)", terms.smoothing + terms.hashing),
            ("statistics of the estimate", surplus.signal * charged),
            ("statistics of the noise calibration", surplus.calibration * charged),
            ("uncertainty of the receiver's efficiency", surplus.efficiency * charged),
            ("reconciliation efficiency", n * estimate.mutualInformation - terms.left),
            ("frame errors", failed * max(0, estimate.mutualInformation)),
        ]
        guard let largest = costs.max(by: { $0.1 < $1.1 }) else { return "nothing" }
        return "\(largest.0): costs \(round(largest.1)) bits of this block"
    }

    private func round(_ bits: Double) -> Int { bits.isFinite && abs(bits) < 1e18 ? Int(bits.rounded()) : 0 }

    private func short(_ value: Double) -> String { String(format: "%.4g", value) }
}
