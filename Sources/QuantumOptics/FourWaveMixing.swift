// Four-wave mixing of the classical channels into the quantum channel: an estimate, good to a factor of two.

internal import Foundation

/// Fibre constants that four-wave mixing depends on, and the estimate itself.
public struct FourWaveMixing: Sendable {
    /// Kerr coefficient in 1/(W m).
    public var gamma = 1.3e-3
    /// Chromatic dispersion in s/m^2 (17 ps/(nm km)).
    public var dispersion = 17e-6
    /// Mean over random polarisations of three waves and one receiver.
    public var polarisation = 3.0 / 8

    public init() {}

    /// Excess noise referred to the channel's input in SNU.
    ///
    /// Every product f_i + f_j - f_k of two or three channels is spread like the channels' modulation (normal with
    /// half a channel's bandwidth); what counts is its spectral density at the quantum channel, in photons per mode.
    /// Off a grid of equally spaced channels only the tails arrive.
    public func excessNoise(plan: WDMPlan, span: FibreSpan) -> Double {
        guard span.carriesClassical, plan.channelCount > 1, span.lengthKm > 0 else { return 0 }
        let channels = plan.frequenciesHz
        let power = Constants.watts(dBm: plan.channelPowerDBm)
        let spread = plan.channelBandwidthHz / 2
        var density = 0.0
        for i in channels.indices {
            for j in i..<channels.count {
                for k in channels.indices where k != i && k != j {
                    let detuning = (channels[i] + channels[j] - channels[k] - plan.quantumHz) / spread
                    guard abs(detuning) < 8 else { continue }
                    let efficiency = phaseMatching(
                        abs(channels[i] - channels[k]), abs(channels[j] - channels[k]), plan.quantumHz, span)
                    density += (i == j ? 1 : 4) * efficiency * exp(-detuning * detuning / 2)
                }
            }
        }
        let a = max(span.attenuationPerKm / 1e3, 1e-9)
        let effective = (1 - exp(-a * span.lengthKm * 1e3)) / a
        let watts = polarisation * pow(gamma * effective, 2) * pow(power, 3) * density
        let perHz = watts / (2.0 * .pi).squareRoot() / spread
        return 2 * perHz / (Constants.planck * plan.quantumHz)
    }

    /// Share of the phase-matched power that builds up between waves `detuningA` and `detuningB` Hz apart.
    private func phaseMatching(_ detuningA: Double, _ detuningB: Double, _ quantumHz: Double, _ span: FibreSpan) -> Double {
        let wavelength = Constants.speedOfLight / quantumHz
        let mismatch = 2 * .pi * wavelength * wavelength / Constants.speedOfLight * detuningA * detuningB * dispersion
        let a = max(span.attenuationPerKm / 1e3, 1e-9)
        let length = span.lengthKm * 1e3
        let through = exp(-a * length)
        let beat = 4 * through * pow(sin(mismatch * length / 2), 2) / pow(1 - through, 2)
        return a * a / (a * a + mismatch * mismatch) * (1 + beat)
    }
}
