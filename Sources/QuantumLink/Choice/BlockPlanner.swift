// What the transmitter's end knows between blocks, and what it makes of it for the next one. A value: the same sums and frames give the same
// plans (a replay relies on it).

internal import Foundation
internal import PostProcessing
internal import QKDModel

struct BlockPlanner: Sendable {
    let settings: LinkSettings
    private(set) var tuner: ModulationTuner
    private(set) var chooser: BlockChooser
    /// What the running block, or the next one, is run with.
    private(set) var choice: BlockChoice
    private(set) var readiness: Readiness?

    init(_ settings: LinkSettings) throws {
        self.settings = settings
        tuner = ModulationTuner(designSNR: 0.1, transmittance: settings.loss.transmittance)
        chooser = try BlockChooser(settings)
        choice = try chooser.choose(tuner, efficiencyError: 0)
        tuner.designSNR = choice.designSNR
    }

    mutating func heard(_ new: Readiness) {
        readiness = new
        if (0.01...1).contains(new.efficiency) { tuner.efficiency = new.efficiency }
        if (0...10).contains(new.electronicNoise) { tuner.electronicNoise = new.electronicNoise }
    }

    /// - Throws: `QuantumLinkError.configuration` when the two ends cannot agree on a code.
    mutating func plan(block: BlockID, emulated: Bool) throws -> BlockPlan {
        choice = try chooser.choose(
            tuner, efficiencyError: readiness?.efficiencyError ?? 0, asked: readiness?.code, incumbent: tuner.isMeasured ? choice : nil)
        tuner.designSNR = choice.designSNR
        return BlockPlan(
            block: block, code: choice.code.id, frames: UInt32(max(1, settings.blockSymbols / choice.code.frameSymbols)),
            epsilon: settings.epsilon, designSNR: choice.designSNR, emulated: emulated)
    }

    /// For the decoder, per quadrature.
    func snr(of block: TransmitterBlock) -> Double { tuner.snr(variance: block.variance) }

    /// Takes over what a block's sums and frames showed.
    mutating func learn(from block: TransmitterBlock) {
        guard block.sums.count > 0 else { return }
        let count = Double(block.sums.count)
        tuner.learned(xx: block.sums.xx / count, xy: block.sums.xy / count, yy: block.sums.yy / count)
        guard let snr = block.sums.signalToNoise else { return }
        chooser.learned(block.code, snr: snr, decodedAtOnce: block.decodedInRound.first ?? 0, frames: block.life.decided)
    }

    /// After the first slot: why the block does not fit its code, or nil. It is better given up and begun anew with the right modulation than
    /// finished without key. Nothing of it is used.
    mutating func misfit(of block: TransmitterBlock) throws -> String? {
        // A block that one slot fills is finished: nothing would be saved.
        guard block.life.slots == 1, block.life.wanted > 0, block.life.decided >= min(16, block.life.frames / 2),
            let snr = block.sums.signalToNoise
        else {
            return nil
        }
        guard !(0.985...1.08).contains(snr / tuner.designSNR) else { return nil }
        learn(from: block)
        // Noise on the estimate alone is no reason, nor is what cannot be changed any more.
        let next = try chooser.choose(tuner, efficiencyError: readiness?.efficiencyError ?? 0, asked: readiness?.code)
        guard abs(next.variance / block.variance - 1) > 0.01 || next.code != block.code else { return nil }
        return String(
            format: "SNR %.4f does not fit the code's %.4f: modulation goes from %.2f to %.2f SNU, ", snr, tuner.designSNR, block.variance,
            next.variance) + "code from \(block.code) to \(next.code)"
    }
}

extension CorrelationSums {
    /// Per quadrature; nil where there is no correlation.
    var signalToNoise: Double? {
        guard xx > 0, yy > 0 else { return nil }
        let explained = xy * xy / xx
        return yy > explained ? explained / (yy - explained) : nil
    }
}
