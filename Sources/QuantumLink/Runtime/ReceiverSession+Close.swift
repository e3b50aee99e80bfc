// The end of a block at the receiver's end: sums, the same computation, key, tags, and the other end's decision.

internal import Foundation
internal import KeyMaterial
internal import PostProcessing
internal import QKDModel

extension ReceiverSession {
    func closeBlock(_ id: BlockID) async throws {
        guard let block, block.plan.block == id, slot == nil else {
            throw QuantumLinkError.unexpected(message: "blockClose", during: "a session")
        }
        try self.block?.life.take(.closed)
        guard await station.generation == block.generation else {
            return abort(id, "the receiver restarted or was replaced: its calibration is gone", alarm: false)
        }
        guard let frames = block.seen,
            let calibration = await station.calibration(since: block.calibrationSince, frames: frames, ends: block.slotEnds)
        else { return abort(id, "symbols were received outside the validity of the shot-noise calibration", alarm: true) }
        guard calibration.drift <= context.settings.driftLimit else {
            return abort(
                id, String(format: "the receiver's noise moved by %.2g of it between calibrations", calibration.drift), alarm: true)
        }
        context.monitor.clear("calibration")
        // Everything is fixed: the hash's key is drawn now.
        let drift = context.settings.driftAllowance + calibration.drift
        context.tap?.take(.calibration(dark: calibration.dark, shot: calibration.shot, drift: drift))
        let key = context.random.bytes(16)
        let raw = block.raw
        let hash = try await meter.measure(.verification) {
            try await Task.detached { try ReceiverBlock.verificationHash(raw, key: key) }.value
        }
        let sums = block.sums(dark: calibration.dark, shot: calibration.shot, drift: drift, key: key, hash: hash)
        self.sums = sums
        channel.send(.blockSums(sums))
        showBlock()
    }

    private func abort(_ id: BlockID, _ reason: String, alarm: Bool) {
        if alarm { context.monitor.raise("calibration", .major, reason) }
        channel.send(.blockAbort(id, reason: reason))
        giveUp(id, reason)
    }

    /// The transmitter's end has decided the length; this end computes it too and takes no more.
    func take(_ result: BlockResult) async throws {
        guard let block, let sums, block.plan.block == result.block, let facts = await station.facts else {
            throw QuantumLinkError.unexpected(message: "blockResult", during: "a session")
        }
        context.tap?.take(.efficiency(facts.efficiency, error: facts.efficiencyError))
        let (account, numbers, refusal) = meter.measure(.estimation) {
            block.judge(result, sums, efficiency: facts.efficiency, efficiencyError: facts.efficiencyError)
        }
        context.tap?.take(.account(account.json ?? ""))
        var refused = refusal
        if context.tap != nil, result.secretBits > 0 { refused = "symbols are recorded here: nothing is deposited" }
        if let refused {
            channel.send(.blockAbort(result.block, reason: refused))
            return giveUp(result.block, refused)
        }
        try self.block?.life.take(.rawKeysEqual)
        try self.block?.life.take(.estimate(secretBits: Int(result.secretBits), limitedBy: result.limitedBy))
        report = account.report(
            numbers, link: context.link, began: blockBegan, slots: block.life.slots, variance: 0, tagBits: 3 * 128,
            provenance: provenance(block), deviceSeconds: await deviceSeconds(), padBits: result.secretBits > 0 ? numbers.padBits : 0)
        if result.secretBits == 0 {
            if let report = finished() {
                context.monitor.raise("no-key", .minor, "block \(report.block) gave no key: \(report.limitedBy)")
                context.monitor.closed(report)
            }
            self.result = nil
            awaited = nil
        } else {
            self.result = result
            awaited = .block
        }
        showBlock()
    }

    /// A tag has verified; what it closes may now be believed.
    func take(_ tag: TagMessage) async throws {
        guard tag.purpose == awaited, let result else {
            throw QuantumLinkError.unexpected(message: "a \(tag.purpose) tag", during: "a session")
        }
        switch tag.purpose {
        case .block: try await hold(result)
        case .commit:
            try meter.measure(.deposit) { try context.database.resolve(result.block, committed: true) }
            try block?.life.take(.tagged)
            channel.send(.blockDone(result.block))
            context.committed()
            try block?.life.take(.deposited)
            if let report = finished() { context.monitor.closed(report) }
            context.monitor.clear("no-key")
            (self.result, report, awaited) = (nil, nil, nil)
            showBlock()
        case .handshake: throw QuantumLinkError.unexpected(message: "a handshake tag", during: "a session")
        }
    }

    private func hold(_ result: BlockResult) async throws {
        guard let block else { throw QuantumLinkError.closed("the block is gone") }
        let raw = block.raw
        let rawBits = 8 * raw.reduce(0) { $0 + $1.count }
        let key = try await meter.measure(.amplification) {
            try await Task.detached {
                try ToeplitzHash.hash(input: raw, inputBits: rawBits, outputBits: Int(result.secretBits), seed: result.seed)
            }.value
        }
        try self.block?.life.take(.amplified)
        let finished = FinishedBlock(
            link: context.link, peer: context.settings.identity.peer, block: result.block, key: key,
            padBytesForward: Int(result.padBitsForward) / 8, padBytesBackward: Int(result.padBitsBackward) / 8,
            provenance: provenance(block), role: .receiver)
        try meter.measure(.deposit) { try context.database.holdInDoubt(finished, epoch: keys) }
        awaited = .commit
        channel.send(.blockAck(result.block))
        try channel.sendTag(.block)
        showBlock()
    }

    /// The block's report with what it cost.
    private func finished() -> BlockReport? {
        report?.work = BlockWork(meter.all, channel.traffic, since: trafficBefore)
        return report
    }

    private func provenance(_ block: ReceiverBlock) -> KeyProvenance {
        block.plan.emulated || block.emulated ? .emulated : .hardware
    }

    private func deviceSeconds() async -> Double {
        guard let firstDeviceTime else { return 0 }
        let now = await station.log.now
        return now > firstDeviceTime ? Double(now - firstDeviceTime) / 1e9 : 0
    }
}
