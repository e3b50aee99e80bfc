// The data connection beside a `tcp:` or `usb:` session (instrument-protocol.md section 3): token, credits, release, seek.

import Synchronization

/// Symbol frames' own connection. Reading blocks and belongs to one thread; the small messages may be sent from any.
public final class DataConnection: Sendable {
    private let line: any ByteLine
    private let sending = Mutex(())
    /// The device must take 16 bytes within this time.
    private static let sendDeadline = Duration.seconds(5)

    private init(line: any ByteLine) { self.line = line }

    /// Connects and presents the token.
    /// - Parameter token: 16 bytes, from `DATA:TOKen?`.
    /// - Throws: `TransportError.dataRefused` (bad token, busy), `.timedOut`, `.cannotOpen`.
    public static func open(host: String, port: Int, token: [UInt8], options: OpenOptions = OpenOptions()) async throws -> DataConnection {
        try await LineThread(name: "open data").run { cancellation in
            let patience = Patience(options.deadline, cancellation: cancellation)
            return try greet(TCPLine.open(host: host, port: port, allowRemote: options.allowRemote, patience), token, patience)
        }
    }

    /// Presents the token on a line that is closed where that fails.
    static func greet(_ line: any ByteLine, _ token: [UInt8], _ patience: Patience) throws -> DataConnection {
        do {
            let greeting = Array("QDAT".utf8) + [1, 0, 0, 0] + token
            try greeting.withUnsafeBytes { try line.write($0, patience) }
            var answer: [UInt8] = [0xFF]
            _ = try answer.withUnsafeMutableBytes { try line.read(into: $0, patience) }
            switch answer[0] {
            case 0: return DataConnection(line: line)
            case 1: throw TransportError.dataRefused(line.name, reason: "the token is not valid")
            case 2: throw TransportError.dataRefused(line.name, reason: "another host takes its symbols")
            default: throw TransportError.dataRefused(line.name, reason: "its answer \(answer[0]) is unknown")
            }
        } catch {
            line.close()
            throw error
        }
    }

    /// Lets the device send `count` more frames.
    public func credit(_ count: Int) throws { try send(type: 1, count: count, frame: 0) }

    /// Frees all frames up to and including `frame` in the device's ring.
    public func release(through frame: UInt64) throws { try send(type: 2, count: 0, frame: frame) }

    /// Makes the device go on with `frame`, or the oldest one kept after it.
    public func seek(_ frame: UInt64) throws { try send(type: 3, count: 0, frame: frame) }

    private func send(type: UInt32, count: Int, frame: UInt64) throws {
        var message = [UInt8]()
        message.reserveCapacity(16)
        withUnsafeBytes(of: type.littleEndian) { message += $0 }
        withUnsafeBytes(of: UInt32(clamping: count).littleEndian) { message += $0 }
        withUnsafeBytes(of: frame.littleEndian) { message += $0 }
        try sending.withLock { _ in
            try message.withUnsafeBytes { try line.write($0, Patience(Self.sendDeadline)) }
        }
    }

    /// Fills `buffer`.
    public func read(into buffer: UnsafeMutableRawBufferPointer, _ patience: Patience) throws {
        var filled = 0
        while filled < buffer.count {
            filled += try line.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]), patience)
        }
    }

    /// Ends waiting calls.
    public func close() { line.close() }
}
