// One slot at the transmitter's end, and the frames that come during it.

internal import Foundation
internal import KeyMaterial
internal import PostProcessing
internal import QKDModel

extension TransmitterSession {
    /// Symbols kept before the receiver has said where it starts, and waiting for their frames afterwards.
    private static let mostUnaligned = 1 << 25
    private static let mostWaiting = 1 << 23
    /// Slots in a row that may lose symbols before the block is skipped.
    private static let mostOverruns = 3

    /// Waits for a turn and uses it. Failures of devices and alignment end the slot, not the session.
    func nextSlot() async throws {
        guard let wanted = block?.life.wanted else { return }
        let slotFrames = max(1, context.settings.slotSymbols / code.frameSymbols)
        let granted = await meter.measure(.turn) { await station.turn(context.link, wanted: wanted, slotFrames: slotFrames) }
        guard let grant = granted else {
            if let failure { throw failure }
            if block?.life.isOver == true { return }
            throw QuantumLinkError.closed("the session ended")
        }
        guard block?.life.isOver == false else {
            return await station.finished(context.link, symbols: 0, seconds: 0, refused: false)
        }
        do { try await checkDevice() } catch {
            await station.finished(context.link, symbols: 0, seconds: 0, refused: false)
            throw error
        }
        slotNumber &+= 1
        let number = slotNumber
        slot = RunningSlot(number: number, frames: grant.frames)
        slotInbox = MessageQueue()
        var refused = false
        do {
            refused = try await !open(number, frames: grant.frames)
            if !refused { try await generate() }
        } catch {
            if let failure { throw failure }
            blame(error)
            refused = slot?.base == nil
        }
        // Frames of a slot that ended early stay in the block.
        await giveBack(symbols: Int(slot?.decided ?? 0) * code.frameSymbols, refused: refused)
        let decided = slot?.decided ?? 0
        try await end(number)
        // A slot that gave nothing is not tried again at once.
        if decided == 0 { try await Task.sleep(for: .milliseconds(200)) }
        try await checkTuning()
    }

    /// The device is free for other links. Once per slot.
    private func giveBack(symbols: Int, refused: Bool) async {
        guard let running = slot, !running.isGivenBack else { return }
        slot?.isGivenBack = true
        let seconds = Double(running.lastTime &- running.firstTime) / 1e9
        let rate = readiness?.symbolRate ?? 0
        await station.finished(
            context.link, symbols: symbols, seconds: rate > 0 ? Double(symbols) / rate : 0, refused: refused && symbols == 0)
        if symbols > 0 {
            context.monitor.say(
                "slot",
                String(
                    format:
                        "%d: %d symbols, the transmitter ran %.2f s from %.2f s of its time; opened by answer %.0f ms, light %.0f ms, lock %.0f ms",
                    running.number, symbols, seconds, Double(running.firstTime) / 1e9, running.marks[safe: 0], running.marks[safe: 1],
                    running.marks[safe: 2]))
        }
    }

    /// - Returns: false when the receiver refused.
    private func open(_ number: UInt32, frames: Int) async throws -> Bool {
        guard let block else { return false }
        channel.send(.slotOffer(slot: number, frames: UInt32(frames), variance: block.variance))
        let answer = try await meter.measure(.channel) {
            try await slotMessage(context.settings.patience.progress, "an answer to the slot")
        }
        guard case .slotAnswer(number, let accepted, let reason) = answer else {
            throw QuantumLinkError.badMessage("something else than an answer to a slot")
        }
        guard accepted else {
            context.monitor.say("slot", "refused: \(reason)")
            context.monitor.update { ($0.receiverReady, $0.receiverReason) = (false, reason) }
            return false
        }
        // The turn may have come a little before the device is free, so that the receiver ends its calibration meanwhile.
        guard await meter.measure(.turn, { await station.device(for: context.link) }) else { throw SlotOver(reason: "the session ended") }
        context.monitor.update { ($0.slot, $0.slotOpen) = (number, true) }
        slot?.mark()
        try await meter.measure(.opening) {
            try await station.device.tune(to: context.settings.gridChannel.map { GridChannel($0).frequency })
            try await station.device.light(path: context.settings.path, variance: block.variance)
            slot?.mark()
            channel.send(.slotLit(slot: number))
            let lock = try await context.monitor.expecting(.noLight, SlotOver.noLock) {
                try await slotMessage(.seconds(120), "the receiver's lock")
            }
            guard case .slotLocked(number) = lock else {
                throw QuantumLinkError.badMessage("something else than a lock")
            }
            slot?.mark()
        }
        return true
    }

    private func generate() async throws {
        guard let number = slot?.number, let frames = slot?.frames else { return }
        let rate = readiness?.symbolRate ?? 0
        // The window lies right behind the first symbols: the receiver runs already.
        let overhead = 4 * SlotOpening.margin(symbolRate: rate) + SlotOpening.window
        let feed = try await station.device.start(symbols: overhead + frames * code.frameSymbols)
        let reader = Task { await self.read(feed) }
        do {
            try await waitForSymbols { $0.end > 0 }
            guard let begun = slot?.store.startUTC else { throw SlotOver(reason: "the slot is over") }
            channel.send(.slotRunning(slot: number, utc: begun))
            try await meter.measure(.alignment) { try await align(number) }
            showBlock()
            try await waitUntilSent()
        } catch {
            blame(error)
        }
        let isWhole = slot.map { $0.failure == nil && !$0.isOver && $0.hasAll(code.frameSymbols) } ?? false
        if !isWhole { slot?.isOver = true }
        changed()
        // Even when the session is cancelled because the far end is gone: the device must not go on acquiring.
        do { try await Task { [station] in try await station.device.stop() }.value } catch {
            blame(error)
            reader.cancel()
        }
        await reader.value
        if isWhole {
            // Others may use the device while the last frames are decoded.
            await giveBack(symbols: frames * code.frameSymbols, refused: false)
            try await decide(frames)
        }
        slot?.isOver = true
        if let failure = slot?.failure { throw failure }
    }

    /// Until the device has sent all that the slot's frames need.
    private func waitUntilSent() async throws {
        while let running = slot, !running.isOver, !running.hasAll(code.frameSymbols) {
            if let life = block?.life, life.lostAlignment { throw SlotOver(reason: "alignment was lost") }
            try await waitForChange(within: context.settings.patience.progress, "frames while the transmitter sends")
        }
    }

    /// The device's symbols into the store; what nobody wants is drained.
    private func read(_ feed: any SymbolFeed) async {
        do {
            while let batch = try await meter.measure(.acquisition, { try await feed.next() }) {
                await station.saw(deviceTime: batch.deviceTime)
                if slot?.firstTime == 0 { slot?.firstTime = batch.deviceTime }
                slot?.lastTime = batch.deviceTime
                guard let running = slot, !running.isOver, !running.hasAll(code.frameSymbols) else { continue }
                if running.base == nil, running.store.held > Self.mostUnaligned {
                    slot?.store.discard(before: running.store.end - Self.mostUnaligned)
                }
                while let running = slot, !running.isOver, running.base != nil, running.store.held > Self.mostWaiting {
                    try await waitForChange()
                }
                guard slot?.isOver == false else { continue }
                try slot?.store.append(batch)
                await announceEnd()
                changed()
            }
            // A receiver that is late has not said yet where it starts: all may be here.
            slot?.hasStopped = true
            if let running = slot, running.base != nil { judgeEnd(of: running) }
        } catch {
            blame(error)
            slot?.isOver = true
        }
        changed()
    }

    private func judgeEnd(of running: RunningSlot) {
        guard running.hasStopped, !running.isOver, !running.hasAll(code.frameSymbols) else { return }
        blame(SlotOver(reason: "the transmitter stopped by itself"))
        slot?.isOver = true
    }

    /// Little is left to send: whoever is next may begin to open its slot.
    private func announceEnd() async {
        guard let running = slot, let base = running.base, !running.isEnding else { return }
        let left = base + running.frames * code.frameSymbols - running.store.end
        guard Double(left) < Double(ReceiverStation.mostWindow) + 0.1 * (readiness?.symbolRate ?? 0) else { return }
        slot?.isEnding = true
        await station.ending(context.link)
    }

    private func align(_ number: UInt32) async throws {
        guard case .slotReceiving(number, let utc, let symbols) = try await slotMessage(.seconds(60), "the receiver's symbols"),
            let rate = readiness?.symbolRate, rate > 0
        else { throw QuantumLinkError.badMessage("something else than the receiver's first symbols") }
        guard Int(symbols) >= SlotOpening.symbolsNeeded(symbolRate: rate) else {
            throw SlotOver(reason: "the receiver holds too few symbols")
        }
        try await waitForSymbols { store in
            store.place(utc: utc, symbolRate: rate).map { store.end >= $0 + SlotOpening.margin(symbolRate: rate) + SlotOpening.window }
                ?? false
        }
        guard let store = slot?.store, let place = store.place(utc: utc, symbolRate: rate) else { throw SlotOver(reason: "no symbols") }
        let start = place + SlotOpening.margin(symbolRate: rate)
        guard let disclosure = SlotOpening.disclosure(slot: number, from: store, start: start, symbolRate: rate, random: context.random)
        else {
            throw SlotOver(reason: "the clocks of the two devices disagree by too much")
        }
        slot?.base = start + SlotOpening.window
        slot?.store.discard(before: start + SlotOpening.window)
        if let running = slot { judgeEnd(of: running) }
        if let failure = slot?.failure { throw failure }
        channel.send(.slotDisclose(disclosure))
        guard case .slotAligned(let reference) = try await slotMessage(.seconds(60), "the alignment"), reference.slot == number else {
            throw QuantumLinkError.badMessage("something else than an alignment")
        }
        context.monitor.update { $0.alignmentSignificance = reference.significance }
        guard reference.aligned else { throw SlotOver(reason: "no correlation between what was sent and what was received") }
    }

    private func waitForSymbols(_ enough: (SymbolStore) -> Bool) async throws {
        while let running = slot, !enough(running.store) {
            if let failure = running.failure { throw failure }
            guard !running.isOver else { throw SlotOver(reason: "the slot is over") }
            guard !running.hasStopped else { throw SlotOver(reason: "the transmitter stopped by itself") }
            try await waitForChange(within: context.settings.patience.progress, "symbols of the transmitter")
        }
    }

    /// Until all frames of the slot are decided, or it ends early.
    private func decide(_ frames: Int) async throws {
        while let life = block?.life, let running = slot, Int(running.decided) < frames, !running.isOver {
            if life.lostAlignment { throw SlotOver(reason: "alignment was lost") }
            try await waitForChange(within: context.settings.patience.progress, "the frames of a slot")
        }
    }

    /// Closes the slot at both ends with the number of frames that were decided.
    private func end(_ number: UInt32) async throws {
        // Frames that came are decided first, and failed ones disclosed, so that both ends count the same.
        try askForMore()
        try await meter.measure(.channel) {
            while let running = slot, let block, !block.life.isOver, running.reference != nil,
                running.arrived > running.decided || block.awaitingValues > 0
            { try await waitForChange(within: context.settings.patience.progress, "the values of failed frames") }
        }
        let decided = slot?.decided ?? 0
        let reason = slot?.failure.map(describe) ?? ""
        channel.send(.slotEnd(slot: number, frames: decided, reason: reason))
        let ended = slot
        slot = nil
        try block?.endSlot()
        context.tap?.take(.slotEnded(frames: decided))
        context.monitor.update { snapshot in
            snapshot.slotOpen = false
            snapshot.slots += 1
            if ended?.failure != nil { snapshot.slotsFailed += 1 }
        }
        context.monitor.slotEnded(frames: Int(decided), reason: reason)
        try noteOverrun(reason)
        showBlock()
        if !reason.isEmpty { context.monitor.say("slot", "\(number) ended after \(decided) frames: \(reason)") }
    }

    /// Slots in a row that lose symbols because this machine, or the far end's, is too slow: the block is skipped, and that is shown.
    private func noteOverrun(_ reason: String) throws {
        guard reason == SlotOver.overrun else { return overrunsInARow = 0 }
        overrunsInARow += 1
        context.monitor.update { $0.slotsOverrun += 1 }
        guard overrunsInARow >= Self.mostOverruns, block?.life.isOver == false else { return }
        let reason = "skipped: \(overrunsInARow) slots in a row lost symbols, a machine is too slow for the symbol rate"
        context.monitor.update { ($0.blocksSkipped, $0.skipReason) = ($0.blocksSkipped + 1, reason) }
        context.monitor.raise("overrun", .major, reason)
        throw abandon(reason)
    }

    private func slotMessage(_ limit: Duration, _ what: String) async throws -> ChannelMessage {
        try await nextSlotMessage(slotInbox, within: limit, waitingFor: what)
    }

    // MARK: Frames

    /// The receiver has found the window. Taken over at once: frames follow on its heels.
    func take(_ reference: SlotFrameOfReference, _ message: ChannelMessage) throws {
        guard let running = slot, running.number == reference.slot else { return }
        guard running.base != nil, running.reference == nil else {
            throw QuantumLinkError.unexpected(message: message.name, during: "a slot that is aligned already")
        }
        if reference.aligned, !running.isOver, block?.life.isOver == false {
            guard blockUnit == nil || blockUnit == reference.unit else {
                throw QuantumLinkError.badMessage("a unit that changed within a block")
            }
            blockUnit = reference.unit
            try block?.life.take(.slotBegan(slot: running.number, frames: running.frames))
            slot?.reference = reference
            context.tap?.take(.slotBegan(slot: running.number, frames: UInt32(running.frames)))
        }
        slotInbox.put(message)
    }

    /// A frame came: decode it beside the others.
    func take(_ body: FrameBody) async throws {
        // What was under way when this end closed the slot is void.
        guard let running = slot, running.number == body.slot, !running.isOver, let base = running.base, running.reference != nil else {
            return
        }
        guard Int(body.index) < running.frames, body.index == running.arrived else {
            throw QuantumLinkError.badMessage("frame \(body.index) is out of turn")
        }
        let range = base + Int(body.index) * code.frameSymbols..<base + (Int(body.index) + 1) * code.frameSymbols
        while let running = slot, running.store.end < range.upperBound || !running.board.isDue(body.index), !running.isOver {
            try await waitForChange()
        }
        // A frame that cannot be decided any more is not counted: the slot's end says so.
        guard let store = slot?.store, slot?.number == body.slot, slot?.board.isDue(body.index) == true, store.holds(range), let block,
            !block.life.isOver
        else { return }
        slot?.arrived += 1
        let (samples, scale, phase) = (store.samples(in: range), store.scale, running.phase.expected(at: body.index))
        slot?.store.discard(before: range.upperBound)
        changed()
        context.tap?.take(.frame(index: body.index, scale: scale, samples: samples))
        let snr = planner.snr(of: block)
        let seat = seats[Int(body.index) % seats.count]
        let (code, passes) = (code, context.settings.maximumPasses)
        work(on: body.index, of: body.slot, firstAt: phase) {
            try await seat.attempt(body, code: code, sent: samples, scale: scale, phase: phase, snr: snr, maximumPasses: passes)
        }
    }

    /// Lets a decoder work on a frame; its slot may be over when it is done.
    /// - Parameter phase: of a first attempt.
    private func work(
        on index: UInt32, of number: UInt32, firstAt phase: Double? = nil, _ attempt: @escaping @Sendable () async throws -> FrameStep
    ) {
        let meter = meter
        Task {
            do {
                let step = try await meter.measure(.decode, isolation: nil, attempt)
                guard self.slot?.number == number, self.block?.life.stage == .generating else { return }
                if let phase { self.attempted(step, index, phase) }
                try self.took(step, index)
            } catch { await self.fail(error) }
        }
    }

    private func attempted(_ step: FrameStep, _ index: UInt32, _ phase: Double) {
        var turned: Double?
        if case .decided(let frame) = step, frame.core != nil { turned = phase + frame.residualPhase }
        slot?.phase.saw(turned, at: index)
        slot?.board.attempted(index, decoded: turned != nil)
    }

    private func took(_ step: FrameStep, _ index: UInt32) throws {
        switch step {
        case .unfinished(let frame): slot?.board.keep(frame, index)
        case .decided(let frame): try settle(index, frame)
        }
        try askForMore()
        changed()
    }

    private func settle(_ index: UInt32, _ frame: DecidedFrame) throws {
        guard let number = slot?.number else { return }
        try block?.decide(index, frame)
        slot?.board.settled(index)
        channel.send(.verdict(Verdict(slot: number, index: index, decoded: frame.core != nil)))
        slot?.decided += 1
        if index % 16 == 0 || frame.core == nil { showProgress() }
    }

    /// Asks the receiver's end for bits of the frames that their messages alone did not decode: of many at once, when it is time.
    func askForMore() throws {
        guard let running = slot, running.reference != nil, block?.life.stage == .generating else { return }
        if running.board.isLost {
            // The ends do not see the same symbols any more: no bits would help.
            for (index, open) in slot?.board.giveUp() ?? [] {
                let (passes, rounds) = (open.frame.passes, open.frame.rounds)
                try settle(index, DecidedFrame(core: nil, passes: passes, rounds: rounds, sent: open.sent))
            }
        }
        let isLast = running.board.attempted == running.arrived && (running.isOver || Int(running.arrived) == running.frames)
        let requests = slot?.board.request(isLast: isLast) ?? []
        if !requests.isEmpty { channel.send(.frameMore(FrameMore(slot: running.number, frames: requests))) }
    }

    func take(_ disclosed: FrameDisclosed) throws {
        guard slot?.number == disclosed.slot, block?.life.stage == .generating else { return }
        for part in disclosed.frames {
            guard let open = slot?.board.answer(part.index) else {
                throw QuantumLinkError.badMessage("bits of frame \(part.index), which nobody asked for")
            }
            let seat = seats[Int(part.index) % seats.count]
            work(on: part.index, of: disclosed.slot) { try await seat.resume(open, with: part.disclosure) }
        }
    }

    func take(_ values: FrameValues) throws {
        guard let reference = slot?.reference, slot?.number == values.slot else {
            throw QuantumLinkError.badMessage("values of a frame of another slot")
        }
        try block?.disclosed(values, reference)
        changed()
    }

    private func showProgress() {
        guard let block else { return }
        let snr = block.sumsSoFar.signalToNoise
        context.monitor.update { snapshot in
            snapshot.progress = block.life.progress
            snapshot.framesDecoded = block.life.decided - block.life.failed
            snapshot.framesFailed = block.life.failed
            snapshot.stage = block.life.stage
            // A status that moves with every frame would tell more digits of the sums than are charged for.
            if let snr { snapshot.snr = threeDigits(snr) }
        }
    }
}
