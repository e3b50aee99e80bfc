// The classical channels beside the quantum channel, and the light that they put into it.

internal import QKDModel
internal import Foundation

/// A grid of classical channels with a quantum channel and its pilot tone.
public struct WDMPlan: Sendable, Equatable, Codable {
    /// Centre of channel 1 in Hz; channels go up in wavelength, so down in frequency.
    public var firstChannelHz: Double
    public var gridHz: Double
    public var channelCount: Int
    /// Power of each channel at the fibre's input in dBm.
    public var channelPowerDBm: Double
    /// Width of each channel's modulation in Hz.
    public var channelBandwidthHz: Double
    public var quantumHz: Double
    /// Offset of the pilot tone from the quantum channel in Hz.
    public var pilotOffsetHz: Double

    public init(
        firstChannelHz: Double, gridHz: Double, channelCount: Int, channelPowerDBm: Double, channelBandwidthHz: Double = 32e9,
        quantumHz: Double, pilotOffsetHz: Double = 20e6
    ) {
        self.firstChannelHz = firstChannelHz
        self.gridHz = gridHz
        self.channelCount = channelCount
        self.channelPowerDBm = channelPowerDBm
        self.channelBandwidthHz = channelBandwidthHz
        self.quantumHz = quantumHz
        self.pilotOffsetHz = pilotOffsetHz
    }

    /// Centre of channel `number` (1 ... `channelCount`) in Hz.
    public func frequencyHz(channel number: Int) -> Double { firstChannelHz - Double(number - 1) * gridHz }

    /// Centres of all channels in Hz, channel 1 first.
    public var frequenciesHz: [Double] { channelCount > 0 ? (1...channelCount).map(frequencyHz(channel:)) : [] }

    /// The same plan with every channel stronger by `decibels`.
    public func raised(byDB decibels: Double) -> WDMPlan {
        var plan = self
        plan.channelPowerDBm += decibels
        return plan
    }
}

/// Which way classical light travels relative to the quantum signal.
public enum Propagation: String, Sendable, Codable {
    case co
    case counter
}

/// Spontaneous Raman scattering into the quantum channel.
public struct RamanScattering: Sendable {
    /// Scattering coefficient in 1/(km nm): 3e-9 for standard fibre in the C band.
    public var coefficient = 3e-9

    public init(coefficient: Double = 3e-9) { self.coefficient = coefficient }

    /// Mean photons per mode at the far end of the glass (lumped losses hit noise and signal alike and are left out).
    ///
    /// `<n> = 1/2 lambda^3/(h c^2) beta P L exp(-a L)` co-propagating, `L exp(-a L)` replaced by
    /// `(1 - exp(-2 a L))/(2 a)` counter-propagating.
    public func photonsPerMode(plan: WDMPlan, span: FibreSpan, propagation: Propagation = .co) -> Double {
        guard span.carriesClassical, plan.channelCount > 0 else { return 0 }
        let wavelength = Constants.speedOfLight / plan.quantumHz
        let power = Double(plan.channelCount) * Constants.watts(dBm: plan.channelPowerDBm)
        let a = span.attenuationPerKm / 1e3
        let length = span.lengthKm * 1e3
        let reach = propagation == .co ? length * exp(-a * length) : a > 0 ? (1 - exp(-2 * a * length)) / (2 * a) : length
        let perMetreSquared = coefficient / (1e3 * 1e-9)
        return 0.5 * pow(wavelength, 3) / (Constants.planck * pow(Constants.speedOfLight, 2)) * perMetreSquared * power * reach
    }

    /// Excess noise referred to the channel's input in SNU: `2 <n> / T` with T of the glass.
    public func excessNoise(plan: WDMPlan, span: FibreSpan, propagation: Propagation = .co) -> Double {
        2 * photonsPerMode(plan: plan, span: span, propagation: propagation) / exp(-span.attenuationPerKm * span.lengthKm)
    }
}

extension WDMPlan {
    /// Excess noise at the channel's input in SNU from Raman scattering and four-wave mixing over spans in a row,
    /// each fed with the plan's launch power.
    public func excessNoise(over spans: [FibreSpan], propagation: Propagation = .co) -> Double {
        spans.reduce(0) {
            $0 + RamanScattering().excessNoise(plan: self, span: $1, propagation: propagation)
                + (propagation == .co ? FourWaveMixing().excessNoise(plan: self, span: $1) : 0)
        }
    }
}
