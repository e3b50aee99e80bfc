// The model of the codes against what was measured, and what is chosen by it.

import PostProcessing
import QKDModel
import QuantumLink
import Testing

@Suite("Choice of code")
struct ChoiceTests {
    /// Frames asked for or wrong by their messages alone, of 60 (docs/reconciliation.md): the model lies within their confidence and a little.
    @Test(
        "The waterfall of long codes' steps is where it was measured",
        arguments: [
            ("r15-n1024000+100", 0.91, 0.03...0.3), ("r15-n1024000+50", 0.92, 0...0.1), ("r15-n1024000", 0.95, 0.5...0.95),
            ("r07-n1024000+125", 0.94, 0.45...0.85), ("r07-n1024000", 0.94, 0...0.03), ("r10-n1024000+100", 0.94, 0.05...0.4),
            ("r10-n1024000", 0.955, 0.2...0.5), ("r05-n1024000+120", 0.94, 0.25...0.7),
        ])
    func steps(id: String, efficiency: Double, measured: ClosedRange<Double>) throws {
        let first = FrameModel().expectation(try ReconciliationCode.named(id), efficiency: efficiency).first
        #expect(measured.contains(first), "\(first)")
    }

    /// Where most frames need more than their message, a slot looks like one whose ends do not see the same symbols.
    @Test("What is chosen leaves most frames to their messages, whatever the channel", arguments: [0.002, 0.01, 0.03, 0.1, 0.2, 0.4])
    func farFromTheCliff(gain: Double) throws {
        for slot in [2_000_000, 100_000_000] {
            let settings = LinkSettings(
                identity: LinkIdentity(
                    node: NodeID(unchecked: "a"), peer: NodeID(unchecked: "b"), link: LinkID(unchecked: "a-b"), role: .transmitter),
                path: "N", loss: Decibels(6), blockSymbols: 4 * slot, slotSymbols: slot)
            for isMeasured in [false, true] {
                var channel = ModulationTuner(designSNR: 0.1, transmittance: gain / 0.4)
                if isMeasured { channel.learned(xx: 2, xy: 2 * gain.squareRoot(), yy: 2 * gain + 1.052) }
                let choice = try BlockChooser(settings).choose(channel, efficiencyError: 0.001)
                // A variance at the end of its range reaches another efficiency.
                let reached = choice.code.efficiency(snr: channel.snr(variance: choice.variance))
                let first = FrameModel().expectation(choice.code, efficiency: reached).first
                #expect(first <= 0.3 || choice.expectedBits <= 0, "\(choice) \(first)")
            }
        }
    }
}
