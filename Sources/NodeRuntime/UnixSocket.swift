// Socket files: who may have the path, and who may use the socket.

import Foundation
import Glibc

package enum UnixSocket {
    /// The longest path that `sockaddr_un` holds, without its closing zero.
    package static let longestPath = 107

    /// Makes `path` free to bind: its folder exists, and a socket file that nobody listens on is removed.
    ///
    /// - Throws: `NodeRuntimeError` where the path is too long, something else stands there, or somebody listens.
    package static func claim(_ path: String) throws(NodeRuntimeError) {
        guard path.utf8.count <= longestPath else { throw .socketPathTooLong(path: path) }
        try makeFolder(of: path)
        guard let attributes = try? FileManager.default.attributesOfItem(atPath: path) else { return }
        guard attributes[.type] as? FileAttributeType == .typeSocket else { throw .notASocket(path: path) }
        guard !isListening(path) else { throw .socketInUse(path: path) }
        guard unlink(path) == 0 || errno == ENOENT else { throw .socketUnusable(path: path, reason: reason(errno)) }
    }

    /// Lets the owner and the group use the socket, nobody else.
    package static func restrict(_ path: String) throws(NodeRuntimeError) {
        guard chmod(path, 0o660) == 0 else { throw .socketUnusable(path: path, reason: reason(errno)) }
    }

    private static func makeFolder(of path: String) throws(NodeRuntimeError) {
        let folder = (path as NSString).deletingLastPathComponent
        guard !folder.isEmpty else { return }
        do {
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o750])
        } catch {
            throw .socketUnusable(path: path, reason: "its folder cannot be made")
        }
    }

    /// Whether a process accepts connections at `path`.
    package static func isListening(_ path: String) -> Bool {
        let handle = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard handle >= 0 else { return false }
        defer { close(handle) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix(longestPath)) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(handle, $0, size) == 0 }
        }
    }

    private static func reason(_ code: Int32) -> String { String(cString: strerror(code)) }
}
