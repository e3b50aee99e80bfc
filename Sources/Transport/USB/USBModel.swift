// The devices that are ours on a bus. Everything else that is plugged in belongs to somebody else and is never opened.

public import QKDModel

/// How a model of device is recognised before anything is said to it.
public struct USBModel: Sendable, Equatable {
    public enum Connection: String, Sendable, Codable, CaseIterable {
        /// USBTMC and the symbol interface of docs/wire/usb.md.
        case usb
        /// A tty: CDC-ACM of the device itself, or an adapter whose maker wrote our product string into it.
        case serial
    }

    public var connection: Connection
    public var vendor: UInt16
    public var product: UInt16
    /// What the product string begins with. The ids are shared with strangers (pid.codes' number for tests, FTDI's for all).
    public var productPrefix: String
    public var role: DeviceRole

    /// One line for each model; `udev/60-qkd.rules` has the same ids, and a test holds the two together.
    public static let known: [USBModel] = [
        USBModel(connection: .usb, vendor: 0x1209, product: 0x0001, productPrefix: "CVTX", role: .transmitter),
        USBModel(connection: .usb, vendor: 0x1209, product: 0x0001, productPrefix: "CVRX", role: .receiver),
        USBModel(connection: .serial, vendor: 0x1209, product: 0x0002, productPrefix: "CVTX", role: .transmitter),
        USBModel(connection: .serial, vendor: 0x1209, product: 0x0002, productPrefix: "CVRX", role: .receiver),
        USBModel(connection: .serial, vendor: 0x0403, product: 0x6001, productPrefix: "SDQKD CVTX", role: .transmitter),
        USBModel(connection: .serial, vendor: 0x0403, product: 0x6001, productPrefix: "SDQKD CVRX", role: .receiver),
        USBModel(connection: .serial, vendor: 0x0403, product: 0x6015, productPrefix: "SDQKD CVTX", role: .transmitter),
        USBModel(connection: .serial, vendor: 0x0403, product: 0x6015, productPrefix: "SDQKD CVRX", role: .receiver),
    ]

    /// - Parameter text: the product string, or udev's form of it with `_` for blanks.
    static func matching(_ connection: Connection, vendor: UInt16, product: UInt16, text: String) -> USBModel? {
        known.first {
            $0.connection == connection && $0.vendor == vendor && $0.product == product
                && (text.hasPrefix($0.productPrefix) || text.hasPrefix($0.productPrefix.replacing(" ", with: "_")))
        }
    }
}
