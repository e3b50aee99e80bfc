// A listening TCP port on loopback for tests that need a misbehaving far end.

import Foundation
import Glibc
import Synchronization
import Transport

/// Accepts connections on 127.0.0.1 and gives each to `handler` on a thread of its own; the connection closes when it returns.
public final class LoopbackServer: Sendable {
    /// The system chooses it.
    public let port: Int
    private let listener: Descriptor
    private let connections = Mutex<[Descriptor]>([])

    public init(_ handler: @escaping @Sendable (LoopbackConnection) throws -> Void) throws {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(fd, $0, size) | listen(fd, 16) | getsockname(fd, $0, &size)
            }
        }
        guard code == 0 else { throw TransportError.cannotOpen("test server", reason: systemError(errno)) }
        port = Int(UInt16(bigEndian: address.sin_port))
        listener = try Descriptor(fd, name: "test server", isSocket: true)
        Thread.detachNewThread { [weak self, listener] in
            while (try? listener.wait(POLLIN, Patience(.seconds(3600)), doing: "listening")) != nil {
                guard let accepted = try? listener.use({ accept($0, nil, nil) }), accepted >= 0 else { continue }
                self?.serve(accepted, handler)
            }
        }
    }

    deinit { close() }

    private func serve(_ fd: Int32, _ handler: @escaping @Sendable (LoopbackConnection) throws -> Void) {
        guard let descriptor = try? Descriptor(fd, name: "test connection", isSocket: true) else { return }
        connections.withLock { $0.append(descriptor) }
        Thread.detachNewThread {
            // A handler that throws hangs up, which is what the client then sees.
            try? handler(LoopbackConnection(descriptor))
            descriptor.close()
        }
    }

    /// Hangs up all connections that are open now.
    public func dropConnections() {
        let open = connections.withLock { connections in
            defer { connections = [] }
            return connections
        }
        for connection in open { connection.close() }
    }

    public func close() {
        // Closing takes effect only when the listening thread has left its poll: until then the port would still take connections.
        _ = try? listener.use { shutdown($0, Int32(SHUT_RDWR)) }
        listener.close()
        dropConnections()
    }
}

/// The server's end of one connection. Calls block for at most half a minute.
public final class LoopbackConnection: Sendable {
    private let descriptor: Descriptor
    private static let patience = Duration.seconds(30)

    init(_ descriptor: Descriptor) { self.descriptor = descriptor }

    public func send(_ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { try descriptor.write($0, Patience(Self.patience)) }
    }

    public func send(_ text: String) throws { try send(Array(text.utf8)) }

    /// Exactly `count` bytes.
    public func receive(_ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var filled = 0
        while filled < count {
            filled += try bytes.withUnsafeMutableBytes {
                try descriptor.read(into: UnsafeMutableRawBufferPointer(rebasing: $0[filled...]), Patience(Self.patience))
            }
        }
        return bytes
    }

    /// One line without its NL.
    public func receiveLine() throws -> String {
        var line: [UInt8] = []
        while true {
            let byte = try receive(1)[0]
            if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
            line.append(byte)
        }
    }

    public func close() { descriptor.close() }
}
