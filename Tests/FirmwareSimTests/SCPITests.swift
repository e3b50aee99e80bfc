// SCPI-99 and IEEE 488.2 as instruments are held to them, on a transmitter and a receiver in virtual time.

import FirmwareSim
import Testing

@Suite struct SCPITests {
    @Test func noTwoCommandsReadTheSame() { #expect(CommandTree.ambiguous.isEmpty) }

    @Test func identity() throws {
        let rig = try Rig()
        let fields = rig.receiver.control("*IDN?").split(separator: ",")
        #expect(fields.count == 4 && fields[2] == "SMALL-RX-1")
        #expect(rig.transmitter.control("SYST:VERS?") == "1999.0")
        #expect(rig.transmitter.control("SYSTem:ROLE?") == "TRANSMITTER")
        #expect(rig.receiver.control("SYST:EMUL?") == "1")
        #expect(rig.receiver.control("*TST?") == "0")
    }

    @Test(arguments: ["SYST:ERR?", "system:error:next?", ":SYSTEM:ERR:NEXT?", "  SYSTem:ERRor?  ", "syst:error?\r"])
    func longAndShortFormsInAnyCase(header: String) throws {
        #expect(try Rig().receiver.control(header) == "0,\"No error\"")
    }

    @Test(arguments: [
        ("SYSTE:ERR?", -113), ("NONSENSE", -113), ("SOUR:MOD:VAR?", -113), ("*IDN? 1,2;*FOO", -108), ("*IDN? 4", -108),
        ("SYST:LOCK:REQ? 1", -108), ("*CLS 1;*FOO", -108), ("CAL:STAR", -109),
        ("CAL:STAR 5", -104),
        ("CAL:STAR BIAS", -224), ("CAL:STAR SHOT,1,2", -108), ("CAL:STAR SHOT,0", -222), ("CAL:STAR SHOT,1e3 parsec", -131),
        ("INP:LOSC:STAT MAYBE", -104), ("INP:LOSC:STAT #13abc", -168), ("*ESE 256", -222), ("*ESE 1.2.3", -120), ("SIM:FAUL \"x", -151),
        ("SIM:FAUL \"nothing\"", -224), ("ACQ:STAR", -221), ("FETC:SYMB? 0,1", -222), ("FETC:SYMB? 0,1000", -223), ("A\u{1}B", -101),
        ("ACQ:SRAT 12345", -224), ("@", -102), ("*CLS 1", -108), ("CAL:AGE? ,", -103),
    ])
    func errorsHaveTheirStandardNumbers(line: String, number: Int) throws {
        let receiver = try Rig().receiver
        #expect(!receiver.control(line).contains("#"))
        #expect(receiver.control("SYST:ERR?").hasPrefix("\(number),\""), "\(line)")
        #expect(receiver.control("SYST:ERR:COUN?") == "0")
    }

    @Test func errorClassesSetTheEventRegister() throws {
        let receiver = try Rig().receiver
        #expect(receiver.control("*ESR?") == "0")
        receiver.control("NONSENSE")
        receiver.control("ACQ:STAR")
        #expect(receiver.control("*ESR?") == "48")
        #expect(receiver.control("*ESR?") == "0")
    }

    @Test func powerOnIsAnEvent() throws {
        let testbed = try VirtualTestbed(file: testbedFile("small"))
        #expect(try testbed.device("SMALL-TX-1").control("*ESR?") == "128")
    }

    @Test func theErrorQueueKeepsSixteenAndOverflows() throws {
        let receiver = try Rig().receiver
        for _ in 0..<20 { receiver.control("NONSENSE") }
        #expect(receiver.control("SYST:ERR:COUN?") == "16")
        for _ in 0..<15 { #expect(receiver.control("SYST:ERR?").hasPrefix("-113")) }
        #expect(receiver.control("SYST:ERR?").hasPrefix("-350"))
        #expect(receiver.control("SYST:ERR?").hasPrefix("0,"))
    }

    @Test func statusByteSummarises() throws {
        let receiver = try Rig().receiver
        #expect(receiver.control("*STB?") == "0")
        receiver.control("NONSENSE")
        #expect(receiver.control("*STB?") == "4")
        receiver.control("*ESE 32;*SRE 32")
        #expect(receiver.control("*STB?") == "100")
        receiver.control("*CLS")
        #expect(receiver.control("*STB?") == "0")
        #expect(receiver.control("*ESE?;*SRE?") == "32;32")
        receiver.control("STAT:QUES:ENAB 256")
        #expect(receiver.control("STAT:QUES:COND?") == "256")
        receiver.control("SIM:FAUL \"stale-calibration\"")
        receiver.control("STAT:PRES")
        #expect(receiver.control("STAT:QUES:ENAB?;:STAT:OPER:ENAB?") == "0;0")
    }

    @Test func summaryBitsFollowEvents() throws {
        let rig = try Rig()
        rig.receiver.control("STAT:OPER:ENAB 1;*SRE 128")
        try rig.receiver.order("CAL:STAR SHOT,65536")
        #expect(rig.receiver.control("STAT:OPER:COND?") == "1")
        #expect(rig.receiver.control("*STB?") == "192")
        rig.testbed.advance(seconds: 0.1)
        #expect(rig.receiver.control("STAT:OPER:COND?") == "0")
        #expect(rig.receiver.control("STAT:OPER?") == "1")
        #expect(rig.receiver.control("STAT:OPER:EVEN?") == "0")
        #expect(rig.receiver.control("*STB?") == "0")
    }

    @Test func resetLeavesStatusAlone() throws {
        let rig = try Rig()
        rig.receiver.control("*ESE 60;*SRE 16;INP:LOSC:STAT ON;NONSENSE")
        rig.receiver.control("*RST")
        #expect(rig.receiver.control("*ESE?;*SRE?;INP:LOSC:STAT?;:SYST:ERR:COUN?") == "60;16;0;1")
    }

    @Test func compoundMessages() throws {
        let transmitter = try Rig().transmitter
        #expect(transmitter.control("*IDN?;SYST:ROLE?;VERS?").hasSuffix(";TRANSMITTER;1999.0"))
        transmitter.control("SOUR:PIL:STAT OFF;RAT 12.5;:SOUR:MOD:VAR 3")
        #expect(transmitter.control("SOUR:PIL:STAT?;RAT?;:SOUR:MOD:VAR?") == "0;12.5;3")
        // A message ends at its first error; what was answered before is sent.
        #expect(transmitter.control("*ESE?;NONSENSE;*SRE?") == "0")
    }

    @Test func numbersTakeUnitsAndExponents() throws {
        let transmitter = try Rig().transmitter
        try transmitter.order("SOUR:OPT:FREQ 193.35THZ")
        #expect(transmitter.control("SOUR:OPT:FREQ?") == "1.9335e+14")
        try transmitter.order("SOUR:OPT:FREQ 1.934E14 Hz")
        #expect(transmitter.control("SOUR:OPT:FREQ?") == "1.934e+14")
        try transmitter.order("SOUR:MOD:VAR +.5")
        #expect(transmitter.control("SOUR:MOD:VAR?") == "0.5")
    }

    @Test func operationComplete() throws {
        let rig = try Rig()
        #expect(rig.receiver.control("*OPC?") == "1")
        rig.receiver.control("CAL:STAR SHOT,655360;*OPC")
        #expect(rig.receiver.control("*ESR?") == "0")
        #expect(rig.receiver.control("*OPC?;*IDN?").isEmpty)
        // The session waits: what it sends meanwhile is answered afterwards, in order. Others go on.
        #expect(rig.receiver.control("SYST:ROLE?").isEmpty)
        #expect(try rig.testbed.device("SMALL-RX-1").control("CAL:STAT?") == "SHOT")
        rig.testbed.advance(seconds: 0.2)
        let lines = String(decoding: rig.receiver.pending(), as: UTF8.self).split(separator: "\n")
        #expect(lines.count == 2 && lines[0].hasPrefix("1;SDQKD,") && lines[1] == "RECEIVER")
        #expect(rig.receiver.control("*ESR?") == "1")
    }

    @Test func waitHoldsTheRestOfTheMessage() throws {
        let rig = try Rig()
        #expect(rig.receiver.control("CAL:STAR DARK,655360;*WAI;:CAL:STAT?").isEmpty)
        rig.testbed.advance(seconds: 0.2)
        #expect(String(decoding: rig.receiver.pending(), as: UTF8.self) == "IDLE\n")
    }

    @Test func sessionsAndTheLock() throws {
        let rig = try Rig()
        let other = try rig.testbed.device("SMALL-RX-1")
        #expect(rig.receiver.control("SYST:LOCK:OWN?") == "\"NONE\"")
        #expect(rig.receiver.control("SYST:LOCK:REQ?") == "1")
        #expect(rig.receiver.control("SYST:LOCK:REQ?") == "1")
        #expect(other.control("SYST:LOCK:REQ?") == "0")
        #expect(other.control("SYST:LOCK:OWN?") == "\"OTHER\"")
        #expect(rig.receiver.control("SYST:LOCK:OWN?") == "\"SELF\"")
        for line in ["INP:LOSC:STAT ON", "CAL:STAR DARK", "*RST", "DATA:TOK?", "SYST:REB", "ACQ:REL 5"] {
            #expect(other.control(line).isEmpty)
            #expect(other.control("SYST:ERR?") == "-200,\"Execution error;locked by another session\"", "\(line)")
        }
        #expect(other.control("INP:LOSC:STAT?") == "0")
        rig.receiver.close()
        #expect(other.control("SYST:LOCK:REQ?") == "1")
        let more = try (0..<3).map { _ in try rig.testbed.device("SMALL-RX-1") }
        #expect(throws: FirmwareSimError.self) { try rig.testbed.device("SMALL-RX-1") }
        more[0].close()
        #expect(throws: Never.self) { try rig.testbed.device("SMALL-RX-1") }
    }

    @Test func linesInPiecesOverlongLinesAndDeviceClear() throws {
        let receiver = try Rig().receiver
        #expect(receiver.control([UInt8]("*ID".utf8)).isEmpty)
        #expect(receiver.control([UInt8]("N?\n\n\r\n*ESE?\n".utf8)).count { $0 == 0x0A } == 2)
        #expect(receiver.control([UInt8](repeating: 0x41, count: 5000) + [0x0A]).isEmpty)
        #expect(receiver.control("SYST:ERR?").hasPrefix("-363"))
        #expect(receiver.control([UInt8]("NONSENSE".utf8) + [0x18] + [UInt8]("*ESE?\n".utf8)) == [UInt8]("0\n".utf8))
        #expect(receiver.control("SYST:ERR:COUN?") == "0")
    }

    /// Random bytes, and random words of the language, never crash and never leave the session deaf.
    @Test func fuzz() throws {
        let rig = try Rig()
        var state: UInt64 = 0x5EED
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        let words = [
            "SYST", "ERR", "?", ":", ";", "*", "CAL", "STAR", " ", "SHOT", ",", "1", "-1e99", "\"", "'", "#", "FETC:SYMB?", "0,1",
            "INP:LOSC:STAT", "ON",
            "DIAG:OSA? 1500,1600,", "99", "SIM:FAUL \"slip\",", "*OPC?", "*WAI", "ACQ:REL", "18446744073709551615", "ROUT:PATH", "\n",
            "\u{18}", "SIM:FAUL \"reboot\"",
            "SIM:FAUL \"hang\",1e9", "9e999", "NAN", "SYST:REB",
        ]
        for round in 0..<3000 {
            var bytes: [UInt8] = []
            for _ in 0..<random(30) {
                if round % 2 == 0 { bytes.append(UInt8(random(256))) } else { bytes += [UInt8](words[random(words.count)].utf8) }
            }
            let device = round % 3 == 0 ? rig.transmitter : rig.receiver
            _ = device.control(bytes + [0x0A])
            if round % 20 == 0 { rig.testbed.step() }
        }
        for serial in ["SMALL-TX-1", "SMALL-RX-1"] {
            let fresh = try rig.testbed.device(serial)
            fresh.control("SIM:FAUL:CLE")
            rig.testbed.advance(seconds: 0.1)
            _ = fresh.control("*CLS")
            rig.testbed.advance(seconds: 1)
            #expect(fresh.control("SYST:ERR:COUN?").isEmpty == false || serial == "SMALL-RX-1")
        }
    }
}
