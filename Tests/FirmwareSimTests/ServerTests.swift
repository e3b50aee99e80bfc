// The emulator on real sockets and terminals, with a clock that runs.

import FirmwareSim
import Foundation
import Testing

/// One server at a time: these tests look at the wall clock.
@Suite(.serialized) struct ServerTests {
    private struct Lab {
        let server: EmulatorServer
        let transmitter: Wire
        let receiver: Wire

        func dataPort(_ serial: String) throws -> Int { try #require(server.endpoints.first { $0.device == serial }?.dataPort) }

        func data(_ wire: Wire, _ serial: String) throws -> DataWire {
            let line = try DataWire(port: try dataPort(serial), token: try wire.ask("DATA:TOK?"))
            #expect(line.welcome == 0)
            return line
        }
    }

    private func port(_ server: EmulatorServer, _ serial: String) throws -> Int {
        let endpoint = try #require(server.endpoints.first { $0.device == serial })
        return try #require(Int(endpoint.uri.split(separator: ":").last ?? ""))
    }

    private func withLab(
        _ pace: Pace, patience: Double = 10, ring: Int = 64, _ body: (Lab) throws -> Void
    ) async throws {
        var configuration = try TestbedConfiguration(file: testbedFile("small"))
        configuration.useAnyPorts()
        for index in configuration.devices.indices { configuration.devices[index].ringFrames = ring }
        let server = try await EmulatorServer.start(configuration, pace: pace, patience: patience)
        do {
            let lab = Lab(
                server: server, transmitter: try Wire(port: port(server, "SMALL-TX-1")),
                receiver: try Wire(port: port(server, "SMALL-RX-1")))
            for wire in [lab.transmitter, lab.receiver] { try wire.wait(for: "IDLE", to: "SYST:STAT?") }
            try body(lab)
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    @Test func symbolsOfBothEndsBelongTogether() async throws {
        try await withLab(.follow(speed: 20)) { lab in
            try lab.transmitter.tell("SOUR:MOD:VAR .54;:OUTP:STAT ON")
            try lab.receiver.tell("INP:LOSC:STAT ON;:INP:SHUT:STAT OFF")
            try lab.receiver.wait(for: "1", to: "INP:PIL:LOCK?")
            let lines = [try lab.data(lab.transmitter, "SMALL-TX-1"), try lab.data(lab.receiver, "SMALL-RX-1")]
            for line in lines { line.credit(1000) }
            try lab.transmitter.tell("ACQ:STAR")
            try lab.receiver.tell("ACQ:STAR")
            var frames: [[Frame]] = [[], []]
            for _ in 0..<40 {
                for (index, line) in lines.enumerated() {
                    let frame = try line.frame()
                    frames[index].append(frame)
                    line.release(frame.number)
                }
            }
            #expect(frames[0].map(\.number) == Array(0..<40) && frames[1].map(\.number) == Array(0..<40))
            // Nobody told the counters: where the light is found, by correlation within 5 ms of what UTC says.
            let offset = try #require(Alignment.search(sent: frames[0], received: frames[1]))
            #expect(Correlation(sent: frames[0], received: frames[1], difference: offset).coefficient > 0.3)
        }
    }

    @Test func controlAnswersWhileSymbolsFlow() async throws {
        try await withLab(.follow(speed: 1000)) { lab in
            try lab.transmitter.tell("OUTP:STAT ON;:ACQ:STAR")
            let line = try lab.data(lab.transmitter, "SMALL-TX-1")
            line.credit(1_000_000)
            var slowest = 0.0
            for _ in 0..<100 {
                for _ in 0..<3 { line.release(try line.frame().number) }
                let started = DispatchTime.now().uptimeNanoseconds
                #expect(try lab.transmitter.ask("SYST:ROLE?") == "TRANSMITTER")
                slowest = max(slowest, Double(DispatchTime.now().uptimeNanoseconds - started) * 1e-9)
            }
            #expect(slowest < 1)
        }
    }

    /// Device time stands still while a reader that still counts is slow, and nothing is lost.
    @Test func followWaitsForReaders() async throws {
        try await withLab(.follow(speed: 1000), ring: 4) { lab in
            try lab.transmitter.tell("ACQ:STAR")
            try lab.transmitter.wait(for: "0,4", to: "ACQ:AVA?")
            let held = try lab.transmitter.ask("SIM:TIME?")
            usleep(300_000)
            #expect(try lab.receiver.ask("SIM:TIME?") == held)
            try lab.transmitter.tell("ACQ:REL 1")
            try lab.transmitter.wait(for: "2,6", to: "ACQ:AVA?")
            #expect(try lab.transmitter.ask("ACQ:OVER?") == "0")
            #expect(try lab.transmitter.ask("SIM:PACE?") == "FOLLOW")
        }
    }

    /// A reader that stalls is overrun after the patience, so that the others go on; when it comes back it is waited for again.
    @Test func aDeadReaderStopsNobody() async throws {
        try await withLab(.follow(speed: 1000), patience: 0.3, ring: 4) { lab in
            try lab.transmitter.tell("ACQ:STAR")
            let started = Date()
            try lab.receiver.tell("CAL:STAR SHOT,1000000")
            let line = try lab.data(lab.receiver, "SMALL-RX-1")
            line.credit(100)
            for number in 0..<16 {
                #expect(try line.frame().number == number)
                line.release(UInt64(number))
            }
            #expect(Date().timeIntervalSince(started) < 8)
            #expect(try #require(Int(lab.transmitter.ask("ACQ:OVER?"))) > 0)
            #expect(try #require(Int(lab.transmitter.ask("STAT:QUES?"))) & 512 == 512)
        }
    }

    @Test func realPaceDropsWhatNobodyTakes() async throws {
        try await withLab(.real, ring: 4) { lab in
            try lab.transmitter.tell("ACQ:STAR")
            usleep(400_000)
            let lost = try #require(Int(lab.transmitter.ask("ACQ:OVER?")))
            #expect(lost > 5 && lost < 100)
            #expect(try lab.transmitter.ask("ACQ:AVA?") == "0,4")
        }
    }

    @Test func tokensCreditsAndSeeking() async throws {
        try await withLab(.follow(speed: 20)) { lab in
            let port = try lab.dataPort("SMALL-RX-1")
            #expect(try DataWire(port: port, token: String(repeating: "0", count: 32)).welcome == 1)
            let token = try lab.receiver.ask("DATA:TOK?")
            let line = try DataWire(port: port, token: token)
            #expect(line.welcome == 0)
            #expect(try DataWire(port: port, token: token).welcome == 1, "a token is good for one connection")
            #expect(try DataWire(port: port, token: try lab.receiver.ask("DATA:TOK?")).welcome == 2)
            try lab.receiver.tell("CAL:STAR DARK,400000")
            try lab.receiver.wait(for: "0,7", to: "ACQ:AVA?")
            line.credit(2)
            #expect(try [line.frame().number, line.frame().number] == [0, 1])
            line.seek(5)
            line.credit(2)
            #expect(try [line.frame().number, line.frame().number] == [5, 6])
            line.seek(0)
            line.credit(1)
            #expect(try line.frame().number == 0)
            line.release(3)
            line.seek(0)
            line.credit(1)
            #expect(try line.frame().number == 4, "the oldest one kept")
        }
    }

    @Test func dropsRebootsAndTheFifthSession() async throws {
        try await withLab(.follow(speed: 20)) { lab in
            let line = try lab.data(lab.receiver, "SMALL-RX-1")
            let port = try port(lab.server, "SMALL-RX-1")
            let others = try (0..<3).map { _ in try Wire(port: port) }
            for other in others { #expect(try other.ask("*ESE?") == "0") }
            let fifth = try Wire(port: port)
            #expect(fifth.isClosed())
            lab.receiver.send([UInt8]("SIM:FAUL \"drop-connection\"\n".utf8))
            #expect(lab.receiver.isClosed() && others[0].isClosed() && line.wire.isClosed())
            let again = try Wire(port: port)
            #expect(try again.ask("SYST:LOCK:REQ?") == "1")
            again.send([UInt8]("SYST:REB\n".utf8))
            #expect(again.isClosed())
            let reborn = try Wire(port: port)
            #expect(try reborn.ask("*ESR?") == "128")
            try reborn.wait(for: "IDLE", to: "SYST:STAT?")
        }
    }

    @Test func aHangDelaysAnswersByTheWallClock() async throws {
        try await withLab(.follow(speed: 20)) { lab in
            lab.receiver.send([UInt8]("SIM:FAUL \"hang\",.4\n".utf8))
            let started = Date()
            let late = try lab.receiver.ask("SYST:ROLE?")
            #expect(late == "RECEIVER")
            #expect((0.3...3).contains(Date().timeIntervalSince(started)))
            #expect(try lab.transmitter.ask("SYST:ROLE?") == "TRANSMITTER")
        }
    }

    @Test func terminals() async throws {
        let server = try await EmulatorServer.start(try TestbedConfiguration(file: testbedFile("serial")), pace: .follow(speed: 20))
        let uris = server.endpoints.map(\.uri)
        #expect(uris.allSatisfy { $0.hasPrefix("serial:/dev/pts/") })
        #expect(server.endpoints.allSatisfy { $0.dataPort == nil && $0.json.contains("\"data_port\":null") })
        do {
            let path = String(uris[1].dropFirst("serial:".count))
            let wire = try Wire(path: path)
            #expect(try wire.ask("DATA:PORT?") == "0")
            try wire.wait(for: "IDLE", to: "SYST:STAT?")
            try wire.tell("CAL:STAR SHOT,12288")
            #expect(try wire.ask("*OPC?") == "1")
            let bytes = try wire.block("FETC:SYMB? 0,3")
            #expect(try Frame(Array(bytes[..<(72 + 16_384)])).kind == 2)
            wire.send([UInt8]("SIM:FAUL \"reboot\"\n".utf8))
            usleep(200_000)
            #expect(try wire.ask("*ESR?") == "128", "the terminal outlives the reboot")
            wire.send([UInt8]("NONSENSE\u{18}*ESE?\n".utf8))
            #expect(try wire.line() == "0")
            // Answers that a device clear finds on their way never come.
            wire.send([UInt8]("SIM:FAUL \"hang\",.5\nSYST:ROLE?\n".utf8))
            usleep(100_000)
            wire.send([UInt8]("\u{18}*ESE?\n".utf8))
            #expect(try wire.line() == "0")
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    @Test func occupiedPortsAreSaid() async throws {
        try await withLab(.follow(speed: 20)) { lab in _ = lab }
        var configuration = try TestbedConfiguration(file: testbedFile("small"))
        let first = try await EmulatorServer.start(configuration, pace: .real)
        let taken = try port(first, "SMALL-TX-1")
        configuration.devices[1].endpoints = [.tcp(host: "127.0.0.1", port: taken, dataPort: 0)]
        await #expect(throws: FirmwareSimError.self) { try await EmulatorServer.start(configuration, pace: .real) }
        await first.stop()
    }

    @Test func benchmarkReachesTheGoal() throws {
        // The goal is 20 M symbols/s on an idle core; a shared one gives at least half.
        #expect(try EmulatorBenchmark.run(symbols: 20_000_000) > 10e6)
    }
}

/// Finds the offset of two counters by correlation, as the host has to.
enum Alignment {
    static func search(sent: [Frame], received: [Frame]) -> UInt64? {
        let x = sent.flatMap(\.samples)
        let window = 8192
        let middle = received[received.count / 2]
        let y = middle.samples.prefix(2 * window).map(Float.init)
        let guess = Int((Double(middle.utc) - Double(sent[0].utc)) * 5e-3)
        var best = (offset: 0, value: Float(0))
        for offset in max(0, guess - 30_000)..<min(guess + 30_000, x.count / 2 - window) {
            var re: Float = 0
            var im: Float = 0
            for index in stride(from: 0, to: 2 * window, by: 2) {
                let a = Float(x[2 * offset + index])
                let b = Float(x[2 * offset + index + 1])
                re += a * y[index] + b * y[index + 1]
                im += a * y[index + 1] - b * y[index]
            }
            let value = re * re + im * im
            if value > best.value { best = (offset, value) }
        }
        return sent[0].first &+ UInt64(best.offset) &- middle.first
    }
}
