import Foundation
import KeyMaterial
import PostProcessing
import QKDModel

/// A seeded generator (xoshiro256**) with the distributions that the tests draw from.
struct Draws: RandomNumberGenerator {
    private var s: (UInt64, UInt64, UInt64, UInt64)
    private var spare: Double?

    init(_ seed: UInt64) {
        var state = seed
        func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var word = state
            word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
            word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
            return word ^ (word >> 31)
        }
        s = (next(), next(), next(), next())
    }

    mutating func next() -> UInt64 {
        let product = s.1 &* 5
        let result = (product << 7 | product >> 57) &* 9
        let t = s.1 << 17
        s.2 ^= s.0
        s.3 ^= s.1
        s.1 ^= s.2
        s.0 ^= s.3
        s.2 ^= t
        s.3 = s.3 << 45 | s.3 >> 19
        return result
    }

    mutating func uniform() -> Double { (Double(next() >> 11) + 0.5) * 0x1p-53 }

    mutating func normal() -> Double {
        if let value = spare {
            spare = nil
            return value
        }
        let radius = (-2 * log(uniform())).squareRoot()
        let angle = 2 * Double.pi * uniform()
        spare = radius * sin(angle)
        return radius * cos(angle)
    }

    /// Chi-squared with `k` degrees of freedom: twice a gamma variate (Marsaglia and Tsang 2000), exact for any k >= 2.
    mutating func chiSquared(_ k: Double) -> Double {
        let d = k / 2 - 1.0 / 3
        let c = 1 / (9 * d).squareRoot()
        while true {
            let x = normal()
            let v = (1 + c * x) * (1 + c * x) * (1 + c * x)
            if v > 0, log(uniform()) < x * x / 2 + d - d * v + d * log(v) { return 2 * d * v }
        }
    }

    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next() >> 32) } }

    mutating func secret(_ count: Int) -> SecretBytes {
        var bytes = bytes(count)
        return SecretBytes(consuming: &bytes)
    }
}

func plain(_ secret: SecretBytes) -> [UInt8] { secret.withBytes { Array($0) } }

/// A link as it truly is, from which the sums of a block are drawn with their exact distributions, however long the block.
struct TrueLink {
    var modulationVariance = 1.7
    var transmittance = 0.251
    var excessNoise = 0.005
    var efficiency = 0.8
    var electronicNoise = 0.05
    /// LSB^2 per SNU.
    var unit = 22_500.0

    var slope: Double { (efficiency * transmittance / 2).squareRoot() }
    var noise: Double { 1 + electronicNoise + slope * slope * excessNoise }

    func calibration(_ variance: Double, symbols: Int, _ draws: inout Draws) -> CalibrationSums {
        func squares() -> Int64 { Int64((variance * draws.chiSquared(Double(symbols - 1))).rounded()) }
        return CalibrationSums(symbols: symbols, sumX: 0, sumP: 0, sumSquaresX: squares(), sumSquaresP: squares())
    }

    func calibration(shot: Int, dark: Int, _ draws: inout Draws) throws -> NoiseCalibration {
        try NoiseCalibration(
            dark: calibration(unit * electronicNoise, symbols: dark, &draws),
            shot: calibration(unit * (1 + electronicNoise), symbols: shot, &draws))
    }

    /// Sums in units of `calibration`, as a real link would have them.
    func sums(symbols: Int, calibration: NoiseCalibration, _ draws: inout Draws) -> CorrelationSums {
        let m = Double(2 * symbols)
        let scale = (unit / calibration.shotNoiseVariance).squareRoot()
        let (t, sigma) = (slope * scale, noise.squareRoot() * scale)
        let xx = modulationVariance * draws.chiSquared(m)
        let xy = t * xx + sigma * xx.squareRoot() * draws.normal()
        let residual = sigma * sigma * draws.chiSquared(m - 1)
        return CorrelationSums(count: 2 * symbols, xx: xx, xy: xy, yy: residual + xy * xy / xx)
    }

    func estimate(
        symbols: Int, shot: Int, dark: Int, efficiencyError: Double = 0, budget: SecurityBudget, _ draws: inout Draws
    ) throws -> ParameterEstimate {
        let calibration = try calibration(shot: shot, dark: dark, &draws)
        let sums = sums(symbols: symbols, calibration: calibration, &draws)
        let eta = try ReceiverEfficiency(min(1, efficiency + efficiencyError * draws.normal()), standardError: efficiencyError)
        return try ParameterEstimate.estimate(sums: sums, calibration: calibration, efficiency: eta, budget: budget)
    }
}

/// `Draws` behind the `RandomSource` protocol.
final class Bytes: RandomSource {
    private let lock = NSLock()
    private nonisolated(unsafe) var draws: Draws

    init(_ seed: UInt64) { draws = Draws(seed) }

    func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        lock.withLock { for index in buffer.indices { buffer[index] = UInt8(truncatingIfNeeded: draws.next() >> 32) } }
    }
}
