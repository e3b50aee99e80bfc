// PostProcessing: from correlated symbols to secret bits.
//
// One block at a time, at both ends of a link: `SlotAlignment` finds the receiver's symbol offset and phase from disclosed positions,
// `NoiseCalibration` says what one shot-noise unit is and how well that is known, `SymbolConverter` brings symbols to that unit,
// Reconciliation/ gives both ends the same raw bits, `ParameterEstimate` bounds what the channel did, `KeyLength` says how many bits
// remain secret under a `SecurityBudget`, and `ToeplitzHash` shortens the raw key to them. Everything here is values and functions without I/O;
// QuantumLink runs them.
//
// Claim: composable security against Gaussian collective attacks with a trusted, calibrated receiver, finite size. docs/security-accounting.md
// has every term. Sources: S. Pirandola and P. Papanastasiou, arXiv 2301.10270; S. Fossier et al., J. Phys. B 42, 114014 (2009); A. Leverrier
// et al., Phys. Rev. A 81, 062343 (2010); C. Bennett et al., IEEE Trans. Inf. Theory 41, 1915 (1995).

/// Why a block, a slot or a calibration cannot be used. Carries no symbol and no key bit.
public enum PostProcessingError: Error, Equatable, CustomStringConvertible {
    case tooFewSamples(what: String, found: Int, needed: Int)
    case saturated(what: String, share: Double, limit: Double)
    case noShotNoise(shot: Double, dark: Double)
    case belowShotNoise(signal: Double, shot: Double)
    case noCorrelation(slope: Double, uncertainty: Double)
    case outOfRange(quantity: String, value: Double, allowed: String)
    case lengthMismatch(what: String, expected: Int, found: Int)
    case badDisclosure(reason: String)

    public var description: String {
        switch self {
        case .tooFewSamples(let what, let found, let needed): "\(what) has \(found) samples, at least \(needed) are needed"
        case .saturated(let what, let share, let limit):
            "\(what): a share of \((min(share, 1) * 1000).rounded() / 1000) of the samples is saturated, above \(limit): "
                + "lower the gain or the power; the block is void"
        case .noShotNoise(let shot, let dark):
            "variance with the local oscillator on (\(shot) LSB^2) is not above the dark variance (\(dark) LSB^2): check the local oscillator"
        case .belowShotNoise(let signal, let shot):
            "the signal's noise (\(signal) SNU) lies below the calibrated shot noise (\(shot) SNU), which no channel does: light during calibration, "
                + "or a local oscillator that lost power since: calibrate again, the block is void"
        case .noCorrelation(let slope, let uncertainty):
            "transmitter's and receiver's symbols are not correlated: slope \(slope), uncertainty \(uncertainty)"
        case .outOfRange(let quantity, let value, let allowed): "\(quantity) is \(value), it must be \(allowed)"
        case .lengthMismatch(let what, let expected, let found): "\(what) should have \(expected), it has \(found)"
        case .badDisclosure(let reason): "disclosed positions are unusable: \(reason)"
        }
    }
}
