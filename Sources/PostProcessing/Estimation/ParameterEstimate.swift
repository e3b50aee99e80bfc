internal import Foundation
public import QuantumOptics

/// What one block says about the channel, with confidence bounds, and the Holevo bound at the worst place inside them.
///
/// Model per quadrature, in SNU: `y = t x + noise`, `t = sqrt(eta T / 2)`, `Var(noise) = 1 + v_el + eta T xi / 2`. Written with the measured
/// variances S (signal's residual), C (shot-noise calibration) and D (dark), all in one unit: N0 = C - D, v_el = D / N0,
/// xi = (S - C) / t^2, T = 2 t^2 / (eta N0). So every error of the calibration enters where it acts.
public struct ParameterEstimate: Codable, Hashable, Sendable {
    /// Symbols in the estimate.
    public let symbols: Int
    /// Symbols of the shot-noise and of the dark calibration.
    public let shotSymbols: Int
    public let darkSymbols: Int

    /// Va as sent [SNU].
    public let modulationVariance: Double
    /// T of the channel.
    public let transmittance: Double
    public let transmittanceError: Double
    /// xi at the channel's input [SNU]; may come out slightly negative.
    public let excessNoise: Double
    /// One standard deviation, calibration included.
    public let excessNoiseError: Double
    public let electronicNoise: Double
    public let efficiency: Double
    /// Signal over noise of one quadrature.
    public let signalToNoise: Double

    /// eps_pe of each bound.
    public let boundEpsilon: Double
    public let minimalTransmittance: Double
    public let maximalTransmittance: Double
    public let maximalExcessNoise: Double
    public let electronicNoiseRange: ClosedRange<Double>
    public let efficiencyRange: ClosedRange<Double>
    public let maximalModulationVariance: Double

    /// I_AB and chi_BE at the point estimate [bits per symbol].
    public let mutualInformation: Double
    public let holevoBound: Double
    /// chi_BE at its largest inside the bounds, and where that is.
    public let worstHolevoBound: Double
    public let worstCase: KeyRateParameters
    /// What the uncertainty of each source alone adds to chi_BE [bits per symbol].
    public let holevoSurplus: HolevoSurplus

    public struct HolevoSurplus: Codable, Hashable, Sendable {
        public let signal: Double
        public let calibration: Double
        public let efficiency: Double
    }
}

extension ParameterEstimate {
    /// A standard deviation or a bound may not come from fewer symbols.
    public static let minimumSymbols = 1000

    /// - Parameters:
    ///   - sums: all symbols of the block; y in units of the calibration's point estimate (`SymbolConverter(calibration:)`).
    ///   - calibration: the one that y was converted with.
    ///   - eta: the receiver's efficiency.
    /// - Throws: `PostProcessingError`: too few or saturated samples, no correlation, or quantities that no channel has.
    public static func estimate(
        sums: CorrelationSums, calibration: NoiseCalibration, efficiency eta: ReceiverEfficiency, budget: SecurityBudget
    ) throws(PostProcessingError) -> ParameterEstimate {
        guard sums.count >= 2 * minimumSymbols else {
            throw .tooFewSamples(what: "block", found: sums.count / 2, needed: minimumSymbols)
        }
        guard sums.saturatedShare <= NoiseCalibration.saturationLimit else {
            throw .saturated(what: "block", share: sums.saturatedShare, limit: NoiseCalibration.saturationLimit)
        }
        for (name, value) in [("sum of x^2", sums.xx), ("sum of y^2", sums.yy)] {
            guard value > 0, value.isFinite else { throw .outOfRange(quantity: name, value: value, allowed: "positive") }
        }
        let region = try ConfidenceRegion(sums: sums, calibration: calibration, efficiency: eta, budget: budget)
        do {
            return try make(region, sums: sums, calibration: calibration)
        } catch {
            switch error {
            case .outOfRange(let quantity, let value, let allowed):
                throw .outOfRange(quantity: quantity, value: value, allowed: allowed)
            }
        }
    }

    private static func make(
        _ region: ConfidenceRegion, sums: CorrelationSums, calibration: NoiseCalibration
    ) throws(KeyRateError) -> ParameterEstimate {
        let here = try region.channel(at: .estimate)
        let holevo = try KeyRate.holevoBound(here, receiver: .trusted)
        let worst = try region.worst(.everything)
        func surplus(_ sources: ConfidenceRegion.Sources) throws(KeyRateError) -> Double { try region.worst(sources).holevo - holevo }
        let slope = region.slope.estimate
        let gain = slope * slope
        return ParameterEstimate(
            symbols: sums.count / 2, shotSymbols: calibration.shot.symbols, darkSymbols: calibration.dark.symbols,
            modulationVariance: region.modulationVariance.estimate, transmittance: here.transmittance,
            transmittanceError: region.transmittanceError,
            excessNoise: (region.signal.estimate - region.shot.estimate) / gain, excessNoiseError: region.excessNoiseError,
            electronicNoise: here.electronicNoise, efficiency: here.efficiency,
            signalToNoise: gain * region.modulationVariance.estimate / region.signal.estimate,
            boundEpsilon: region.epsilon, minimalTransmittance: region.transmittance(.low),
            maximalTransmittance: region.transmittance(.high),
            maximalExcessNoise: max(0, (region.signal.high - region.shot.low) / (region.slope.low * region.slope.low)),
            electronicNoiseRange: region.electronicNoise(.low)...region.electronicNoise(.high),
            efficiencyRange: region.efficiency.low...region.efficiency.high,
            maximalModulationVariance: region.modulationVariance.high,
            mutualInformation: KeyRate.mutualInformation(here), holevoBound: holevo,
            worstHolevoBound: worst.holevo, worstCase: worst.parameters,
            holevoSurplus: HolevoSurplus(
                signal: try surplus(.signal), calibration: try surplus(.calibration), efficiency: try surplus(.efficiency)))
    }
}
