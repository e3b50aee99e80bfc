// The receiver's end of one connection.
//
//     listen    every message of the far end, in order; verdicts and the block's end are dealt with here
//     slot      one task per slot (ReceiverSession+Slot): lock, acquire, align, encode frames
//     announce  whenever calibration or device change: may a slot be offered?

internal import Foundation
internal import KeyMaterial
internal import PostProcessing
internal import QKDModel

actor ReceiverSession {
    let channel: AuthenticatedChannel
    let context: SessionContext
    let station: ReceiverStation
    let keys: EpochKeys

    var block: ReceiverBlock?
    var blockBegan = Date()
    let meter: StageMeter
    var trafficBefore: (sent: UInt64, received: UInt64) = (0, 0)
    var firstDeviceTime: UInt64?
    var slot: RunningSlot?
    var slotInbox = MessageQueue<ChannelMessage>()
    var sums: BlockSums?
    var calibration: NoiseCalibration?
    var result: BlockResult?
    var report: BlockReport?
    var awaited: TagPurpose?
    private var slotTask: Task<Void, Never>?
    /// What went out; `announced` is forgotten where the far end has forgotten it.
    private var told: Readiness?
    private var announced: Readiness?
    /// Announcements that were begun, and the newest whose word went out: one that was overtaken says nothing.
    private var announcements = 0
    private var newestAnnounced = 0
    private var waiters: [CheckedContinuation<Void, Never>] = []

    struct RunningSlot {
        var number: UInt32
        var frames: Int
        var isOver = false
    }

    init(channel: AuthenticatedChannel, context: SessionContext, station: ReceiverStation, keys: EpochKeys) {
        self.channel = channel
        self.context = context
        self.station = station
        self.keys = keys
        meter = StageMeter(context.clock)
    }

    /// Runs until the channel fails or the task is cancelled.
    func run() async throws {
        context.tap?.take(.session)
        await station.onChange { [weak self] in await self?.announce() }
        let result: Result<Void, any Error>
        do {
            try await withTaskCancellationHandler {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await self.listen() }
                    // Conditions of the device that no window tells of are told now and then.
                    group.addTask { try await keepAlive(self.channel, self.context.settings.patience) { await self.announce() } }
                    defer { group.cancelAll() }
                    do {
                        try await group.next()
                        throw CancellationError()
                    } catch {
                        self.channel.object(to: error)
                        self.stop()
                        throw error
                    }
                }
            } onCancel: {
                // Whatever waits for the slot's end inside `listen` would wait for ever.
                Task { await self.stop() }
            }
            result = .success(())
        } catch { result = .failure(error) }
        await station.onChange(nil)
        stop()
        await slotTask?.value
        if case .failure(let error) = result { lost(error) }
        try result.get()
    }

    /// A block that was open when the connection ended is lost; one in doubt is settled by the next handshake.
    private func lost(_ error: any Error) {
        if let block, !block.life.isOver, awaited != .commit { giveUp(block.plan.block, "the connection ended: \(describe(error))") }
        context.monitor.update { $0.slotOpen = false }
    }

    private func listen() async throws {
        await announce()
        while true { try await handle(try await channel.receive()) }
    }

    /// The connection is over: nothing of the slot goes on.
    func stop(_ error: (any Error)? = nil) {
        if let error { context.monitor.say("channel", describe(error)) }
        channel.close()
        slot?.isOver = true
        slotInbox.close()
        changed()
        slotTask?.cancel()
    }

    func changed() {
        let all = waiters
        waiters = []
        for waiter in all { waiter.resume() }
    }

    /// The session is over when nothing changes for so long.
    func waitForChange(_ what: String) async {
        let limit = context.settings.patience.progress
        let watch = Task {
            guard (try? await Task.sleep(for: limit)) != nil else { return }
            self.stop(QuantumLinkError.timedOut(what))
        }
        defer { watch.cancel() }
        await withCheckedContinuation { waiters.append($0) }
    }

    // MARK: Readiness

    private var slotSymbols: Int { context.settings.slotSymbols }

    /// Tells the far end what can be done now, if it changed, and the station what is needed next.
    /// - Parameter again: even if nothing changed: the far end has forgotten.
    func announce(again: Bool = false) async {
        if again { announced = nil }
        announcements += 1
        let number = announcements
        let (generation, facts) = (await station.generation, await station.facts)
        let fault = await station.fault
        if let text = await station.alarm { context.monitor.trouble(.calibration, text) } else { context.monitor.over(.calibration) }
        // Once the length is agreed on, the block is settled by its tags.
        if let block, !block.life.isOver, result == nil, let reason = fault ?? trouble(of: block, generation: generation, facts: facts) {
            channel.send(.blockAbort(block.plan.block, reason: reason))
            giveUp(block.plan.block, reason)
        }
        let since: UInt64
        // A block that is over says nothing about what the next one needs.
        let block = self.block.flatMap { $0.generation == generation && !$0.life.isOver ? $0 : nil }
        if let block { since = block.calibrationSince } else { since = await station.blockStart() }
        let generated = Int(block?.symbols ?? 0)
        let left = block.map { $0.life.wanted * $0.code.frameSymbols } ?? context.settings.blockSymbols
        // What the next slot needs, and one slot more while the transmitter serves others.
        let wanted = UInt64(context.settings.calibrationRatio * Double(generated + min(slotSymbols, left)))
        let ahead = UInt64(generated + min(2 * slotSymbols, left))
        await station.needs(
            .init(
                since: since, shotSymbols: max(wanted, ahead), windowSymbols: max(65536, min(slotSymbols / 8, ReceiverStation.mostWindow)),
                darkSymbols: UInt64(max(262_144, min(slotSymbols, 8_000_000)))))
        let have = await station.shotSymbols(since: since)
        var obstacle = await station.obstacle()
        if obstacle == nil, have < wanted { obstacle = "calibrating: \(have) of \(wanted) shot-noise symbols" }
        await send(number, obstacle: obstacle, symbols: have, since: since)
    }

    /// Why an open block cannot go on with the receiver as it is now, or nil. A receiver that is away for a moment is the slot's trouble.
    private func trouble(of block: ReceiverBlock, generation: Int, facts: DeviceFacts?) -> String? {
        if block.generation != generation { return "the receiver restarted or was replaced: its calibration is gone" }
        if let facts, facts.emulated != block.emulated { return "the receiver's provenance changed within the block" }
        return nil
    }

    private func send(_ number: Int, obstacle: String?, symbols: UInt64, since: UInt64) async {
        guard let facts = await station.facts else {
            let trouble = obstacle ?? "the receiver is not there"
            context.monitor.update { ($0.receiverReady, $0.receiverReason) = (false, trouble) }
            // All that was told last, but for the receiver.
            guard number > newestAnnounced, var new = told else { return }
            newestAnnounced = number
            (new.ready, new.reason) = (false, trouble)
            if new != announced { tell(new) }
            return
        }
        let sums = await station.calibration(since: since)
        let noise = sums.flatMap { try? NoiseCalibration(dark: $0.dark, shot: $0.shot) }
        let ages = await station.ages()
        // Whoever began later has seen all that this one saw.
        guard number > newestAnnounced else { return }
        newestAnnounced = number
        let new = Readiness(
            ready: obstacle == nil && noise != nil, reason: obstacle ?? (noise == nil ? "the calibration cannot be used" : ""),
            emulated: facts.emulated, captured: facts.captured, efficiency: facts.efficiency, efficiencyError: facts.efficiencyError,
            shotNoise: noise?.shotNoiseVariance ?? 0, electronicNoise: noise?.electronicNoise ?? 0, symbolRate: facts.symbolRate,
            calibrationSymbols: symbols, recording: context.tap != nil, code: context.settings.code)
        context.monitor.update { snapshot in
            (snapshot.receiverReady, snapshot.receiverReason, snapshot.calibrationSymbols) = (new.ready, new.reason, symbols)
            (snapshot.darkAge, snapshot.shotAge) = ages
            (snapshot.shotNoise, snapshot.electronicNoise) = (noise?.shotNoiseVariance, noise?.electronicNoise)
        }
        if new != announced { tell(new) }
    }

    private func tell(_ new: Readiness) {
        (announced, told) = (new, new)
        channel.send(.readiness(new))
    }

    // MARK: Listening

    private func handle(_ message: ChannelMessage) async throws {
        // In the order in which this actor takes them.
        context.tap?.take(.heard(message))
        switch message {
        case .blockPrepare(let plan): try await prepare(plan)
        case .slotOffer(let number, let frames, _): try await offered(number, frames: Int(frames))
        case .slotLit, .slotRunning, .slotDisclose:
            if message.slotNumber == slot?.number { slotInbox.put(message) }
        case .slotEnd(let number, let frames, let reason): try await ended(number, frames: frames, reason: reason)
        case .verdict(let verdict): try take(verdict)
        case .frameMore(let more): try take(more)
        case .blockClose(let id): try await closeBlock(id)
        case .blockResult(let result): try await take(result)
        case .blockCommit(let id):
            guard id == result?.block, awaited == .commit else {
                throw QuantumLinkError.unexpected(message: message.name, during: "a session")
            }
        case .tag(let tag): try await take(tag)
        case .blockAbort(let id, let reason): giveUp(id, reason)
        case .alive: break
        case .bye(let reason): throw QuantumLinkError.closed(reason)
        default: throw QuantumLinkError.unexpected(message: message.name, during: "a session")
        }
    }

    private func prepare(_ plan: BlockPlan) async throws {
        // The far end begins anew: whatever was under way here is void.
        if let old = block, !old.life.isOver { giveUp(old.plan.block, "the far end began another block") }
        do {
            block = try await accept(plan)
        } catch let error as QuantumLinkError {
            throw error
        } catch {
            channel.send(.blockRefuse(plan.block, reason: describe(error)))
            context.monitor.setState(.pending, describe(error))
            // What was enough for the last block may be too old for this one.
            return await announce(again: true)
        }
        (sums, result, report, awaited) = (nil, nil, nil, nil)
        blockBegan = Date()
        meter.restart()
        trafficBefore = channel.traffic
        channel.send(.blockAccept(plan.block))
        context.monitor.generating()
        showBlock()
        await announce()
    }

    /// - Throws: `SlotOver` with the reason of a refusal.
    private func accept(_ plan: BlockPlan) async throws -> ReceiverBlock {
        let account = try keys.account()
        guard account.suffices else {
            context.monitor.raise("pad", .major, QuantumLinkError.padExhausted(link: context.link).description)
            throw SlotOver(reason: "authentication key is down to its reserve")
        }
        context.monitor.clear("pad")
        guard context.monitor.snapshot.enabled else { throw SlotOver(reason: "disabled at the receiver's end") }
        let own = context.settings.code
        guard plan.epsilon == context.settings.epsilon, own == LinkSettings.automatic || plan.code == own else {
            throw SlotOver(reason: "the two ends are configured with different codes or epsilons")
        }
        let code = try ReconciliationCode.named(plan.code)
        if let trouble = LinkService.trouble(epsilon: context.settings, code) { throw SlotOver(reason: trouble) }
        guard plan.frames >= 1, Int(plan.frames) * code.frameSymbols <= 4_000_000_000 else {
            throw SlotOver(reason: "a block of that length")
        }
        if let obstacle = await station.obstacle() { throw SlotOver(reason: obstacle) }
        let isEmulated = await station.facts?.emulated != false
        if let obstacle = try keys.obstacle(to: plan.emulated || isEmulated ? .emulated : .hardware) {
            context.monitor.raise("provenance", .major, obstacle)
            throw SlotOver(reason: obstacle)
        }
        context.monitor.clear("provenance")
        let (since, generation) = (await station.blockStart(), await station.generation)
        guard let sums = await station.calibration(since: since) else { throw SlotOver(reason: "no calibration yet") }
        let noise: NoiseCalibration
        do { noise = try NoiseCalibration(dark: sums.dark, shot: sums.shot) } catch { throw SlotOver(reason: describe(error)) }
        var new = try ReceiverBlock(
            plan: plan, calibrationSince: since, generation: generation, emulated: isEmulated, unit: noise.shotNoiseVariance.squareRoot(),
            meanX: noise.shot.meanX,
            meanP: noise.shot.meanP,
            random: context.random)
        try new.life.take(.accepted)
        context.tap?.take(.begins(plan: plan, dark: sums.dark, shot: sums.shot, emulated: isEmulated))
        return new
    }

    private func offered(_ number: UInt32, frames: Int) async throws {
        guard slot == nil, let block, !block.life.isOver, frames >= 1, frames <= block.life.wanted else {
            channel.send(.slotAnswer(slot: number, accepted: false, reason: "no block is open here"))
            await announce(again: true)
            return
        }
        await announce()
        guard announced?.ready == true else {
            channel.send(.slotAnswer(slot: number, accepted: false, reason: announced?.reason ?? "not ready"))
            announced = nil
            return
        }
        slot = RunningSlot(number: number, frames: frames)
        slotInbox = MessageQueue()
        let previous = slotTask
        slotTask = Task {
            await previous?.value
            await self.runSlot(number, frames: frames)
        }
    }

    private func take(_ verdict: Verdict) throws {
        guard let slot, slot.number == verdict.slot, block != nil else {
            throw QuantumLinkError.badMessage("a verdict on a frame of another slot")
        }
        // Frames of a block that was given up here may still be under way.
        guard block?.life.stage != .void else { return }
        if let samples = try block?.decide(verdict) {
            channel.send(.frameValues(FrameValues(slot: verdict.slot, index: verdict.index, samples: samples)))
        }
        if verdict.index % 16 == 0 || !verdict.decoded { showBlock() }
        changed()
    }

    /// The transmitter's end wants more bits of frames that it could not decode.
    private func take(_ more: FrameMore) throws {
        guard let slot, slot.number == more.slot, let life = block?.life else {
            throw QuantumLinkError.badMessage("a request for frames of another slot")
        }
        guard life.stage != .void, let disclosed = try block?.disclose(more) else { return }
        channel.send(.frameDisclosed(disclosed))
    }

    /// The transmitter's end closes the slot; only it knows how many frames are decided.
    private func ended(_ number: UInt32, frames: UInt32, reason: String) async throws {
        guard slot?.number == number else { return }
        slot?.isOver = true
        slotInbox.put(.slotEnd(slot: number, frames: frames, reason: reason))
        changed()
        await slotTask?.value
        if block?.life.stage != .void {
            try block?.endSlot(frames: frames)
            context.tap?.take(.slotEnded(frames: frames))
        }
        slot = nil
        context.monitor.update { snapshot in
            snapshot.slotOpen = false
            snapshot.slots += 1
            if !reason.isEmpty { snapshot.slotsFailed += 1 }
            if reason == SlotOver.overrun { snapshot.slotsOverrun += 1 }
        }
        context.monitor.slotEnded(frames: Int(frames), reason: reason)
        if !reason.isEmpty { context.monitor.say("slot", "\(number) ended after \(frames) frames: \(reason)") }
        showBlock()
        await announce(again: true)
    }

    func giveUp(_ id: BlockID, _ reason: String) {
        guard block?.plan.block == id else { return }
        try? block?.life.take(.gaveUp(reason: reason))
        if reason.hasPrefix("skipped: ") {
            context.monitor.update { ($0.blocksSkipped, $0.skipReason) = ($0.blocksSkipped + 1, reason) }
        }
        (sums, result, report, awaited) = (nil, nil, nil, nil)
        context.monitor.gaveUp(reason)
        context.monitor.say("block", "\(id) was given up: \(reason)")
        showBlock()
    }

    func showBlock() {
        let life = block?.life
        let account = try? keys.account()
        context.monitor.update { snapshot in
            snapshot.code = block?.code.id ?? ""
            snapshot.block = life?.block
            snapshot.stage = life?.stage
            snapshot.progress = life?.progress ?? 0
            snapshot.framesDecoded = life?.decoded ?? 0
            snapshot.framesFailed = life?.failed ?? 0
            snapshot.stages = meter.all.seconds
            snapshot.padForward = account?.remainingForward
            snapshot.padBackward = account?.remainingBackward
        }
    }
}
