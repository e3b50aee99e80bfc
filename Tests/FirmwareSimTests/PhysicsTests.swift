// What the receivers report is what the transmitter sent, through the channel: estimated as a host would.

import FirmwareSim
import Foundation
import Testing

@Suite struct PhysicsTests {
    /// DARK has Var = N0 v_el, SHOT has N0 (1 + v_el), in LSB^2 (and 1/12 for the converter's steps).
    @Test func calibrationFrames() throws {
        let rig = try Rig()
        let dark = variance(try rig.calibrate("DARK", frames: 30))
        let shot = variance(try rig.calibrate("SHOT", frames: 60))
        let symbols = 30.0 * 65_536
        #expect(abs(dark / (22_500 * 0.05 + 1.0 / 12) - 1) < 5 / symbols.squareRoot())
        #expect(abs(shot / (22_500 * 1.05 + 1.0 / 12) - 1) < 5 / (2 * symbols).squareRoot() + 1e-5)
        #expect(rig.receiver.control("CAL:RES? SHOT;VAL? DARK;RES? LOCK;AGE? LOCK") == "PASS;1;NONE;-1")
    }

    /// The excess noise of each Madrid link is near .005 SNU, to the precision of 9e6 symbols.
    @Test(arguments: [("NOR-RX-1", "NORTE", 6.0, 1.7, 0.00438), ("CON-RX-1", "CONCEPCION", 11.0, 2.59, 0.00487)])
    func madridNoise(receiver: String, path: String, loss: Double, modulation: Double, expected: Double) throws {
        let rig = try Rig("madrid", transmitter: "ALM-TX-1", receiver: receiver)
        let dark = variance(try rig.calibrate("DARK", frames: 60))
        let shot = variance(try rig.calibrate("SHOT", frames: 140))
        try rig.light(variance: modulation, path: path)
        let (sent, received) = try rig.acquire(140)
        let result = Correlation(sent: sent, received: received, difference: try rig.difference())
        let (transmittance, noise) = result.channel(shot: shot, dark: dark, efficiency: 0.8)
        let truth = pow(10, -loss / 10)
        #expect(abs(transmittance / truth - 1) < 0.01)
        #expect(abs(result.modulationVariance / modulation - 1) < 0.003)
        let error = 2 * 1.05 / (0.8 * truth) * (2 / result.count).squareRoot()
        #expect(abs(noise - expected) < 4 * error, "\(noise) +- \(error)")
    }

    /// No light, no correlation: vacuum, shut shutter, other path, shuffled symbols.
    @Test func nullTests() throws {
        let rig = try Rig("madrid", transmitter: "ALM-TX-1", receiver: "NOR-RX-1")
        try rig.light(variance: 1.7, path: "NORTE")
        func coefficient() throws -> Double {
            let (sent, received) = try rig.acquire(3)
            return Correlation(sent: sent, received: received, difference: try rig.difference()).coefficient
        }
        let bound = 5 / (2 * 65_536.0).squareRoot()
        #expect(try coefficient() > 0.3)
        try rig.receiver.order("INP:SHUT:STAT ON")
        #expect(try coefficient() < bound)
        try rig.receiver.order("INP:SHUT:STAT OFF")
        try rig.transmitter.order("OUTP:STAT OFF")
        #expect(try coefficient() < bound)
        try rig.transmitter.order("OUTP:STAT ON;:ROUT:PATH \"CONCEPCION\"")
        #expect(try coefficient() < bound)
        try rig.transmitter.order("ROUT:PATH \"NORTE\"")
        rig.testbed.advance(seconds: 4)
        #expect(try coefficient() > 0.3)
        let (sent, received) = try rig.acquire(3)
        #expect(Correlation(sent: sent, received: received, difference: try rig.difference() &+ 1).coefficient < bound)
    }

    /// While Norte gets light, Concepcion calibrates behind its shutter at the same device time.
    @Test func oneGeneratesWhileTheOtherCalibrates() throws {
        let rig = try Rig("madrid", transmitter: "ALM-TX-1", receiver: "NOR-RX-1")
        let other = try rig.testbed.device("CON-RX-1")
        try rig.light(variance: 1.7, path: "NORTE")
        try other.order("CAL:STAR SHOT,\(20 * 65_536)")
        try rig.transmitter.order("ACQ:STAR")
        try rig.receiver.order("ACQ:STAR")
        let frames = try rig.collect([rig.transmitter, rig.receiver, other], 20)
        #expect(Correlation(sent: frames[0], received: frames[1], difference: try rig.difference()).coefficient > 0.3)
        #expect(abs(variance(frames[2]) / 23_625 - 1) < 0.005)
        #expect(frames[1][0].utc < frames[2][19].utc && frames[2][0].utc < frames[1][19].utc)
        #expect(frames[1].flatMap(\.samples) != frames[2].flatMap(\.samples))
    }

    @Test func switchingSettlesAndLocksAgain() throws {
        let rig = try Rig("madrid", transmitter: "ALM-TX-1", receiver: "NOR-RX-1")
        let other = try rig.testbed.device("CON-RX-1")
        try rig.light(variance: 1.7, path: "NORTE")
        try other.order("INP:LOSC:STAT ON;:INP:SHUT:STAT OFF")
        try rig.transmitter.order("ROUT:PATH \"CONCEPCION\"")
        #expect(rig.transmitter.control("ROUT:SETT?;:SYST:STAT?;:STAT:OPER:COND?") == "0;SETTLING;2")
        rig.testbed.step()
        #expect(rig.receiver.control("INP:PIL:LOCK?") == "0")
        #expect(rig.receiver.control("STAT:QUES:COND?") == "320")
        rig.testbed.advance(seconds: 0.1)
        #expect(rig.transmitter.control("ROUT:SETT?") == "1")
        // Without a LOCK calibration the search takes its full three seconds, with one .15 s.
        #expect(other.control("INP:PIL:LOCK?;:SYST:STAT?") == "0;SETTLING")
        rig.testbed.advance(seconds: 3.1)
        #expect(other.control("INP:PIL:LOCK?") == "1")
        try other.order("CAL:STAR LOCK")
        #expect(other.control("*OPC?").isEmpty)
        rig.testbed.advance(seconds: 3.1)
        #expect(String(decoding: other.pending(), as: UTF8.self) == "1\n")
        #expect(other.control("CAL:RES? LOCK") == "PASS")
        try other.order("INP:PIL:REL")
        #expect(other.control("INP:PIL:LOCK?") == "0")
        rig.testbed.advance(seconds: 0.2)
        #expect(other.control("INP:PIL:LOCK?") == "1")
        // Norte has no light now: LOCK fails there.
        try rig.receiver.order("CAL:STAR LOCK")
        rig.testbed.advance(seconds: 3.1)
        #expect(rig.receiver.control("SYST:ERR?").hasPrefix("-340"))
        #expect(rig.receiver.control("CAL:RES? LOCK") == "FAIL")
    }

    /// An hour of drift shifts the apparent excess noise of an 11 dB link beyond what gives key; calibrating mends it.
    @Test func aStaleCalibrationCostsKey() throws {
        let rig = try Rig("madrid", transmitter: "ALM-TX-1", receiver: "CON-RX-1")
        func calibrated() throws -> (dark: Double, shot: Double) {
            (variance(try rig.calibrate("DARK", frames: 40)), variance(try rig.calibrate("SHOT", frames: 160)))
        }
        func excess(_ calibration: (dark: Double, shot: Double)) throws -> Double {
            let (sent, received) = try rig.acquire(160)
            let result = Correlation(sent: sent, received: received, difference: try rig.difference())
            return result.channel(shot: calibration.shot, dark: calibration.dark, efficiency: 0.8).excessNoise
        }
        try rig.light(variance: 2.59, path: "CONCEPCION")
        try rig.receiver.order("CAL:STAR LOCK")
        rig.testbed.advance(seconds: 3.1)
        let early = try calibrated()
        #expect(rig.receiver.control("CAL:VAL? SHOT") == "1")
        rig.testbed.advance(seconds: 1)
        let fresh = try excess(early)
        rig.testbed.advance(seconds: 3600)
        #expect(rig.receiver.control("CAL:VAL? SHOT") == "0")
        let stale = try excess(early)
        let again = try calibrated()
        // LOCK has lost its validity too: the pilot is searched in full.
        rig.testbed.advance(seconds: 4)
        let mended = try excess(again)
        // One standard error is 5e-3 here.
        #expect(fresh < 0.02)
        #expect(stale > 0.03, "the drift was \(stale)")
        #expect(mended < 0.02)
    }

    @Test func spectrumShowsChannelsAndPilot() throws {
        let rig = try Rig("madrid", transmitter: "ALM-TX-1", receiver: "NOR-RX-1")
        try rig.light(variance: 1.7, path: "NORTE")
        let points = 4001
        let bytes = rig.receiver.control([UInt8]("DIAG:OSA? 1538,1558,\(points)\n".utf8))
        let powers = floats(bytes)
        #expect(powers.count == points)
        let wavelengths = (0..<points).map { 1538 + 20 * Double($0) / Double(points - 1) }
        let peaks = (1..<points - 1).filter { powers[$0] > -25 && powers[$0] >= powers[$0 - 1] && powers[$0] > powers[$0 + 1] }
        #expect(peaks.count == 17)
        #expect(peaks.allSatisfy { (-20 ... -8).contains(powers[$0]) })
        // The pilot: between channels 11 and 12, near 1550 nm, about -55 dBm.
        let between = (0..<points).filter { wavelengths[$0] > 1550.09 && wavelengths[$0] < 1550.15 }
        let pilot = between.map { powers[$0] }.max() ?? -200
        #expect((-60 ... -50).contains(pilot))
        #expect(peaks.count { wavelengths[$0] < 1550.1 } == 11)
        #expect((powers.min() ?? 0) < -72)
        try rig.transmitter.order("SOUR:PIL:STAT OFF")
        rig.testbed.step()
        let dark = floats(rig.receiver.control([UInt8]("DIAG:OSA? 1550.1,1550.14,40\n".utf8)))
        #expect((dark.max() ?? 0) < -65)
    }

    @Test func reflectometryShowsTheLoopedFibre() throws {
        let rig = try Rig("madrid", transmitter: "ALM-TX-1", receiver: "NOR-RX-1")
        let pairs = floats(rig.transmitter.control([UInt8]("DIAG:OTDR?\n".utf8)))
        let points = stride(from: 0, to: pairs.count, by: 2).map { (km: pairs[$0], dB: pairs[$0 + 1]) }
        func level(_ km: Float) -> Float { points.min { abs($0.km - km) < abs($1.km - km) }?.dB ?? 0 }
        // 12 dB there and back; spikes at the middle and mirrored about it.
        #expect(abs(level(7.7) - level(0.1) + 12 - 0.62 * 2) < 0.7)
        for km in [Float(1.6), 3.9, 6.2] { #expect(level(km) > level(km - 0.1) + 3, "spike at \(km) km") }
        #expect(level(8.2) < -20)
    }

    private func floats(_ block: [UInt8]) -> [Float] {
        let digits = Int(block[1]) - 48
        let body = block[(2 + digits)..<(block.count - 1)]
        return body.withUnsafeBytes { raw in
            (0..<raw.count / 4).map { Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self))) }
        }
    }
}
