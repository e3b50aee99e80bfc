// The USB/IP server: what comes in, in pieces and broken; devices listed, attached, unplugged and plugged in again; many
// transfers in flight; the recordings over USB; symbols.

import FirmwareSim
import Foundation
import Testing

private func big(_ values: UInt32...) -> [UInt8] {
    values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
}

private func submitted(
    _ id: UInt32, endpoint: UInt32, isIn: Bool, length: Int, setup: [UInt8] = [UInt8](repeating: 0, count: 8), data: [UInt8] = []
) -> [UInt8] {
    big(1, id, 0x0001_0002, isIn ? 1 : 0, endpoint, 0, UInt32(length), 0, 0, 0) + setup + data
}

/// A USB/IP client on a socket, with as many transfers in flight as one likes.
private final class USBIPClient {
    let wire: Wire
    private var id: UInt32 = 0
    private var tag: UInt8 = 0
    private var early: [UInt32: (status: Int32, data: [UInt8])] = [:]
    private var isIn: Set<UInt32> = []

    init(port: Int) throws { wire = try Wire(port: port) }

    static func list(_ port: Int) throws -> [String] {
        let wire = try Wire(port: port)
        wire.send([0x01, 0x11, 0x80, 0x05, 0, 0, 0, 0])
        let head = try wire.take(12)
        #expect(Array(head[..<8]) == [0x01, 0x11, 0, 5, 0, 0, 0, 0])
        return try (0..<Int(head[11])).map { _ in
            let record = try wire.take(312)
            #expect(Array(record[300...306]) == [0x12, 0x09, 0, 1, 1, 0, 0] && record[311] == 2)
            _ = try wire.take(8)
            return String(decoding: record[256..<288].prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    /// - Returns: the status; 0 is welcome.
    func attach(_ busID: String) throws -> UInt8 {
        wire.send([0x01, 0x11, 0x80, 0x03, 0, 0, 0, 0] + [UInt8](busID.utf8) + [UInt8](repeating: 0, count: 32 - busID.utf8.count))
        let status = try wire.take(8)[7]
        if status == 0 { _ = try wire.take(312) }
        return status
    }

    func submit(_ endpoint: UInt32, room: Int) -> UInt32 {
        id += 1
        isIn.insert(id)
        wire.send(submitted(id, endpoint: endpoint, isIn: true, length: room))
        return id
    }

    @discardableResult
    func send(_ bytes: [UInt8], to endpoint: UInt32) -> UInt32 {
        id += 1
        wire.send(submitted(id, endpoint: endpoint, isIn: false, length: bytes.count, data: bytes))
        return id
    }

    func control(_ setup: [UInt8]) throws -> (status: Int32, data: [UInt8]) {
        id += 1
        let reads = setup[0] & 0x80 != 0
        if reads { isIn.insert(id) }
        wire.send(submitted(id, endpoint: 0, isIn: reads, length: reads ? Int(setup[6]) | Int(setup[7]) << 8 : 0, setup: setup))
        return try wait(for: id)
    }

    /// - Returns: status of RET_UNLINK.
    func unlink(_ target: UInt32) throws -> Int32 {
        id += 1
        wire.send(big(2, id, 0x0001_0002, 0, 0, target) + [UInt8](repeating: 0, count: 24))
        return try wait(for: id).status
    }

    func wait(for id: UInt32) throws -> (status: Int32, data: [UInt8]) {
        while true {
            if let end = early.removeValue(forKey: id) { return end }
            let head = try wire.take(48)
            func word(_ offset: Int) -> UInt32 { (0..<4).reduce(0) { $0 << 8 | UInt32(head[offset + $1]) } }
            let count = word(0) == 3 && isIn.contains(word(4)) ? Int(word(24)) : 0
            early[word(4)] = (Int32(bitPattern: word(20)), try wire.take(count))
        }
    }

    func configure() throws { #expect(try control([0, 9, 1, 0, 0, 0, 0, 0]).status == 0) }

    func tell(_ text: String) throws {
        let body = [UInt8]("\(text)\n".utf8)
        tag = tag % 255 + 1
        let padding = [UInt8](repeating: 0, count: -body.count & 3)
        let end = try wait(for: send([1, tag, ~tag, 0] + little(body.count) + [1, 0, 0, 0] + body + padding, to: 1))
        #expect(end.status == 0)
    }

    /// The next response message without header.
    func answer() throws -> [UInt8] {
        var whole: [UInt8] = []
        while true {
            tag = tag % 255 + 1
            send([2, tag, ~tag, 0] + little(1 << 20) + [0, 0, 0, 0], to: 1)
            var waiting = (0..<8).map { _ in submit(1, room: 16_384) }
            var transfer: [UInt8] = []
            while true {
                let next = waiting.removeFirst()
                let end = try wait(for: next)
                #expect(end.status == 0)
                transfer += end.data
                if end.data.count < 16_384 { break }
                waiting.append(submit(1, room: 16_384))
            }
            for id in waiting { #expect(try unlink(id) == -104) }
            whole += transfer[12...]
            if transfer[8] & 1 != 0 { return whole }
        }
    }

    func ask(_ text: String) throws -> String {
        try tell(text)
        return String(decoding: try answer().dropLast(), as: UTF8.self)
    }

    func waitIdle() throws {
        let end = Date(timeIntervalSinceNow: 10)
        while try ask("SYST:STAT?") != "IDLE" { try #require(Date() < end) }
    }

    func openStream() throws {
        let token = try ask("DATA:TOK?").compactMap(\.hexDigitValue).map(UInt8.init)
        let key = stride(from: 0, to: 32, by: 2).map { token[$0] << 4 | token[$0 + 1] }
        #expect(try control([1, 11, 0, 0, 1, 0, 0, 0]).status == 0)
        send([0x51, 0x44, 0x41, 0x54, 1, 0, 0, 0] + key, to: 3)
        #expect(try wait(for: submit(3, room: 512)).data == [0])
    }

    func stream(_ type: UInt8, count: Int = 0, number: UInt64 = 0) {
        send([type, 0, 0, 0] + little(count) + little(Int(number), 8), to: 3)
    }
}

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

@Suite struct USBTranscriptTests {
    /// The same recordings as over TCP and serial lines, through a USB device in virtual time.
    @Test(arguments: recordings, USBSpeed.allCases) func theEmulatorAnswersAsRecorded(name: String, speed: USBSpeed) throws {
        let (header, exchanges) = try readRecording(name)
        let rig = try Rig()
        if header["light"] == "on" { try rig.light() }
        let device = try #require(header["model"]).hasPrefix("CVTX") ? rig.transmitter : rig.receiver
        let host = USBHost(speed) { device.control($0) }
        for exchange in exchanges {
            host.message([UInt8](exchange.sent.utf8))
            var bytes: [UInt8] = []
            for answer in exchange.answers {
                var isBlock = false
                if case .block = answer { isBlock = true }
                for _ in 0..<1000 where bytes.isEmpty {
                    let late = device.pending()
                    if !late.isEmpty { host.input(.answer(late, message: host.device.messageNumber)) }
                    let end = host.hasAnswer ? try host.response(size: 5 << 20, buffer: 1 << 16) : nil
                    bytes += end?.bytes ?? []
                    if bytes.isEmpty { rig.testbed.step() }
                }
                let place = "\(name):\(exchange.line): '\(exchange.sent)'"
                let body = try #require(takeAnswer(&bytes, block: isBlock), "\(place): no answer")
                let text = String(decoding: body, as: UTF8.self)
                switch answer {
                case .line(let expected): #expect(text == expected, "\(place)")
                case .pattern(let pattern): #expect(try Regex(pattern).wholeMatch(in: text) != nil, "\(place): \(text)")
                case .block(let count): #expect(body.count == count, "\(place)")
                }
            }
            #expect(bytes.isEmpty && !host.hasAnswer, "\(name):\(exchange.line): answered too much")
        }
    }
}
