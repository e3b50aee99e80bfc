import Foundation
import QKDModel
import QKDTesting
import Synchronization
import Testing
import Transport

private let identity = "sdqkd,TEST,1,0"

/// Answers `*IDN?` (also several in one message); everything else by `other`.
private func device(_ other: @escaping @Sendable (String, LoopbackConnection) throws -> Void) throws -> LoopbackServer {
    try LoopbackServer { connection in
        while true {
            let message = try connection.receiveLine()
            let units = message.split(separator: ";")
            if units.allSatisfy({ $0 == "*IDN?" }) {
                try connection.send(units.map { _ in identity }.joined(separator: ";") + "\n")
            } else {
                try other(message, connection)
            }
        }
    }
}

private func open(_ server: LoopbackServer, deadline: Duration = .seconds(10)) async throws -> InstrumentSession {
    try await InstrumentSession.open(.tcp(host: "127.0.0.1", port: server.port), options: OpenOptions(deadline: deadline))
}

@Suite struct InstrumentSessionTests {
    @Test func linesAndBlocks() async throws {
        let server = try device { message, connection in
            switch message {
            case "TEXT?": try connection.send("hello\r\n")
            case "BLOCK?": try connection.send(Array("#210".utf8) + Array("ab\ncd\n\n#1\n".utf8) + Array("\n".utf8))
            default: try connection.send("?\n")
            }
        }
        let session = try await open(server)
        #expect(try await session.ask("TEXT?") == "hello")
        #expect(try await session.askBlock("BLOCK?", maximum: 100) == Array("ab\ncd\n\n#1\n".utf8))
        #expect(try await session.ask("TEXT?") == "hello")
        session.close()
    }

    @Test func largeBlockInParts() async throws {
        let content = SeededRandom(2).bytes(3_000_000)
        let server = try device { _, connection in
            try connection.send("#73000000")
            try connection.send(content)
            try connection.send("\n")
        }
        let session = try await open(server)
        let parts = try await session.askBlock("BLOCK?", maximum: 4 << 20) { length, read in
            var all = [UInt8](repeating: 0, count: length)
            for start in stride(from: 0, to: length, by: 70_001) {
                let end = min(start + 70_001, length)
                try all.withUnsafeMutableBytes { try read(UnsafeMutableRawBufferPointer(rebasing: $0[start..<end])) }
            }
            return all
        }
        #expect(parts == content)
        // What the receiver leaves is dropped, and the session stays in step.
        #expect(try await session.askBlock("BLOCK?", maximum: 4 << 20) { length, _ in length } == 3_000_000)
        #expect(try await session.ask("*IDN?") == identity)
        await #expect(throws: TransportError.tooLong(session.address, limit: 1000)) { try await session.askBlock("BLOCK?", maximum: 1000) }
        #expect(try await session.ask("*IDN?") == identity)
    }

    @Test func lateAnswerIsNotTakenForTheNextOne() async throws {
        let gate = LoopbackGate()
        let server = try device { message, connection in
            if message == "LATE?" { gate.wait() }
            try connection.send(message == "LATE?" ? "stale\n" : "fresh\n")
        }
        let session = try await open(server)
        await #expect(throws: TransportError.timedOut(session.address, doing: "waiting for bytes")) {
            try await session.ask("LATE?", within: .milliseconds(150))
        }
        gate.open()
        #expect(try await session.ask("NEXT?") == "fresh")
        #expect(try await session.ask("NEXT?") == "fresh")
    }

    @Test func severalTimeOutsInARow() async throws {
        let gate = LoopbackGate()
        let server = try device { message, connection in
            if message == "HANG?" { gate.wait() }
            try connection.send("\(message)\n")
        }
        let session = try await open(server)
        for _ in 0..<5 {
            await #expect(throws: TransportError.self) { try await session.ask("HANG?", within: .milliseconds(50)) }
        }
        gate.open()
        #expect(try await session.ask("VALUE?") == "VALUE?")
        #expect(try await session.ask("OTHER?") == "OTHER?")
    }

    @Test func timeOutInsideABlock() async throws {
        let gate = LoopbackGate()
        let server = try device { message, connection in
            guard message == "BLOCK?" else { return try connection.send("right\n") }
            try connection.send("#71000000" + String(repeating: "\n1;1", count: 1000))
            gate.wait()
            try connection.send(String(repeating: "\n1;1", count: 249_000) + "\n")
        }
        let session = try await open(server)
        await #expect(throws: TransportError.self) {
            try await session.askBlock("BLOCK?", maximum: 1 << 20, within: .milliseconds(150))
        }
        gate.open()
        #expect(try await session.ask("NEXT?") == "right")
    }

    @Test func slowAnswerIsWaitedForAndSilenceIsNoticed() async throws {
        let server = try device { message, connection in
            guard message == "SLOW?" else { return }
            pause(.milliseconds(1200))
            try connection.send("42\n")
        }
        let session = try await open(server)
        #expect(try await session.ask("SLOW?") == "42")
        #expect(try await session.ask("*IDN?") == identity)
        await #expect(throws: TransportError.noAnswer(session.address, query: "UNKNOWN?")) { try await session.ask("UNKNOWN?") }
        #expect(try await session.ask("SLOW?") == "42")
    }

    @Test func unaskedAnswersAreDropped() async throws {
        let server = try device { message, connection in
            try connection.send("\(message)\nand more\nand more\n")
        }
        let session = try await open(server)
        for query in ["A?", "B?", "C?"] { #expect(try await session.ask(query) == query) }
    }

    @Test func terminatorMismatchIsAnError() async throws {
        let server = try device { _, connection in try connection.send("12\r") }
        let session = try await open(server)
        await #expect(throws: TransportError.self) { try await session.ask("A?", within: .milliseconds(200)) }
        do {
            _ = try await session.ask("A?", within: .milliseconds(200))
            Issue.record("an answer without NL was taken")
        } catch { #expect("\(error)".contains("NL") || "\(error)".contains("in time")) }
    }

    @Test func cancellationEndsTheWaitAndTheSessionGoesOn() async throws {
        let gate = LoopbackGate()
        let server = try device { message, connection in
            if message == "HANG?" { gate.wait() }
            try connection.send("\(message)\n")
        }
        let session = try await open(server, deadline: .seconds(60))
        let task = Task { try await session.ask("HANG?") }
        let queued = Task { try await session.ask("HANG?") }
        try await Task.sleep(for: .milliseconds(100))
        let start = ContinuousClock.now
        queued.cancel()
        await #expect(throws: CancellationError.self) { try await queued.value }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(ContinuousClock.now - start < .seconds(5))
        gate.open()
        #expect(try await session.ask("NEXT?") == "NEXT?")
    }

    @Test func closeEndsWaitingCalls() async throws {
        let gate = LoopbackGate()
        let server = try device { _, _ in gate.wait() }
        let session = try await open(server, deadline: .seconds(60))
        let tasks = (0..<3).map { _ in Task { try await session.ask("HANG?") } }
        try await Task.sleep(for: .milliseconds(100))
        session.close()
        for task in tasks { await #expect(throws: TransportError.self) { try await task.value } }
        gate.open()
        await #expect(throws: TransportError.self) { try await session.ask("A?") }
    }

    @Test func hangUpIsSeen() async throws {
        let server = try device { _, connection in connection.close() }
        let session = try await open(server)
        await #expect(throws: TransportError.closed(session.address, reason: "the other end hung up")) { try await session.ask("A?") }
    }

    @Test func messagesOfSeveralLinesAreRefused() async throws {
        let server = try device { message, connection in try connection.send("\(message)\n") }
        let session = try await open(server)
        await #expect(throws: TransportError.self) { try await session.ask("A?\nB?") }
        await #expect(throws: TransportError.self) { try await session.send(String(repeating: "x", count: 5000)) }
        #expect(try await session.ask("A?") == "A?")
    }

    @Test func exchangesOfManyTasksDoNotMix() async throws {
        let server = try device { message, connection in try connection.send("\(message)\n") }
        let session = try await open(server)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<200 { group.addTask { try await session.ask("Q\(number)?") == "Q\(number)?" } }
            for try await isRight in group { #expect(isRight) }
        }
    }

    /// Whatever bytes come: an error or an answer, never a crash or a hang, and `*IDN?` right afterwards.
    @Test func randomAnswers() async throws {
        let random = SeededRandom(3)
        let server = try device { _, connection in
            var bytes = random.bytes(Int(random.word() % 200))
            if random.word() % 2 == 0 { bytes = Array("#".utf8) + bytes.map { $0 % 16 + 0x2A } }
            try connection.send(bytes + [0x0A])
        }
        let session = try await open(server, deadline: .seconds(5))
        for round in 0..<150 {
            do {
                if round % 2 == 0 {
                    _ = try await session.ask("X?", within: .milliseconds(30))
                } else {
                    _ = try await session.askBlock("X?", maximum: 1000, within: .milliseconds(30))
                }
            } catch is TransportError {}
            #expect(try await session.ask("*IDN?") == identity)
        }
    }
}

/// Holds server threads until a test lets them go on.
final class LoopbackGate: Sendable {
    private let isOpen = Atomic<Bool>(false)
    func open() { isOpen.store(true, ordering: .releasing) }
    func wait() { while !isOpen.load(ordering: .acquiring) { pause(.milliseconds(2)) } }
}

/// Blocks a server's thread.
private func pause(_ duration: Duration) { Thread.sleep(forTimeInterval: duration / .seconds(1)) }
