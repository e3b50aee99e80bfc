// Every fault of docs/wire/instrument-protocol.md, section 1.10: what the host can see of it.

import FirmwareSim
import Foundation
import Testing

@Suite struct FaultTests {
    /// Transmittance and excess noise while a fault lasts.
    private func estimate(_ fault: String) throws -> (transmittance: Double, excessNoise: Double) {
        let rig = try Rig()
        let dark = variance(try rig.calibrate("DARK", frames: 8))
        let shot = variance(try rig.calibrate("SHOT", frames: 30))
        try rig.light()
        try rig.receiver.order("SIM:FAUL \(fault)")
        let (sent, received) = try rig.acquire(30)
        return Correlation(sent: sent, received: received, difference: try rig.difference()).channel(
            shot: shot, dark: dark, efficiency: 0.8)
    }

    @Test func addedLoss() throws {
        #expect(abs(try estimate("\"added-loss\",3").transmittance / pow(10, -0.4) - 1) < 0.02)
    }

    @Test func anEavesdropperAddsNoise() throws {
        let result = try estimate("\"excess-noise\",.2")
        #expect(abs(result.excessNoise - 0.2) < 0.02)
        #expect(abs(result.transmittance / pow(10, -0.1) - 1) < 0.02)
    }

    @Test func aSurgeOfClassicalPowerAddsNoise() throws {
        // Raman grows tenfold per 10 dB: four channels of -10 dBm over 1 km scatter 8e-5 SNU.
        #expect(try estimate("\"classical-surge\",27").excessNoise > 0.02)
    }

    @Test func lightDuringCalibrationRaisesTheShotNoise() throws {
        let rig = try Rig()
        let honest = variance(try rig.calibrate("SHOT", frames: 30))
        try rig.receiver.order("SIM:FAUL \"calibration-light\",.1")
        let lit = variance(try rig.calibrate("SHOT", frames: 30))
        #expect(abs(lit / honest - (1.15 / 1.05)) < 0.005)
    }

    @Test func fibreCut() throws {
        let rig = try Rig()
        try rig.light()
        try rig.receiver.order("SIM:FAUL \"fibre-cut\",0,2")
        rig.testbed.step()
        #expect(rig.receiver.control("INP:PIL:LOCK?") == "0")
        let (sent, received) = try rig.acquire(3)
        #expect(Correlation(sent: sent, received: received, difference: try rig.difference()).coefficient < 0.01)
        #expect(received[0].flags & Frame.unlocked != 0)
        #expect(rig.receiver.control("SIM:FAUL:LIST?") == "\"fibre-cut\",0")
        rig.testbed.advance(seconds: 3)
        #expect(rig.receiver.control("INP:PIL:LOCK?;:SIM:FAUL:LIST?") == "1;\"\"")
    }

    @Test func saturation() throws {
        let rig = try Rig()
        try rig.light()
        try rig.receiver.order("SIM:FAUL \"saturation\",16")
        let (_, received) = try rig.acquire(2)
        #expect(received[0].flags & Frame.saturatedFlag != 0)
        #expect(Int(received[0].saturated) == received[0].samples.count { abs(Int($0)) >= 2047 })
        #expect(received[0].saturated > 10_000)
    }

    @Test func staleCalibration() throws {
        let rig = try Rig()
        _ = try rig.calibrate("SHOT", frames: 1)
        #expect(rig.receiver.control("CAL:VAL? SHOT") == "1")
        try rig.receiver.order("SIM:FAUL \"stale-calibration\"")
        #expect(rig.receiver.control("CAL:VAL? SHOT;RES? SHOT;VALIDITY? SHOT") == "0;PASS;600")
        #expect(rig.receiver.control("STAT:QUES:COND?") == "256")
    }

    /// A slip moves the light by so many symbols against the counters, which go on as if nothing were.
    @Test(arguments: [("receiver", 7), ("transmitter", -3)]) func slip(side: String, symbols: Int) throws {
        let rig = try Rig()
        try rig.light()
        let before = try rig.difference()
        let (_, first) = try rig.acquire(2)
        try (side == "receiver" ? rig.receiver : rig.transmitter).order("SIM:FAUL \"slip\",\(symbols)")
        let (sent, received) = try rig.acquire(2)
        #expect(Correlation(sent: sent, received: received, difference: before).coefficient < 0.02)
        let moved = side == "receiver" ? symbols : -symbols
        let shifted = before &+ UInt64(bitPattern: Int64(moved))
        #expect(Correlation(sent: sent, received: received, difference: shifted).coefficient > 0.3)
        #expect((received[0].first &- first[0].first) % 65_536 == UInt64((received[0].deviceTime - first[0].deviceTime) / 200) % 65_536)
    }

    @Test func corruptFramesHealOnTheSecondTry() throws {
        let rig = try Rig()
        _ = try rig.receiver.order("CAL:STAR DARK,\(2 * 65_536)")
        rig.testbed.advance(seconds: 0.1)
        try rig.receiver.order("SIM:FAUL \"corrupt-frame\",1")
        #expect(throws: Frame.Wrong.payloadCheck) { try Frame(rig.receiver.frames(most: 1)[0]) }
        #expect(try Frame(rig.receiver.frames(most: 1)[0]).number == 0)
        #expect(rig.receiver.control("SIM:FAUL:LIST?") == "\"\"")
    }

    @Test func overrun() throws {
        let rig = try Rig()
        try rig.receiver.order("SIM:FAUL \"overrun\",2")
        let frames = try {
            try rig.receiver.order("CAL:STAR DARK,\(5 * 65_536)"); return try rig.collect([rig.receiver], 3)[0]
        }()
        #expect(frames.map(\.number) == [2, 3, 4])
        #expect(frames[0].flags & Frame.overrun != 0)
        #expect(rig.receiver.control("ACQ:OVER?") == "2")
    }

    @Test func hangAndSlowAnswersKeepTheOrder() throws {
        let rig = try Rig()
        rig.receiver.control("SIM:FAUL \"hang\",2")
        #expect(rig.receiver.control("*IDN?").isEmpty)
        rig.testbed.advance(seconds: 1)
        #expect(rig.receiver.control("*ESE?").isEmpty)
        rig.testbed.advance(seconds: 1.1)
        let lines = String(decoding: rig.receiver.pending(), as: UTF8.self).split(separator: "\n")
        #expect(lines.count == 2 && lines[0].hasPrefix("SDQKD") && lines[1] == "0")
        rig.receiver.control("SIM:FAUL \"slow-answers\",.5,10")
        #expect(rig.receiver.control("*ESE?").isEmpty)
        rig.testbed.advance(seconds: 0.6)
        #expect(rig.receiver.pending() == [UInt8]("0\n".utf8))
        rig.testbed.advance(seconds: 10)
        #expect(rig.receiver.control("*ESE?") == "0")
    }

    @Test func rebootForgetsEverything() throws {
        let rig = try Rig()
        try rig.light()
        let counters = try rig.difference()
        let (_, before) = try rig.acquire(2)
        try rig.receiver.order("SYST:LOCK:REQ?")
        #expect(rig.receiver.control("SIM:FAUL \"reboot\"").isEmpty)
        #expect(rig.receiver.control("*IDN?").isEmpty, "its sessions are gone")
        let fresh = try rig.testbed.device("SMALL-RX-1")
        #expect(fresh.control("SYST:STAT?;:SYST:LOCK:OWN?;*ESR?") == "BOOT;\"NONE\";128")
        #expect(fresh.control("INP:LOSC:STAT?;:ACQ:AVA?") == "0;0,0")
        #expect(fresh.control("CAL:STAR DARK").isEmpty)
        #expect(fresh.control("SYST:ERR?").hasPrefix("-221"))
        rig.testbed.advance(seconds: 0.8)
        #expect(fresh.control("SYST:STAT?") == "IDLE")
        #expect((Double(fresh.control("SYST:TIME?")) ?? 0) < 1e9)
        try fresh.order("CAL:STAR DARK,65536")
        rig.testbed.advance(seconds: 0.1)
        let after = try Frame(fresh.frames()[0])
        #expect(after.number == 0 && after.utc > before[1].utc)
        #expect(try rig.difference() != counters)
    }

    @Test func dropConnectionEndsSessions() throws {
        let rig = try Rig()
        let actions = rig.receiver.control("SIM:FAUL \"drop-connection\";*IDN?")
        // In virtual time nobody closes the line; the server does (ServerTests).
        #expect(actions.hasPrefix("SDQKD"))
    }

    /// The same file and seed give the same symbols, the same faults at the same times.
    @Test func timelineAndSymbolsRepeat() throws {
        let yaml =
            try String(contentsOfFile: testbedFile("small"), encoding: .utf8) + """

                timeline:
                  - { at_s: 1.2, device: SMALL-RX-1, fault: added-loss, value: 6, for_s: 0.3 }
                  - { at_s: 1.3, device: SMALL-RX-1, fault: slip, value: 11 }
                  - { at_s: 1.35, device: SMALL-TX-1, fault: overrun, value: 1 }
                """
        func run(seed: UInt64) throws -> [Frame] {
            var configuration = try TestbedConfiguration(yaml: yaml)
            configuration.seed = seed
            let testbed = VirtualTestbed(configuration)
            let devices = try ["SMALL-TX-1", "SMALL-RX-1"].map { try testbed.device($0) }
            testbed.advance(seconds: 0.8)
            try devices[0].order("OUTP:STAT ON")
            try devices[1].order("INP:LOSC:STAT ON;:INP:SHUT:STAT OFF")
            for device in devices { try device.order("ACQ:STAR") }
            testbed.advance(seconds: 0.7)
            return try devices.flatMap { device in try device.frames().map { try Frame($0) } }
        }
        let first = try run(seed: 3)
        #expect(first.count > 60)
        #expect(first.contains { $0.flags & Frame.overrun != 0 })
        #expect(try run(seed: 3) == first)
        #expect(try run(seed: 4).first?.samples != first.first?.samples)
    }

    @Test(arguments: [
        ("\"added-loss\"", -109), ("\"added-loss\",-3", -222), ("\"slow-answers\",-1", -222), ("\"saturation\",0", -222),
        ("\"excess-noise\",-.1", -222), ("\"overrun\",1.5", -222), ("\"overrun\",0", -222), ("\"hang\"", -109),
        ("\"hang\",1e9", -222), ("\"fibre-cut\",2", -222), ("\"unplug\"", -224), ("\"replug\"", -224), ("\"slip\",.5", -222),
    ])
    func valuesThatMakeNoSenseAreRefused(fault: String, number: Int) throws {
        let receiver = try Rig().receiver
        receiver.control("SIM:FAUL \(fault)")
        #expect(receiver.control("SYST:ERR?").hasPrefix("\(number),\""), "\(fault)")
        #expect(receiver.control("SIM:FAUL:LIST?") == "\"\"")
    }

    @Test func faultsOfLightNeedAReceiver() throws {
        let rig = try Rig()
        rig.transmitter.control("SIM:FAUL \"fibre-cut\"")
        #expect(rig.transmitter.control("SYST:ERR?").hasPrefix("-224"))
        rig.receiver.control("SIM:FAUL:CLE \"no-such\"")
        #expect(rig.receiver.control("SYST:ERR?").hasPrefix("-224"))
    }
}

@Suite struct VirtualScriptTests {
    @Test func conversationsRepeat() throws {
        let lines = [
            "# a calibration", "wait 1", "SMALL-RX-1 CAL:STAR SHOT,65536;*OPC?", "wait .1", "SMALL-RX-1 FETC:SYMB? 0,1",
            "SMALL-RX-1 SYST:ERR?",
        ]
        func run() throws -> [String] {
            var script = VirtualScript(try TestbedConfiguration(file: testbedFile("small")))
            var output: [String] = []
            for line in lines { output += try script.run(line) }
            return output
        }
        let first = try run()
        #expect(first.count == 3 && first[0] == "SMALL-RX-1 1" && first[2] == "SMALL-RX-1 0,\"No error\"")
        #expect(first[1].hasPrefix("SMALL-RX-1 block of 262216 bytes, CRC-32C "))
        #expect(try run() == first)
    }

    @Test(arguments: ["NOBODY *IDN?", "wait long"]) func wrongLinesAreRefused(line: String) throws {
        var script = VirtualScript(try TestbedConfiguration(file: testbedFile("small")))
        var refused = false
        do { _ = try script.run(line) } catch { refused = true }
        #expect(refused)
    }
}
