// Registers, errors and answers belong to sessions: what one does is no other's business.

import FirmwareSim
import Testing

@Suite struct SessionStatusTests {
    /// A session without the lock that sends what it may not, over and over, while the owner works.
    @Test func errorsAreTheirCauses() throws {
        let rig = try Rig()
        let other = try rig.testbed.device("SMALL-RX-1")
        other.control("*CLS")
        try rig.receiver.order("SYST:LOCK:REQ?")
        try rig.receiver.order("INP:LOSC:STAT ON;:ACQ:STAR")
        for _ in 0..<20 {
            other.control("ACQ:STOP;NONSENSE")
            rig.testbed.step()
            // `order` reads the error queue after each command, as the driver does.
            try rig.receiver.order("INP:SHUT:STAT OFF")
        }
        #expect(rig.receiver.control("*ESR?;SYST:ERR:COUN?;:ACQ:STAT?") == "0;0;RUNNING")
        #expect(other.control("*ESR?;SYST:ERR:COUN?") == "16;16")
        #expect(other.control("SYST:ERR?").hasPrefix("-200"))
    }

    @Test func clearingAndReadingIsNobodyElses() throws {
        let rig = try Rig()
        let other = try rig.testbed.device("SMALL-RX-1")
        rig.receiver.control("*ESE 48;*SRE 32;:STAT:OPER:ENAB 1;:STAT:QUES:ENAB 512;NONSENSE")
        try rig.receiver.order("*CLS")
        rig.receiver.control("NONSENSE")
        try other.order("CAL:STAR DARK,65536")
        rig.testbed.advance(seconds: 0.1)
        #expect(other.control("*ESE?;*SRE?;:STAT:OPER:ENAB?;:STAT:QUES:ENAB?") == "0;0;0;0")
        #expect(other.control("STAT:OPER?") == "1")
        other.control("*CLS;:STAT:PRES;*RST")
        #expect(rig.receiver.control("*ESE?;*SRE?;:STAT:OPER:ENAB?;:STAT:QUES:ENAB?") == "48;32;1;512")
        #expect(rig.receiver.control("STAT:OPER?;:SYST:ERR:COUN?;*ESR?") == "1;1;32")
    }

    @Test func theDevicesOwnErrorsAndEventsReachAll() throws {
        let rig = try Rig()
        let other = try rig.testbed.device("SMALL-RX-1")
        other.control("*CLS")
        try rig.receiver.order("CAL:STAR LOCK")
        rig.testbed.advance(seconds: 0.5)
        for session in [rig.receiver, other] { #expect(session.control("SYST:ERR?").hasPrefix("-340")) }
        try rig.receiver.order("SIM:FAUL \"overrun\",1")
        try rig.receiver.order("CAL:STAR DARK,65536")
        rig.testbed.advance(seconds: 0.1)
        #expect(rig.receiver.control("STAT:QUES?") == "512")
        #expect(other.control("STAT:QUES?") == "512", "the first did not read it away")
        #expect(other.control("STAT:QUES?") == "0")
    }

    @Test func aNewSessionBeginsAsAfterPowerOn() throws {
        let rig = try Rig()
        rig.receiver.control("*ESE 60;NONSENSE")
        let fresh = try rig.testbed.device("SMALL-RX-1")
        #expect(fresh.control("*ESE?;*ESR?;SYST:ERR:COUN?") == "0;128;0")
        // A condition that was there before is no event.
        #expect(fresh.control("STAT:QUES:COND?;:STAT:QUES?") == "256;0")
    }

    @Test func operationCompleteIsToldToWhoAsked() throws {
        let rig = try Rig()
        let other = try rig.testbed.device("SMALL-RX-1")
        other.control("*CLS")
        rig.receiver.control("CAL:STAR DARK,655360;*OPC")
        other.control("*CLS")
        rig.testbed.advance(seconds: 0.3)
        #expect(rig.receiver.control("*ESR?") == "1")
        #expect(other.control("*ESR?") == "0")
    }

    @Test func aDeviceClearDropsAnswersOnTheirWay() throws {
        let rig = try Rig()
        rig.receiver.control("*ESE 36;SIM:FAUL \"hang\",1")
        #expect(rig.receiver.control("SYST:ROLE?").isEmpty)
        #expect(rig.receiver.control([0x18]).isEmpty)
        #expect(rig.receiver.control("*ESE?").isEmpty)
        rig.testbed.advance(seconds: 1.2)
        #expect(rig.receiver.pending() == [UInt8]("36\n".utf8), "registers stay")
    }
}
