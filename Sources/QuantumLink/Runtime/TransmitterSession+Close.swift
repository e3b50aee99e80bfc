// The end of a block at the transmitter's end: sums, key length, seed, tags, commit.

internal import Foundation
internal import KeyMaterial
internal import PostProcessing
internal import QKDModel

extension TransmitterSession {
    /// Signal-to-noise ratio per quadrature of the running block, from its sums.
    func measuredSNR() -> Double? {
        guard let sums = block?.sums, sums.xx > 0, sums.yy > 0 else { return nil }
        let explained = sums.xy * sums.xy / sums.xx
        return sums.yy > explained ? explained / (sums.yy - explained) : nil
    }

    private func learn() {
        guard let sums = block?.sums, sums.count > 0 else { return }
        let count = Double(sums.count)
        tuner.learned(xx: sums.xx / count, xy: sums.xy / count, yy: sums.yy / count)
    }

    /// After the first slot: a block that does not fit its code is given up and begun anew with the right modulation, rather than
    /// finished without key. Nothing of it is used.
    func checkTuning() async throws {
        guard let block, block.life.slots == 1, block.life.decided >= min(16, block.life.frames / 2), let snr = measuredSNR() else {
            return
        }
        let before = block.variance
        let ratio = snr / tuner.designSNR
        guard !(0.985...1.08).contains(ratio) else { return }
        learn()
        // Noise on the estimate alone is no reason, nor is a variance that cannot be changed any more.
        guard abs(tuner.variance / before - 1) > 0.01 else { return }
        let reason = String(
            format: "SNR %.4f does not fit the code's %.4f: modulation goes from %.2f to %.2f SNU", snr, tuner.designSNR, before,
            tuner.variance)
        throw abandon(reason)
    }

    func close() async throws {
        try await checkDevice()
        guard let id = block?.plan.block else { return }
        try block?.life.take(.closed)
        showBlock()
        channel.send(.blockClose(id))
        guard case .blockSums(let sums) = try await blockMessage(within: .seconds(120), "the receiver's sums"), sums.block == id else {
            throw QuantumLinkError.badMessage("something else than the block's sums")
        }
        try await verify(sums)
        let numbers = try numbers(sums)
        try await finish(numbers)
    }

    private func verify(_ sums: BlockSums) async throws {
        guard let raw = block?.raw, let id = block?.plan.block else { return }
        let key = sums.verificationKey
        let hash = try await Task.detached { try ReceiverBlock.verificationHash(raw, key: key) }.value
        guard hash == sums.verificationHash else {
            let reason = "the raw keys differ although every frame's hash agreed"
            channel.send(.blockAbort(id, reason: reason))
            context.monitor.raise("verification", .major, reason)
            throw QuantumLinkError.blockVoid(id, reason: reason)
        }
        try block?.life.take(.rawKeysEqual)
    }

    /// - Throws: `blockVoid` when the receiver's sums contradict what its frames said.
    private func numbers(_ sums: BlockSums) throws -> BlockNumbers {
        guard let block, let readiness, let unit = blockUnit else { throw QuantumLinkError.closed("the block is gone") }
        guard Int(sums.quadratures) == block.sums.count, abs(sums.squares / block.sums.yy - 1) < 1e-3 else {
            let reason = "the receiver's own sums contradict its frames"
            channel.send(.blockAbort(block.plan.block, reason: reason))
            throw QuantumLinkError.blockVoid(block.plan.block, reason: reason)
        }
        return BlockNumbers(
            plan: block.plan, dark: sums.dark, shot: sums.shot, unit: unit, efficiency: readiness.efficiency,
            efficiencyError: readiness.efficiencyError, drift: max(sums.drift, context.settings.driftAllowance),
            quadratures: block.sums.count, xx: block.sums.xx, xy: block.sums.xy,
            yy: sums.squares,
            saturated: Int(sums.saturated), decoded: block.life.decoded, failed: block.life.failed, padBits: 0)
    }

    private func finish(_ numbers: BlockNumbers) async throws {
        let pads = try keys.account()
        let first = BlockAccount(numbers)
        let refill = pads.refill(secretBits: first.length.secretBits)
        var charged = numbers
        charged.padBits = refill.forward + refill.backward
        let account = BlockAccount(charged)
        let bits = account.length.secretBits
        let raw = block?.raw ?? []
        let rawBits = 8 * raw.reduce(0) { $0 + $1.count }
        // The seed is drawn now: everything that it will hash is fixed.
        let seed = bits > 0 ? context.random.bytes(ToeplitzHash.seedBytes(inputBits: rawBits, outputBits: bits)) : []
        let result = BlockResult(
            block: numbers.plan.block, quadratures: UInt64(numbers.quadratures), xx: numbers.xx, xy: numbers.xy, yy: numbers.yy,
            decoded: UInt32(numbers.decoded), failed: UInt32(numbers.failed), secretBits: UInt64(bits),
            padBitsForward: UInt32(refill.forward), padBitsBackward: UInt32(refill.backward), limitedBy: account.length.limitedBy,
            seed: seed)
        try block?.life.take(.estimate(secretBits: bits, limitedBy: account.length.limitedBy))
        showBlock()
        channel.send(.blockResult(result))
        learn()
        if bits > 0 { try await commit(result, raw: raw, rawBits: rawBits) }
        await publish(account, charged, padBits: bits > 0 ? charged.padBits : 0)
    }

    private func commit(_ result: BlockResult, raw: [SecretBytes], rawBits: Int) async throws {
        try channel.sendTag(.block)
        let key = try await Task.detached {
            try ToeplitzHash.hash(input: raw, inputBits: rawBits, outputBits: Int(result.secretBits), seed: result.seed)
        }.value
        try block?.life.take(.amplified)
        guard case .blockAck(result.block) = try await blockMessage(within: .seconds(300), "the receiver's key") else {
            throw QuantumLinkError.badMessage("something else than an acknowledgement")
        }
        guard case .tag(let tag) = try await blockMessage(within: .seconds(60), "the receiver's tag"), tag.purpose == .block else {
            throw QuantumLinkError.badMessage("something else than the block's tag")
        }
        // Their tag has verified and they hold the key: decide.
        let finished = FinishedBlock(
            link: context.link, peer: context.settings.identity.peer, block: result.block, key: key,
            padBytesForward: Int(result.padBitsForward) / 8, padBytesBackward: Int(result.padBitsBackward) / 8, provenance: provenance,
            role: .transmitter)
        try context.database.commit(finished, epoch: keys)
        context.committed()
        try block?.life.take(.tagged)
        channel.send(.blockCommit(result.block))
        try channel.sendTag(.commit)
        try block?.life.take(.deposited)
        showBlock()
    }

    /// Keys that derive from a seed at either end are no secrets.
    private var provenance: KeyProvenance {
        block?.plan.emulated == false && block?.receiverEmulated == false ? .hardware : .emulated
    }

    private func publish(_ account: BlockAccount, _ numbers: BlockNumbers, padBits: Int) async {
        guard let block else { return }
        await station.closed(
            context.link, keyBits: max(0, account.length.secretBits - padBits), symbols: Double(numbers.quadratures) / 2,
            calibrationSymbols: Double(numbers.shot.symbols), symbolRate: readiness?.symbolRate ?? 0)
        let report = account.report(
            numbers, link: context.link, began: blockBegan, slots: block.life.slots, variance: block.variance, tagBits: 3 * 128,
            provenance: provenance, deviceSeconds: await station.elapsedSeconds, padBits: padBits)
        if account.length.secretBits == 0 {
            context.monitor.raise("no-key", .minor, "block \(report.block) gave no key: \(report.limitedBy)")
        } else {
            context.monitor.clear("no-key")
            context.monitor.clear("verification")
        }
        context.monitor.closed(report)
    }
}
