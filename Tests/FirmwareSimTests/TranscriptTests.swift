// The recordings in Tests/Recordings hold the emulator and the driver to the same words: here their messages are sent to
// emulated devices and every answer must be the recorded one.

import FirmwareSim
import Foundation
import Testing

private let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Recordings")

let recordings = ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).filter { $0.hasSuffix(".transcript") }
    .sorted()

/// `> sent`, then what must come back.
struct Exchange {
    enum Answer {
        case line(String)
        case pattern(String)
        case block(Int)
    }

    var line: Int
    var sent: String
    var answers: [Answer] = []
}

func readRecording(_ name: String) throws -> (header: [String: String], exchanges: [Exchange]) {
    var header: [String: String] = [:]
    var exchanges: [Exchange] = []
    let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
        func rest(_ count: Int) -> String { line.dropFirst(count).trimmingCharacters(in: .whitespaces) }
        if line.hasPrefix("<~") {
            exchanges[exchanges.count - 1].answers.append(.pattern(rest(2)))
        } else if line.hasPrefix("<#") {
            exchanges[exchanges.count - 1].answers.append(.block(try #require(Int(rest(2).split(separator: " ")[0]))))
        } else if line.hasPrefix("<") {
            exchanges[exchanges.count - 1].answers.append(.line(rest(1)))
        } else if line.hasPrefix(">") {
            exchanges.append(Exchange(line: index + 1, sent: rest(1)))
        } else if line.hasPrefix("#") {
            let parts = rest(1).split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
            if parts.count == 2, parts[0] != "example" { header[parts[0]] = parts[1] }
        }
    }
    return (header, exchanges)
}

/// Takes one answer from the front of `bytes`; `nil` when it is not complete.
func takeAnswer(_ bytes: inout [UInt8], block: Bool) -> [UInt8]? {
    if block {
        guard bytes.count > 2, bytes[0] == UInt8(ascii: "#") else { return nil }
        let digits = Int(bytes[1]) - 48
        guard bytes.count > 2 + digits, let length = Int(String(decoding: bytes[2..<2 + digits], as: UTF8.self)) else { return nil }
        guard bytes.count >= 3 + digits + length else { return nil }
        let body = Array(bytes[(2 + digits)..<(2 + digits + length)])
        bytes.removeFirst(3 + digits + length)
        return body
    }
    guard let end = bytes.firstIndex(of: 0x0A) else { return nil }
    defer { bytes.removeFirst(end + 1) }
    return Array(bytes[..<end])
}

@Suite struct TranscriptTests {
    @Test func recordingsOfBothRolesExist() {
        #expect(recordings.contains("transmitter.transcript") && recordings.contains("receiver.transcript"))
        #expect(recordings.count >= 6)
    }

    @Test(arguments: recordings) func theEmulatorAnswersAsRecorded(name: String) throws {
        let (header, exchanges) = try readRecording(name)
        #expect(header["model"] != nil && header["firmware"] != nil && !exchanges.isEmpty)
        let rig = try Rig()
        let isTransmitter = try #require(header["model"]).hasPrefix("CVTX")
        if header["light"] == "on" { try rig.light() }
        let device = isTransmitter ? rig.transmitter : rig.receiver
        for exchange in exchanges {
            var bytes = device.control([UInt8]("\(exchange.sent)\n".utf8))
            for answer in exchange.answers {
                var isBlock = false
                if case .block = answer { isBlock = true }
                var got = takeAnswer(&bytes, block: isBlock)
                // Operations take device time: *OPC? answers when they are over.
                for _ in 0..<1000 where got == nil {
                    rig.testbed.step()
                    bytes += device.pending()
                    got = takeAnswer(&bytes, block: isBlock)
                }
                let place = "\(name):\(exchange.line): '\(exchange.sent)'"
                let body = try #require(got, "\(place): no answer")
                let text = String(decoding: body, as: UTF8.self)
                switch answer {
                case .line(let expected): #expect(text == expected, "\(place)")
                case .pattern(let pattern): #expect(try Regex(pattern).wholeMatch(in: text) != nil, "\(place): \(text)")
                case .block(let count): #expect(body.count == count, "\(place)")
                }
            }
            #expect(bytes.isEmpty, "\(name):\(exchange.line): answered too much")
        }
    }
}
