// A USB/IP client on a socket, for the tests of the server.

import FirmwareSim
import Foundation
import Testing

func big(_ values: UInt32...) -> [UInt8] {
    values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }
}

func submitted(
    _ id: UInt32, endpoint: UInt32, isIn: Bool, length: Int, setup: [UInt8] = [UInt8](repeating: 0, count: 8), data: [UInt8] = []
) -> [UInt8] {
    big(1, id, 0x0001_0002, isIn ? 1 : 0, endpoint, 0, UInt32(length), 0, 0, 0) + setup + data
}

/// A USB/IP client on a socket, with as many transfers in flight as one likes.
final class USBIPClient {
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
