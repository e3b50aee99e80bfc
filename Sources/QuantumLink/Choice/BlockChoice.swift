// Which code a block is reconciled with, how near to its limit, and with which modulation: what gives the longest key. A value.
//
// How. For every code that may be taken, the length of a whole block is computed by the very accounting that will judge it
// (ParameterEstimate and KeyLength), with the sums that the link is expected to show: gain and noise as the blocks before it showed them, calibration as
// long as the configuration asks for, and frames that fail as often as the code does at that efficiency (`FrameModel`). The transmitter
// is shared, but its modulation is set for each slot, so each link has its own: SNR per quadrature = gain Va / noise makes Va follow from code
// and efficiency. A configuration may fix any of the three; the rest is chosen.
//
// Who. Each end's configuration names a code or leaves it open; the receiver's end says so in READINESS, with what its calibration
// knows. The transmitter's end chooses within both and proposes it in BLOCK_PREPARE; the receiver's end takes it or refuses.
//
// Why this costs no security. All of it is fixed before the block's first symbol is sent, from public numbers only: configuration,
// READINESS, the sums of earlier blocks (published and charged there, `BlockAccount.sumsBits`) and which of their frames needed more bits (charged as
// well). Nothing of the block's own symbols or words enters, so that its words are as uniform, given everything public, as with
// a code fixed for ever, and its length is computed afterwards from its own sums and its own disclosure for whatever was chosen. An
// eavesdropper who bends the channel can spoil a choice, never make a length too long. A block whose first slot shows that the choice
// does not fit is given up as a whole: what its sums told is about symbols that are never used for key.

internal import Foundation
package import PostProcessing

/// What one block is run with.
package struct BlockChoice: Sendable, Equatable {
    package var code: ReconciliationCode
    /// Of the code at the SNR that is aimed at.
    package var efficiency: Double
    /// Modulation, SNU per quadrature.
    package var variance: Double
    /// What the accounting would leave of a whole block, bits; below 0: no key is to be expected.
    package var expectedBits: Double

    package var designSNR: Double { code.designSNR(efficiency: efficiency) }

    package init(code: ReconciliationCode, efficiency: Double, variance: Double, expectedBits: Double) {
        (self.code, self.efficiency, self.variance, self.expectedBits) = (code, efficiency, variance, expectedBits)
    }
}

package struct BlockChooser: Sendable {
    /// A code is changed only for so much more key: choices that differ by noise alone would jump from block to block.
    private static let worthwhile = 1.01
    /// Long frames reach nearer to the limit; they are taken where a slot holds so many of them.
    private static let longFrames = 8
    /// More frames than this that need more than their message: the slot comes near to what a lost alignment looks like (`FrameBoard.lostAfter`).
    private static let mostAsked = 0.3
    /// How much nearer to the limit a block may turn out than it was aimed at, once the channel is measured and before.
    private static let margin = (measured: 0.003, unknown: 0.01)
    private static let longBits = 1_024_000
    private static let shortBits = 204_800

    private let settings: LinkSettings
    private let budget: SecurityBudget
    package private(set) var model = FrameModel()

    package init(_ settings: LinkSettings) throws {
        self.settings = settings
        budget = try SecurityBudget(total: settings.epsilon)
    }

    /// What the frames of a block showed: how many needed more than their message.
    package mutating func learned(_ code: ReconciliationCode, snr: Double, decodedAtOnce: Int, frames: Int) {
        model.learned(code, efficiency: code.efficiency(snr: snr), decodedAtOnce: decodedAtOnce, frames: frames)
    }

    /// - Parameters:
    ///   - channel: gain and noise as they are known now.
    ///   - asked: the code that the far end's configuration names; nil or "auto": any.
    ///   - incumbent: what the last block was run with.
    /// - Throws: `QuantumLinkError.configuration` when the two ends name different codes.
    package func choose(
        _ channel: ModulationTuner, efficiencyError: Double, asked: String? = nil, incumbent: BlockChoice? = nil
    ) throws -> BlockChoice {
        let codes = try codes(asked)
        let best = best(of: codes.isEmpty ? family : codes, channel, efficiencyError)
        guard let best else { return try fallback(codes, channel) }
        guard let incumbent, codes.isEmpty || codes.contains(incumbent.code) else { return best }
        let same = evaluate(incumbent.code, aim(incumbent.code, incumbent.efficiency, channel), channel, efficiencyError)
        return same.expectedBits > 0 && best.expectedBits < same.expectedBits * Self.worthwhile ? same : best
    }

    /// The code that is named by one of the ends; empty: any.
    private func codes(_ asked: String?) throws -> [ReconciliationCode] {
        let names = Set([settings.code, asked ?? LinkSettings.automatic].filter { $0 != LinkSettings.automatic })
        guard names.count <= 1 else {
            throw QuantumLinkError.configuration("the two ends name different codes: \(names.sorted().joined(separator: " and "))")
        }
        return try names.map(ReconciliationCode.named)
    }

    /// The built-in codes of the size that suits the link.
    private var family: [ReconciliationCode] {
        let frame = Self.longBits / 2
        let isLong = settings.slotSymbols >= Self.longFrames * frame && settings.blockSymbols >= 2 * Self.longFrames * frame
        let size = isLong ? Self.longBits : Self.shortBits
        return ReconciliationCode.all.filter { $0.frameBits == size && LinkService.trouble(epsilon: settings, $0) == nil }
    }

    /// Where no code promises anything: the named one, or the one that takes the worst channel.
    private func fallback(_ codes: [ReconciliationCode], _ channel: ModulationTuner) throws -> BlockChoice {
        guard let code = codes.first ?? family.first else { throw QuantumLinkError.configuration("there is no code for this link") }
        let efficiency = settings.efficiency ?? code.operatingEfficiency
        let variance = settings.variance ?? channel.variance(snr: code.designSNR(efficiency: efficiency))
        return BlockChoice(code: code, efficiency: efficiency, variance: variance, expectedBits: 0)
    }

    // MARK: Search

    private func best(of codes: [ReconciliationCode], _ channel: ModulationTuner, _ error: Double) -> BlockChoice? {
        let steps = codes.count > 1
        var all: [BlockChoice] = []
        for code in codes {
            // A code that is named is taken as it is.
            let count = settings.variance == nil ? 3 : 24
            let members = steps ? (0...count).compactMap { member(code, step: code.steps * $0 / count) } : [code]
            for code in members { all += aims(code, channel).map { evaluate(code, $0, channel, error) } }
        }
        guard let best = all.max(by: { $0.expectedBits < $1.expectedBits }) else { return nil }
        return steps ? refined(best, channel, error) : best
    }

    /// The steps around a code that was found on the coarse grid.
    private func refined(_ found: BlockChoice, _ channel: ModulationTuner, _ error: Double) -> BlockChoice {
        var best = found
        var stride = found.code.steps / (settings.variance == nil ? 6 : 48)
        while stride > 0 {
            let near = [best.code.step - stride, best.code.step + stride].compactMap { member(best.code, step: $0) }
            let found = near.flatMap { code in
                [best.efficiency - 0.004, best.efficiency, best.efficiency + 0.004].map {
                    evaluate(code, aim(code, $0, channel), channel, error)
                }
            }
            if let better = found.max(by: { $0.expectedBits < $1.expectedBits }), better.expectedBits > best.expectedBits { best = better }
            stride /= 2
        }
        return best
    }

    private func member(_ code: ReconciliationCode, step: Int) -> ReconciliationCode? {
        guard (0...code.steps).contains(step) else { return nil }
        return try? ReconciliationCode.named(step == 0 ? code.base : "\(code.base)+\(step)")
    }

    /// Efficiencies that a code may be used with.
    private func aims(_ code: ReconciliationCode, _ channel: ModulationTuner) -> [Double] {
        if settings.variance != nil { return [aim(code, 0, channel)].filter { (0.7...0.98).contains($0) } }
        if let fixed = settings.efficiency { return [fixed] }
        return [-0.03, -0.02, -0.01, -0.005, 0, 0.005, 0.01].map { code.operatingEfficiency + $0 }
    }

    /// The efficiency that comes of it: with a fixed variance there is nothing to aim at.
    private func aim(_ code: ReconciliationCode, _ wanted: Double, _ channel: ModulationTuner) -> Double {
        if let variance = settings.variance { return code.efficiency(snr: channel.snr(variance: variance)) }
        return settings.efficiency ?? wanted
    }

    // MARK: What a block would give

    private func evaluate(_ code: ReconciliationCode, _ efficiency: Double, _ channel: ModulationTuner, _ error: Double) -> BlockChoice {
        let variance = settings.variance ?? channel.variance(snr: code.designSNR(efficiency: efficiency))
        // A variance at the end of its range reaches another efficiency.
        let reached = code.efficiency(snr: channel.snr(variance: variance))
        let bits = (try? balance(code, reached, variance, channel, error)) ?? -.infinity
        return BlockChoice(code: code, efficiency: efficiency, variance: variance, expectedBits: bits)
    }

    private func balance(
        _ code: ReconciliationCode, _ efficiency: Double, _ variance: Double, _ channel: ModulationTuner, _ error: Double
    ) throws -> Double {
        let frames = max(1, settings.blockSymbols / code.frameSymbols)
        let symbols = frames * code.frameSymbols
        let (gain, electronic) = (channel.gain, channel.electronicNoise)
        let noise = max(channel.noise, 1 + electronic)
        let count = Double(2 * symbols)
        let sums = CorrelationSums(
            count: 2 * symbols, xx: count * variance, xy: count * variance * gain.squareRoot(), yy: count * (gain * variance + noise))
        let shot = Double(symbols) * max(settings.calibrationRatio, 0.1)
        let calibration = try NoiseCalibration(
            dark: Self.calibration(min(shot, 8e6), electronic), shot: Self.calibration(shot, 1 + electronic), drift: settings.driftAllowance
        )
        let estimate = try ParameterEstimate.estimate(
            sums: sums, calibration: calibration, efficiency: try ReceiverEfficiency(channel.efficiency, standardError: error),
            budget: budget)
        let expected = model.expectation(code, efficiency: efficiency + (channel.isMeasured ? Self.margin.measured : Self.margin.unknown))
        guard expected.first <= Self.mostAsked else { return -.infinity }
        let verified = Int(Double(frames) * (1 - expected.lost))
        let saved = Double(verified) * expected.rounds
        return try KeyLength.compute(
            KeyLengthInput(
                symbols: symbols, verifiedSymbols: verified * code.frameSymbols, frames: frames, failedFrames: frames - verified,
                syndromeBits: verified * code.syndromeBits, disclosureBits: Int(saved * Double(code.disclosureBits + 1)),
                verificationBits: verified * (FrameMessage.verificationBits + 1) + BlockVerification.digestBits,
                observedBits: verified * BlockAccount.timingBits + Int(saved) * BlockAccount.roundTimingBits + BlockAccount.sumsBits,
                estimate: estimate, budget: budget)
        ).balance
    }

    /// Calibration of so many symbols that showed a noise, SNU, in a unit of 150 steps.
    private static func calibration(_ symbols: Double, _ noise: Double) -> CalibrationSums {
        let squares = Int64(symbols * noise * 22500)
        return CalibrationSums(symbols: max(2, Int(symbols)), sumX: 0, sumP: 0, sumSquaresX: squares, sumSquaresP: squares)
    }
}
