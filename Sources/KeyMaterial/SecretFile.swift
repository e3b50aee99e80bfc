// A file of secret bits that an operator carried here: opened once, and what was checked is what is read.

package import Glibc

/// An open file of secret bits: a plain file (no link), its owner the process's user, mode 0600 at most. Root may read
/// anybody's: `qkdctl config check` looks at the services' files.
public struct SecretFile: ~Copyable {
    public let path: String
    /// Bytes when it was opened.
    public let count: Int
    private let descriptor: Int32

    public enum Access: Sendable { case reading, overwriting }

    /// - Throws: `KeyMaterialError.badFile`, which says what is wrong and what to do.
    public init(_ path: String, for access: Access = .reading) throws(KeyMaterialError) {
        // A pipe would make the opening wait for its other end.
        let descriptor = open(path, (access == .reading ? O_RDONLY : O_WRONLY) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else {
            let reason = errno == ELOOP ? "it is a symbolic link: name the file itself" : String(cString: strerror(errno))
            throw .badFile("'\(path)' cannot be opened: \(reason)")
        }
        var facts = stat()
        let isKnown = fstat(descriptor, &facts) == 0
        let unknown = "cannot be examined: \(String(cString: strerror(errno)))"
        if let trouble = isKnown ? Self.trouble(owner: facts.st_uid, mode: facts.st_mode, for: geteuid()) : unknown {
            close(descriptor)
            throw .badFile("'\(path)' \(trouble)")
        }
        (self.path, self.descriptor, count) = (path, descriptor, Int(facts.st_size))
    }

    package static func trouble(owner: uid_t, mode: mode_t, for user: uid_t) -> String? {
        if mode & S_IFMT != S_IFREG { return "is no plain file" }
        if owner != user, user != 0 { return "belongs to user \(owner), not to this service's user \(user): chown it" }
        return mode & 0o077 == 0 ? nil : "can be read by others: chmod 600 it"
    }

    /// All of it, straight into pages that are wiped.
    /// - Throws: `KeyMaterialError.badFile` where it cannot be read whole.
    public func contents() throws(KeyMaterialError) -> SecretBytes {
        let bytes = SecretBytes(count: count)
        let done = bytes.withMutableBytes { buffer in
            var done = 0
            while done < buffer.count {
                let got = pread(descriptor, buffer.baseAddress?.advanced(by: done), buffer.count - done, off_t(done))
                if got <= 0 { break }
                done += got
            }
            return done
        }
        guard done == count else { throw .badFile("'\(path)' could not be read whole") }
        return bytes
    }

    /// Zeros in place of the secret, on the disk when this returns.
    /// - Throws: `KeyMaterialError.badFile`.
    public func overwrite() throws(KeyMaterialError) {
        let zeros = [UInt8](repeating: 0, count: 1 << 16)
        var done = 0
        while done < count {
            let put = pwrite(descriptor, zeros, min(count - done, zeros.count), off_t(done))
            guard put > 0 else { throw .badFile("'\(path)' cannot be overwritten: \(String(cString: strerror(errno)))") }
            done += put
        }
        guard fsync(descriptor) == 0 else { throw .badFile("'\(path)' cannot be overwritten: \(String(cString: strerror(errno)))") }
    }

    deinit { close(descriptor) }
}
