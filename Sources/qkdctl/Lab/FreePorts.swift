// Loopback ports that nobody uses at the moment.

import Glibc

enum FreePorts {
    /// A port in the kernel's ephemeral range. The kernel hands out another one each time, so several calls differ.
    /// - Throws: `LabError.cannotStart` where no port is to be had.
    static func next() throws -> Int {
        let handle = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(handle) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let done = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(handle, $0, size) == 0 && getsockname(handle, $0, &size) == 0 }
        }
        guard handle >= 0, done else { throw LabError.cannotStart(name: "a loopback listener", reason: String(cString: strerror(errno))) }
        return Int(UInt16(bigEndian: address.sin_port))
    }
}
