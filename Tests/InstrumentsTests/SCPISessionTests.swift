import Instruments
import QKDModel
import QKDTesting
import Testing
import Transport

@Suite struct SCPISessionTests {
    private func scpi(_ pairs: [WirePair]) -> (SCPISession, ScriptedTransport) {
        let script = ScriptedTransport(pairs)
        return (SCPISession(script.session()), script)
    }

    @Test func typedAnswers() async throws {
        let (scpi, script) = scpi([
            .asked("I?", "42"), .asked("N?", "1.25e-3"), .asked("B?", "1"), .asked("S?", "\"a, \"\"b\"\"\""), .asked("F?", "\"x\", Y ,3"),
            .asked("L?", "1,2.5,-3"), .asked("W?", "idle"), .asked("X?", block: [0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0]),
        ])
        #expect(try await scpi.integer("I?", in: 0...100) == 42)
        #expect(try await scpi.number("N?", in: 0...1) == 0.00125)
        #expect(try await scpi.boolean("B?"))
        #expect(try await scpi.string("S?") == "a, \"b\"")
        #expect(try await scpi.fields("F?", count: 3...3) == ["x", "Y", "3"])
        #expect(try await scpi.numbers("L?", count: 3...3, in: -10...10) == [1, 2.5, -3])
        #expect(try await scpi.word("W?", ModuleStatus.Phase.self) == .idle)
        #expect(try await scpi.floats("X?", maximum: 2) == [1, -2])
        try script.finish()
    }

    @Test(arguments: ["101", "-1", "x", "1.5", "", "nan", "99999999999999999999999"])
    func answersOutOfRangeAreErrors(answer: String) async throws {
        let (scpi, _) = scpi([.asked("I?", answer)])
        await #expect(throws: InstrumentError.unexpectedAnswer(query: "I?", answer: answer, wanted: "an integer from 0 to 100")) {
            try await scpi.integer("I?", in: 0...100)
        }
    }

    @Test(arguments: ["nan", "inf", "1e999", "2", "a"])
    func numbersOutOfRangeAreErrors(answer: String) async throws {
        let (scpi, _) = scpi([.asked("N?", answer)])
        await #expect(throws: InstrumentError.self) { try await scpi.number("N?", in: 0...1) }
    }

    @Test(arguments: ["1,2", "1,2,3,4", "1,x,3", "1,,3", "1,2,300", "\"1"])
    func badListsAreErrors(answer: String) async throws {
        let (scpi, _) = scpi([.asked("L?", answer)])
        await #expect(throws: InstrumentError.self) { try await scpi.numbers("L?", count: 3...3, in: 0...10) }
    }

    @Test func refusalNamesCommandAndReason() async throws {
        let (scpi, script) = scpi([
            .refused("A:B 1", "-222,\"Data out of range\""), .refused("C:D", "-200,\"Execution error;locked by another session\""),
            .done("E:F"),
        ])
        await #expect(throws: InstrumentError.refused(command: "A:B 1", code: -222, text: "Data out of range")) {
            try await scpi.run("A:B 1")
        }
        await #expect(throws: InstrumentError.locked(command: "C:D")) { try await scpi.run("C:D") }
        try await scpi.run("E:F")
        try script.finish()
    }

    /// A calibration that failed meanwhile is not the next command's fault.
    @Test func noticesAreNoRefusals() async throws {
        let (scpi, script) = scpi([
            .refused("A:B 1", "-340,\"Calibration failed\""), .done("E:F"),
        ])
        try await scpi.run("A:B 1")
        try await scpi.run("E:F")
        #expect(scpi.takeNotices().map(\.code) == [-340])
        #expect(scpi.takeNotices().isEmpty)
        try script.finish()
    }

    /// The device says nothing: the marker's answer comes first, and the error queue says why.
    @Test func unansweredQueryReadsTheErrorQueue() async throws {
        let (scpi, script) = scpi([
            .sent("X:Y?"), .asked("*IDN?;*IDN?", "a,b,c,d;a,b,c,d"), .asked("SYSTem:ERRor?", "-113,\"Undefined header\""),
            .asked("SYSTem:ERRor?", "0,\"No error\""),
        ])
        await #expect(throws: InstrumentError.refused(command: "X:Y?", code: -113, text: "Undefined header")) {
            try await scpi.text("X:Y?")
        }
        try script.finish()
    }
}

@Suite struct InBandTests {
    private static func opening(rate: String = "10000", symbols: Int = 1024) -> [WirePair] {
        let table = FakeDevice.table(role: "RECEIVER")
        let queries = [
            "*IDN?", "SYSTem:ERRor?", "SYSTem:ROLE?", "SYSTem:EMULated?", "SYSTem:CAPability:BLOCk?", "SYSTem:CAPability:SRATe?",
            "SYSTem:CAPability:MODulation?", "SYSTem:CAPability:WAVelength?", "SYSTem:CAPability:PATHs?", "SYSTem:CAPability:CALibration?",
        ]
        return queries.map { query in
            switch query {
            case "SYSTem:ERRor?": .asked(query, "0,\"No error\"")
            case "SYSTem:CAPability:BLOCk?": .asked(query, "\(symbols),64")
            default: .asked(query, table[query] ?? "")
            }
        }
    }

    private func frame(_ number: UInt64) -> [UInt8] { FrameSpecification(number: number, symbols: 1024).bytes() }

    @Test func fetchesFramesAsTheyAppear() async throws {
        let script = ScriptedTransport(
            Self.opening() + [
                .asked("DATA:PORT?", "0"), .asked("ACQuire:AVAilable?", "5,7"), .asked("FETCh:SYMBols? 5,1", block: frame(5)),
                .asked("ACQuire:AVAilable?", "5,7"), .asked("FETCh:SYMBols? 6,1", block: frame(6)), .done("ACQuire:RELease 6"),
                .asked("ACQuire:AVAilable?", "7,7"), .asked("ACQuire:AVAilable?", "9,10"), .asked("FETCh:SYMBols? 9,1", block: frame(9)),
            ])
        let module = try await Modules.open(script.session())
        let stream = try await module.openStream()
        for number in [5, 6] as [UInt64] {
            let frame = try #require(try await stream.next())
            #expect(frame.number == number && frame.lostBefore == 0)
            #expect(frame.samples.withFrameBytes { Array($0) } == self.frame(number))
        }
        try await stream.release(through: 6)
        let last = try #require(try await stream.next())
        #expect(last.number == 9 && last.lostBefore == 2)
        stream.end(at: 10)
        #expect(try await stream.next() == nil)
        try script.finish()
    }

    @Test func corruptAnswerIsFetchedAgain() async throws {
        var bad = frame(5)
        bad[500] ^= 1
        let script = ScriptedTransport(
            Self.opening() + [
                .asked("DATA:PORT?", "0"), .asked("ACQuire:AVAilable?", "5,6"), .asked("FETCh:SYMBols? 5,1", block: bad),
                .asked("ACQuire:AVAilable?", "5,6"), .asked("FETCh:SYMBols? 5,1", block: frame(5)),
            ])
        let stream = try await Modules.open(script.session()).openStream()
        #expect(try await stream.next()?.number == 5)
        #expect(stream.statistics.corrupt == 1 && stream.statistics.refetched == 1)
        try script.finish()
    }

    /// 115200 baud carry 11520 bytes/s; 10000 symbols/s need four times as many.
    @Test func rateBeyondTheLineIsRefused() async throws {
        let script = ScriptedTransport(
            Self.opening() + [.asked("ACQuire:SRATe?", "5000000")], bytesPerSecond: 11_520)
        let module = try await Modules.open(script.session())
        do {
            try await module.setSymbolRate(10_000)
            Issue.record("the rate was accepted")
        } catch InstrumentError.lineTooSlow(let rate, let needed, let carries) {
            #expect(rate == 10_000 && needed > 40_000 && carries == 11_520)
        }
        await #expect(throws: InstrumentError.self) { try await module.startAcquisition() }
        try script.finish()
    }

    @Test func rateThatTheLineCarriesIsSet() async throws {
        let script = ScriptedTransport(Self.opening() + [.done("ACQuire:SRATe 10000.0")], bytesPerSecond: 300_000)
        try await Modules.open(script.session()).setSymbolRate(10_000)
        try script.finish()
    }

    @Test func rateThatTheDeviceLacksIsRefused() async throws {
        let script = ScriptedTransport(Self.opening())
        let module = try await Modules.open(script.session())
        await #expect(throws: InstrumentError.outOfRange(what: "symbol rate", value: "7.0", allowed: "5000000.0, 10000.0")) {
            try await module.setSymbolRate(7)
        }
    }
}
