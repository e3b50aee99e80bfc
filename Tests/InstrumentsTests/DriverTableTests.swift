// Law 3: a device model has a driver folder, a line in the table, a recording, and a row in docs/devices.md.

import Foundation
import Instruments
import QKDModel
import QKDTesting
import Testing
import Transport

/// The package's top folder.
let packageFolder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

private func recording(_ name: String) -> URL { packageFolder.appending(path: "Tests/Recordings/\(name)") }

@Suite struct DriverTableTests {
    @Test(arguments: DriverTable.drivers.map(\.model))
    func everyModelHasItsPlaces(model: String) throws {
        let driver = try #require(DriverTable.drivers.first { $0.model == model })
        let folder = packageFolder.appending(path: "Sources/Instruments/Drivers/\(driver.folder)")
        let sources = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".swift") }
        #expect(!sources.isEmpty)
        let transcript = try Transcript(contentsOf: recording(driver.recording))
        #expect(transcript.header["model"]?.hasPrefix(driver.model) == true)
        #expect(transcript.header["firmware"] != nil)
        #expect(transcript.header["device"] != nil)
        let rows = try String(contentsOf: packageFolder.appending(path: "docs/devices.md"), encoding: .utf8)
            .split(separator: "\n").filter { $0.hasPrefix("|") && $0.contains("| \(driver.maker) |") && $0.contains("| \(driver.model)") }
        #expect(rows.count == 1, "docs/devices.md needs one row for \(driver.maker) \(driver.model)")
        #expect(rows.first?.contains(driver.recording) == true)
    }

    /// A model's beginning is never another's.
    @Test func modelsDoNotShadowEachOther() {
        for driver in DriverTable.drivers {
            for other in DriverTable.drivers where other.model != driver.model && other.maker == driver.maker {
                #expect(!other.model.hasPrefix(driver.model))
            }
        }
    }

    @Test func transmitterKeepsToItsRecording() async throws {
        let line = ReplayLine(try Transcript(contentsOf: recording("transmitter.transcript")), name: "transmitter")
        let module = try await Modules.open(InstrumentSession(line: line))
        let transmitter = try #require(module as? any QuantumTransmitter)
        #expect(transmitter.identity.serial.rawValue == "TX-0001")
        #expect(transmitter.role == .transmitter)
        #expect(transmitter.isEmulated)
        #expect(transmitter.capabilities.paths == ["NORTE", "CONCEPCION"])
        #expect(transmitter.capabilities.symbolsPerFrame == 65536)
        #expect(transmitter.capabilities.calibrations == [.init(kind: .bias, symbols: 0, duration: 5, validity: 3600)])
        #expect(try await transmitter.claim())
        #expect(try await transmitter.scpi.string("SYSTem:LOCK:OWNer?") == "SELF")
        try await transmitter.setModulationVariance(1.7)
        #expect(try await transmitter.modulationVariance() == 1.7)
        try await transmitter.setOutput(false)
        #expect(try await transmitter.scpi.boolean("OUTPut:STATe?") == false)
        try await transmitter.setPilot(true, ratio: nil)
        // The driver knows the limit too, and says so before the device is asked.
        await #expect(throws: InstrumentError.outOfRange(what: "modulation variance", value: "99.0", allowed: "0 to 20 SNU")) {
            try await transmitter.setModulationVariance(99)
        }
        await #expect(throws: InstrumentError.outOfRange(what: "path", value: "SUR", allowed: "NORTE, CONCEPCION")) {
            try await transmitter.setPath("SUR")
        }
        await #expect(throws: InstrumentError.refused(command: "SOURce:MODulation:VARiance 99", code: -222, text: "Data out of range")) {
            try await transmitter.scpi.run("SOURce:MODulation:VARiance 99")
        }
        let status = try await transmitter.status()
        #expect(status.phase == .idle && status.state == .ready && status.deviceTime == 61_234_567_890)
        let spectrum = try await transmitter.spectrum(from: 1530, to: 1560, points: 8)
        #expect(spectrum.powers.count == 8 && spectrum.wavelength(7) == 1560)
        try await transmitter.giveBack()
        try line.finish()
    }

    @Test func receiverKeepsToItsRecording() async throws {
        let line = ReplayLine(try Transcript(contentsOf: recording("receiver.transcript")), name: "receiver")
        let receiver = try #require(try await Modules.open(InstrumentSession(line: line)) as? any QuantumReceiver)
        #expect(receiver.capabilities.calibrations.map(\.kind) == [.dark, .shot, .lock])
        #expect(receiver.capabilities.calibrations[1] == .init(kind: .shot, symbols: 52_428_800, duration: 10, validity: 600))
        #expect(try await receiver.claim())
        try await receiver.setLocalOscillator(true)
        #expect(try await receiver.scpi.boolean("INPut:LOSCillator:STATe?"))
        try await receiver.setShutter(closed: true)
        #expect(try await receiver.scpi.boolean("INPut:SHUTter:STATe?"))
        let (eta, sigma) = try await receiver.efficiency()
        #expect(eta == 0.8 && sigma == 0.002)
        #expect(try await receiver.fullScale() == 2047)
        await #expect(throws: InstrumentError.refused(command: "ROUTe:PATH \"NORTE\"", code: -113, text: "Undefined header")) {
            try await receiver.scpi.run("ROUTe:PATH \"NORTE\"")
        }
        try await receiver.setShutter(closed: false)
        #expect(try await receiver.status().questionable == .calibration)
        #expect(try await receiver.temperatures() == [24.8, 31.2])
        try await receiver.giveBack()
        try line.finish()
    }

    @Test func strangersAreRefused() async throws {
        let script = ScriptedTransport([.asked("*IDN?", "KEYSIGHT,34465A,MY1,1.0")])
        await #expect(throws: InstrumentError.noDriver(identity: "KEYSIGHT,34465A,MY1,1.0")) { try await Modules.open(script.session()) }
        let nonsense = ScriptedTransport([.asked("*IDN?", "hello")])
        await #expect(throws: InstrumentError.self) { try await Modules.open(nonsense.session()) }
    }
}
