// What the device says of itself: docs/wire/usb.md, section 1.

/// Names and numbers of one device.
package struct USBIdentity: Equatable, Sendable {
    /// pid.codes, and one of its numbers for tests.
    package static let vendor: UInt16 = 0x1209
    package static let product: UInt16 = 0x0001
    package static let release: UInt16 = 0x0100

    package var maker: String
    package var model: String
    package var serial: String

    package init(maker: String, model: String, serial: String) {
        self.maker = maker
        self.model = model
        self.serial = serial
    }
}

/// Endpoint addresses.
package enum USBEndpoint {
    package static let commandOut: UInt8 = 0x01
    package static let commandIn: UInt8 = 0x81
    package static let notification: UInt8 = 0x82
    package static let streamOut: UInt8 = 0x03
    package static let streamIn: UInt8 = 0x83
    package static let notificationPacket = 8
}

/// Class, subclass and protocol of the two interfaces.
package enum USBInterface {
    package static let instrument: [UInt8] = [0xFE, 0x03, 0x01]
    package static let symbols: [UInt8] = [0xFF, 0x51, 0x01]
}

package struct USBDescriptors: Sendable {
    let identity: USBIdentity
    let speed: USBSpeed

    package init(identity: USBIdentity, speed: USBSpeed) {
        self.identity = identity
        self.speed = speed
    }

    /// The answer to GET_DESCRIPTOR, whole; `nil` when there is none of this type and index.
    package func descriptor(type: UInt8, index: UInt8) -> [UInt8]? {
        switch (type, index) {
        case (1, 0): device
        case (2, 0): configuration(speed, type: 2)
        case (3, _): string(index)
        case (6, 0): speed == .high ? qualifier : nil
        // No other speed than high is offered on USB 2; the same configuration stands for it.
        case (7, 0): speed == .high ? configuration(.high, type: 7) : nil
        case (15, 0): speed == .super ? binaryObjectStore : nil
        default: nil
        }
    }

    private static func word(_ value: UInt16) -> [UInt8] { [UInt8(value & 255), UInt8(value >> 8)] }

    private var device: [UInt8] {
        let version: UInt16 = speed == .super ? 0x0300 : 0x0200
        // On super speed the size of endpoint 0 is an exponent.
        let control: UInt8 = speed == .super ? 9 : 64
        return [18, 1] + Self.word(version) + [0, 0, 0, control] + Self.word(USBIdentity.vendor) + Self.word(USBIdentity.product)
            + Self.word(USBIdentity.release) + [1, 2, 3, 1]
    }

    private var qualifier: [UInt8] { [10, 6] + Self.word(0x0200) + [0, 0, 0, 64, 1, 0] }

    private func configuration(_ speed: USBSpeed, type: UInt8) -> [UInt8] {
        let bulk = UInt16(speed.bulkPacket)
        var body = interface(0, USBInterface.instrument, endpoints: 3, name: 4)
        body += endpoint(USBEndpoint.commandOut, kind: 2, bulk, interval: 0, speed)
        body += endpoint(USBEndpoint.commandIn, kind: 2, bulk, interval: 0, speed)
        // 2^(7-1) microframes are 8 ms.
        body += endpoint(USBEndpoint.notification, kind: 3, UInt16(USBEndpoint.notificationPacket), interval: 7, speed)
        body += interface(1, USBInterface.symbols, endpoints: 2, name: 5)
        body += endpoint(USBEndpoint.streamOut, kind: 2, bulk, interval: 0, speed)
        body += endpoint(USBEndpoint.streamIn, kind: 2, bulk, interval: 0, speed)
        // Self-powered, takes nothing from the bus.
        return [9, type] + Self.word(UInt16(9 + body.count)) + [2, 1, 0, 0xC0, 0] + body
    }

    private func interface(_ number: UInt8, _ kind: [UInt8], endpoints: UInt8, name: UInt8) -> [UInt8] {
        [9, 4, number, 0, endpoints] + kind + [name]
    }

    private func endpoint(_ address: UInt8, kind: UInt8, _ packet: UInt16, interval: UInt8, _ speed: USBSpeed) -> [UInt8] {
        let plain = [7, 5, address, kind] + Self.word(packet) + [interval]
        guard speed == .super else { return plain }
        let burst: UInt8 = kind == 2 ? 15 : 0
        let perInterval = kind == 3 ? packet : 0
        return plain + [6, 0x30, burst, 0] + Self.word(perInterval)
    }

    /// USB 2 extension (no link power management) and the super speed capability (high and super speed work).
    private var binaryObjectStore: [UInt8] {
        let capabilities: [UInt8] = [7, 16, 2, 0, 0, 0, 0] + [10, 16, 3, 0] + Self.word(0b1100) + [2, 0] + Self.word(0)
        return [5, 15] + Self.word(UInt16(5 + capabilities.count)) + [2] + capabilities
    }

    private func string(_ index: UInt8) -> [UInt8]? {
        let texts = [identity.maker, identity.model, identity.serial, "USBTMC", "symbols"]
        if index == 0 { return [4, 3] + Self.word(0x0409) }
        guard Int(index) <= texts.count else { return nil }
        let units = texts[Int(index) - 1].utf16.prefix(126).flatMap(Self.word)
        return [UInt8(2 + units.count), 3] + units
    }
}
