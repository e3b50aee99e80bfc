internal import Foundation
internal import QuantumOptics

/// The box of measured quantities in which the truth lies but for the budget's probability, and the worst channel inside.
///
/// Everything is in units of the point estimate of N0. Gaussian tails at eps_pe for slope and efficiency; for variances the true value S of an
/// estimate s from m samples lies below s / (1 - z sqrt(2/m)), because the lower tail of chi-squared is lighter than the normal one, and
/// above s / (1 + z sqrt(2/m) + (z^2 + 1)/m), because the upper quantile of chi-squared is below that.
struct ConfidenceRegion {
    struct Interval {
        var low: Double
        var estimate: Double
        var high: Double
        var levels: [Double] { [low, estimate, high] }
    }

    /// Which sources of uncertainty count.
    struct Sources: OptionSet {
        let rawValue: Int
        static let signal = Sources(rawValue: 1)
        static let calibration = Sources(rawValue: 2)
        static let efficiency = Sources(rawValue: 4)
        static let everything: Sources = [.signal, .calibration, .efficiency]
    }

    struct Point {
        var slope: Double, signal: Double, shot: Double, dark: Double, efficiency: Double, modulationVariance: Double
    }

    enum Place { case estimate }
    enum End { case low, high }

    let epsilon: Double
    let slope: Interval
    let signal: Interval
    let shot: Interval
    let dark: Interval
    let efficiency: Interval
    let modulationVariance: Interval
    private let slopeError: Double
    private let efficiencyError: Double
    private let counts: (signal: Double, shot: Double, dark: Double)

    init(
        sums: CorrelationSums, calibration: NoiseCalibration, efficiency eta: ReceiverEfficiency, budget: SecurityBudget
    ) throws(PostProcessingError) {
        epsilon = budget.parameterEstimation
        let z = NormalTail.quantile(above: epsilon)
        let m = Double(sums.count)
        let t = sums.xy / sums.xx
        let residual = (sums.yy - sums.xy * t) / (m - 1)
        guard residual > 0 else { throw .outOfRange(quantity: "residual variance", value: residual, allowed: "positive") }
        slopeError = (residual / sums.xx).squareRoot()
        guard t - z * slopeError > 0 else { throw .noCorrelation(slope: t, uncertainty: slopeError) }
        slope = Interval(low: t - z * slopeError, estimate: t, high: t + z * slopeError)

        let unit = calibration.shotNoiseVariance
        counts = (m, Double(calibration.shot.count), Double(calibration.dark.count))
        signal = try Self.variance(residual, samples: counts.signal, z: z, drift: 0)
        shot = try Self.variance(calibration.shot.variance / unit, samples: counts.shot, z: z, drift: calibration.drift)
        dark = try Self.variance(calibration.dark.variance / unit, samples: counts.dark, z: z, drift: calibration.drift)
        guard shot.low > dark.high else {
            throw .noShotNoise(shot: calibration.shot.variance, dark: calibration.dark.variance)
        }
        // A calibration that is too high would hide an eavesdropper's noise.
        guard signal.high >= shot.low else { throw .belowShotNoise(signal: signal.estimate, shot: shot.estimate) }
        modulationVariance = try Self.variance(sums.xx / m, samples: m, z: z, drift: 0)
        efficiencyError = eta.standardError
        efficiency = Interval(
            low: max(1e-3 * eta.value, eta.value - z * eta.standardError), estimate: eta.value,
            high: min(1, eta.value + z * eta.standardError))
    }

    private static func variance(_ estimate: Double, samples m: Double, z: Double, drift: Double) throws(PostProcessingError) -> Interval {
        let spread = z * (2 / m).squareRoot()
        guard spread < 0.5 else {
            throw .tooFewSamples(what: "a variance", found: Int(m / 2), needed: Int(4 * z * z))
        }
        return Interval(
            low: estimate / (1 + spread + (z * z + 1) / m) * (1 - drift), estimate: estimate, high: estimate / (1 - spread) * (1 + drift))
    }

    // MARK: - Channels in the region

    func channel(at place: Place) throws(KeyRateError) -> KeyRateParameters {
        try channel(
            at: Point(
                slope: slope.estimate, signal: signal.estimate, shot: shot.estimate, dark: dark.estimate, efficiency: efficiency.estimate,
                modulationVariance: modulationVariance.estimate))
    }

    func channel(at point: Point) throws(KeyRateError) -> KeyRateParameters {
        let unit = point.shot - point.dark
        let gain = point.slope * point.slope
        return try KeyRateParameters(
            modulationVariance: point.modulationVariance, transmittance: min(1, 2 * gain / (point.efficiency * unit)),
            excessNoise: max(0, (point.signal - point.shot) / gain), efficiency: point.efficiency, electronicNoise: point.dark / unit)
    }

    /// The largest Holevo bound: over the ends and middles of slope, calibrations and efficiency, at the largest signal and modulation variance.
    ///
    /// chi_BE grows with xi and with Va. In T, v_el and eta it may go either way, so both ends are tried; the intervals are short.
    func worst(_ sources: Sources) throws(KeyRateError) -> (holevo: Double, parameters: KeyRateParameters) {
        func levels(_ interval: Interval, _ source: Sources) -> [Double] {
            sources.contains(source) ? interval.levels : [interval.estimate]
        }
        let fixed = sources.contains(.signal)
        var point = Point(
            slope: slope.estimate, signal: fixed ? signal.high : signal.estimate, shot: shot.estimate, dark: dark.estimate,
            efficiency: efficiency.estimate, modulationVariance: fixed ? modulationVariance.high : modulationVariance.estimate)
        var worst = (holevo: -1.0, parameters: try channel(at: point))
        for slope in levels(slope, .signal) {
            for shot in levels(shot, .calibration) {
                for dark in levels(dark, .calibration) {
                    for efficiency in levels(efficiency, .efficiency) {
                        (point.slope, point.shot, point.dark, point.efficiency) = (slope, shot, dark, efficiency)
                        let channel = try channel(at: point)
                        let holevo = try KeyRate.holevoBound(channel, receiver: .trusted)
                        if holevo > worst.holevo { worst = (holevo, channel) }
                    }
                }
            }
        }
        return worst
    }

    // MARK: - Extremes for people

    func transmittance(_ end: End) -> Double {
        switch end {
        case .low: 2 * slope.low * slope.low / (efficiency.high * (shot.high - dark.low))
        case .high: min(1, 2 * slope.high * slope.high / (efficiency.low * (shot.low - dark.high)))
        }
    }

    func electronicNoise(_ end: End) -> Double {
        switch end {
        case .low: dark.low / (shot.high - dark.low)
        case .high: dark.high / (shot.low - dark.high)
        }
    }

    /// Standard deviation of T, all sources.
    var transmittanceError: Double {
        let t = 2 * slope.estimate * slope.estimate / (efficiency.estimate * (shot.estimate - dark.estimate))
        let unit = shot.estimate - dark.estimate
        let parts = [
            2 * slopeError / slope.estimate, efficiencyError / efficiency.estimate,
            shot.estimate * (2 / counts.shot).squareRoot() / unit, dark.estimate * (2 / counts.dark).squareRoot() / unit,
        ]
        return t * parts.reduce(0) { $0 + $1 * $1 }.squareRoot()
    }

    /// Standard deviation of xi, calibration included.
    var excessNoiseError: Double {
        let gain = slope.estimate * slope.estimate
        let (a, b) = (signal.estimate * (2 / counts.signal).squareRoot() / gain, shot.estimate * (2 / counts.shot).squareRoot() / gain)
        let c = 2 * (signal.estimate - shot.estimate) / gain * slopeError / slope.estimate
        return (a * a + b * b + c * c).squareRoot()
    }
}
