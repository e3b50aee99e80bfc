// What `capture` and `calibrate` do when frames do not come, come broken, or somebody was there before.

import Foundation
import Instruments
import QKDModel
import Synchronization
import Testing
import Transport

@Suite(.serialized, .timeLimit(.minutes(2))) struct FrameCollectionTests {
    private func receiver(_ emulator: EmulatorProcess) async throws -> any QuantumReceiver {
        let module = try await Modules.receiver(uri: emulator.uri("SMALL-RX-1"))
        while try await module.status().phase != .idle { try await Task.sleep(for: .milliseconds(10)) }
        return module
    }

    /// - Returns: the outcome of a DARK calibration, or the error's reason.
    private func dark(_ module: any QKDModule, frames: Int) async throws -> (FrameCollection.Outcome?, String) {
        let stream = try await module.openStream()
        defer { stream.close() }
        do {
            return (try await FrameCollection(module, stream).run(.calibration(.dark), symbols: frames * 65_536) { _ in }, "")
        } catch InstrumentError.streamFailed(let reason) {
            return (nil, reason)
        }
    }

    @Test func lostFramesAreCountedAndNamed() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let module = try await receiver(emulator)
        let begin = ContinuousClock.now
        try await module.scpi.run("SIMulate:FAULt \"overrun\",3")
        let (outcome, _) = try await dark(module, frames: 10)
        #expect(outcome == FrameCollection.Outcome(taken: 7, lost: 3))
        #expect(outcome?.complaint?.contains("3 of 10 frames were lost: 3 to overruns") == true)
        // All of them, so that none is left to tell.
        try await module.scpi.run("SIMulate:FAULt \"overrun\",4")
        let (none, reason) = try await dark(module, frames: 4)
        #expect(none == nil && reason.contains("overrun"), "\(reason)")
        #expect(ContinuousClock.now - begin < .seconds(20))
        module.close()
    }

    /// The last frames are lost: nothing comes behind them that would say so.
    @Test func framesLostAtTheEndAreNotWaitedFor() async throws {
        let device = try FakeDevice()
        let module = try await Modules.open(uri: device.uri)
        let stream = try await module.openStream()
        let begin = ContinuousClock.now
        let feeding = Task {
            while device.state.withLock({ !$0.commands.contains { $0.hasPrefix("ACQuire:STARt") } }) {
                try await Task.sleep(for: .milliseconds(5))
            }
            for number in 1...3 { device.add(FrameSpecification(number: UInt64(number), symbols: 65_536)) }
            device.state.withLock { $0.next = 6 }
        }
        device.state.withLock { $0.answers["CALibration:STATe?"] = "IDLE" }
        device.state.withLock { $0.answers["CALibration:PROGress?"] = "1" }
        let outcome = try await FrameCollection(module, stream).run(.acquisition, symbols: 5 * 65_536) { _ in }
        try await feeding.value
        #expect(outcome == FrameCollection.Outcome(taken: 3, lost: 2))
        #expect(ContinuousClock.now - begin < .seconds(20))
        module.close()
        device.close()
    }

    @Test func framesThatNeverComeWholeAreSaid() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let module = try await receiver(emulator)
        let begin = ContinuousClock.now
        try await module.scpi.run("SIMulate:FAULt \"corrupt-frame\",1e9")
        let (none, reason) = try await dark(module, frames: 40)
        #expect(none == nil && reason.contains("fail their checksum"), "\(reason)")
        #expect(ContinuousClock.now - begin < .seconds(20))
        module.close()
    }

    /// One that is beyond help among good ones is given up and counted.
    @Test func aSpoiledFrameIsCounted() async throws {
        let device = try FakeDevice()
        let module = try await Modules.open(uri: device.uri)
        let stream = try await module.openStream()
        let feeding = Task {
            while device.state.withLock({ !$0.commands.contains { $0.hasPrefix("ACQuire:STARt") } }) {
                try await Task.sleep(for: .milliseconds(5))
            }
            let frames = (1...5).map { FrameSpecification(number: UInt64($0), symbols: 65_536) }
            var broken = frames[1].bytes()
            broken[1000] ^= 1
            device.state.withLock { $0.mangled[2] = [[UInt8]](repeating: broken, count: 100) }
            for frame in frames { device.add(frame) }
        }
        let outcome = try await FrameCollection(module, stream).run(.acquisition, symbols: 5 * 65_536) { #expect($0.number != 2) }
        try await feeding.value
        #expect(outcome == FrameCollection.Outcome(taken: 4, lost: 1, spoiled: 1))
        #expect(outcome.complaint == "1 of 5 frames were lost: 1 failed their checksum each time that they were fetched")
        module.close()
        device.close()
    }

    @Test(arguments: [0, -1, Int.max, FrameCollection.mostSymbols + 1]) func numbersBeyondReasonAreRefused(symbols: Int) async throws {
        let device = try FakeDevice()
        let module = try await Modules.open(uri: device.uri)
        let stream = try await module.openStream()
        let error = await #expect(throws: InstrumentError.self) {
            try await FrameCollection(module, stream).run(.acquisition, symbols: symbols) { _ in }
        }
        guard case .outOfRange = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        module.close()
        device.close()
    }

    /// A program that was killed leaves the device at work; whoever has the lock next ends that.
    @Test func leftoversAreStopped() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let first = try await receiver(emulator)
        try await first.setLocalOscillator(true)
        try await first.startAcquisition()
        first.close()
        let second = try await Modules.receiver(uri: emulator.uri("SMALL-RX-1"))
        #expect(try await second.claim())
        await #expect(throws: InstrumentError.self) { try await second.startAcquisition() }
        #expect(try await second.stopLeftovers() == ["an acquisition"])
        #expect(try await second.stopLeftovers().isEmpty)
        try await second.startCalibration(.shot, symbols: 100_000_000)
        second.close()
        let third = try await Modules.receiver(uri: emulator.uri("SMALL-RX-1"))
        #expect(try await third.stopLeftovers() == ["calibration SHOT"])
        let (outcome, _) = try await dark(third, frames: 2)
        #expect(outcome == FrameCollection.Outcome(taken: 2))
        third.close()
    }

    /// The driver reads the error queue after each command and takes what it finds for its own.
    @Test func othersErrorsAreNotBlamed() async throws {
        guard let emulator = try EmulatorProcess.start("small") else { return }
        let owner = try await receiver(emulator)
        #expect(try await owner.claim())
        let other = try await Modules.receiver(uri: emulator.uri("SMALL-RX-1"))
        let noise = Task {
            var refused = 0
            while !Task.isCancelled {
                do { try await other.scpi.run("ACQuire:STOP") } catch InstrumentError.locked { refused += 1 }
            }
            return refused
        }
        for round in 0..<100 { try await owner.setShutter(closed: round.isMultiple(of: 2)) }
        noise.cancel()
        _ = try? await noise.value
        owner.close()
        other.close()
    }

    @Test func takesNewFramesOfItsKindOnly() async throws {
        let device = try FakeDevice(frames: (0..<3).map { FrameSpecification(number: UInt64($0), symbols: 1024) })
        device.state.withLock { $0.answers["SYSTem:CAPability:BLOCk?"] = "1024,64" }
        let module = try await Modules.open(uri: device.uri)
        let stream = try await module.openStream()
        let adding = Task {
            while !device.state.withLock({ $0.commands.contains("CALibration:STARt SHOT,4096") }) {
                try await Task.sleep(for: .milliseconds(5))
            }
            for number in 3..<5 as Range<UInt64> { device.add(FrameSpecification(number: number, symbols: 1024, kind: 1)) }
            for number in 5..<9 as Range<UInt64> { device.add(FrameSpecification(number: number, symbols: 1024, kind: 2)) }
        }
        var numbers: [UInt64] = []
        let taken = try await FrameCollection(module, stream).run(.calibration(.shot), symbols: 4000) { numbers.append($0.number) }
        #expect(taken == FrameCollection.Outcome(taken: 4))
        #expect(numbers == [5, 6, 7, 8])
        try await adding.value
        module.close()
    }

    @Test func stopsTheDeviceWhateverHappens() async throws {
        let device = try FakeDevice()
        let module = try await Modules.open(uri: device.uri)
        let stream = try await module.openStream()
        await #expect(throws: InstrumentError.self) {
            _ = try await FrameCollection(module, stream, patience: .milliseconds(50)).run(.acquisition, symbols: 1) { _ in }
        }
        #expect(device.state.withLock { $0.commands } == ["ACQuire:STARt 1", "ACQuire:STOP"])
        let task = Task { try await FrameCollection(module, stream).run(.calibration(.dark), symbols: 1) { _ in } }
        while !device.state.withLock({ $0.commands.contains { $0.hasPrefix("CALibration:STARt") } }) {
            try await Task.sleep(for: .milliseconds(5))
        }
        task.cancel()
        await #expect(throws: (any Error).self) { try await task.value }
        #expect(device.state.withLock { $0.commands.last } == "CALibration:ABORt")
        module.close()
    }
}
