// A non-blocking file descriptor with deadlines. Whoever waits in poll(2) is woken by an eventfd on cancellation and close.

import CTransport
import Glibc
import Synchronization

/// Owns `fd`. `close` ends waiting calls; the number itself is given back to the system only when no call uses it.
package final class Descriptor: Sendable {
    private struct State {
        var users = 0
        var isClosed = false
        var isReleased = false
    }

    private let name: String
    private let fd: Int32
    private let wakeUp: Int32
    private let isSocket: Bool
    private let state = Mutex(State())
    private let release: @Sendable (Int32) -> Void

    /// - Parameter release: runs right before close(2).
    package init(_ fd: Int32, name: String, isSocket: Bool, release: @escaping @Sendable (Int32) -> Void = { _ in }) throws {
        self.name = name
        self.fd = fd
        self.isSocket = isSocket
        self.release = release
        wakeUp = transport_wake_up()
        guard wakeUp >= 0, fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0 else {
            let reason = systemError(errno)
            Glibc.close(fd)
            throw TransportError.cannotOpen(name, reason: reason)
        }
    }

    deinit {
        close()
        Glibc.close(wakeUp)
    }

    package func close() {
        let shouldRelease = state.withLock { state in
            state.isClosed = true
            defer { state.isReleased = state.users == 0 }
            return state.users == 0 && !state.isReleased
        }
        if shouldRelease { releaseNow() } else { wake() }
    }

    private func releaseNow() {
        release(fd)
        Glibc.close(fd)
    }

    private func wake() {
        var one: UInt64 = 1
        // Fails only when the counter is full, and then the poll wakes anyway.
        _ = Glibc.write(wakeUp, &one, 8)
    }

    /// Runs `body` with the descriptor pinned.
    package func use<R>(_ body: (Int32) throws -> R) throws -> R {
        try state.withLock { state in
            if state.isClosed { throw TransportError.closed(name, reason: "closed on this side") }
            state.users += 1
        }
        defer {
            let shouldRelease = state.withLock { state in
                state.users -= 1
                guard state.isClosed, state.users == 0, !state.isReleased else { return false }
                state.isReleased = true
                return true
            }
            if shouldRelease { releaseNow() }
        }
        return try body(fd)
    }

    private var isClosed: Bool { state.withLock { $0.isClosed } }

    /// Waits until the descriptor is ready for `events`.
    package func wait(_ events: Int32, _ patience: Patience, doing: @autoclosure () -> String) throws {
        try use { fd in
            try patience.cancellation.whenCancelled { [weak self] in self?.wake() }
            while true {
                var polled = [
                    pollfd(fd: fd, events: Int16(events), revents: 0), pollfd(fd: wakeUp, events: Int16(POLLIN), revents: 0),
                ]
                let ready = poll(&polled, 2, patience.milliseconds)
                if isClosed { throw TransportError.closed(name, reason: "closed on this side") }
                if patience.cancellation.isCancelled { throw CancellationError() }
                if polled[1].revents != 0 { drainWakeUp() }
                if polled[0].revents != 0 { return }
                if ready <= 0, patience.isOver { throw TransportError.timedOut(name, doing: doing()) }
            }
        }
    }

    private func drainWakeUp() {
        var count: UInt64 = 0
        _ = Glibc.read(wakeUp, &count, 8)
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer, _ patience: Patience) throws -> Int {
        while true {
            let (count, code) = try use { fd in
                let count = Glibc.read(fd, buffer.baseAddress, buffer.count)
                return (count, errno)
            }
            if count > 0 { return count }
            if count == 0 { throw TransportError.closed(name, reason: "the other end hung up") }
            switch code {
            case EINTR: continue
            case EAGAIN: try wait(POLLIN, patience, doing: "waiting for bytes")
            // EIO is how a tty says that the device is unplugged.
            default: throw TransportError.closed(name, reason: code == EIO ? "hung up or unplugged" : systemError(code))
            }
        }
    }

    package func write(_ bytes: UnsafeRawBufferPointer, _ patience: Patience) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let part = UnsafeRawBufferPointer(rebasing: rest)
            let (count, code) = try use { fd in
                let count =
                    isSocket ? send(fd, part.baseAddress, part.count, Int32(MSG_NOSIGNAL)) : Glibc.write(fd, part.baseAddress, part.count)
                return (count, errno)
            }
            if count >= 0 {
                rest = rest.dropFirst(count)
            } else if code == EAGAIN {
                try wait(POLLOUT, patience, doing: "sending")
            } else if code != EINTR {
                throw TransportError.closed(name, reason: code == EIO ? "hung up or unplugged" : systemError(code))
            }
        }
    }
}

/// The system's word for an errno value.
package func systemError(_ code: Int32) -> String { String(cString: strerror(code)) }
