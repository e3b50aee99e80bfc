// KeyRate: what a link of given transmittance and noise can give, in bits per symbol.
//
// Gaussian modulation, heterodyne detection, reverse reconciliation, collective attacks. Everything is in shot-noise units (SNU); "per symbol" means
// both quadratures. `KeyRateParameters` is what a link is; `KeyRate` has the information between the ends, the Holevo bound on
// what an eavesdropper knows, the asymptotic rate and two finite-size rates. Lengths of real blocks come from
// `PostProcessing.KeyLength`, which counts what was disclosed; the functions here predict and compare.
//
// Sources: S. Fossier et al., J. Phys. B 42, 114014 (2009), eigenvalues with trusted detector noise; A. Leverrier, F. Grosshans, P. Grangier,
// Phys. Rev. A 81, 062343 (2010), finite size; S. Pirandola and P. Papanastasiou, arXiv 2301.10270, composable terms.

/// Who is trusted with the receiver's loss and electronic noise.
public enum ReceiverTrust: String, Codable, Sendable, CaseIterable {
    /// The receiver's loss and noise are calibrated and out of an eavesdropper's reach.
    case trusted
    /// An eavesdropper holds whatever the receiver loses, and its noise.
    case untrusted
}

/// A link and its receiver as the formulas see them.
public struct KeyRateParameters: Codable, Hashable, Sendable {
    /// Va [SNU] per quadrature, above 0.
    public let modulationVariance: Double
    /// T of the channel alone, in (0, 1].
    public let transmittance: Double
    /// xi at the channel's input [SNU], 0 or more.
    public let excessNoise: Double
    /// eta of the receiver, in (0, 1].
    public let efficiency: Double
    /// v_el of the receiver per quadrature [SNU], 0 or more.
    public let electronicNoise: Double

    /// - Throws: `KeyRateError.outOfRange`, which names the quantity.
    public init(
        modulationVariance: Double, transmittance: Double, excessNoise: Double, efficiency: Double, electronicNoise: Double
    ) throws(KeyRateError) {
        try require(modulationVariance > 0 && modulationVariance < 1e6, "variance", modulationVariance, "above 0 and below 1e6")
        try require(transmittance > 0 && transmittance <= 1, "transmittance", transmittance, "in (0, 1]")
        try require(excessNoise >= 0 && excessNoise < 1e60, "excess noise", excessNoise, "0 or more and below 1e60")
        try require(efficiency > 0 && efficiency <= 1, "efficiency", efficiency, "in (0, 1]")
        try require(electronicNoise >= 0 && electronicNoise < 1e6, "electronic noise", electronicNoise, "0 or more and below 1e6")
        self.modulationVariance = modulationVariance
        self.transmittance = transmittance
        self.excessNoise = excessNoise
        self.efficiency = efficiency
        self.electronicNoise = electronicNoise
    }

    /// Signal over noise of one detected quadrature: `eta T Va / 2 / (1 + v_el + eta T xi / 2)`.
    public var signalToNoise: Double {
        let gain = efficiency * transmittance / 2
        return gain * modulationVariance / (1 + electronicNoise + gain * excessNoise)
    }

    /// Channel noise at the input [SNU]: `1/T - 1 + xi`.
    var channelNoise: Double { 1 / transmittance - 1 + excessNoise }

    /// Noise of the heterodyne receiver at its own input [SNU]: `(2 - eta + 2 v_el) / eta`.
    var receiverNoise: Double { (2 - efficiency + 2 * electronicNoise) / efficiency }

    /// The same correlations, with the receiver's imperfections taken for the channel's.
    var withReceiverInChannel: KeyRateParameters {
        get throws(KeyRateError) {
            let through = transmittance * efficiency
            return try KeyRateParameters(
                modulationVariance: modulationVariance, transmittance: through,
                excessNoise: excessNoise + 2 * electronicNoise / through, efficiency: 1, electronicNoise: 0)
        }
    }
}

/// What is wrong with the inputs of a key rate.
public enum KeyRateError: Error, Equatable, CustomStringConvertible {
    case outOfRange(quantity: String, value: Double, allowed: String)

    public var description: String {
        switch self {
        case .outOfRange(let quantity, let value, let allowed): "\(quantity) is \(value), it must be \(allowed)"
        }
    }
}

func require(_ holds: Bool, _ quantity: String, _ value: Double, _ allowed: String) throws(KeyRateError) {
    // NaN fails every comparison, so it fails here too.
    guard holds, value.isFinite else { throw .outOfRange(quantity: quantity, value: value, allowed: allowed) }
}
