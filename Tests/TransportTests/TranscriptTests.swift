import QKDTesting
import Testing
import Transport

@Suite struct TranscriptTests {
    private let text = """
        # Model: TEST-1
        # who: a person
        # a remark without a key

        > *IDN?
        < sdqkd,TEST-1,1,0
        > SYSTem:TIME?
        <~ [0-9]+
        # example: 123
        > BLOCK?
        <# 4 000a0dff
        > EMPTY?
        < 
        > DO:IT
        > TRACE?
        <# 3
        """

    @Test func readsEveryKindOfLine() throws {
        let transcript = try Transcript(text: text, name: "test")
        #expect(transcript.header == ["model": "TEST-1", "who": "a person"])
        #expect(
            transcript.entries == [
                .sent("*IDN?"), .line("sdqkd,TEST-1,1,0"), .sent("SYSTem:TIME?"), .pattern("[0-9]+", example: "123"), .sent("BLOCK?"),
                .block([0, 0x0A, 0x0D, 0xFF]), .sent("EMPTY?"), .line(""), .sent("DO:IT"), .sent("TRACE?"), .block([0, 0, 0]),
            ])
    }

    @Test(arguments: ["hello", "<# x", "<# 2 00", "<# 1 zz", "<# 9999999999"])
    func badLinesAreNamed(line: String) {
        #expect { try Transcript(text: "# a: b\n\(line)\n", name: "file") } throws: { "\($0)".contains("file:2") }
    }

    @Test func replaysToTheEnd() async throws {
        let line = ReplayLine(try Transcript(text: text, name: "test"), name: "test")
        let session = InstrumentSession(line: line)
        #expect(try await session.ask("*IDN?") == "sdqkd,TEST-1,1,0")
        #expect(try await session.ask("SYSTem:TIME?") == "123")
        #expect(try await session.askBlock("BLOCK?", maximum: 10) == [0, 0x0A, 0x0D, 0xFF])
        #expect(try await session.ask("EMPTY?") == "")
        try await session.send("DO:IT")
        #expect(throws: TransportError.self) { try line.finish() }
        #expect(try await session.askBlock("TRACE?", maximum: 10) == [0, 0, 0])
        try line.finish()
    }

    @Test func strayingFails() async throws {
        let script = ScriptedTransport([.asked("A?", "1"), .asked("B?", "2")])
        let session = script.session()
        #expect(try await session.ask("A?") == "1")
        await #expect(throws: TransportError.offScript("script", reason: "'C?' was sent where 'B?' stands")) { try await session.ask("C?") }
        #expect(throws: TransportError.self) { try script.finish() }
    }

    @Test func leftoversFail() async throws {
        let script = ScriptedTransport([.asked("A?", "1"), .asked("B?", "2")])
        #expect(try await script.session().ask("A?") == "1")
        #expect(throws: TransportError.offScript("script", reason: "'B?' was never sent")) { try script.finish() }
    }
}
