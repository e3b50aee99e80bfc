import Instruments
import QKDModel
import QKDTesting
import Synchronization
import Testing
import Transport

@Suite struct ConnectionMachineTests {
    @Test func opensWatchesAndComesBack() {
        var machine = ConnectionMachine(backOff: BackOff(first: .seconds(1), longest: .seconds(8)))
        #expect(machine.input(.start) == [.publish(ModuleEvent(state: .initialising, reason: "opening")), .open])
        #expect(machine.input(.opened) == [])
        #expect(machine.input(.status(.ready, reason: "")) == [.publish(ModuleEvent(state: .ready, reason: ""))])
        #expect(machine.input(.status(.ready, reason: "")) == [])
        #expect(
            machine.input(.lost(reason: "unplugged"), jitter: 0.5)
                == [.close, .publish(ModuleEvent(state: .off, reason: "unplugged")), .wait(.milliseconds(750))])
        #expect(machine.input(.retry) == [.open])
    }

    @Test func backOffDoublesUpToItsLimitAndIsForgottenWhenStable() {
        var machine = ConnectionMachine(backOff: BackOff(first: .seconds(1), longest: .seconds(8)))
        _ = machine.input(.start)
        var waits: [Duration] = []
        for _ in 0..<5 {
            for case .wait(let duration) in machine.input(.openFailed(reason: "x", needsPerson: false), jitter: 1) {
                waits.append(duration)
            }
            _ = machine.input(.retry)
        }
        #expect(waits == [.seconds(1), .seconds(2), .seconds(4), .seconds(8), .seconds(8)])
        _ = machine.input(.opened)
        _ = machine.input(.status(.ready, reason: ""))
        #expect(machine.attempts == 5, "one good look is not stability")
        for _ in 0..<ConnectionMachine.stableAfter { _ = machine.input(.status(.ready, reason: "")) }
        #expect(machine.attempts == 0)
    }

    @Test func silenceIsAFaultAndThenALoss() {
        var machine = ConnectionMachine()
        _ = machine.input(.start)
        _ = machine.input(.opened)
        #expect(machine.input(.silent(reason: "late")) == [.publish(ModuleEvent(state: .fault, reason: "late"))])
        #expect(machine.input(.silent(reason: "late")) == [])
        let last = machine.input(.silent(reason: "late"))
        #expect(last.first == .close)
        #expect(machine.phase == .waiting)
    }

    @Test func whatAPersonMustMendIsAFault() {
        var machine = ConnectionMachine()
        _ = machine.input(.start)
        _ = machine.input(.openFailed(reason: "no driver", needsPerson: true))
        #expect(machine.event == ModuleEvent(state: .fault, reason: "no driver"))
    }

    /// Any inputs in any order: at most one connection is open or being opened, waits keep their limits, nothing is said twice.
    @Test func randomInputs() {
        let random = SeededRandom(11)
        for _ in 0..<300 {
            let backOff = BackOff(first: .seconds(1), longest: .seconds(20))
            var machine = ConnectionMachine(backOff: backOff)
            var isBusy = false
            var last = machine.event
            for _ in 0..<100 {
                let input = randomInput(random)
                let before = machine.phase
                for action in machine.input(input, jitter: Double(random.word() >> 11) * 0x1p-53) {
                    switch action {
                    case .open:
                        #expect(!isBusy)
                        isBusy = true
                    case .close:
                        guard case .open = before else {
                            Issue.record("closed what was not open")
                            continue
                        }
                        isBusy = false
                    case .wait(let duration):
                        #expect(duration >= backOff.first / 2 && duration <= backOff.longest)
                        isBusy = false
                    case .publish(let event):
                        #expect(event != last)
                        last = event
                    }
                }
                if machine.phase == .stopped { isBusy = false }
                #expect(machine.event == last)
            }
        }
    }

    private func randomInput(_ random: SeededRandom) -> ConnectionMachine.Input {
        switch random.word() % 9 {
        case 0: .start
        case 1, 2: .opened
        case 3: .openFailed(reason: "r\(random.word() % 3)", needsPerson: random.word() % 2 == 0)
        case 4: .status(DeviceState.allCases[Int(random.word() % 6)], reason: "")
        case 5: .silent(reason: "s")
        case 6: .lost(reason: "l")
        case 7: .retry
        default: random.word() % 4 == 0 ? .stop : .retry
        }
    }
}

@Suite(.timeLimit(.minutes(1))) struct ManagedModuleTests {
    private func managed(_ device: FakeDevice, _ clock: ManualClock) -> ManagedModule {
        ManagedModule(name: "rx", uri: device.uri, clock: clock, random: SeededRandom(1), lookEvery: .seconds(1))
    }

    private func waitFor(_ state: DeviceState, _ events: inout AsyncStream<ModuleEvent>.Iterator) async -> ModuleEvent? {
        while let event = await events.next() { if event.state == state { return event } }
        return nil
    }

    @Test func everyStateAndReasonIsAnEvent() async throws {
        let device = try FakeDevice()
        let clock = ManualClock()
        let managed = managed(device, clock)
        var events = await managed.events().makeAsyncIterator()
        #expect(await events.next() == ModuleEvent(state: .off, reason: "not started"))
        await managed.start()
        #expect(await events.next() == ModuleEvent(state: .initialising, reason: "opening"))
        #expect(await events.next() == ModuleEvent(state: .ready, reason: "calibration missing or stale"))
        device.state.withLock { state in
            state.answers["SYSTem:STATe?"] = "FAULT"
            state.answers["STATus:QUEStionable:CONDition?"] = "16"
        }
        await clock.waitForSleepers()
        clock.advance(by: .seconds(1))
        #expect(await events.next() == ModuleEvent(state: .fault, reason: "the device reports a fault, temperature out of range"))
        await managed.stop()
        #expect(await events.next() == ModuleEvent(state: .off, reason: "stopped"))
    }

    @Test func comesBackAfterTheLineWasLost() async throws {
        let device = try FakeDevice()
        let clock = ManualClock()
        let managed = managed(device, clock)
        await managed.start()
        var events = await managed.events().makeAsyncIterator()
        let first = try await managed.whenOpen()
        _ = await waitFor(.ready, &events)
        device.dropControl()
        await clock.waitForSleepers()
        clock.advance(by: .seconds(1))
        let lost = try #require(await waitFor(.off, &events))
        #expect(lost.reason.contains("closed"))
        await #expect(throws: InstrumentError.self) { try await managed.module() }
        await clock.waitForSleepers()
        #expect(try #require(clock.untilNextWake) <= .milliseconds(250))
        clock.advance(by: .milliseconds(250))
        _ = await waitFor(.ready, &events)
        let second = try await managed.module()
        #expect(second !== first)
        #expect(second.identity == first.identity)
        await managed.stop()
    }

    @Test func refusedPortIsTriedAgain() async throws {
        let device = try FakeDevice()
        device.close()
        let clock = ManualClock()
        let managed = managed(device, clock)
        await managed.start()
        var events = await managed.events().makeAsyncIterator()
        let off = try #require(await waitFor(.off, &events))
        #expect(off.reason.contains("Connection refused"))
        // Every attempt ends in another wait; in between it stays as away as it was.
        for _ in 0..<4 {
            await clock.waitForSleepers()
            #expect(await managed.event == off)
            clock.advance(by: .seconds(30))
        }
        await managed.stop()
        await #expect(throws: InstrumentError.self) { try await managed.whenOpen() }
    }

    @Test func waitersAreFreedByStopAndCancellation() async throws {
        let device = try FakeDevice()
        device.close()
        let managed = managed(device, ManualClock())
        await managed.start()
        let cancelled = Task { try await managed.whenOpen() }
        let stopped = Task { try await managed.whenOpen() }
        try await Task.sleep(for: .milliseconds(50))
        cancelled.cancel()
        await #expect(throws: CancellationError.self) { try await cancelled.value }
        await managed.stop()
        await #expect(throws: InstrumentError.notConnected(address: device.uri, reason: "stopped")) { try await stopped.value }
    }
}
