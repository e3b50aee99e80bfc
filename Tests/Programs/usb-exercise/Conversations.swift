// What is said: recordings, lengths, silences, polls.

import Foundation
import Instruments
import Transport

enum Conversations {
    static func open(_ serial: String, deadline: Duration = .seconds(5)) async throws -> InstrumentSession {
        try await InstrumentSession.open(Address("usb:\(serial)"), options: OpenOptions(deadline: deadline))
    }

    static func waitIdle(_ session: InstrumentSession) async throws {
        let end = ContinuousClock.now + .seconds(20)
        while try await session.ask("SYSTem:STATe?") != "IDLE" {
            try require(.now < end, "the device does not warm up")
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    // MARK: Recordings

    static func transcripts(_ serial: String, files: [String]) async throws {
        for file in files {
            let session = try await open(serial)
            defer { session.close() }
            try await waitIdle(session)
            // A host that stays attached is one session to the device: what others left in its error queue is not ours.
            try await session.send("*CLS")
            let transcript = try Transcript(contentsOf: URL(fileURLWithPath: file))
            try await play(transcript.entries, session)
            try require(try await session.ask("*ESE?") == "0", "\(file): answered too much")
            say("messages", transcript.entries.count { if case .sent = $0 { true } else { false } })
        }
    }

    private static func play(_ entries: [Transcript.Entry], _ session: InstrumentSession) async throws {
        for (index, entry) in entries.enumerated() {
            guard case .sent(let message) = entry else { continue }
            let answers = entries[(index + 1)...].prefix { if case .sent = $0 { false } else { true } }
            try require(answers.count <= 1, "a recording with two answers to one message needs more of this program")
            switch answers.first {
            case nil: try await session.send(message)
            case .line(let expected)?:
                let answer = try await session.ask(message)
                try require(answer == expected, "'\(message)' was answered '\(answer)', recorded is '\(expected)'")
            case .pattern(let pattern, _)?:
                let answer = try await session.ask(message)
                try require(try Regex(pattern).wholeMatch(in: answer) != nil, "'\(message)' was answered '\(answer)'")
            case .block(let bytes)?:
                let answer = try await session.askBlock(message, maximum: 8 << 20)
                try require(answer.count == bytes.count, "'\(message)' gave a block of \(answer.count) bytes")
            case .sent?: break
            }
        }
    }

    // MARK: Lengths

    /// A block of n points is 4 n bytes, `#d<n>` and NL: with headers, every residue of a packet comes by.
    static func sizes(_ serial: String) async throws {
        let session = try await open(serial)
        defer { session.close() }
        try await waitIdle(session)
        var tried = 0
        let boundaries = [512, 1024, 4096, 16_384, 65_536, 262_144, 393_216]
        let points = boundaries.flatMap { bytes in (-8...8).map { (bytes / 4) + $0 } }
        for count in points where count >= 2 && count <= 100_000 {
            let block = try await session.askBlock("DIAGnostic:OSA? 1530.0,1560.0,\(count)", maximum: 1 << 20)
            try require(block.count == 4 * count, "\(count) points came as \(block.count) bytes")
            tried += 1
        }
        // Lines: a compound query of k answers, one byte and a separator more each time; some end on a whole packet.
        for count in stride(from: 1, through: 300, by: 1) where [1, 2].contains(count % 3) || count < 40 {
            let query = [String](repeating: "*ESE?", count: count).joined(separator: ";")
            let answer = try await session.ask(query)
            try require(answer.count == 2 * count - 1, "\(count) answers came as \(answer.count) characters")
            tried += 1
        }
        say("sizes", tried)
    }

    // MARK: Silence

    static func timeouts(_ serial: String) async throws {
        let session = try await open(serial, deadline: .seconds(5))
        defer { session.close() }
        try await waitIdle(session)
        let range = "SYSTem:CAPability:PATHs?"
        let right = try await session.ask(range)
        // A query that fails answers nothing: the error is known long before the deadline, and the next answer is right.
        let start = ContinuousClock.now
        do {
            _ = try await session.ask("NO:SUCH:THING?")
            throw Wrong("an unknown query was answered")
        } catch TransportError.noAnswer {}
        try require(.now - start < .seconds(3), "an unknown query took the whole deadline")
        say("unanswered_ms", Int((ContinuousClock.now - start) / .milliseconds(1)))
        try require(try await session.ask("SYSTem:ERRor?").hasPrefix("-113"), "the refusal is not in the queue")
        try require(try await session.ask(range) == right, "out of step after a refusal")
        // Without a poll in between: time-outs of every length, then the right answer at once.
        for milliseconds in [1, 3, 10, 30, 100, 300] {
            do {
                _ = try await session.ask("NO:SUCH:THING?", within: .milliseconds(milliseconds))
                throw Wrong("an unknown query was answered")
            } catch TransportError.timedOut {} catch TransportError.noAnswer {}
            try require(try await session.ask(range) == right, "out of step after \(milliseconds) ms")
        }
        _ = try await SCPISession(session).errors()
        // A device that hangs and then answers late.
        try await session.send("SIMulate:FAULt \"hang\",1")
        for _ in 0..<3 {
            do { _ = try await session.ask("*IDN?", within: .milliseconds(150)) } catch TransportError.timedOut {}
        }
        let end = ContinuousClock.now + .seconds(10)
        var answer: String?
        while answer == nil, ContinuousClock.now < end { answer = try? await session.ask(range, within: .milliseconds(500)) }
        try require(answer == right, "out of step after a hang: \(answer ?? "nothing")")
        // Slow answers are waited for.
        try await session.send("SIMulate:FAULt \"slow-answers\",1.2")
        try require(try await session.ask(range) == right, "a slow answer was lost")
        try await session.send("SIMulate:FAULt:CLEar")
        // Half a block, then something else.
        do {
            _ = try await session.askBlock("DIAGnostic:OSA? 1530.0,1560.0,100000", maximum: 1 << 20) { _, read in
                var part = [UInt8](repeating: 0, count: 1000)
                try part.withUnsafeMutableBytes { try read($0) }
                throw Wrong("enough")
            }
        } catch is Wrong {}
        try require(try await session.ask(range) == right, "out of step after half a block")
        // Cancelled tasks give the line back.
        for delay in [0, 1, 5, 20] {
            let task = Task { try await session.askBlock("DIAGnostic:OSA? 1530.0,1560.0,100000", maximum: 1 << 20) }
            try await Task.sleep(for: .milliseconds(delay))
            task.cancel()
            _ = await task.result
            try require(try await session.ask(range) == right, "out of step after a cancellation")
        }
        try require(try await session.clear(), "device clear")
        try require(try await session.ask(range) == right, "out of step after a device clear")
    }

    // MARK: Halts

    /// A halt costs at most the message at hand; the next one is answered right.
    static func stalls(_ serial: String) async throws {
        let session = try await open(serial)
        defer { session.close() }
        try await waitIdle(session)
        let right = try await session.ask("*IDN?")
        for endpoint in ["01", "81"] {
            for _ in 0..<3 {
                try Bridge.must("halt 0 \(endpoint)")
                do {
                    try require(try await session.ask("*IDN?") == right, "out of step while \(endpoint) is halted")
                } catch TransportError.malformed(_, let reason) {
                    try require(reason.contains("stalled"), "a halt is called '\(reason)'")
                }
                try require(try await session.ask("*IDN?") == right, "out of step after a halt of \(endpoint)")
            }
        }
        for milliseconds in [50, 400, 1500] {
            try Bridge.must("freeze 0 \(milliseconds)")
            do { _ = try await session.ask("*IDN?", within: .milliseconds(100)) } catch TransportError.timedOut {}
            let start = ContinuousClock.now
            try require(try await session.ask("*IDN?") == right, "out of step after a bus that stood still for \(milliseconds) ms")
            let took = (ContinuousClock.now - start) / .milliseconds(1)
            try require(took < Double(milliseconds) + 3000, "\(took) ms to come back from a bus that stood still for \(milliseconds) ms")
        }
        session.close()
        try await haltedStream(serial)
    }

    /// The symbol interface halts: the stream begins anew by itself and goes on with the frame that was due.
    private static func haltedStream(_ serial: String) async throws {
        let module = try await Modules.open(uri: "usb:\(serial)")
        defer { module.close() }
        try require(try await module.claim(), "the lock is taken")
        let stream = try await module.openStream()
        try await module.startCalibration(.dark, symbols: 1 << 30)
        var due: UInt64?
        for index in 0..<60 {
            if [10, 30].contains(index) { try Bridge.must("halt 0 83") }
            guard let frame = try await Sessions.next(stream) else { throw Wrong("the stream ended") }
            try require(due == nil || frame.number == due, "frame \(frame.number) where \(due ?? 0) was due")
            due = frame.number + 1
            try await stream.release(through: frame.number)
        }
        try await module.abortCalibration()
        say("halts", 8)
    }

    // MARK: Status

    static func service(_ serial: String) async throws {
        let session = try await open(serial)
        defer { session.close() }
        try await waitIdle(session)
        try await session.send("*CLS")
        let quiet = try await session.statusByte()
        try require(quiet.map { $0 & 0x54 } == 0, "the status byte is \(quiet.map { "\($0)" } ?? "missing") at rest")
        try await session.send("*ESE 32;*SRE 32")
        try await session.send("NO:SUCH:COMMAND")
        try require(try await session.serviceRequest(within: .seconds(3)), "no service request came")
        let asked = try await session.statusByte() ?? 0
        try require(asked & 0x64 == 0x64, "the status byte is \(asked) after a request for service")
        let again = try await session.statusByte() ?? 0
        try require(again & 0x40 == 0, "a serial poll does not take the request back")
        for _ in 0..<300 { _ = try await session.statusByte() }
        try await session.send("*SRE 0;*ESE 0;*CLS")
        do { _ = try await session.serviceRequest(within: .milliseconds(200)) } catch TransportError.timedOut {}
        try require(try await session.ask("*ESE?") == "0", "out of step after polls")
        say("polls", 303)
    }
}
