// A plain socket client, as a host would have it.

import Foundation
import Testing

/// One connection with blocking reads that give up after ten seconds.
final class Wire {
    enum Failure: Error { case connect(Int32), closed, timeOut }

    private let descriptor: Int32
    private var buffer: [UInt8] = []

    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0 else { throw Failure.connect(errno) }
        var patience = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    }

    init(path: String) throws {
        descriptor = open(path, O_RDWR | O_NOCTTY)
        guard descriptor >= 0 else { throw Failure.connect(errno) }
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) { _ = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) } }

    private func fill() throws {
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, 10_000) > 0 else { throw Failure.timeOut }
        let count = chunk.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { throw Failure.closed }
        buffer += chunk[..<count]
    }

    func take(_ count: Int) throws -> [UInt8] {
        while buffer.count < count { try fill() }
        defer { buffer.removeFirst(count) }
        return Array(buffer[..<count])
    }

    func line() throws -> String {
        while true {
            if let end = buffer.firstIndex(of: 0x0A) {
                return String(decoding: try take(end + 1).dropLast(), as: UTF8.self)
            }
            try fill()
        }
    }

    func ask(_ text: String) throws -> String {
        send([UInt8]("\(text)\n".utf8))
        return try line()
    }

    func tell(_ text: String) throws {
        #expect(try ask("\(text);:SYST:ERR?") == "0,\"No error\"", "\(text)")
    }

    func block(_ text: String) throws -> [UInt8] {
        send([UInt8]("\(text)\n".utf8))
        let head = try take(2)
        let length = Int(String(decoding: try take(Int(head[1]) - 48), as: UTF8.self)) ?? 0
        defer { _ = try? take(1) }
        return try take(length)
    }

    func wait(for answer: String, to question: String, seconds: Double = 10) throws {
        let end = Date(timeIntervalSinceNow: seconds)
        while try ask(question) != answer {
            guard Date() < end else { throw Failure.timeOut }
            usleep(5000)
        }
    }

    /// Whether the far end hangs up within ten seconds.
    func isClosed() -> Bool {
        do {
            while true { try fill() }
        } catch {
            if case Failure.closed = error { return true }
            return false
        }
    }
}

/// The data connection of a device.
final class DataWire {
    let wire: Wire
    let welcome: UInt8

    init(port: Int, token: String) throws {
        wire = try Wire(port: port)
        let digits = token.compactMap(\.hexDigitValue).map(UInt8.init)
        let key = stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
        wire.send([0x51, 0x44, 0x41, 0x54, 1, 0, 0, 0] + key)
        welcome = try wire.take(1)[0]
    }

    private func message(_ type: UInt32, _ count: UInt32, _ number: UInt64) {
        func bytes<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { [UInt8]($0) } }
        wire.send(bytes(type) + bytes(count) + bytes(number))
    }

    func credit(_ count: UInt32) { message(1, count, 0) }
    func release(_ number: UInt64) { message(2, 0, number) }
    func seek(_ number: UInt64) { message(3, 0, number) }

    func frame() throws -> Frame {
        let head = try wire.take(72)
        let length = (0..<4).reduce(0) { $0 | Int(head[8 + $1]) << (8 * $1) }
        return try Frame(head + wire.take(length))
    }
}
