// The driver against the real emulator program: same wire, no shared code.

import Foundation
import Instruments
import QKDModel
import QKDTesting
import Synchronization
import Testing
import Transport

@Suite(.serialized, .timeLimit(.minutes(2))) struct EmulatorTests {
    private func receiver(_ emulator: EmulatorProcess, deadline: Duration = .seconds(10)) async throws -> any QuantumReceiver {
        try await idle(Modules.receiver(uri: emulator.uri("SMALL-RX-1"), options: OpenOptions(deadline: deadline)))
    }

    private func transmitter(_ emulator: EmulatorProcess) async throws -> any QuantumTransmitter {
        try await idle(Modules.transmitter(uri: emulator.uri("SMALL-TX-1")))
    }

    /// Waits for the end of boot and warm-up.
    private func idle<Module>(_ module: Module) async throws -> Module {
        guard let device = module as? any QKDModule else { return module }
        while try await device.status().phase != .idle { try await Task.sleep(for: .milliseconds(10)) }
        return module
    }

    @Test func bothRolesOpenAndAnswer() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let transmitter = try await transmitter(emulator)
        #expect(transmitter.isEmulated && transmitter.role == .transmitter && transmitter.capabilities.paths == ["BETA"])
        try await transmitter.setPath("BETA")
        try await transmitter.setModulationVariance(1.5)
        #expect(try await transmitter.modulationVariance() == 1.5)
        try await transmitter.setFrequency(193.4e12)
        #expect(try await transmitter.frequency() == 193.4e12)
        try await transmitter.setPilot(true, ratio: 30)
        try await transmitter.setOutput(true)
        let receiver = try await receiver(emulator)
        #expect(try await receiver.efficiency().eta == 0.8)
        #expect(try await receiver.fullScale() > 1000)
        let spectrum = try await receiver.spectrum(from: 1530, to: 1560, points: 301)
        #expect(spectrum.powers.allSatisfy { $0.isFinite && $0 < 20 && $0 > -120 })
        #expect(try await receiver.reflectometry().points.count > 10)
        #expect(try await !receiver.temperatures().isEmpty)
        await #expect(throws: InstrumentError.wrongRole(serial: "SMALL-RX-1", wanted: "transmitter")) {
            try await Modules.transmitter(uri: emulator.uri("SMALL-RX-1"))
        }
        transmitter.close()
        receiver.close()
    }

    /// A ring that is full at the end loses frames without a trace: nobody waits for them for ever.
    @Test func aLostTailEndsTheStream() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let receiver = try await receiver(emulator)
        #expect(try await receiver.claim())
        let stream = try await receiver.openStream()
        try await receiver.startCalibration(.dark, symbols: 60 * receiver.capabilities.symbolsPerFrame)
        var taken = 0
        while let frame = try await stream.next() {
            taken += 1
            try await stream.release(through: frame.number)
            if taken == 5 { try await receiver.scpi.run("SIMulate:FAULt \"overrun\",100000") }
        }
        #expect(taken >= 5 && taken < 60, "\(taken) frames")
        // The next one begins as if nothing had been.
        try await receiver.scpi.run("SIMulate:FAULt:CLEar")
        try await receiver.startCalibration(.dark, symbols: 8 * receiver.capabilities.symbolsPerFrame)
        for _ in 0..<8 { #expect(try await stream.next() != nil) }
        receiver.close()
    }

    @Test func lockKeepsOthersOut() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let first = try await transmitter(emulator)
        let second = try await transmitter(emulator)
        #expect(try await first.claim())
        #expect(try await !second.claim())
        await #expect(throws: InstrumentError.locked(command: "OUTPut:STATe ON")) { try await second.setOutput(true) }
        #expect(try await second.modulationVariance() > 0)
        first.close()
        while try await !second.claim() { try await Task.sleep(for: .milliseconds(10)) }
        try await second.setOutput(true)
        second.close()
    }

    @Test func calibrationFramesComeThroughTheStream() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let receiver = try await receiver(emulator)
        let stream = try await receiver.openStream()
        var squares: [SymbolFrame.Kind: Double] = [:]
        for kind in [CalibrationKind.dark, .shot] {
            let taken = try await FrameCollection(receiver, stream).run(.calibration(kind), symbols: 200_000) { frame in
                #expect(frame.kind == kind.frames && frame.flags.contains(.emulated))
                squares[frame.kind, default: 0] += frame.samples.withInt16 {
                    $0.reduce(0.0) { $0 + Double($1) * Double($1) } / Double($0.count)
                }
            }
            #expect(taken == FrameCollection.Outcome(taken: 4))
            while try await receiver.calibrationProgress().running != nil { try await Task.sleep(for: .milliseconds(5)) }
            let record = try await receiver.calibration(kind)
            #expect(record.result == .pass && record.isValid && record.age != nil)
        }
        // Shot noise stands well above the electronics: .05 SNU here.
        let ratio = try #require(squares[.dark]) / (try #require(squares[.shot]))
        #expect(abs(ratio - 0.05 / 1.05) < 0.005)
        receiver.close()
    }

    @Test func faultsOfTheDataConnectionAreMended() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let transmitter = try await transmitter(emulator)
        try await transmitter.setOutput(true)
        let stream = try await transmitter.openStream()
        try await transmitter.startAcquisition()
        var expected: UInt64?
        func take(_ count: Int) async throws {
            for _ in 0..<count {
                let frame = try #require(try await stream.next())
                if let expected { #expect(frame.number == expected) }
                expected = frame.number + 1
                try await stream.release(through: frame.number)
            }
        }
        try await take(20)
        try await transmitter.scpi.run("SIMulate:FAULt \"corrupt-frame\",2")
        try await take(60)
        #expect(stream.statistics.corrupt == 2 && stream.statistics.refetched >= 1 && stream.statistics.lost == 0)
        try await transmitter.scpi.run("SIMulate:FAULt \"overrun\",3")
        while stream.statistics.lost == 0 {
            let frame = try #require(try await stream.next())
            try await stream.release(through: frame.number)
            if frame.lostBefore > 0 {
                #expect(frame.lostBefore == 3 && frame.flags.contains(.overrun))
            }
        }
        try await transmitter.stopAcquisition()
        while try await stream.next() != nil {}
        transmitter.close()
    }

    @Test func hangingDeviceTimesOutAndTheNextCommandIsRight() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let receiver = try await receiver(emulator, deadline: .milliseconds(400))
        try await receiver.scpi.line.send("SIMulate:FAULt \"hang\",1.5")
        await #expect(throws: TransportError.self) { try await receiver.scpi.string("SYSTem:CAPability:PATHs?") }
        await #expect(throws: TransportError.self) { try await receiver.fullScale() }
        let deadline = ContinuousClock.now + .seconds(10)
        var answered: Int?
        while answered == nil, ContinuousClock.now < deadline { answered = try? await receiver.fullScale() }
        #expect(answered == 2047)
        #expect(try await receiver.scpi.string("SYSTem:CAPability:PATHs?") == "INPUT")
        receiver.close()
    }

    @Test func slowAnswersAreWaitedFor() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let receiver = try await receiver(emulator)
        try await receiver.scpi.run("SIMulate:FAULt \"slow-answers\",0.8")
        #expect(try await receiver.fullScale() == 2047)
        #expect(try await receiver.scpi.string("SYSTem:CAPability:PATHs?") == "INPUT")
        await #expect(throws: InstrumentError.self) { try await receiver.scpi.text("NO:SUCH:THING?") }
        try await receiver.scpi.run("SIMulate:FAULt:CLEar")
        receiver.close()
    }

    @Test func managedModuleSurvivesRebootAndDroppedConnection() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let managed = ManagedModule(
            name: "rx", uri: try emulator.uri("SMALL-RX-1"), backOff: BackOff(first: .milliseconds(20), longest: .milliseconds(200)),
            lookEvery: .milliseconds(20))
        var events = await managed.events().makeAsyncIterator()
        func wait(_ state: DeviceState) async { while let event = await events.next(), event.state != state {} }
        await managed.start()
        await wait(.ready)
        for fault in ["reboot", "drop-connection"] {
            let module = try await managed.whenOpen()
            try? await module.scpi.line.send("SIMulate:FAULt \"\(fault)\"")
            await wait(.off)
            await wait(.ready)
            #expect(try await managed.whenOpen() !== module)
        }
        await managed.stop()
    }

    @Test func serialLineCarriesControlAndSymbols() async throws {
        guard let emulator = try EmulatorProcess.start("serial") else { return }
        let receiver = try await idle(Modules.receiver(uri: emulator.uri("SERIAL-RX-1")))
        let rate = try #require(receiver.capabilities.symbolRates.min())
        try await receiver.setSymbolRate(rate)
        let stream = try await receiver.openStream()
        var numbers: [UInt64] = []
        _ = try await FrameCollection(receiver, stream).run(.calibration(.dark), symbols: 20_000) { frame in
            #expect(frame.kind == .dark && frame.count == 4096)
            numbers.append(frame.number)
        }
        #expect(numbers.count == 5 && zip(numbers, numbers.dropFirst()).allSatisfy { $1 == $0 + 1 })
        // Silence ends in a device clear, and the next command is right.
        await #expect(throws: TransportError.self) { try await receiver.scpi.line.ask("NO:SUCH?", within: .milliseconds(100)) }
        #expect(try await receiver.fullScale() == 2047)
        receiver.close()
        // The same line with a baud rate: what does not fit is refused before anything starts.
        let narrow = try await Modules.receiver(uri: emulator.uri("SERIAL-RX-1") + "?baud=115200")
        await #expect(throws: InstrumentError.self) { try await narrow.startCalibration(.dark) }
        narrow.close()
    }
}
