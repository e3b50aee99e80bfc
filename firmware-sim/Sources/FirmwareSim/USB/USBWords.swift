// USB as the emulator sees it: what the bus asks of a device, and what the device has done. No I/O.

/// How fast a device is attached.
public enum USBSpeed: String, Sendable, CaseIterable {
    case high
    case `super`

    /// Bytes of a full bulk packet.
    package var bulkPacket: Int { self == .high ? 512 : 1024 }
    /// Linux's number for it, as USB/IP sends it.
    package var code: UInt32 { self == .high ? 3 : 5 }
}

/// The eight bytes that begin a control transfer.
package struct SetupPacket: Equatable, Sendable {
    package var requestType: UInt8
    package var request: UInt8
    package var value: UInt16
    package var index: UInt16
    package var length: UInt16

    package init(_ requestType: UInt8, _ request: UInt8, value: UInt16 = 0, index: UInt16 = 0, length: UInt16 = 0) {
        self.requestType = requestType
        self.request = request
        self.value = value
        self.index = index
        self.length = length
    }

    /// From the wire, little-endian; `nil` unless there are eight bytes.
    package init?(bytes: some Sequence<UInt8>) {
        let bytes = Array(bytes)
        guard bytes.count == 8 else { return nil }
        func word(_ offset: Int) -> UInt16 { UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8 }
        self.init(bytes[0], bytes[1], value: word(2), index: word(4), length: word(6))
    }
}

/// One transfer that the host has submitted.
package struct URB: Equatable, Sendable {
    /// The host's name for it.
    package var id: UInt32
    /// Endpoint number without direction.
    package var endpoint: UInt8
    package var isIn: Bool
    /// Bytes to send, or room for bytes to receive.
    package var length: Int
    package var setup: SetupPacket
    /// What the host sends; empty for IN.
    package var data: [UInt8]
    /// The host wants `shortRead` when fewer bytes come than there is room for: more of its buffers follow for the same transfer.
    package var refusesShort = false

    package init(
        id: UInt32, endpoint: UInt8, isIn: Bool, length: Int, setup: SetupPacket = SetupPacket(0, 0), data: [UInt8] = [],
        refusesShort: Bool = false
    ) {
        self.id = id
        self.endpoint = endpoint
        self.isIn = isIn
        self.length = length
        self.setup = setup
        self.data = data
        self.refusesShort = refusesShort
    }
}

/// How a transfer ended: Linux's negative error numbers, as USB/IP sends them.
package enum URBStatus {
    package static let success: Int32 = 0
    package static let stall: Int32 = -32
    /// The device sent a packet that the buffer had no room for.
    package static let overflow: Int32 = -75
    package static let unlinked: Int32 = -104
    package static let shortRead: Int32 = -121
    /// The device is gone.
    package static let shutdown: Int32 = -108
}

/// What happens to an emulated USB device.
package enum USBInput: Sendable {
    case submit(URB)
    /// The host takes a transfer back; `.unlinked` tells whether it was still waiting.
    case unlink(UInt32)
    /// A response message of the instrument to the program message with this number.
    case answer([UInt8], message: Int)
    /// The instrument's status byte without MAV and RQS, and its service request enable register.
    case status(UInt8, enable: UInt8)
    /// The same, asked for by `.askStatus`.
    case statusAnswer(UInt32, UInt8, enable: UInt8)
    /// Answer to a hello on the symbol stream.
    case welcome(UInt8)
    /// A symbol frame, asked for by `.pullFrame`.
    case frame([UInt8])
    case noFrame
    /// The instrument may have new frames.
    case framesReady
}

/// What an emulated USB device wants done.
package enum USBAction: Equatable, Sendable {
    /// A transfer has ended: `data` for IN, `length` bytes moved.
    case complete(UInt32, status: Int32, data: ArraySlice<UInt8>, length: Int)
    case unlinked(UInt32, found: Bool)
    /// A whole program message for the instrument, ended by NL.
    case program([UInt8], message: Int)
    /// An answer that nobody had read was dropped because a new message came (-410).
    case interrupted
    /// Device clear.
    case clear
    case askStatus(UInt32)
    /// The 24 bytes that begin a data connection.
    case hello([UInt8])
    /// One message of a data connection, 16 bytes.
    case streamMessage([UInt8])
    case pullFrame
    case closeStream
}
