// The recordings through the USB side in virtual time, and on real TCP, pseudo-terminals and USB/IP: the same answers everywhere.

import FirmwareSim
import Foundation
import Testing

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

    // MARK: - On sockets and terminals

    /// One testbed with every device on TCP, on a pseudo-terminal and on USB.
    private func everywhere() throws -> TestbedConfiguration {
        let text = try String(contentsOfFile: testbedFile("small"), encoding: .utf8)
            .replacing(
                "[{ transport: tcp, port: 0, data_port: 0 }]", with: "[{ transport: tcp }, { transport: pty }, { transport: usb, port: 0 }]"
            )
            .replacing("boot_s: 0.2", with: "boot_s: 0.05").replacing("warmup_s: 0.5", with: "warmup_s: 0.05")
        return try TestbedConfiguration(yaml: text)
    }

    @Test(arguments: recordings, ["tcp", "pty", "usb"]) func allTransportsAnswerAlike(name: String, transport: String) async throws {
        let (header, exchanges) = try readRecording(name)
        let server = try await EmulatorServer.start(everywhere(), pace: .follow(speed: 20))
        do {
            let serial = try #require(header["model"]).hasPrefix("CVTX") ? "SMALL-TX-1" : "SMALL-RX-1"
            let uri = try #require(server.endpoints.first { $0.device == serial && $0.transport == transport }?.uri)
            let line = try RecordedLine(uri)
            try line.waitIdle()
            for exchange in exchanges { try play(exchange, on: line, "\(transport), \(name):\(exchange.line): '\(exchange.sent)'") }
            #expect(try line.ask("*ESE?") == "0", "answered too much")
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    private func play(_ exchange: Exchange, on line: RecordedLine, _ place: String) throws {
        try line.tell(exchange.sent)
        for answer in exchange.answers {
            switch answer {
            case .line(let expected): #expect(try line.answer() == expected, "\(place)")
            case .pattern(let pattern):
                let text = try line.answer()
                #expect(try Regex(pattern).wholeMatch(in: text) != nil, "\(place): \(text)")
            case .block(let count): #expect(try line.block() == count, "\(place)")
            }
        }
    }
}

/// A control session on any transport.
private final class RecordedLine {
    private let wire: Wire?
    private let usb: USBIPClient?

    init(_ uri: String) throws {
        let rest = uri.drop { $0 != ":" }.dropFirst()
        if uri.hasPrefix("usbip:") {
            let parts = rest.split(separator: "/")
            let client = try USBIPClient(port: try #require(Int(parts[0].split(separator: ":").last ?? "")))
            #expect(try client.attach(String(parts[1])) == 0)
            try client.configure()
            (wire, usb) = (nil, client)
        } else if uri.hasPrefix("tcp:") {
            (wire, usb) = (try Wire(port: try #require(Int(rest.split(separator: ":").last ?? ""))), nil)
        } else {
            (wire, usb) = (try Wire(path: String(rest)), nil)
        }
    }

    func tell(_ text: String) throws {
        wire?.send([UInt8]("\(text)\n".utf8))
        try usb?.tell(text)
    }

    func answer() throws -> String {
        if let usb { return String(decoding: try usb.answer().dropLast(), as: UTF8.self) }
        return try wire?.line() ?? ""
    }

    /// - Returns: length of the block that comes.
    func block() throws -> Int {
        if let usb {
            var bytes = try usb.answer()
            let body = takeAnswer(&bytes, block: true)
            #expect(bytes.isEmpty)
            return body?.count ?? -1
        }
        guard let wire else { return -1 }
        let head = try wire.take(2)
        let length = Int(String(decoding: try wire.take(Int(head[1]) - 48), as: UTF8.self)) ?? 0
        #expect(head[0] == UInt8(ascii: "#"))
        #expect(try wire.take(length + 1).last == 0x0A)
        return length
    }

    func ask(_ text: String) throws -> String {
        try tell(text)
        return try answer()
    }

    func waitIdle() throws {
        let end = Date(timeIntervalSinceNow: 10)
        while try ask("SYST:STAT?") != "IDLE" { try #require(Date() < end) }
    }
}
