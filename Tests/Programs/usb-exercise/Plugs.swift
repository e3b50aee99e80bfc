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

    private static func manage(_ serial: String) async -> (ManagedModule, AsyncStream<ModuleEvent>) {
        let managed = ManagedModule(name: "device", uri: "usb:\(serial)", lookEvery: .milliseconds(50))
        let events = await managed.events()
        await managed.start()
        return (managed, events)
    }

    private static func wait(
        _ iterator: inout AsyncStream<ModuleEvent>.AsyncIterator, _ state: DeviceState, within limit: Duration = .seconds(10)
    ) async throws {
        let end = ContinuousClock.now + limit
        while let event = await iterator.next(isolation: nil) {
            if event.state == state { return }
            try require(.now < end, "waiting for \(state) in vain: \(event)")
        }
    }

    static func cycles(_ serial: String, count: Int) async throws {
        let (managed, events) = await manage(serial)
        var iterator = events.makeAsyncIterator()
        try await wait(&iterator, .ready, within: .seconds(20))
        var early: Holdings?
        let start = ContinuousClock.now
        for cycle in 0..<count {
            if cycle == min(100, count / 5) { early = Holdings() }
            try Bridge.must("unplug 0")
            try await wait(&iterator, .off)
            try Bridge.must("plug 0")
            try await wait(&iterator, .ready)
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
        let (managed, events) = await manage(serial)
        var iterator = events.makeAsyncIterator()
        try await wait(&iterator, .ready, within: .seconds(20))
        var times: [Double] = []
        for _ in 0..<20 {
            try Bridge.must("unplug 0")
            try await wait(&iterator, .off)
            let start = ContinuousClock.now
            try Bridge.must("plug 0")
            try await wait(&iterator, .ready)
            times.append((ContinuousClock.now - start) / .milliseconds(1))
        }
        await managed.stop()
        say("plug_to_ready_ms", times.sorted()[times.count / 2])
    }
}
