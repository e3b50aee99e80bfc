// USB/IP 1.1.1 on the wire, from the server's side. Everything is big-endian.

package import NIOCore

/// What a client says.
package enum USBIPMessage: Equatable, Sendable {
    case deviceList
    /// Wants the device with this bus id.
    case attach(String)
    case submit(URB)
    /// `id` names the message, `target` the transfer to take back.
    case unlink(id: UInt32, target: UInt32)
}

/// The client does not speak the protocol; the connection is to be closed.
package struct USBIPError: Error, Equatable, CustomStringConvertible {
    package var description: String
}

/// Cuts what comes in into messages, in pieces of any size.
package struct USBIPParser: Sendable {
    package static let version: UInt16 = 0x0111
    /// Longest transfer: Linux splits at much less.
    package static let longestTransfer = 16 << 20
    private static let header = 48

    /// After an attach only transfers come.
    package var isAttached = false
    private var buffer = ByteBuffer()

    package init() {}

    mutating func append(_ bytes: ByteBuffer) { buffer.writeImmutableBuffer(bytes) }
    package mutating func append(_ bytes: [UInt8]) { buffer.writeBytes(bytes) }

    /// The next whole message, or `nil` until more comes.
    package mutating func next() throws(USBIPError) -> USBIPMessage? {
        let message = try isAttached ? transfer() : operation()
        if message != nil { buffer.discardReadBytes() }
        return message
    }

    private func word(_ offset: Int) -> UInt32? { buffer.getInteger(at: buffer.readerIndex + offset) }

    private mutating func operation() throws(USBIPError) -> USBIPMessage? {
        guard let head = word(0), word(4) != nil else { return nil }
        guard UInt16(head >> 16) == Self.version else { throw USBIPError(description: "not USB/IP 1.1.1") }
        switch UInt16(truncatingIfNeeded: head) {
        case 0x8005:
            buffer.moveReaderIndex(forwardBy: 8)
            return .deviceList
        case 0x8003:
            guard buffer.readableBytes >= 40 else { return nil }
            buffer.moveReaderIndex(forwardBy: 8)
            let name = (buffer.readBytes(length: 32) ?? []).prefix { $0 != 0 }
            return .attach(String(decoding: name, as: UTF8.self))
        case let other: throw USBIPError(description: "operation \(String(other, radix: 16)) is unknown")
        }
    }

    private mutating func transfer() throws(USBIPError) -> USBIPMessage? {
        guard buffer.readableBytes >= Self.header, let command = word(0), let id = word(4), let target = word(20) else { return nil }
        switch command {
        case 1: return try submit(id)
        case 2:
            buffer.moveReaderIndex(forwardBy: Self.header)
            return .unlink(id: id, target: target)
        case let other: throw USBIPError(description: "command \(other) is unknown")
        }
    }

    private mutating func submit(_ id: UInt32) throws(USBIPError) -> USBIPMessage? {
        guard let direction = word(12), let endpoint = word(16), let flags = word(20), let length = word(24), let packets = word(32) else {
            return nil
        }
        guard direction < 2, endpoint < 16, length <= UInt32(Self.longestTransfer) else {
            throw USBIPError(description: "a transfer has no sense: endpoint \(endpoint), \(length) bytes")
        }
        // Isochronous transfers name their packets; there is no endpoint for them.
        guard packets == 0 || packets == .max else { throw USBIPError(description: "isochronous transfers are not offered") }
        let isIn = direction == 1
        let whole = Self.header + (isIn ? 0 : Int(length))
        guard buffer.readableBytes >= whole else { return nil }
        let setup = buffer.getBytes(at: buffer.readerIndex + 40, length: 8).flatMap { SetupPacket(bytes: $0) }
        buffer.moveReaderIndex(forwardBy: Self.header)
        let data = isIn ? [] : buffer.readBytes(length: Int(length)) ?? []
        return .submit(
            URB(
                id: id, endpoint: UInt8(endpoint), isIn: isIn, length: Int(length), setup: setup ?? SetupPacket(0, 0), data: data,
                // Linux's URB_SHORT_NOT_OK
                refusesShort: isIn && flags & 1 != 0))
    }
}

/// What stands in lists and import answers about one device.
package struct USBIPRecord: Equatable, Sendable {
    package var busID: String
    package var number: UInt32
    package var speed: USBSpeed

    package init(number: UInt32, speed: USBSpeed) {
        busID = "1-\(number)"
        self.number = number
        self.speed = speed
    }

    fileprivate func write(_ buffer: inout ByteBuffer) {
        Self.write("/sys/devices/platform/qkd-emulator/usb1/\(busID)", 256, &buffer)
        Self.write(busID, 32, &buffer)
        for value in [1, number + 1, speed.code] { buffer.writeInteger(value) }
        for value in [USBIdentity.vendor, USBIdentity.product, USBIdentity.release] { buffer.writeInteger(value) }
        // Class, subclass and protocol stand with the interfaces; configuration 1 of 1, two interfaces.
        buffer.writeBytes([0, 0, 0, 1, 1, 2])
    }

    private static func write(_ text: String, _ length: Int, _ buffer: inout ByteBuffer) {
        let bytes = text.utf8.prefix(length - 1)
        buffer.writeBytes(bytes)
        buffer.writeRepeatingByte(0, count: length - bytes.count)
    }
}

/// What the server says.
package enum USBIPReply {
    package enum Status: UInt32 {
        case ok = 0
        case busy = 2
        case noDevice = 4
    }

    package static func deviceList(_ devices: [USBIPRecord]) -> ByteBuffer {
        var buffer = head(0x0005, .ok)
        buffer.writeInteger(UInt32(devices.count))
        for device in devices {
            device.write(&buffer)
            for kind in [USBInterface.instrument, USBInterface.symbols] { buffer.writeBytes(kind + [0]) }
        }
        return buffer
    }

    /// - Parameter device: `nil` unless the status is `ok`.
    package static func attach(_ status: Status, _ device: USBIPRecord?) -> ByteBuffer {
        var buffer = head(0x0003, status)
        if status == .ok { device?.write(&buffer) }
        return buffer
    }

    private static func head(_ code: UInt16, _ status: Status) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(USBIPParser.version)
        buffer.writeInteger(code)
        buffer.writeInteger(status.rawValue)
        return buffer
    }

    package static func submit(_ id: UInt32, status: Int32, data: ArraySlice<UInt8>, length: Int) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(48 + data.count)
        for value in [3, id, 0, 0, 0] as [UInt32] { buffer.writeInteger(value) }
        buffer.writeInteger(status)
        buffer.writeInteger(UInt32(length))
        // Start frame, packets, errors, padding.
        buffer.writeRepeatingByte(0, count: 20)
        buffer.writeBytes(data)
        return buffer
    }

    package static func unlink(_ id: UInt32, found: Bool) -> ByteBuffer {
        var buffer = ByteBuffer()
        for value in [4, id, 0, 0, 0] as [UInt32] { buffer.writeInteger(value) }
        buffer.writeInteger(found ? URBStatus.unlinked : URBStatus.success)
        buffer.writeRepeatingByte(0, count: 24)
        return buffer
    }
}
