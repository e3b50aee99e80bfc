// Instruments on serial lines: raw termios, exclusive, hang-up as an event.

import CTransport
import Glibc

/// A tty: a real serial line, a USB adapter or an emulator's pty.
package final class SerialLine: ByteLine {
    package let name: String
    package let bytesPerSecond: Int?
    private let descriptor: Descriptor

    private init(name: String, bytesPerSecond: Int?, descriptor: Descriptor) {
        self.name = name
        self.bytesPerSecond = bytesPerSecond
        self.descriptor = descriptor
    }

    /// - Throws: `TransportError.inUse` where another process has it, `.cannotOpen` with advice on permissions.
    package static func open(device: String, baud asked: Int?, flowControl: Bool) throws -> SerialLine {
        let baud = asked ?? Address.defaultBaud
        let name = "serial:\(device)"
        let device = device.hasPrefix("/") ? device : try find(serial: device, name)
        let fd = Glibc.open(device, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)
        guard fd >= 0 else { throw openingError(errno, name, device) }
        let claimed = transport_tty_claim(fd)
        guard claimed == 0 else {
            Glibc.close(fd)
            throw TransportError.inUse(name, reason: "another process holds its lock")
        }
        let descriptor = try Descriptor(fd, name: name, isSocket: false) { transport_tty_unclaim($0) }
        var code = transport_tty_raw(fd, Int32(clamping: baud), flowControl ? 1 : 0)
        // ptys and some adapters have no RTS/CTS; without it the line still works, only nothing slows the sender.
        if code == ENOTSUP || code == EINVAL, flowControl { code = transport_tty_raw(fd, Int32(clamping: baud), 0) }
        guard code == 0 else {
            throw TransportError.cannotOpen(name, reason: code == EINVAL ? "it cannot run at \(baud) baud" : systemError(code))
        }
        _ = transport_tty_flush(fd)
        // One start and one stop bit with each byte. A pty has no baud rate of its own: it has only the limit that it is given.
        let limit = asked == nil && device.hasPrefix("/dev/pts/") ? nil : baud / 10
        return SerialLine(name: name, bytesPerSecond: limit, descriptor: descriptor)
    }

    /// The tty of a device or adapter of ours.
    private static func find(serial: String, _ name: String) throws -> String {
        let all = try AttachedDevices.list().filter { $0.transport == .serial }
        guard let found = all.first(where: { $0.serial == serial }) else {
            let others = all.map(\.serial)
            throw TransportError.notFound(
                name, reason: others.isEmpty ? "no serial device of ours is plugged in" : "plugged in are \(others.joined(separator: ", "))"
            )
        }
        if let trouble = found.trouble { throw TransportError.noPermission(name, reason: trouble) }
        return found.node
    }

    private static func openingError(_ code: Int32, _ name: String, _ device: String) -> TransportError {
        switch code {
        case EBUSY: .inUse(name, reason: "another process opened it exclusively")
        case EACCES, EPERM: .noPermission(name, reason: NodeAccess.trouble(device) ?? "\(device) refuses: a sandbox is in the way")
        case ENOENT: .cannotOpen(name, reason: "there is no such device: is it plugged in?")
        default: .cannotOpen(name, reason: systemError(code))
        }
    }

    package var keepsOldAnswers: Bool { true }

    package func write(_ bytes: UnsafeRawBufferPointer, _ patience: Patience) throws { try descriptor.write(bytes, patience) }

    package func read(into buffer: UnsafeMutableRawBufferPointer, _ patience: Patience) throws -> Int {
        try descriptor.read(into: buffer, patience)
    }

    /// CAN is a device clear outside a block.
    package func clear(_ patience: Patience) throws -> Bool {
        try withUnsafeBytes(of: UInt8(0x18)) { try descriptor.write($0, patience) }
        try descriptor.use { _ = transport_tty_flush_input($0) }
        return true
    }

    package func close() { descriptor.close() }
}
