// The worked example of docs/adding-a-device.md, built and played as any driver is.

import Foundation
import Instruments
import QKDModel
import QKDTesting
import Testing
import Transport

@Suite struct LarkReceiverTests {
    private let folder = packageFolder.appending(path: "Tests/InstrumentsTests/Example")
    private var recording: URL { folder.appending(path: "lark.transcript") }

    @Test func keepsToItsRecording() async throws {
        let line = ReplayLine(try Transcript(contentsOf: recording), name: "lark")
        let drivers = DriverTable.drivers + [LarkReceiver.driver]
        let module = try await Modules.open(InstrumentSession(line: line), drivers: drivers)
        let receiver = try #require(module as? any QuantumReceiver)
        #expect(receiver.identity.serial.rawValue == "L-0042" && !receiver.isEmulated)
        try await receiver.setShutter(closed: true)
        try await receiver.setLocalOscillator(true)
        let (eta, sigma) = try await receiver.efficiency()
        #expect(eta == 0.615 && sigma == 0.004)
        // What it does not define is the protocol's.
        #expect(try await receiver.fullScale() == 8191)
        try line.finish()
    }

    @Test func anEfficiencyBeyondAllIsRefused() async throws {
        var transcript = try Transcript(contentsOf: recording)
        let place = try #require(transcript.entries.firstIndex(of: .line("61.5,0.4")))
        transcript.entries[place] = .line("615,4")
        let line = ReplayLine(transcript, name: "lark")
        let module = try await Modules.open(InstrumentSession(line: line), drivers: [LarkReceiver.driver])
        let receiver = try #require(module as? any QuantumReceiver)
        try await receiver.setShutter(closed: true)
        try await receiver.setLocalOscillator(true)
        await #expect(throws: InstrumentError.self) { try await receiver.efficiency() }
    }

    /// The page quotes the driver as it stands here.
    @Test func thePageShowsThisDriver() throws {
        let page = try String(contentsOf: packageFolder.appending(path: "docs/adding-a-device.md"), encoding: .utf8)
        let source = try String(contentsOf: folder.appending(path: "LarkReceiver.swift"), encoding: .utf8)
        let driver = try #require(source.range(of: "final class LarkReceiver"))
        #expect(page.contains(source[driver.lowerBound...].trimmingCharacters(in: .whitespacesAndNewlines)))
    }
}
