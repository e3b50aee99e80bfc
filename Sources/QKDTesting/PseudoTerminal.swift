// A device on a serial line, for tests: the master's side of a pty.

import Foundation
import Glibc
import Synchronization
import Transport

/// Opens a pty and answers lines on it. `path` is what a driver opens.
public final class PseudoTerminal: Sendable {
    public let path: String
    private let master: Descriptor
    /// Holding the other end open keeps the pty alive between openers.
    private let keeper: Mutex<Int32>

    /// - Parameter handler: gets each line without its NL, on a thread of the terminal's own.
    public init(_ handler: @escaping @Sendable (String, PseudoTerminal) throws -> Void) throws {
        let (fd, path) = try openPseudoTerminal()
        self.path = path
        keeper = Mutex(Glibc.open(path, O_RDWR | O_NOCTTY | O_CLOEXEC))
        master = try Descriptor(fd, name: "pty master", isSocket: false)
        Thread.detachNewThread { [weak self, master] in
            var line: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 4096)
            while let count = try? buffer.withUnsafeMutableBytes({ try master.read(into: $0, Patience(.seconds(3600))) }) {
                line += buffer[..<count]
                while let newline = line.firstIndex(of: 0x0A) {
                    let text = String(decoding: line[..<newline], as: UTF8.self)
                    line.removeFirst(newline + 1)
                    guard let self, (try? handler(text, self)) != nil else { return }
                }
            }
        }
    }

    deinit { unplug() }

    public func send(_ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { try master.write($0, Patience(.seconds(30))) }
    }

    public func send(_ text: String) throws { try send(Array(text.utf8)) }

    /// The device is gone.
    public func unplug() {
        keeper.withLock { fd in
            if fd >= 0 { Glibc.close(fd) }
            fd = -1
        }
        master.close()
    }
}
