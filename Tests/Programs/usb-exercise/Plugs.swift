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
            try require(took < .seconds(20), "a session that was cut at transfer \(at) took \(took)")
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

    private static func manage(_ serial: String, backOff: BackOff = BackOff()) async -> ManagedModule {
        let managed = ManagedModule(name: "device", uri: "usb:\(serial)", backOff: backOff, lookEvery: .milliseconds(50))
        await managed.start()
        return managed
    }

    /// Waits for a state that lasts. What comes and goes by itself may be over before a busy machine looks.
    private static func wait(
        _ managed: ManagedModule, _ states: DeviceState..., holding text: String = "", within limit: Duration = .seconds(20)
    ) async throws {
        let start = ContinuousClock.now
        while true {
            let event = await managed.event
            if states.contains(event.state), text.isEmpty || event.reason.contains(text) { return }
            guard ContinuousClock.now - start < limit else {
                throw Wrong("waiting for \(states) in vain for \(limit): \(event), \(try Bridge.tell("state 0"))")
            }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    /// Waits until the device answers.
    private static func answers(_ managed: ManagedModule, _ point: String) async throws {
        try await wait(managed, .ready)
        let end = ContinuousClock.now + .seconds(10)
        while true {
            // What was ready may be the connection from before the cable was pulled.
            if (try? await managed.module().status()) != nil { return say("point", point) }
            let bridge = try Bridge.tell("state 0")
            try require(ContinuousClock.now < end, "\(point): open, but it does not answer: \(bridge)")
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// A managed device is pulled out in every state that a connection has, and is back by itself each time.
    static func points(_ serial: String) async throws {
        try Bridge.must("unplug 0")
        let managed = await manage(serial)
        func replug(_ point: String) async throws {
            try Bridge.must("unplug 0")
            try await wait(managed, .off)
            try Bridge.must("plug 0")
            try await answers(managed, point)
        }
        try await wait(managed, .off, holding: "plugged in")
        try Bridge.must("plug 0")
        try await answers(managed, "absent at the start")
        try await replug("ready")
        for transfer in [1, 2, 3, 4, 6, 9] {
            try Bridge.must("unplug 0")
            try await wait(managed, .off)
            try Bridge.must("unplug-at 0 \(transfer) 150")
            try Bridge.must("plug 0")
            let end = ContinuousClock.now + .seconds(10)
            while try Bridge.state(0, "armed") != "0" || Bridge.state(0, "plugged") != "1" {
                let bridge = try Bridge.tell("state 0")
                try require(.now < end, "cut at transfer \(transfer): \(bridge)")
                try await Task.sleep(for: .milliseconds(2))
            }
            try await answers(managed, "opening, transfer \(transfer)")
        }
        // The reboot takes the connection; the device is plugged in again while it boots.
        try? await managed.module().scpi.run("SIMulate:FAULt \"reboot\"")
        try await wait(managed, .off)
        while try Bridge.tell("plug 0") != "ok" { try await Task.sleep(for: .milliseconds(10)) }
        try await wait(managed, .initialising, .ready)
        try await replug("warming up")
        try await work(managed)
        try await replug("after work")
        try Bridge.must("unplug 0")
        try await wait(managed, .off)
        await managed.stop()
        try Bridge.must("plug 0")
        await managed.start()
        try await answers(managed, "stopped")
        await managed.stop()
        try await patient(serial)
        _ = try await Sessions.run(serial)
    }

    /// A plug ends a back-off of minutes at once.
    private static func patient(_ serial: String) async throws {
        try Bridge.must("unplug 0")
        let managed = await manage(serial, backOff: BackOff(first: .seconds(600), longest: .seconds(600)))
        try await wait(managed, .off, holding: "plugged in")
        try Bridge.must("plug 0")
        try await answers(managed, "waiting for the next attempt")
        await managed.stop()
    }

    /// Pulled out while it calibrates (a receiver) or generates (a transmitter): its reader hears of it within seconds, and the device,
    /// which kept its power, is found at work.
    private static func work(_ managed: ManagedModule) async throws {
        let module = try await managed.whenOpen()
        let isReceiver = module.role == .receiver
        let state = isReceiver ? DeviceState.calibrating : .generating
        try require(try await module.claim(), "the lock is taken")
        let stream = try await module.openStream()
        if isReceiver { try await module.startCalibration(.dark, symbols: 1 << 30) } else { try await module.startAcquisition() }
        try await wait(managed, state)
        _ = try await Sessions.next(stream)
        let reader = Task {
            while let frame = try await stream.next() { try await stream.release(through: frame.number) }
        }
        try await Task.sleep(for: .milliseconds(100))
        try Bridge.must("unplug 0")
        let start = ContinuousClock.now
        // With an error, or with its end where the managed module has closed the device first.
        _ = await reader.result
        try require(ContinuousClock.now - start < .seconds(10), "a reader hangs after the cable was pulled")
        try await wait(managed, .off)
        try Bridge.must("plug 0")
        try await wait(managed, state)
        let again = try await managed.whenOpen()
        try require(try await again.claim(), "the lock is still held by a session that was cut")
        if isReceiver { try await again.abortCalibration() } else { try await again.stopAcquisition() }
        try await answers(managed, state == .calibrating ? "calibrating" : "generating")
    }

    static func cycles(_ serial: String, count: Int) async throws {
        let managed = await manage(serial)
        try await wait(managed, .ready)
        var early: Holdings?
        let start = ContinuousClock.now
        for cycle in 0..<count {
            if cycle == min(100, count / 5) { early = Holdings() }
            try Bridge.must("unplug 0")
            try await wait(managed, .off)
            try Bridge.must("plug 0")
            try await wait(managed, .ready)
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
            try require(late.residentKiB <= early.residentKiB + 4096 + count, "memory leaks: \(early) to \(late)")
        }
        await managed.stop()
        _ = try await Sessions.run(serial)
    }

    static func ready(_ serial: String) async throws {
        let managed = await manage(serial)
        try await wait(managed, .ready)
        var times: [Double] = []
        for _ in 0..<20 {
            try Bridge.must("unplug 0")
            try await wait(managed, .off)
            let start = ContinuousClock.now
            try Bridge.must("plug 0")
            try await wait(managed, .ready)
            times.append((ContinuousClock.now - start) / .milliseconds(1))
        }
        await managed.stop()
        say("plug_to_ready_ms", times.sorted()[times.count / 2])
    }
}
