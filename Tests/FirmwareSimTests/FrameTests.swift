// Symbol frames, their ring, and fetching.

import CFirmwareSim
import FirmwareSim
import Testing

@Suite struct FrameTests {
    @Test func checkSums() {
        let vector = [UInt8]("123456789".utf8)
        #expect(fs_crc32c(vector, 9) == 0xE306_9283)
        #expect(fs_crc32c_portable(vector, 9) == 0xE306_9283)
        let bytes = (0..<4099).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        for count in [0, 1, 7, 8, 9, 4096, 4099] { #expect(fs_crc32c(bytes, count) == fs_crc32c_portable(bytes, count)) }
    }

    @Test func headersTellTheTruth() throws {
        let rig = try Rig()
        try rig.light(variance: 0.64)
        let (sent, received) = try rig.acquire(4)
        for (frames, kind) in [(sent, UInt32(1)), (received, 1)] {
            for (earlier, later) in zip(frames, frames.dropFirst()) {
                #expect(later.number == earlier.number + 1)
                #expect(later.first == earlier.first &+ 65_536)
                #expect(later.deviceTime - earlier.deviceTime == 13_107_200)
                #expect(later.utc - earlier.utc == 13_107_200)
                #expect(earlier.kind == kind && earlier.flags & Frame.emulated != 0)
            }
        }
        #expect(abs(Double(sent[0].scale) - 0.8 / 400) < 1e-9)
        #expect(sent[0].first != received[0].first, "counters start anywhere")
        // UTC of the same light agrees within 5 ms whatever the counters say.
        let difference = try rig.difference()
        let shift = Double(Int64(bitPattern: received[0].first &+ difference &- sent[0].first)) / 5e6
        let utc = (Double(received[0].utc) - Double(sent[0].utc)) * 1e-9
        #expect(abs(utc - shift) < 0.005)
        #expect(received[0].flags & Frame.stale != 0 && received[0].flags & Frame.unlocked == 0)
    }

    @Test func fetchingIsRepeatableUntilReleased() throws {
        let rig = try Rig()
        try rig.receiver.order("CAL:STAR DARK,\(3 * 65_536)")
        rig.testbed.advance(seconds: 0.2)
        #expect(rig.receiver.control("ACQ:AVA?") == "0,3")
        let first = rig.receiver.control([UInt8]("FETC:SYMB? 1,2\n".utf8))
        let again = rig.receiver.control([UInt8]("FETCh:SYMBols? 1,2\n".utf8))
        #expect(first == again)
        #expect(Array(first.prefix(8)) == [UInt8]("#6524432".utf8) && first.last == 0x0A)
        let frame = try Frame(Array(first[8..<8 + 72 + 262_144]))
        #expect(frame.number == 1 && frame.kind == 3)
        rig.receiver.control("ACQ:REL 1")
        #expect(rig.receiver.control("ACQ:AVA?") == "2,3")
        #expect(rig.receiver.control([UInt8]("FETC:SYMB? 1,1\n".utf8)).isEmpty)
        #expect(rig.receiver.control("SYST:ERR?").hasPrefix("-222"))
    }

    @Test func aFullRingLosesTheNewestAndSaysSo() throws {
        let rig = try Rig { for index in $0.devices.indices { $0.devices[index].ringFrames = 4 } }
        rig.receiver.control("*CLS")
        try rig.receiver.order("CAL:STAR DARK,\(10 * 65_536)")
        rig.testbed.advance(seconds: 0.3)
        #expect(rig.receiver.control("ACQ:AVA?") == "0,4")
        #expect(rig.receiver.control("ACQ:OVER?") == "6")
        #expect(rig.receiver.control("STAT:QUES?") == "512")
        rig.receiver.release(through: 3)
        let next = try rig.calibrate("DARK", frames: 2)
        #expect(next.map(\.number) == [10, 11])
        #expect(next[0].flags & Frame.overrun != 0 && next[1].flags & Frame.overrun == 0)
    }

    @Test func stoppingDiscardsTheFrameAtHand() throws {
        let rig = try Rig()
        rig.receiver.control("INP:LOSC:STAT ON")
        try rig.receiver.order("ACQ:STAR")
        #expect(rig.receiver.control("ACQ:STAR;STAT?").isEmpty)
        #expect(rig.receiver.control("SYST:ERR?").hasPrefix("-213"))
        rig.testbed.step()
        try rig.receiver.order("ACQ:STOP")
        #expect(rig.receiver.control("ACQ:STAT?") == "IDLE")
        rig.testbed.advance(seconds: 0.1)
        #expect(rig.receiver.control("ACQ:AVA?") == "0,0")
        try rig.receiver.order("ACQ:STAR 3")
        rig.testbed.advance(seconds: 0.1)
        #expect(rig.receiver.control("ACQ:STAT?;AVA?") == "IDLE;0,3")
    }

    @Test func slowerRatesKeepTheLight() throws {
        let rig = try Rig { configuration in
            for index in configuration.devices.indices { configuration.devices[index].symbolRatesHz = [5_000_000, 1_250_000] }
        }
        try rig.light()
        for device in [rig.transmitter, rig.receiver] { try device.order("ACQ:SRAT 1.25 MHZ") }
        #expect(rig.receiver.control("ACQ:SRAT?") == "1250000")
        let (sent, received) = try rig.acquire(3)
        #expect(received[1].deviceTime - received[0].deviceTime == 4 * 13_107_200)
        let result = Correlation(sent: sent, received: received, difference: try rig.difference())
        #expect(result.coefficient > 0.3)
        // Unequal rates have nothing in common.
        try rig.receiver.order("ACQ:SRAT 5e6")
        #expect(variance(received) > 1.1 * 23_625)
        #expect(variance(try rig.acquire(3).received) < 1.01 * 23_625)
    }
}
