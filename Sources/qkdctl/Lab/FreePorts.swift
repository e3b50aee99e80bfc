// Loopback ports that nobody uses at the moment.

import Glibc
import Synchronization

/// Hands out ports below the kernel's ephemeral range: one out of that range can become the local end of somebody's connection
/// between the moment it is chosen and the moment a service listens on it.
enum FreePorts {
    private static let range: Range<UInt16> = 20_000..<32_000
    private static let given = Mutex<Set<UInt16>>([])

    /// A port that can be listened on now and was not handed out before by this process.
    /// - Throws: `LabError.cannotStart` where none is to be had.
    static func next() throws -> Int {
        for port in Array(range).shuffled().prefix(2000) where canListen(port) {
            if given.withLock({ $0.insert(port).inserted }) { return Int(port) }
        }
        throw LabError.cannotStart(name: "a loopback listener", reason: "no free port from \(range.lowerBound) to \(range.upperBound - 1)")
    }

    private static func canListen(_ port: UInt16) -> Bool {
        let handle = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard handle >= 0 else { return false }
        defer { close(handle) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        address.sin_port = port.bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(handle, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 }
        }
    }
}
