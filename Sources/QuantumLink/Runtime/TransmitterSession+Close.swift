// The end of a block at the transmitter's end: sums, key length, seed, tags, commit.

internal import Foundation
internal import KeyMaterial
internal import PostProcessing
internal import QKDModel

extension TransmitterSession {
    func checkTuning() async throws {
        guard let block, let reason = try planner.misfit(of: block) else { return }
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
        try await meter.measure(.verification) { try await verify(sums) }
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
        do {
            return try block.numbers(sums, readiness, unit: unit, driftAllowance: context.settings.driftAllowance)
        } catch let over as SlotOver { throw abandon(over.reason) }
    }

    /// Why nothing may be deposited, or nil.
    private var withheld: String? {
        context.tap != nil || readiness?.recording == true ? BlockSettlement.recorded : nil
    }

    private func finish(_ numbers: BlockNumbers) async throws {
        let pads = try keys.account()
        let raw = block?.raw ?? []
        let rawBits = 8 * raw.reduce(0) { $0 + $1.count }
        context.tap?.take(.pads(pads))
        let settled = meter.measure(.estimation) {
            BlockSettlement(numbers, pads: pads, rawBits: rawBits, withheld: withheld, random: context.random)
        }
        let (result, bits) = (settled.result, settled.account.length.secretBits)
        try block?.life.take(.estimate(secretBits: bits, limitedBy: result.limitedBy))
        showBlock()
        channel.send(.blockResult(result))
        context.tap?.take(.account(settled.account.json ?? ""))
        if let block { planner.learn(from: block) }
        if bits > 0 { try await commit(result, raw: raw, rawBits: rawBits) }
        await publish(settled.account, settled.numbers, padBits: bits > 0 ? settled.numbers.padBits : 0)
    }

    private func commit(_ result: BlockResult, raw: [SecretBytes], rawBits: Int) async throws {
        try channel.sendTag(.block)
        let key = try await meter.measure(.amplification) {
            try await Task.detached {
                try ToeplitzHash.hash(input: raw, inputBits: rawBits, outputBits: Int(result.secretBits), seed: result.seed)
            }.value
        }
        try block?.life.take(.amplified)
        guard case .blockAck(result.block) = try await blockMessage(within: .seconds(300), "the receiver's key") else {
            throw QuantumLinkError.badMessage("something else than an acknowledgement")
        }
        guard case .tag(let tag) = try await blockMessage(within: context.settings.patience.answer, "the receiver's tag"),
            tag.purpose == .block
        else {
            throw QuantumLinkError.badMessage("something else than the block's tag")
        }
        // Their tag has verified and they hold the key: decide.
        let finished = FinishedBlock(
            link: context.link, peer: context.settings.identity.peer, block: result.block, key: key,
            padBytesForward: Int(result.padBitsForward) / 8, padBytesBackward: Int(result.padBitsBackward) / 8, provenance: provenance,
            role: .transmitter)
        try meter.measure(.deposit) { try context.database.commit(finished, epoch: keys) }
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
            calibrationSymbols: calibrated, symbolRate: readiness?.symbolRate ?? 0)
        calibrated = 0
        var report = account.report(
            numbers, link: context.link, began: blockBegan, slots: block.life.slots, variance: block.variance, tagBits: 3 * 128,
            provenance: provenance, deviceSeconds: await station.elapsedSeconds, padBits: padBits)
        report.work = BlockWork(meter.all, channel.traffic, since: trafficBefore)
        if account.length.secretBits == 0 {
            context.monitor.raise("no-key", .minor, "block \(report.block) gave no key: \(report.limitedBy)")
        } else {
            context.monitor.clear("no-key")
            context.monitor.clear("verification")
            context.monitor.clear("overrun")
        }
        context.monitor.closed(report)
    }
}
