// Instruments on TCP sockets. Symbols are as good as key, so anything but loopback needs leave.

import Glibc

/// A TCP connection to an instrument's control or data port.
package final class TCPLine: ByteLine {
    package let name: String
    private let descriptor: Descriptor

    private init(name: String, descriptor: Descriptor) {
        self.name = name
        self.descriptor = descriptor
    }

    package var bytesPerSecond: Int? { nil }

    package func write(_ bytes: UnsafeRawBufferPointer, _ patience: Patience) throws { try descriptor.write(bytes, patience) }

    package func read(into buffer: UnsafeMutableRawBufferPointer, _ patience: Patience) throws -> Int {
        try descriptor.read(into: buffer, patience)
    }

    /// TCP has no device clear short of closing.
    package func clear(_ patience: Patience) throws -> Bool { false }

    package func close() { descriptor.close() }

    /// Connects; tries every address that `host` has.
    /// - Parameter allowRemote: otherwise only 127.0.0.0/8 and ::1 are connected to.
    package static func open(host: String, port: Int, allowRemote: Bool, _ patience: Patience) throws -> TCPLine {
        let name = Address.tcp(host: host, port: port).description
        var failure = TransportError.cannotOpen(name, reason: "the host has no address")
        for place in try resolve(host: host, port: port, name: name) {
            guard allowRemote || place.isLoopback else {
                failure = .remoteRefused(name)
                continue
            }
            do {
                return TCPLine(name: name, descriptor: try connect(place, name: name, patience))
            } catch let error as TransportError {
                failure = error
            }
        }
        throw failure
    }

    private static func connect(_ place: SocketPlace, name: String, _ patience: Patience) throws -> Descriptor {
        let fd = socket(place.family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw TransportError.cannotOpen(name, reason: systemError(errno)) }
        // Half-closing first lets the device see the end at once, whoever still holds the number.
        let descriptor = try Descriptor(fd, name: name, isSocket: true) { _ = shutdown($0, Int32(SHUT_RDWR)) }
        var on: Int32 = 1
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, socklen_t(MemoryLayout<Int32>.size))
        let begun = place.withAddress { Glibc.connect(fd, $0, $1) }
        if begun != 0 {
            guard errno == EINPROGRESS else { throw TransportError.cannotOpen(name, reason: systemError(errno)) }
            try descriptor.wait(POLLOUT, patience, doing: "connecting")
            var code: Int32 = 0
            var size = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size)
            guard code == 0 else { throw TransportError.cannotOpen(name, reason: systemError(code)) }
        }
        return descriptor
    }
}

/// One socket address out of getaddrinfo(3).
private struct SocketPlace {
    var family: Int32
    var bytes: [UInt8]

    func withAddress<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        bytes.withUnsafeBytes { bytes in
            bytes.withMemoryRebound(to: sockaddr.self) { addresses in
                // A sockaddr of zero bytes does not come out of getaddrinfo; the placeholder keeps the compiler quiet.
                var placeholder = sockaddr()
                guard let address = addresses.baseAddress else { return body(&placeholder, 0) }
                return body(address, socklen_t(bytes.count))
            }
        }
    }

    var isLoopback: Bool {
        switch family {
        // sockaddr_in: family 2, port 2, address 4. sockaddr_in6: family 2, port 2, flow 4, address 16.
        case AF_INET: bytes.count >= 8 && bytes[4] == 127
        case AF_INET6: bytes.count >= 24 && bytes[8..<24].elementsEqual([UInt8](repeating: 0, count: 15) + [1])
        default: false
        }
    }
}

private func resolve(host: String, port: Int, name: String) throws -> [SocketPlace] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_NUMERICSERV
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &list)
    guard code == 0 else { throw TransportError.cannotOpen(name, reason: String(cString: gai_strerror(code))) }
    defer { freeaddrinfo(list) }
    var places: [SocketPlace] = []
    var next = list
    while let entry = next?.pointee {
        if let address = entry.ai_addr {
            places.append(
                SocketPlace(family: entry.ai_family, bytes: [UInt8](UnsafeRawBufferPointer(start: address, count: Int(entry.ai_addrlen)))))
        }
        next = entry.ai_next
    }
    return places
}
