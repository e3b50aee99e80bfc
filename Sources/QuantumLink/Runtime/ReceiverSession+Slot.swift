// One slot at the receiver's end: lock, acquire, align, encode.

internal import Foundation
internal import PostProcessing
internal import QKDModel

extension ReceiverSession {
    /// Frames that may be under way without a verdict.
    static let mostInFlight = 28

    /// Never throws: a slot that fails is ended at the far end too.
    func runSlot(_ number: UInt32, frames: Int) async {
        // A window that runs is not cut in two.
        await station.turnstile.enter()
        do {
            try await conduct(number, frames: frames)
        } catch {
            if slot?.number == number, slot?.isOver == false {
                slot?.isOver = true
                channel.send(.slotEnd(slot: number, frames: 0, reason: describe(error)))
            }
        }
        await station.turnstile.leave()
    }

    private func conduct(_ number: UInt32, frames: Int) async throws {
        channel.send(.slotAnswer(slot: number, accepted: true, reason: ""))
        context.monitor.update { ($0.slot, $0.slotOpen) = (number, true) }
        let lit = try await meter.measure(.channel) { try await slotMessage("light on the path") }
        guard case .slotLit = lit else { throw SlotOver(reason: "a message out of place") }
        try await meter.measure(.opening) {
            try await context.monitor.expecting(.noLight, SlotOver.noLock) { try await self.station.device.lock() }
        }
        // The receiver runs first: what it sees before the transmitter begins is thrown away, and neither device ever waits for the other.
        let feed = try await station.device.start(symbols: nil)
        channel.send(.slotLocked(slot: number))
        let result: Result<Void, any Error>
        do {
            try await acquire(number, frames: frames, feed)
            result = .success(())
        } catch { result = .failure(error) }
        // Stopped and drained even when the session is cancelled because the far end is gone: a device that goes on
        // acquiring would refuse everything else.
        let (station, patience) = (station, context.settings.patience)
        try await Task {
            try await station.device.stop()
            try await withTimeout(patience.symbols, "the end of the receiver's symbols") {
                while let batch = try await feed.next() { await station.saw(deviceTime: batch.deviceTime) }
            }
        }.value
        try result.get()
    }

    private func slotMessage(_ what: String) async throws -> ChannelMessage {
        try await nextSlotMessage(slotInbox, within: .seconds(120), waitingFor: what)
    }

    private func acquire(_ number: UInt32, frames: Int, _ feed: any SymbolFeed) async throws {
        guard let rate = await station.facts?.symbolRate, let code = block?.code else { throw SlotOver(reason: "the block is over") }
        var store = SymbolStore()
        let begun = try await waitForTransmitter(feed, into: &store, symbolRate: rate)
        let needed = SlotOpening.symbolsNeeded(symbolRate: rate)
        let first = max(store.start, store.place(utc: begun, symbolRate: rate) ?? store.start)
        // Far ahead of all that is held: a clock that is wrong, or a number that somebody changed.
        guard first - store.end <= 16 * needed else { throw SlotOver(reason: "the transmitter's clock is too far ahead") }
        while store.end - first < needed { try await read(feed, into: &store) }
        channel.send(
            .slotReceiving(
                slot: number, utc: store.utc(of: first, symbolRate: rate) ?? begun, symbols: UInt32(clamping: store.end - first)))
        guard case .slotDisclose(let disclosure) = try await slotMessage("the disclosed positions") else {
            throw SlotOver(reason: "a message out of place")
        }
        let (reference, base) = try meter.measure(.alignment) { try align(disclosure, store: store, symbolRate: rate) }
        channel.send(.slotAligned(reference))
        context.monitor.update { $0.alignmentSignificance = reference.significance }
        guard reference.aligned else {
            // The transmitter's end closes the slot.
            _ = try await slotMessage("the end of the slot")
            return
        }
        try block?.life.take(.slotBegan(slot: number, frames: frames))
        context.tap?.take(.slotBegan(slot: number, frames: UInt32(frames)))
        store.discard(before: base)
        for index in 0..<frames {
            let range = base + index * code.frameSymbols..<base + (index + 1) * code.frameSymbols
            while store.end < range.upperBound { try await read(feed, into: &store) }
            await meter.measure(.channel) {
                while let block, block.inFlight >= Self.mostInFlight, slot?.isOver == false { await waitForChange("verdicts") }
            }
            guard slot?.number == number, slot?.isOver == false else { return }
            try meter.measure(.encode) { try encode(store.samples(in: range), reference, index: UInt32(index)) }
            store.discard(before: range.upperBound)
        }
    }

    /// Drains the device until the transmitter acquires too.
    /// - Returns: UTC of the transmitter's first symbol.
    private func waitForTransmitter(_ feed: any SymbolFeed, into store: inout SymbolStore, symbolRate: Double) async throws -> UInt64 {
        let deadline = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < deadline {
            try await read(feed, into: &store)
            // The transmitter's word may be long on its way.
            store.discard(before: store.end - 64 * SlotOpening.symbolsNeeded(symbolRate: symbolRate))
            guard let message = slotInbox.takeNow() else { continue }
            guard case .slotRunning(_, let utc) = message else { throw SlotOver(reason: "a message out of place") }
            return utc
        }
        throw SlotOver(reason: "the transmitter did not start within 60 s")
    }

    private func read(_ feed: any SymbolFeed, into store: inout SymbolStore) async throws {
        let limit = context.settings.patience.symbols
        let batch = try await meter.measure(.acquisition) {
            try await withTimeout(limit, "symbols of the receiver") { try await feed.next() }
        }
        guard let batch else { throw SlotOver(reason: "the receiver stopped by itself") }
        guard batch.kind == .signal else { return }
        guard slot?.isOver == false else { throw SlotOver(reason: "the slot is over") }
        if batch.disturbed { throw SlotOver(reason: "the receiver lost its lock") }
        // Saturated samples are never dropped: they count, and too many void the block.
        block?.saturated += UInt64(batch.saturated)
        if batch.saturated > 0 { context.tap?.take(.saturated(UInt64(batch.saturated))) }
        await station.saw(deviceTime: batch.deviceTime)
        firstDeviceTime = firstDeviceTime ?? batch.deviceTime
        block?.saw(deviceTime: batch.deviceTime)
        try store.append(batch)
    }

    private func align(_ disclosure: Disclosure, store: SymbolStore, symbolRate: Double) throws -> (SlotFrameOfReference, base: Int) {
        guard let block else { throw SlotOver(reason: "the block is over") }
        let margin = SlotOpening.margin(symbolRate: symbolRate)
        // Where the clock says that it lies where nothing is held, nothing is found.
        let expected = store.place(utc: disclosure.utc, symbolRate: symbolRate) ?? -1 << 40
        if let tap = context.tap {
            tap.take(.opening(start: store.start, samples: store.samples(in: store.start..<store.end), expected: expected, margin: margin))
        }
        return SlotOpening.reference(disclosure, store: store, expected: expected, margin: margin, block: block)
    }

    private func encode(_ samples: [Int16], _ reference: SlotFrameOfReference, index: UInt32) throws {
        context.tap?.take(.frame(index: index, scale: 1, samples: samples))
        guard let body = try block?.encode(samples, reference, index: index, hashKey: context.random.word()) else {
            throw SlotOver(reason: "the block is over")
        }
        channel.send(.frame(body))
    }
}
