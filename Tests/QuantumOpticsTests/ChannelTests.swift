// Noise of coexisting channels and detection, against the figures of the literature as docs/ and the paper give them.

import QKDModel
import QuantumOptics
import Testing

private func plan(_ channels: Int, _ power: Double, quantumHz: Double = 193.4e12, firstHz: Double = 194.45e12) -> WDMPlan {
    WDMPlan(firstChannelHz: firstHz, gridHz: 100e9, channelCount: channels, channelPowerDBm: power, quantumHz: quantumHz)
}

@Suite struct ChannelTests {
    /// Excess noise at the input that PyPI's qkd 0.2.0 gives for the same fibre.
    @Test(arguments: [
        (17, 0.0, 3.9, Propagation.co, 0.0124), (17, 0, 6.4, .co, 0.0204), (17, 0, 6.4, .counter, 0.0207), (20, 0, 6.4, .co, 0.0240),
        (17, -10, 6.4, .co, 0.0020), (17, 0, 26.4, .co, 0.084), (17, 0, 26.4, .counter, 0.107),
    ])
    func ramanScattering(channels: Int, power: Double, km: Double, way: Propagation, expected: Double) {
        let noise = RamanScattering().excessNoise(
            plan: plan(channels, power), span: FibreSpan(name: "f", lengthKm: km), propagation: way)
        #expect(abs(noise / expected - 1) < 0.03, "\(noise)")
    }

    @Test func lumpedLossAndDarkSpoolsDoNotScatter() {
        let bare = FibreSpan(name: "f", lengthKm: 3.9)
        let lossy = FibreSpan(name: "f", lengthKm: 3.9, lumped: [LumpedLoss(atKm: 1, loss: Decibels(5))])
        let spool = FibreSpan(name: "s", lengthKm: 20, carriesClassical: false)
        #expect(plan(17, -7).excessNoise(over: [bare]) == plan(17, -7).excessNoise(over: [lossy, spool]))
    }

    /// On the grid .09 SNU at 0 dBm, .012 at -3, 1e-4 at -10 (estimates, good to a factor of two); cubic in power.
    @Test func fourWaveMixing() {
        let span = FibreSpan(name: "f", lengthKm: 3.9)
        func onGrid(_ power: Double) -> Double {
            FourWaveMixing().excessNoise(plan: plan(17, power, quantumHz: 193.4e12, firstHz: 194.4e12), span: span)
        }
        for (power, expected) in [(0.0, 0.09), (-3, 0.012), (-10, 1e-4)] {
            #expect((0.5...2).contains(onGrid(power) / expected), "\(power) dBm: \(onGrid(power))")
        }
        #expect(abs(onGrid(0) / onGrid(-10) / 1000 - 1) < 1e-9)
        let offGrid = FourWaveMixing().excessNoise(plan: plan(17, 0), span: span)
        #expect(offGrid < onGrid(0) / 20)
    }

    @Test func madridLossesAndDelay() {
        let spans = [
            FibreSpan(name: "a", lengthKm: 6.4, lumped: [LumpedLoss(atKm: 3, loss: Decibels(5.72))]),
            FibreSpan(name: "b", lengthKm: 20),
        ]
        #expect(abs(spans.loss.value - 11) < 1e-9)
        #expect(abs(spans.delay - 26.4 * 4.897e-6) < 1e-7)
    }

    @Test func heterodyneDetection() {
        let detector = HeterodyneDetector(efficiency: 0.8, electronicNoise: 0.05)
        let snr = detector.snr(modulationVariance: 1.7, transmittance: 0.2512, excessNoise: 0.005)
        #expect(abs(snr - 0.1626) < 2e-4)
        #expect(abs(detector.noiseVariance(transmittance: 0.5, excessNoise: 0.1) - 1.07) < 1e-12)
    }
}
