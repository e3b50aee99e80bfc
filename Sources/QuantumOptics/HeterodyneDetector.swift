// What a heterodyne receiver makes of light, in shot-noise units.

internal import Foundation

/// A heterodyne receiver: efficiency and electronic noise, both trusted, and its converter.
public struct HeterodyneDetector: Sendable, Equatable {
    /// Share of the light that is detected, (0, 1].
    public var efficiency: Double
    /// Electronic noise per quadrature in SNU.
    public var electronicNoise: Double
    /// Standard deviation of shot noise in converter steps.
    public var shotNoiseSigmaLSB: Double
    /// Full scale in converter steps: samples at or beyond it are saturated.
    public var fullScaleLSB: Int

    public init(efficiency: Double, electronicNoise: Double, shotNoiseSigmaLSB: Double = 150, fullScaleLSB: Int = 2047) {
        self.efficiency = efficiency
        self.electronicNoise = electronicNoise
        self.shotNoiseSigmaLSB = shotNoiseSigmaLSB
        self.fullScaleLSB = fullScaleLSB
    }

    /// Amplitude at the detector per amplitude at the fibre's input: `sqrt(eta T / 2)`; heterodyning halves the light.
    public func amplitude(transmittance: Double) -> Double { (efficiency * transmittance / 2).squareRoot() }

    /// Variance of one quadrature without modulation in SNU: `1 + v_el + eta T xi / 2`.
    public func noiseVariance(transmittance: Double, excessNoise: Double) -> Double {
        1 + electronicNoise + efficiency * transmittance * excessNoise / 2
    }

    /// Signal-to-noise ratio per quadrature: `eta T Va / 2` over the noise.
    public func snr(modulationVariance: Double, transmittance: Double, excessNoise: Double) -> Double {
        efficiency * transmittance * modulationVariance / 2
            / noiseVariance(transmittance: transmittance, excessNoise: excessNoise)
    }
}
