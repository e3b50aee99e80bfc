import Foundation
import PostProcessing
import QuantumOptics
import Testing

/// How often confidence bounds fail when the truth is known. 1e4 estimations at eps_pe = 1e-2, errors of the calibration included.
@Suite struct CoverageTests {
    /// A channel of 6 dB, which the bounds have to hold.
    struct Truth {
        let modulationVariance = 1.66
        let transmittance = 0.251
        let excessNoise = 0.01
        let efficiency = 0.8
        let electronicNoise = 0.05
        /// LSB^2 of one shot-noise unit.
        let unit = 22_500.0
        var slope: Double { (efficiency * transmittance / 2).squareRoot() }
        var noise: Double { 1 + electronicNoise + slope * slope * excessNoise }
    }

    /// Standard normal numbers, in pairs.
    struct Normals {
        var draws: Draws
        mutating func pair() -> (Double, Double) {
            let (u, v) = (Double(draws.next() >> 11) * 0x1p-53, Double(draws.next() >> 11) * 0x1p-53)
            let radius = (-2 * log(1 - u)).squareRoot()
            return (radius * cos(2 * .pi * v), radius * sin(2 * .pi * v))
        }
        /// Sum of `count` squares: chi-squared, drawn by Marsaglia and Tsang's method for the gamma distribution, exactly.
        mutating func squares(_ count: Int) -> Double {
            let d = Double(count) / 2 - 1 / 3.0
            let c = 1 / (9 * d).squareRoot()
            while true {
                let x = pair().0
                let v = (1 + c * x) * (1 + c * x) * (1 + c * x)
                let u = Double(draws.next() >> 11) * 0x1p-53
                if v > 0, log(1 - u) < x * x / 2 + d - d * v + d * log(v) { return 2 * d * v }
            }
        }
    }

    struct Counts {
        var runs = 0
        var transmittanceLow = 0, transmittanceHigh = 0, excessNoise = 0, efficiency = 0, electronicNoise = 0, holevo = 0
        var noise = 0
    }

    /// Sums of a block of `symbols`: sufficient statistics in their exact joint distribution (xy given xx is normal, the residual is chi-squared).
    private func sums(_ truth: Truth, symbols: Int, unit: Double, _ normals: inout Normals) -> CorrelationSums {
        let scale = (truth.unit / unit).squareRoot()
        let xx = truth.modulationVariance * normals.squares(2 * symbols)
        let xy = truth.slope * xx + (truth.noise * xx).squareRoot() * normals.pair().0
        let yy = xy * xy / xx + truth.noise * normals.squares(2 * symbols - 1)
        return CorrelationSums(count: 2 * symbols, xx: xx, xy: xy * scale, yy: yy * scale * scale)
    }

    private func window(_ variance: Double, symbols: Int, _ normals: inout Normals) -> CalibrationSums {
        // Sums of squares with the mean taken out, as the sums of a window with mean 0.
        let x = variance * normals.squares(symbols - 1), p = variance * normals.squares(symbols - 1)
        return CalibrationSums(symbols: symbols, sumX: 0, sumP: 0, sumSquaresX: Int64(x.rounded()), sumSquaresP: Int64(p.rounded()))
    }

    @Test func boundsFailAsRarelyAsTheySay() throws {
        let truth = Truth()
        let epsilon = 1e-2
        let budget = try SecurityBudget(
            smoothing: 1e-3, hashing: 1e-3, correctness: 1e-3, authentication: 1e-3, parameterEstimation: epsilon)
        let channel = try KeyRateParameters(
            modulationVariance: truth.modulationVariance, transmittance: truth.transmittance, excessNoise: truth.excessNoise,
            efficiency: truth.efficiency, electronicNoise: truth.electronicNoise)
        let holevo = try KeyRate.holevoBound(channel, receiver: .trusted)
        var normals = Normals(draws: Draws(20_180_605))
        var counts = Counts()
        for _ in 0..<10_000 {
            let symbols = 5_000_000
            let calibration = try NoiseCalibration(
                dark: window(truth.electronicNoise * truth.unit, symbols: symbols / 4, &normals),
                shot: window((1 + truth.electronicNoise) * truth.unit, symbols: symbols, &normals))
            let sums = sums(truth, symbols: symbols, unit: calibration.shotNoiseVariance, &normals)
            // The lab's own error of the efficiency.
            let efficiency = try ReceiverEfficiency(truth.efficiency + 0.001 * normals.pair().0, standardError: 0.001)
            let estimate = try ParameterEstimate.estimate(sums: sums, calibration: calibration, efficiency: efficiency, budget: budget)
            counts.runs += 1
            if estimate.minimalTransmittance > truth.transmittance { counts.transmittanceLow += 1 }
            if estimate.maximalTransmittance < truth.transmittance { counts.transmittanceHigh += 1 }
            if estimate.maximalExcessNoise < truth.excessNoise { counts.excessNoise += 1 }
            if !estimate.efficiencyRange.contains(truth.efficiency) { counts.efficiency += 1 }
            if !estimate.electronicNoiseRange.contains(truth.electronicNoise) { counts.electronicNoise += 1 }
            if estimate.worstHolevoBound < holevo { counts.holevo += 1 }
            if abs(estimate.excessNoise - truth.excessNoise) > 2.5758 * estimate.excessNoiseError { counts.noise += 1 }
        }
        print("coverage of \(counts.runs) runs at eps_pe = \(epsilon): \(counts)")
        // 1 % of 10,000 and three standard deviations of a count at 1 %.
        let limit = 100 + 30
        #expect(counts.holevo <= 100)
        #expect(counts.excessNoise <= 100)
        #expect(counts.transmittanceLow <= limit && counts.transmittanceHigh <= limit)
        // Two-sided: each end may fail with epsilon.
        #expect(counts.efficiency <= 200 + 42 && counts.efficiency >= 200 - 42)
        #expect(counts.electronicNoise <= 200 + 42)
        // And the standard error is neither too small nor too large: 1 % lie beyond 2.58 of them.
        #expect((70...130).contains(counts.noise))
    }
}
