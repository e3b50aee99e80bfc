internal import Foundation

/// What a finite number of symbols gives. JSON names: `i_ab`, `chi_be`, `chi_worst`, `key`, `t_min`, `xi_max`, `delta`.
public struct FiniteKeyRate: Codable, Hashable, Sendable {
    /// At the given parameters [bits per symbol].
    public var mutualInformation: Double
    /// At the given parameters [bits per symbol].
    public var holevoBound: Double
    /// At `minimalTransmittance` and `maximalExcessNoise` [bits per symbol].
    public var worstHolevoBound: Double
    /// Bits per symbol of the whole block, 0 where there is none.
    public var key: Double
    public var minimalTransmittance: Double
    /// At the channel's input [SNU].
    public var maximalExcessNoise: Double
    /// What finite length costs beside the worst case [bits per symbol].
    public var delta: Double

    enum CodingKeys: String, CodingKey {
        case mutualInformation = "i_ab"
        case holevoBound = "chi_be"
        case worstHolevoBound = "chi_worst"
        case key
        case minimalTransmittance = "t_min"
        case maximalExcessNoise = "xi_max"
        case delta
    }
}

/// Failure probabilities of a finite-size bound.
public struct FiniteEpsilons: Codable, Hashable, Sendable {
    public var parameterEstimation: Double
    public var smoothing: Double
    public var hashing: Double
    public var correctness: Double

    public init(parameterEstimation: Double, smoothing: Double, hashing: Double, correctness: Double) throws(KeyRateError) {
        for (name, value) in [
            ("epsilon of estimation", parameterEstimation), ("epsilon of smoothing", smoothing), ("epsilon of hashing", hashing),
            ("epsilon of correctness", correctness),
        ] { try require(value > 0 && value < 0.5, name, value, "in (0, 0.5)") }
        self.parameterEstimation = parameterEstimation
        self.smoothing = smoothing
        self.hashing = hashing
        self.correctness = correctness
    }
}

extension KeyRate {
    /// Collective attacks after Leverrier, Grosshans and Grangier 2010: a fraction of the symbols is given up for estimation.
    ///
    /// `key = (1 - f) (beta I_AB - chi_BE(t_min, xi_max) - delta)`, `delta = 7 sqrt(log2(2/eps) / n) + (2/n) log2(1/eps_pa)`, n = (1 - f) N. For comparison
    /// with publications; blocks of a real link use `composable`.
    ///
    /// - Parameters:
    ///   - symbols: N, all of them.
    ///   - estimationFraction: f in (0, 1).
    public static func leverrier2010(
        _ link: KeyRateParameters, beta: Double, symbols: Double, estimationFraction: Double, epsilons: FiniteEpsilons,
        receiver: ReceiverTrust
    ) throws(KeyRateError) -> FiniteKeyRate {
        try require(symbols >= 1000 && symbols <= 1e18, "number of symbols", symbols, "between 1e3 and 1e18")
        try require(estimationFraction > 0 && estimationFraction < 1, "estimation fraction", estimationFraction, "in (0, 1)")
        let worst = try worstCase(link, samples: symbols * estimationFraction, calibration: nil, epsilon: epsilons.parameterEstimation / 2)
        let length = symbols * (1 - estimationFraction)
        let delta = 7 * sqrt(log2(2 / epsilons.smoothing) / length) + 2 / length * log2(1 / epsilons.hashing)
        var rate = try finite(link, worst: worst, delta: delta, beta: beta, receiver: receiver)
        rate.key = max(0, (1 - estimationFraction) * (beta * rate.mutualInformation - rate.worstHolevoBound - delta))
        return rate
    }

    /// What a block of a real link may be expected to give, before it is measured: every symbol serves both estimation and key, the alphabet has
    /// four letters per symbol, and the calibration of shot noise has statistics of its own.
    ///
    /// `key = share (beta I_AB - chi_BE(t_min, xi_max)) - delta` with `delta` of `compositionTerm`. `PostProcessing.KeyLength` replaces beta I_AB by
    /// what was really disclosed.
    ///
    /// - Parameters:
    ///   - symbols: N, all of them; each counts two quadratures for estimation.
    ///   - calibrationSymbols: as many for the shot noise; infinite for a perfect calibration.
    ///   - verifiedShare: n/N, the share of symbols in frames that decode.
    public static func composable(
        _ link: KeyRateParameters, beta: Double, symbols: Double, calibrationSymbols: Double, verifiedShare: Double = 1,
        epsilons: FiniteEpsilons, receiver: ReceiverTrust
    ) throws(KeyRateError) -> FiniteKeyRate {
        try require(symbols >= 1000 && symbols <= 1e18, "number of symbols", symbols, "between 1e3 and 1e18")
        try require(verifiedShare > 0 && verifiedShare <= 1, "share of verified symbols", verifiedShare, "in (0, 1]")
        guard calibrationSymbols >= 1000 else {
            throw .outOfRange(quantity: "number of calibration symbols", value: calibrationSymbols, allowed: "1e3 or more")
        }
        let worst = try worstCase(
            link, samples: 2 * symbols, calibration: 2 * calibrationSymbols, epsilon: epsilons.parameterEstimation)
        let delta = compositionTerm(symbols: symbols * verifiedShare, epsilons: epsilons)
        var rate = try finite(link, worst: worst, delta: delta, beta: beta, receiver: receiver)
        rate.key = max(0, verifiedShare * (beta * rate.mutualInformation - rate.worstHolevoBound) - delta)
        return rate
    }

    /// What smoothing, hashing and correctness cost [bits per symbol]: `8 sqrt(log2(2/eps_s^2) / n) - log2(2 eps_cor eps_h^2) / n`.
    ///
    /// 8 = 4 log2(sqrt(d) + 2) for an alphabet of d = 4 letters per symbol (one raw bit of each quadrature).
    ///
    /// - Parameter symbols: n, those in verified frames.
    public static func compositionTerm(symbols n: Double, epsilons: FiniteEpsilons) -> Double {
        smoothingTerm(symbols: n, epsilon: epsilons.smoothing)
            + hashingTerm(symbols: n, hashing: epsilons.hashing, correctness: epsilons.correctness)
    }

    /// The first part of `compositionTerm`.
    public static func smoothingTerm(symbols n: Double, epsilon: Double) -> Double { 8 * sqrt(log2(2 / (epsilon * epsilon)) / n) }

    /// The second part of `compositionTerm`.
    public static func hashingTerm(symbols n: Double, hashing: Double, correctness: Double) -> Double {
        -log2(2 * correctness * hashing * hashing) / n
    }
}

extension KeyRate {
    /// Bounds on T and xi from `samples` values at known true parameters (Leverrier 2010, with the receiver's noise known).
    private static func worstCase(
        _ link: KeyRateParameters, samples: Double, calibration: Double?, epsilon: Double
    ) throws(KeyRateError) -> KeyRateParameters {
        let z = NormalTail.quantile(above: epsilon)
        let gain = link.efficiency * link.transmittance / 2
        let variance = 1 + link.electronicNoise + gain * link.excessNoise
        let slope = gain.squareRoot() - z * (variance / (samples * link.modulationVariance)).squareRoot()
        guard slope > 0 else {
            throw .outOfRange(quantity: "number of symbols", value: samples, allowed: "large enough to tell the transmittance from 0")
        }
        let quiet = 1 + link.electronicNoise
        let surplus = variance * (1 + z * (2 / samples).squareRoot()) - quiet * (1 - z * (calibration.map { (2 / $0).squareRoot() } ?? 0))
        return try KeyRateParameters(
            modulationVariance: link.modulationVariance, transmittance: 2 * slope * slope / link.efficiency,
            excessNoise: surplus / (slope * slope), efficiency: link.efficiency, electronicNoise: link.electronicNoise)
    }

    /// Everything but the key, in which the two bounds differ.
    private static func finite(
        _ link: KeyRateParameters, worst: KeyRateParameters, delta: Double, beta: Double, receiver: ReceiverTrust
    ) throws(KeyRateError) -> FiniteKeyRate {
        try require(beta > 0 && beta <= 1, "beta", beta, "in (0, 1]")
        let information = mutualInformation(link)
        return FiniteKeyRate(
            mutualInformation: information, holevoBound: try holevoBound(link, receiver: receiver),
            worstHolevoBound: try holevoBound(worst, receiver: receiver), key: 0,
            minimalTransmittance: worst.transmittance, maximalExcessNoise: worst.excessNoise, delta: delta)
    }
}
