// Cables pulled at every moment.

import Foundation
import Instruments
import QKDModel
import Transport

enum Plugs {
    /// Runs sessions that lose the device at their k-th transfer, for k over the whole session; each ends soon and with an error of
    /// ours, and the next one works.
    static func everywhere(_ serial: String, count: Int, step: Int) async throws {
        _ = try await Sessions.run(serial)
        let before = try Bridge.state(0, "transfers")
        _ = try await Sessions.run(serial)
        let total = (Int(try Bridge.state(0, "transfers")) ?? 0) - (Int(before) ?? 0)
        say("transfers_in_a_session", total)
        var cut = 0
        var slowest = Duration.zero
        for index in 0..<count {
            let at = 1 + (index * step) % (total + 3)
            try Bridge.must("unplug-at 0 \(at) 30")
            let start = ContinuousClock.now
            do {
                _ = try await Sessions.run(serial)
            } catch is TransportError {
                cut += 1
            } catch is InstrumentError {
                cut += 1
            }
            let took = ContinuousClock.now - start
            slowest = max(slowest, took)
            try require(took < .seconds(12), "a session that was cut at transfer \(at) took \(took)")
            try Bridge.must("unplug-at 0 0 0")
            try await back(serial, at)
        }
        say("cuts", cut)
        say("slowest_ms", Int(slowest / .milliseconds(1)))
        try require(cut > count * 2 / 3, "only \(cut) of \(count) sessions were cut")
        _ = try await Sessions.run(serial)
    }

    private static func back(_ serial: String, _ at: Int) async throws {
        let end = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < end {
            if let session = try? await InstrumentSession.open(Address("usb:\(serial)")) {
                defer { session.close() }
                if let answer = try? await session.ask("*IDN?"), answer.contains(serial) { return }
            }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw Wrong("the device did not come back after it was cut at transfer \(at): \(try Bridge.tell("state 0"))")
    }

    // MARK: Managed

    private static func manage(_ serial: String) async -> (ManagedModule, News) {
        let managed = ManagedModule(name: "device", uri: "usb:\(serial)", lookEvery: .milliseconds(50))
        let news = News(await managed.events())
        await managed.start()
        return (managed, news)
    }

    /// - Parameter holding: what the reason contains.
    /// - Returns: the state that came.
    @discardableResult
    private static func wait(
        _ news: News, _ states: DeviceState..., holding text: String = "", within limit: Duration = .seconds(15)
    ) async throws -> DeviceState {
        let end = ContinuousClock.now + limit
        while ContinuousClock.now < end {
            if let event = await news.next(where: { states.contains($0.state) && (text.isEmpty || $0.reason.contains(text)) }) {
                return event.state
            }
            try await Task.sleep(for: .milliseconds(1))
        }
        throw Wrong("waiting for \(states) in vain for \(limit): \(await news.last), \(try Bridge.tell("state 0"))")
    }

    /// Until the cut that was ordered has been made, the device is plugged in again, and answers: whether the connection says "off"
    /// in between depends on whether the opening was still at it.
    private static func isBack(_ managed: ManagedModule, _ news: News) async throws {
        let end = ContinuousClock.now + .seconds(15)
        while ContinuousClock.now < end {
            if try Bridge.state(0, "armed") == "0", try Bridge.state(0, "plugged") == "1",
                (try? await managed.module().scpi.text("*IDN?")) != nil, await managed.event.state == .ready
            {
                return await news.forget()
            }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw Wrong("the device does not come back: \(await managed.event), \(try Bridge.tell("state 0"))")
    }

    /// A managed device is pulled out in every state that a connection has, and is back by itself each time.
    static func points(_ serial: String) async throws {
        try Bridge.must("unplug 0")
        let (managed, news) = await manage(serial)
        func replug(_ point: String, _ back: DeviceState = .ready) async throws {
            try Bridge.must("unplug 0")
            try await wait(news, .off)
            try Bridge.must("plug 0")
            try await wait(news, back)
            say("point", point)
        }
        try await wait(news, .off, holding: "plugged in")
        try Bridge.must("plug 0")
        try await wait(news, .ready, within: .seconds(20))
        say("point", "absent at the start")
        try await replug("ready")
        for transfer in [1, 2, 3, 4, 6, 9] {
            try Bridge.must("unplug 0")
            try await wait(news, .off)
            try Bridge.must("unplug-at 0 \(transfer) 150")
            try Bridge.must("plug 0")
            try await isBack(managed, news)
            say("point", "opening, transfer \(transfer)")
        }
        // The reboot takes the connection; the device is plugged in again while it boots.
        try? await managed.module().scpi.run("SIMulate:FAULt \"reboot\"")
        try await wait(news, .off)
        while try Bridge.tell("plug 0") != "ok" { try await Task.sleep(for: .milliseconds(10)) }
        // A loaded machine may see it only when it is ready.
        let state = try await wait(news, .initialising, .ready)
        try await replug(state == .ready ? "after a reboot" : "warming up")
        try await work(managed, news)
        try Bridge.must("unplug 0")
        try await wait(news, .off)
        try await Task.sleep(for: .milliseconds(1500))
        let start = ContinuousClock.now
        try Bridge.must("plug 0")
        try await wait(news, .ready)
        try require(ContinuousClock.now - start < .seconds(2), "a plug does not end the back-off")
        say("point", "waiting for the next attempt")
        try Bridge.must("unplug 0")
        try await wait(news, .off)
        await managed.stop()
        try Bridge.must("plug 0")
        await managed.start()
        try await wait(news, .ready)
        say("point", "stopped")
        await managed.stop()
        _ = try await Sessions.run(serial)
    }

    /// Pulled out while it calibrates (a receiver) or generates (a transmitter): its reader hears of it within seconds, and the device,
    /// which kept its power, is found at work.
    private static func work(_ managed: ManagedModule, _ news: News) async throws {
        let module = try await managed.whenOpen()
        let isReceiver = module.role == .receiver
        let state = isReceiver ? DeviceState.calibrating : .generating
        try require(try await module.claim(), "the lock is taken")
        let stream = try await module.openStream()
        if isReceiver { try await module.startCalibration(.dark, symbols: 1 << 30) } else { try await module.startAcquisition() }
        try await wait(news, state)
        _ = try await Sessions.next(stream)
        let reader = Task {
            while let frame = try await stream.next() { try await stream.release(through: frame.number) }
        }
        try await Task.sleep(for: .milliseconds(100))
        try Bridge.must("unplug 0")
        let start = ContinuousClock.now
        // With an error, or with its end where the managed module has closed the device first.
        _ = await reader.result
        try require(ContinuousClock.now - start < .seconds(4), "a reader hangs after the cable was pulled")
        try await wait(news, .off)
        try Bridge.must("plug 0")
        try await wait(news, state)
        let again = try await managed.whenOpen()
        try require(try await again.claim(), "the lock is still held by a session that was cut")
        if isReceiver { try await again.abortCalibration() } else { try await again.stopAcquisition() }
        try await wait(news, .ready)
        say("point", state == .calibrating ? "calibrating" : "generating")
    }

    static func cycles(_ serial: String, count: Int) async throws {
        let (managed, news) = await manage(serial)
        try await wait(news, .ready, within: .seconds(20))
        var early: Holdings?
        let start = ContinuousClock.now
        for cycle in 0..<count {
            if cycle == min(100, count / 5) { early = Holdings() }
            try Bridge.must("unplug 0")
            try await wait(news, .off)
            try Bridge.must("plug 0")
            try await wait(news, .ready)
        }
        let took = ContinuousClock.now - start
        let late = Holdings()
        say("cycles", count)
        say("seconds", took / .seconds(1))
        say("before", early ?? late)
        say("after", late)
        if let early {
            try require(late.files <= early.files + 2, "files leak: \(early) to \(late)")
            try require(late.threads <= early.threads + 3, "threads leak: \(early) to \(late)")
            try require(late.residentKiB <= early.residentKiB + 8192 + 8 * count, "memory leaks: \(early) to \(late)")
        }
        await managed.stop()
        _ = try await Sessions.run(serial)
    }

    static func ready(_ serial: String) async throws {
        let (managed, news) = await manage(serial)
        try await wait(news, .ready, within: .seconds(20))
        var times: [Double] = []
        for _ in 0..<20 {
            try Bridge.must("unplug 0")
            try await wait(news, .off)
            let start = ContinuousClock.now
            try Bridge.must("plug 0")
            try await wait(news, .ready)
            times.append((ContinuousClock.now - start) / .milliseconds(1))
        }
        await managed.stop()
        say("plug_to_ready_ms", times.sorted()[times.count / 2])
    }
}

/// What a managed device has told, in order.
private actor News {
    private var told: [ModuleEvent] = []
    private var read = 0

    init(_ events: AsyncStream<ModuleEvent>) {
        Task { [weak self] in
            for await event in events { await self?.keep(event) }
        }
    }

    var last: String { told.last.map { "\($0)" } ?? "nothing was told" }

    /// The next one that fits; those before it count as read.
    func next(where fits: @Sendable (ModuleEvent) -> Bool) -> ModuleEvent? {
        while read < told.count {
            defer { read += 1 }
            if fits(told[read]) { return told[read] }
        }
        return nil
    }

    func forget() { read = told.count }

    private func keep(_ event: ModuleEvent) { told.append(event) }
}
