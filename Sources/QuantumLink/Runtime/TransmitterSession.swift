// The transmitter's end of one connection: block after block, slot after slot, until the channel fails.
//
//     listen   every message of the far end: readiness, frames to the decoders, the rest to whoever waits
//     work     agree on a block -> turns on the transmitter until it has its frames -> close it (TransmitterSession+Close)
//     read     per slot: the device's symbols into the store (TransmitterSession+Slot)

internal import Foundation
internal import KeyMaterial
internal import PostProcessing
internal import QKDModel

extension [Double] {
    /// 0 where there is none.
    subscript(safe index: Int) -> Double { indices.contains(index) ? self[index] : 0 }
}

actor TransmitterSession {
    let channel: AuthenticatedChannel
    let context: SessionContext
    let station: TransmitterStation
    let keys: EpochKeys
    var planner: BlockPlanner
    /// Of the running block, or the next one.
    var code: ReconciliationCode { block?.code ?? planner.choice.code }
    let seats: [DecodingSeat]
    let meter: StageMeter
    /// Bytes of the channel when the block began.
    var trafficBefore: (sent: UInt64, received: UInt64) = (0, 0)
    /// Shot-noise symbols that the receiver has measured since the last block.
    var calibrated = 0.0
    /// Slots in a row that lost symbols because nobody took them in time.
    var overrunsInARow = 0
    var slotInbox = MessageQueue<ChannelMessage>()
    let blockInbox = MessageQueue<ChannelMessage>()

    var readiness: Readiness? { planner.readiness }
    var block: TransmitterBlock?
    var blockBegan = Date()
    /// LSB per sqrt(SNU) of the running block, as its first slot said.
    var blockUnit: Double?
    var slot: RunningSlot?
    var slotNumber: UInt32 = 0
    var failure: (any Error)?
    private var ticket = 0
    private var hasEnded = false
    private var waiters: [CheckedContinuation<Void, Never>] = []

    /// What belongs to the slot that runs.
    struct RunningSlot {
        var number: UInt32
        var frames: Int
        var store = SymbolStore()
        /// The place of frame 0.
        var base: Int?
        var reference: SlotFrameOfReference?
        /// Frames that came.
        var arrived: UInt32 = 0
        var decided: UInt32 = 0
        var board = FrameBoard()
        /// The slot ends; nothing more is wanted of the device.
        var isOver = false
        /// The device has sent all that it will.
        var hasStopped = false
        /// The next link may open its slot: this one's symbols are nearly all sent.
        var isEnding = false
        /// The device was handed on.
        var isGivenBack = false
        var failure: (any Error)?
        /// Device time of its first and last batch, ns.
        var firstTime: UInt64 = 0
        var lastTime: UInt64 = 0

        /// How far the receiver has turned since it aligned.
        let phase = PhaseTrack()

        /// How long the steps of its opening took, ms.
        var marks: [Double] = []
        private var since = ContinuousClock.now

        mutating func mark() {
            let now = ContinuousClock.now
            marks.append((now - since) / .milliseconds(1))
            since = now
        }

        init(number: UInt32, frames: Int) {
            self.number = number
            self.frames = frames
        }

        /// Whether all symbols of its frames are here.
        func hasAll(_ frameSymbols: Int) -> Bool { base.map { store.end >= $0 + frames * frameSymbols } ?? false }
    }

    init(channel: AuthenticatedChannel, context: SessionContext, station: TransmitterStation, keys: EpochKeys, seats: [DecodingSeat]) throws
    {
        self.channel = channel
        self.context = context
        self.station = station
        self.keys = keys
        self.seats = seats
        meter = StageMeter(context.clock)
        planner = try BlockPlanner(context.settings)
    }

    /// Runs until the channel fails or the task is cancelled.
    func run() async throws {
        context.tap?.take(.session)
        ticket = await station.enter(context.link, weight: context.settings.weight)
        let result: Result<Void, any Error>
        do {
            try await withTaskCancellationHandler {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await self.listen() }
                    group.addTask { try await self.work() }
                    group.addTask { try await keepAlive(self.channel, self.context.settings.patience) }
                    defer { group.cancelAll() }
                    do {
                        try await group.next()
                        // Whoever ended was cancelled; the others may wait for what it would have done.
                        throw CancellationError()
                    } catch {
                        await self.fail(error)
                        throw error
                    }
                }
            } onCancel: {
                channel.close()
                // Waits inside the actor know nothing of cancellation.
                Task { await self.fail(CancellationError()) }
            }
            result = .success(())
        } catch { result = .failure(error) }
        hasEnded = true
        if case .failure(let error) = result { lost(error) }
        await station.leave(context.link, ticket: ticket)
        channel.close()
        try result.get()
    }

    func fail(_ error: any Error) async {
        // Decoders and watches may come late.
        guard !hasEnded else { return }
        if failure == nil { channel.object(to: error) }
        failure = failure ?? error
        slot?.isOver = true
        slotInbox.close()
        blockInbox.close()
        channel.close()
        changed()
        await station.leave(context.link, ticket: ticket)
    }

    /// The first trouble of a slot is its reason.
    func blame(_ error: any Error) {
        guard let running = slot, running.failure == nil else { return }
        slot?.failure = error
    }

    // MARK: Waiting inside the actor

    func changed() {
        let all = waiters
        waiters = []
        for waiter in all { waiter.resume() }
    }

    /// - Throws: what ended the session.
    func waitForChange() async throws {
        if let failure { throw failure }
        await withCheckedContinuation { waiters.append($0) }
        if let failure { throw failure }
    }

    /// - Throws: also when nothing changes for so long: the session is over then.
    func waitForChange(within limit: Duration, _ what: String) async throws {
        let watch = Task {
            guard (try? await Task.sleep(for: limit)) != nil else { return }
            await self.fail(QuantumLinkError.timedOut(what))
        }
        defer { watch.cancel() }
        try await waitForChange()
    }

    // MARK: Listening

    private func listen() async throws {
        while !Task.isCancelled { try await handle(try await channel.receive()) }
    }

    private func handle(_ message: ChannelMessage) async throws {
        // In the order in which this actor takes them.
        context.tap?.take(.heard(message))
        switch message {
        case .readiness(let readiness): await take(readiness)
        case .frame(let body): try await take(body)
        case .frameValues(let values): try take(values)
        case .frameDisclosed(let disclosed): try take(disclosed)
        case .slotAligned(let reference): try take(reference, message)
        case .slotAnswer(_, let accepted, _):
            // In the order of the channel: a readiness that comes behind a refusal counts.
            if !accepted { await station.receiver(context.link, ready: false) }
            if message.slotNumber == slot?.number { slotInbox.put(message) }
        case .slotLocked, .slotReceiving:
            if message.slotNumber == slot?.number { slotInbox.put(message) }
        case .slotEnd(let number, _, let reason):
            guard number == slot?.number else { return }
            slot?.isOver = true
            blame(SlotOver(reason: reason))
            slotInbox.put(message)
            changed()
        case .blockAccept, .blockRefuse, .blockSums, .blockAck, .tag: blockInbox.put(message)
        case .blockAbort(let id, let reason):
            guard id == block?.plan.block else { return }
            await voidBlock(reason, by: message)
        case .blockDone(let id): context.monitor.say("block", "\(id) is held by both ends")
        case .alive: break
        case .bye(let reason): throw QuantumLinkError.closed(reason)
        default: throw QuantumLinkError.unexpected(message: message.name, during: "a session")
        }
    }

    /// From outside the work on the block: whoever waits for it learns it from the message, the inboxes or its life.
    /// - Parameter message: the far end's word; nil: this end's, which is then told to the far end.
    private func voidBlock(_ reason: String, by message: ChannelMessage? = nil) async {
        guard let id = block?.plan.block, block?.life.isOver == false else { return }
        if message == nil { channel.send(.blockAbort(id, reason: reason)) }
        try? block?.life.take(.gaveUp(reason: reason))
        blockInbox.put(message ?? .blockAbort(id, reason: reason))
        slot?.isOver = true
        blame(SlotOver(reason: reason))
        context.monitor.gaveUp(reason)
        context.monitor.say("block", "\(id) was given up\(message == nil ? "" : " by the receiver's end"): \(reason)")
        await station.withdraw(context.link)
        changed()
    }

    private func take(_ new: Readiness) async {
        let old = readiness
        // What the receiver measured since: windows serve several blocks.
        calibrated += max(0, Double(new.calibrationSymbols) - Double(old?.calibrationSymbols ?? 0))
        planner.heard(new)
        if let old, let block, !block.life.isOver, old.emulated != new.emulated {
            await voidBlock("the receiver's symbols are \(new.emulated ? "emulated" : "real") now: provenance changed within the block")
        }
        context.monitor.update { snapshot in
            snapshot.receiverReady = new.ready
            snapshot.receiverReason = new.reason
            snapshot.calibrationSymbols = new.calibrationSymbols
            snapshot.shotNoise = new.shotNoise > 0 ? new.shotNoise : nil
            snapshot.electronicNoise = new.electronicNoise
        }
        await station.receiver(context.link, ready: new.ready)
        changed()
    }

    // MARK: Block after block

    private func work() async throws {
        while !Task.isCancelled {
            try await waitUntilPossible()
            do {
                try await prepare()
                while let block, !block.life.isOver, block.life.wanted > 0 { try await nextSlot() }
                if let block, !block.life.isOver { try await close() }
            } catch let error as QuantumLinkError {
                guard case .blockVoid(_, let reason) = error else { throw error }
                giveUp(reason)
            }
            if let block, block.life.stage == .void, block.life.decided < block.life.frames {
                try await Task.sleep(for: .milliseconds(500))
            }
            block = nil
        }
    }

    /// A block needs pad above the reserve, a receiver that has said what it is, and a link that is enabled.
    private func waitUntilPossible() async throws {
        var account = try keys.account()
        context.monitor.update { ($0.padForward, $0.padBackward) = (account.remainingForward, account.remainingBackward) }
        while !account.suffices {
            context.monitor.raise("pad", .major, QuantumLinkError.padExhausted(link: context.link).description)
            context.monitor.setState(.passive, "authentication key is down to its reserve")
            // Only a new epoch helps, and that needs a new handshake.
            throw QuantumLinkError.padExhausted(link: context.link)
        }
        context.monitor.clear("pad")
        while readiness == nil { try await waitForChange(within: context.settings.patience.progress, "the receiver's readiness") }
        while !context.monitor.snapshot.enabled {
            context.monitor.setState(.passive, "disabled")
            try await Task.sleep(for: .milliseconds(200))
            if let failure { throw failure }
        }
        account = try keys.account()
    }

    private func prepare() async throws {
        guard let facts = try await deviceFacts() else { return }
        guard !facts.captured else {
            context.monitor.setState(.passive, "the transmitter is being captured: nothing may be distilled")
            try await Task.sleep(for: .seconds(2))
            return
        }
        guard try await padsFit(facts) else { return }
        guard let plan = try await plan(facts) else { return }
        blockUnit = nil
        let new = try TransmitterBlock(
            plan: plan, variance: planner.choice.variance, facts: facts, receiverEmulated: readiness?.emulated ?? facts.emulated)
        channel.send(.blockPrepare(plan))
        switch try await blockMessage(within: context.settings.patience.answer, "the answer to a block") {
        case .blockAccept(plan.block):
            block = new
            context.tap?.take(.transmitter(serial: new.serial, emulated: facts.emulated, receiverEmulated: new.receiverEmulated))
            blockBegan = Date()
            meter.restart()
            (trafficBefore, overrunsInARow) = (channel.traffic, 0)
            guard readiness?.emulated == new.receiverEmulated else {
                throw abandon("the receiver's provenance changed while the block was prepared")
            }
            try block?.life.take(.accepted)
            showBlock()
            context.monitor.generating()
        case .blockRefuse(plan.block, let reason):
            context.monitor.setState(.pending, reason)
            try await Task.sleep(for: .seconds(1))
        case let other: throw QuantumLinkError.unexpected(message: other.name, during: "the preparation of a block")
        }
    }

    /// - Returns: nil when the two ends cannot agree on a code.
    private func plan(_ facts: DeviceFacts) async throws -> BlockPlan? {
        do { return try planner.plan(block: freshBlockID(context.random), emulated: facts.emulated) } catch let error as QuantumLinkError {
            context.monitor.setState(.pending, describe(error))
            try await Task.sleep(for: .seconds(1))
            if let failure { throw failure }
            return nil
        }
    }

    /// Pads that an emulator refilled authenticate emulated blocks only.
    private func padsFit(_ facts: DeviceFacts) async throws -> Bool {
        let isEmulated = facts.emulated || readiness?.emulated == true
        guard let obstacle = try keys.obstacle(to: isEmulated ? .emulated : .hardware) else {
            context.monitor.clear("provenance")
            return true
        }
        context.monitor.raise("provenance", .major, obstacle)
        context.monitor.setState(.passive, obstacle)
        try await Task.sleep(for: .seconds(2))
        if let failure { throw failure }
        return false
    }

    /// - Returns: nil while the device is not there. The connection stays: a handshake would cost pad.
    private func deviceFacts() async throws -> DeviceFacts? {
        do { return try await station.device.facts() } catch let error where !(error is CancellationError) {
            context.monitor.setState(.pending, describe(error))
            try await Task.sleep(for: .seconds(1))
            if let failure { throw failure }
            return nil
        }
    }

    func blockMessage(within limit: Duration, _ what: String) async throws -> ChannelMessage {
        let inbox = blockInbox
        while true {
            let message = try await meter.measure(.channel) { try await withTimeout(limit, what) { await inbox.next() } }
            if let failure { throw failure }
            guard let message else { throw QuantumLinkError.closed("the session ended") }
            guard case .blockAbort(let id, let reason) = message else { return message }
            // One that came while nobody waited is over already.
            if id == block?.plan.block { throw QuantumLinkError.blockVoid(id, reason: reason) }
        }
    }

    /// Tells the far end that the block is void.
    /// - Returns: what to throw.
    func abandon(_ reason: String) -> QuantumLinkError {
        guard let id = block?.plan.block else { return .closed("the block is gone") }
        channel.send(.blockAbort(id, reason: reason))
        return .blockVoid(id, reason: reason)
    }

    /// A block is one transmitter's, and all emulated or all real.
    /// - Throws: `blockVoid`; not while the device is away, that is the slot's trouble.
    func checkDevice() async throws {
        guard let facts = try? await station.device.facts(), let block, !block.life.isOver else { return }
        guard facts.serial == block.serial, facts.emulated == block.plan.emulated else {
            throw abandon("the transmitter was exchanged or its provenance changed within the block")
        }
    }

    /// A block that was open when the connection ended is lost; one that was committed here is not.
    private func lost(_ error: any Error) {
        if block?.life.stage != .tagged { giveUp("the connection ended: \(describe(error))") }
        context.monitor.update { $0.slotOpen = false }
    }

    func giveUp(_ reason: String) {
        guard let id = block?.plan.block, block?.life.isOver == false else { return }
        try? block?.life.take(.gaveUp(reason: reason))
        context.monitor.gaveUp(reason)
        context.monitor.say("block", "\(id) was given up: \(reason)")
        showBlock()
    }

    func showBlock() {
        let life = block?.life
        let spent = try? keys.account()
        let bits = planner.choice.expectedBits
        let expected = bits.isFinite ? Int(max(0, bits)) : nil
        context.monitor.update { snapshot in
            snapshot.code = code.id
            snapshot.block = life?.block
            snapshot.stage = life?.stage
            snapshot.progress = life?.progress ?? 0
            snapshot.framesDecoded = life?.decoded ?? 0
            snapshot.framesFailed = life?.failed ?? 0
            snapshot.modulationVariance = block?.variance
            snapshot.stages = meter.all.seconds
            snapshot.expectedBits = expected
            snapshot.padForward = spent?.remainingForward
            snapshot.padBackward = spent?.remainingBackward
        }
    }
}
