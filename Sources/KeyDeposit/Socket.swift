// A Unix stream socket with blocking calls and deadlines. Descriptors are closed exactly once.

import Glibc
import KeyMaterial
import Synchronization

/// One end of a connection, or the listening socket.
final class Socket: Sendable {
    let path: String
    private let descriptor: Mutex<Int32>

    init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = Mutex(descriptor)
    }

    deinit { close() }

    static func connect(path: String, timeout: Duration) throws(KeyDepositError) -> Socket {
        let made = try open(path: path)
        try made.setTimeout(timeout)
        guard withAddress(path, Glibc.connect, made.number) == 0 else { throw failure("connect", path) }
        return made
    }

    /// Binds and listens; a stale socket file is replaced, another kind of file is not.
    static func listen(path: String, mode: mode_t) throws(KeyDepositError) -> Socket {
        let made = try open(path: path)
        var facts = stat()
        if lstat(path, &facts) == 0, facts.st_mode & S_IFMT == S_IFSOCK {
            if (try? connect(path: path, timeout: .seconds(1))) != nil {
                throw .socket(operation: "bind", path: path, errno: EADDRINUSE)
            }
            unlink(path)
        }
        // The mode must be right from the first moment on, not only after a chmod.
        guard fchmod(made.number, mode) == 0 else { throw failure("fchmod", path) }
        guard withAddress(path, Glibc.bind, made.number) == 0 else { throw failure("bind", path) }
        guard chmod(path, mode) == 0 else { throw failure("chmod", path) }
        guard Glibc.listen(made.number, 16) == 0 else { throw failure("listen", path) }
        return made
    }

    /// Waits for a connection. Where the system is short of descriptors or memory it waits for that too.
    ///
    /// - Parameter shortage: told once per shortage.
    func accept(shortage: (String) -> Void = { _ in }) throws(KeyDepositError) -> Socket {
        var isShort = false
        while true {
            let number = Glibc.accept(self.number, nil, nil)
            if number >= 0 {
                _ = fcntl(number, F_SETFD, FD_CLOEXEC)
                return Socket(path: path, descriptor: number)
            }
            let code = errno
            if [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(code) {
                if !isShort { shortage("no deposit can be taken for now: \(text(of: code))") }
                isShort = true
                usleep(100_000)
            } else if code != EINTR && code != ECONNABORTED {
                throw .socket(operation: "accept", path: path, errno: code)
            }
        }
    }

    /// The user id of the process at the other end, from the kernel.
    func peerUser() throws(KeyDepositError) -> UInt32 {
        // struct ucred, which the headers show only to GNU sources: process, user and group, 32 bits each.
        var credentials: (process: Int32, user: UInt32, group: UInt32) = (0, .max, .max)
        var size = socklen_t(12)
        guard getsockopt(number, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0, size == 12 else {
            throw failure("SO_PEERCRED", path)
        }
        return credentials.user
    }

    func setTimeout(_ timeout: Duration) throws(KeyDepositError) {
        let (seconds, attoseconds) = timeout.components
        var value = timeval(tv_sec: Int(seconds), tv_usec: Int(attoseconds / 1_000_000_000_000))
        let size = socklen_t(MemoryLayout<timeval>.size)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] where setsockopt(number, SOL_SOCKET, option, &value, size) != 0 {
            throw failure("setsockopt", path)
        }
    }

    /// Fills the whole of `buffer`. - Returns: false where the other end closed before the first byte.
    @discardableResult
    func readAll(_ buffer: UnsafeMutableRawBufferPointer) throws(KeyDepositError) -> Bool {
        var done = 0
        while done < buffer.count {
            let count = recv(number, buffer.baseAddress?.advanced(by: done), buffer.count - done, 0)
            if count > 0 {
                done += count
            } else if count == 0 {
                if done == 0 { return false }
                throw .closed(path: path)
            } else if errno == EAGAIN {
                throw .timedOut(path: path)
            } else if errno == ECONNRESET {
                throw .closed(path: path)
            } else if errno != EINTR {
                throw failure("read", path)
            }
        }
        return true
    }

    /// - Returns: exactly `count` bytes, nil where the other end closed before the first.
    func read(_ count: Int) throws(KeyDepositError) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var whole = true
        do { try bytes.withUnsafeMutableBytes { buffer in whole = try readAll(buffer) } } catch {
            throw error as? KeyDepositError ?? .closed(path: path)
        }
        return whole ? bytes : nil
    }

    func write(_ buffer: UnsafeRawBufferPointer) throws(KeyDepositError) {
        var done = 0
        while done < buffer.count {
            let count = send(number, buffer.baseAddress?.advanced(by: done), buffer.count - done, Int32(MSG_NOSIGNAL))
            if count > 0 {
                done += count
            } else if errno == EAGAIN {
                throw .timedOut(path: path)
            } else if errno == EPIPE || errno == ECONNRESET {
                throw .closed(path: path)
            } else if errno != EINTR {
                throw failure("write", path)
            }
        }
    }

    func write(_ bytes: [UInt8]) throws(KeyDepositError) {
        do { try bytes.withUnsafeBytes { try write($0) } } catch { throw error as? KeyDepositError ?? .closed(path: path) }
    }

    /// Wakes a thread that is blocked on this socket; the descriptor stays until `close`.
    func interrupt() { _ = shutdown(number, Int32(SHUT_RDWR)) }

    func close() {
        descriptor.withLock { number in
            if number >= 0 { _ = Glibc.close(number) }
            number = -1
        }
    }

    private var number: Int32 { descriptor.withLock { $0 } }

    private static func open(path: String) throws(KeyDepositError) -> Socket {
        guard path.utf8.count <= 107 else { throw .pathTooLong(path) }
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { throw failure("socket", path) }
        return Socket(path: path, descriptor: number)
    }
}

private func withAddress(
    _ path: String, _ call: (Int32, UnsafePointer<sockaddr>?, socklen_t) -> Int32, _ number: Int32
) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    return withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
}

private func failure(_ operation: String, _ path: String) -> KeyDepositError {
    .socket(operation: operation, path: path, errno: errno)
}

/// The system's words for an error number.
func text(of code: Int32) -> String { String(cString: strerror(code)) }
