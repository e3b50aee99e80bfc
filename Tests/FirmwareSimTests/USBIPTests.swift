// The USB/IP server: what comes in, in pieces and broken; devices listed, attached, unplugged and plugged in again; many
// transfers in flight; symbols.

import FirmwareSim
import Foundation
import Testing

@Suite struct USBIPParserTests {
    private static let conversation: [UInt8] =
        submitted(1, endpoint: 0, isIn: true, length: 18, setup: [0x80, 6, 0, 1, 0, 0, 18, 0])
        + submitted(2, endpoint: 1, isIn: false, length: 5, data: [1, 2, 3, 4, 5]) + submitted(3, endpoint: 3, isIn: true, length: 1 << 20)
        + big(2, 4, 0x0001_0002, 0, 0, 3) + [UInt8](repeating: 0, count: 24)

    @Test(arguments: [1, 2, 3, 7, 47, 48, 49, 1000]) func messagesComeInPiecesOfAnySize(piece: Int) throws {
        var parser = USBIPParser()
        parser.isAttached = true
        var messages: [USBIPMessage] = []
        for start in stride(from: 0, to: Self.conversation.count, by: piece) {
            parser.append(Array(Self.conversation[start..<min(Self.conversation.count, start + piece)]))
            while let message = try parser.next() { messages.append(message) }
        }
        #expect(
            messages == [
                .submit(URB(id: 1, endpoint: 0, isIn: true, length: 18, setup: SetupPacket(0x80, 6, value: 0x0100, length: 18))),
                .submit(URB(id: 2, endpoint: 1, isIn: false, length: 5, data: [1, 2, 3, 4, 5])),
                .submit(URB(id: 3, endpoint: 3, isIn: true, length: 1 << 20)), .unlink(id: 4, target: 3),
            ])
    }

    /// Random bytes, plain and on top of right messages: an error or a message, never a crash, and never without end.
    @Test(arguments: 1...200) func nothingBreaksTheParser(seed: UInt64) {
        var dice = Dice(seed)
        var parser = USBIPParser()
        parser.isAttached = seed % 2 == 0
        var bytes = seed % 3 == 0 ? dice.bytes(3000) : Self.conversation + Self.conversation
        if seed % 3 != 0 {
            for _ in 0..<3 { bytes[Int.random(in: 0..<bytes.count, using: &dice)] = .random(in: .min ... .max, using: &dice) }
        }
        var messages = 0
        do {
            while !bytes.isEmpty {
                let piece = min(bytes.count, Int.random(in: 1...200, using: &dice))
                parser.append(Array(bytes[..<piece]))
                bytes.removeFirst(piece)
                while try parser.next() != nil { messages += 1 }
            }
        } catch {
            #expect(!"\(error)".isEmpty)
        }
        #expect(messages <= 3000 / 8)
    }
}

@Suite(.serialized) struct USBIPServerTests {
    private func withServer(timeline: String = "", _ body: (Int) throws -> Void) async throws {
        let text = try String(contentsOfFile: testbedFile("usb"), encoding: .utf8)
        var configuration = try TestbedConfiguration(yaml: text + timeline)
        configuration.useAnyPorts()
        let server = try await EmulatorServer.start(configuration, pace: .real)
        do {
            #expect(server.endpoints.map(\.transport) == ["usb", "usb", "usb"])
            let uris = server.endpoints.map(\.uri)
            #expect(uris.map { $0.suffix(4) } == ["/1-1", "/1-2", "/1-3"])
            try body(try #require(Int(uris[0].dropLast(4).split(separator: ":").last ?? "")))
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    private func until(_ seconds: Double = 10, _ isTrue: () throws -> Bool) throws {
        let end = Date(timeIntervalSinceNow: seconds)
        while try !isTrue() {
            try #require(Date() < end, "never")
            usleep(5000)
        }
    }

    @Test func devicesAreListedAttachedAndBusy() async throws {
        try await withServer { port in
            #expect(try USBIPClient.list(port) == ["1-1", "1-2", "1-3"])
            let first = try USBIPClient(port: port)
            #expect(try first.attach("1-2") == 0)
            try first.configure()
            #expect(try first.ask("*IDN?") == "SDQKD,CVRX-1,USB-RX-1,1.0.0")
            #expect(try USBIPClient(port: port).attach("1-2") == 2)
            #expect(try USBIPClient(port: port).attach("9-9") == 4)
            let other = try USBIPClient(port: port)
            #expect(try other.attach("1-3") == 0)
            try other.configure()
            #expect(try other.ask("*IDN?") == "SDQKD,CVRX-1,USB-RX-2,1.0.0")
        }
    }

    /// Each attach is a control session; 50 of them leave none behind, though a device has four.
    @Test func hostsComeAndGo() async throws {
        try await withServer { port in
            for _ in 0..<50 {
                let client = try USBIPClient(port: port)
                #expect(try client.attach("1-1") == 0)
                try client.configure()
                #expect(try client.ask("SYST:LOCK:REQ?") == "1")
                _ = client.submit(1, room: 512)
            }
        }
    }

    @Test func nonsenseEndsOnlyItsConnection() async throws {
        try await withServer { port in
            for seed in 1...30 as ClosedRange<UInt64> {
                var dice = Dice(seed)
                let client = try USBIPClient(port: port)
                if seed % 2 == 0 { #expect(try client.attach("1-1") == 0) }
                client.wire.send([0xFF, 0xFF] + dice.bytes(500))
                #expect(client.wire.isClosed())
            }
            #expect(try USBIPClient.list(port).count == 3)
        }
    }

    @Test func transfersAreTakenBack() async throws {
        try await withServer { port in
            let client = try USBIPClient(port: port)
            #expect(try client.attach("1-1") == 0)
            try client.configure()
            let waiting = (0..<16).map { _ in client.submit(1, room: 4096) }
            for id in waiting[1...].reversed() { #expect(try client.unlink(id) == -104) }
            #expect(try client.unlink(waiting[3]) == 0, "it is gone already")
            client.send([2, 1, 254, 0, 64, 0, 0, 0, 0, 0, 0, 0], to: 1)
            try client.tell("*IDN?")
            client.send([2, 2, 253, 0, 64, 0, 0, 0, 0, 0, 0, 0], to: 1)
            let end = try client.wait(for: waiting[0])
            #expect(end.data.count > 12 && end.data[1] == 2, "a new message makes the old request void")
        }
    }

    /// Eight buffers wait for frames; control answers meanwhile.
    @Test func symbolsFlowBesideControl() async throws {
        try await withServer { port in
            let client = try USBIPClient(port: port)
            #expect(try client.attach("1-3") == 0)
            try client.configure()
            try client.waitIdle()
            try client.openStream()
            var waiting = (0..<8).map { _ in client.submit(3, room: 65_536) }
            client.stream(1, count: 1000)
            try client.tell("CAL:STAR SHOT,131072")
            var frames: [Frame] = []
            while frames.count < 128 {
                let frame = try Frame(try client.wait(for: waiting.removeFirst()).data)
                client.stream(2, number: frame.number)
                waiting.append(client.submit(3, room: 65_536))
                frames.append(frame)
                if frames.count % 16 == 0 { #expect(try client.ask("SYST:ROLE?") == "RECEIVER") }
            }
            #expect(frames.map(\.number) == Array(frames[0].number..<frames[0].number + 128))
            #expect(frames.allSatisfy { $0.kind == 2 })
            #expect(abs(variance(frames) / 23_625 - 1) < 0.02)
        }
    }

    @Test func theCableIsPulledOnCommand() async throws {
        try await withServer { port in
            let client = try USBIPClient(port: port)
            #expect(try client.attach("1-2") == 0)
            try client.configure()
            try client.waitIdle()
            #expect(try client.ask("CAL:STAR SHOT,2048;*OPC?") == "1")
            try client.tell("SIM:FAUL \"unplug\",1,0.5")
            #expect(client.wire.isClosed())
            #expect(try USBIPClient.list(port) == ["1-1", "1-3"])
            #expect(try USBIPClient(port: port).attach("1-2") == 4)
            try until { try USBIPClient.list(port).count == 3 }
            let again = try USBIPClient(port: port)
            #expect(try again.attach("1-2") == 0)
            try again.configure()
            // The device has power of its own: nothing that it knew is lost.
            #expect(try again.ask("CAL:RES? SHOT") == "PASS")
        }
    }

    @Test func theTimelinePullsAndPushes() async throws {
        let timeline = """

            timeline:
              - { at_s: 0.4, device: USB-TX-1, fault: unplug }
              - { at_s: 0.9, device: USB-TX-1, fault: replug }
            """
        try await withServer(timeline: timeline) { port in
            let client = try USBIPClient(port: port)
            #expect(try client.attach("1-1") == 0)
            #expect(client.wire.isClosed())
            #expect(try USBIPClient.list(port).count == 2)
            try until { try USBIPClient.list(port).count == 3 }
            #expect(try USBIPClient(port: port).attach("1-1") == 0)
        }
    }

    @Test func rebootsEndTheConnection() async throws {
        try await withServer { port in
            let client = try USBIPClient(port: port)
            #expect(try client.attach("1-1") == 0)
            try client.configure()
            try client.tell("SYST:REB")
            #expect(client.wire.isClosed())
            let again = try USBIPClient(port: port)
            #expect(try again.attach("1-1") == 0)
            try again.configure()
            #expect(try again.ask("SYST:STAT?") == "BOOT")
        }
    }
}
