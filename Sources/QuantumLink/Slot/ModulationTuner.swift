// What is known of a link's channel, and the modulation variance that makes a signal-to-noise ratio of it. A value, changed at
// block boundaries.

/// SNR per quadrature = g Va / noise with g = eta T / 2 and noise = 1 + v_el + g xi, all in SNU. Before anything is measured, T comes
/// from the configuration's loss; afterwards g and noise are what the receiver saw.
public struct ModulationTuner: Sendable, Equatable {
    /// Per quadrature; what the running block aims at.
    public var designSNR: Double
    public var transmittance: Double
    public var efficiency = 0.8
    public var electronicNoise = 0.05
    /// SNU at the channel input, where nothing is measured yet.
    public var expectedExcessNoise = 0.01
    private var measured: (gain: Double, noise: Double)?

    public static let range = 0.1...20.0

    public init(designSNR: Double, transmittance: Double) {
        self.designSNR = designSNR
        self.transmittance = transmittance
    }

    private var expected: (gain: Double, noise: Double) {
        let gain = efficiency * transmittance / 2
        return (gain, 1 + electronicNoise + gain * expectedExcessNoise)
    }

    public var gain: Double { (measured ?? expected).gain }
    public var noise: Double { (measured ?? expected).noise }
    public var isMeasured: Bool { measured != nil }

    public var variance: Double { variance(snr: designSNR) }

    public func variance(snr: Double) -> Double {
        guard gain > 0 else { return Self.range.upperBound }
        return min(max(snr * noise / gain, Self.range.lowerBound), Self.range.upperBound)
    }

    public func snr(variance: Double) -> Double { gain * variance / noise }

    /// Takes over second moments per quadrature; numbers that make no sense (a cut fibre) change nothing.
    public mutating func learned(xx: Double, xy: Double, yy: Double) {
        guard xx > 0, yy > 0, xy > 0 else { return }
        let gain = (xy / xx) * (xy / xx)
        let noise = yy - xy * xy / xx
        // A thirtieth to three times of what was expected: beyond, the link has another fault than its modulation.
        guard noise > 0.2, noise < 20, gain > expected.gain / 30, gain < expected.gain * 3 else { return }
        measured = (gain, noise)
    }

    public static func == (left: Self, right: Self) -> Bool {
        left.variance == right.variance && left.designSNR == right.designSNR && left.transmittance == right.transmittance
    }
}
