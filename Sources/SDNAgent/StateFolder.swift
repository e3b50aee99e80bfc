// One agent for one state folder: two would overwrite each other's configuration.

import Foundation
import Glibc

/// The right to a state folder, for as long as this value lives. The kernel takes it back from a process that ends, however it ends.
public final class StateFolder: Sendable {
    public let path: String
    private let file: Int32

    /// Makes the folder where it is not there, and locks its file `lock`, which holds the process id of who has it.
    /// - Throws: `SDNAgentError.inUse` where another process has it, `.state` where the file cannot be made.
    public init(path: String) throws(SDNAgentError) {
        self.path = path
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch { throw .state(path: path, reason: "it cannot be made: \(error.localizedDescription)") }
        let name = path + "/lock"
        file = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard file >= 0 else { throw .state(path: path, reason: "\(name): \(String(cString: strerror(errno)))") }
        var result = flock(file, LOCK_EX | LOCK_NB)
        while result != 0, errno == EINTR { result = flock(file, LOCK_EX | LOCK_NB) }
        guard result == 0 else {
            let problem = errno
            defer { close(file) }
            guard problem == EWOULDBLOCK else { throw .state(path: path, reason: "\(name): \(String(cString: strerror(problem)))") }
            throw .inUse(path: path, pid: Self.holder(file))
        }
        // A full disk does not matter here: then nobody can be told who has the folder.
        let text = Array("\(getpid())\n".utf8)
        ftruncate(file, 0)
        _ = pwrite(file, text, text.count, 0)
    }

    deinit { close(file) }

    private static func holder(_ file: Int32) -> Int32? {
        var text = [UInt8](repeating: 0, count: 16)
        let count = pread(file, &text, text.count, 0)
        guard count > 0 else { return nil }
        return Int32(String(decoding: text[..<count], as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
    }
}
