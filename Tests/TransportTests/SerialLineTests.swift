import Foundation
import QKDModel
import QKDTesting
import Synchronization
import Testing
import Transport

@Suite struct SerialLineTests {
    @Test func exchangesOverAPseudoTerminal() async throws {
        let terminal = try PseudoTerminal { message, terminal in
            switch message {
            // Every byte value, NL, XON and XOFF included: a raw line changes none.
            case "BLOCK?": try terminal.send(Array("#3512".utf8) + (0..<512).map { UInt8(truncatingIfNeeded: $0) } + [0x0A])
            default: try terminal.send(Self.answer(message))
            }
        }
        let session = try await InstrumentSession.open(Address("serial:\(terminal.path)"))
        #expect(try await session.ask("*IDN?") == "sdqkd,TEST,1,0")
        #expect(try await session.askBlock("BLOCK?", maximum: 512) == (0..<512).map { UInt8(truncatingIfNeeded: $0) })
        #expect(try await session.ask("NEXT?") == "NEXT?")
        #expect(session.bytesPerSecond == nil, "a pty has no baud rate of its own")
        session.close()
        let limited = try await InstrumentSession.open(Address("serial:\(terminal.path)?baud=115200"))
        #expect(limited.bytesPerSecond == 11_520)
        limited.close()
    }

    /// `*IDN?`, alone, joined or behind a device clear; anything else is echoed.
    private static func answer(_ message: String) -> String {
        message.drop { $0 == "\u{18}" }.split(separator: ";").map { $0 == "*IDN?" ? "sdqkd,TEST,1,0" : String($0) }.joined(separator: ";")
            + "\n"
    }

    /// What a session before did not read, the one after must not take for its own.
    @Test func aNewSessionTakesNoOldAnswers() async throws {
        let late = Mutex<[String]>([])
        let terminal = try PseudoTerminal { message, terminal in
            if message == "LATE?" { return late.withLock { $0.append("old") } }
            // What was asked before is answered first: this device knows no device clear.
            let owed = late.withLock { texts in
                defer { texts = [] }
                return texts
            }
            for text in owed { try terminal.send("\(text)\n") }
            try terminal.send(Self.answer(message))
        }
        let first = try await InstrumentSession.open(Address("serial:\(terminal.path)"))
        await #expect(throws: TransportError.self) { try await first.ask("LATE?", within: .milliseconds(100)) }
        first.close()
        let second = try await InstrumentSession.open(Address("serial:\(terminal.path)"))
        #expect(try await second.ask("NEXT?") == "NEXT?")
        #expect(try await second.ask("*IDN?") == "sdqkd,TEST,1,0")
        second.close()
    }

    @Test func secondOpenerIsRefused() async throws {
        let terminal = try PseudoTerminal { _, _ in }
        let session = try await InstrumentSession.open(Address("serial:\(terminal.path)"))
        await #expect(throws: TransportError.self) { try await InstrumentSession.open(Address("serial:\(terminal.path)")) }
        session.close()
        let again = try await InstrumentSession.open(Address("serial:\(terminal.path)"))
        again.close()
    }

    @Test func hangUpEndsTheWait() async throws {
        let terminal = try PseudoTerminal { _, _ in }
        let session = try await InstrumentSession.open(Address("serial:\(terminal.path)"), options: OpenOptions(deadline: .seconds(30)))
        let waiting = Task { try await session.ask("NEVER?") }
        try await Task.sleep(for: .milliseconds(100))
        terminal.unplug()
        await #expect(throws: TransportError.self) { try await waiting.value }
        await #expect(throws: TransportError.self) { try await session.ask("NEVER?") }
    }

    @Test func timeOutClearsTheDevice() async throws {
        let terminal = try PseudoTerminal { message, terminal in
            switch message {
            case "SILENT?": break
            // A block that never ends: the device clear (CAN) cuts it off.
            case "BROKEN?": try terminal.send("#41000abc")
            default: try terminal.send(Self.answer(message))
            }
        }
        let session = try await InstrumentSession.open(Address("serial:\(terminal.path)"))
        for query in ["BROKEN?", "SILENT?", "BROKEN?"] {
            await #expect(throws: TransportError.self) {
                try await session.askBlock(query, maximum: 10_000, within: .milliseconds(100))
            }
            #expect(try await session.ask("NEXT?") == "NEXT?")
        }
        session.close()
    }

    @Test(arguments: ["/dev/does-not-exist", "/dev/null"])
    func whatIsNoTerminalIsRefused(path: String) async throws {
        await #expect(throws: TransportError.self) { try await InstrumentSession.open(Address("serial:\(path)")) }
    }

    @Test func oddBaudIsRefused() async throws {
        let terminal = try PseudoTerminal { _, _ in }
        await #expect(throws: TransportError.cannotOpen("serial:\(terminal.path)", reason: "it cannot run at 12345 baud")) {
            try await InstrumentSession.open(Address("serial:\(terminal.path)?baud=12345"))
        }
    }
}
