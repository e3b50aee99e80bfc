// Where instruments are: `usb:SERIAL`, `tcp:HOST:PORT`, `serial:/dev/NAME[?baud=N][&flow=none]`, `serial:SERIAL`, `replay:FILE`.

import QKDModel

/// An instrument's address, parsed.
public enum Address: Sendable, Equatable, CustomStringConvertible {
    case tcp(host: String, port: Int)
    /// A device on USB, by its serial number.
    case usb(serial: String)
    /// `device` is a path, or the serial number of a device of ours; `baud` is `nil` where the address names none.
    case serial(device: String, baud: Int?, flowControl: Bool)
    case replay(file: String)

    /// Baud of serial lines that name none.
    public static let defaultBaud = 115_200

    /// - Throws: `TransportError.badAddress`.
    public init(_ text: String) throws {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[1].isEmpty else {
            throw TransportError.badAddress(text, reason: "write usb:SERIAL, tcp:HOST:PORT, serial:/dev/NAME, serial:SERIAL or replay:FILE")
        }
        switch parts[0] {
        case "tcp": self = try Self.tcp(text, String(parts[1]))
        case "serial": self = try Self.serial(text, String(parts[1]))
        case "usb": self = .usb(serial: try Self.serialNumber(text, parts[1]))
        case "replay": self = .replay(file: String(parts[1]))
        default: throw TransportError.badAddress(text, reason: "'\(parts[0])' is none of usb, tcp, serial, replay")
        }
    }

    private static func serialNumber(_ text: String, _ part: Substring) throws -> String {
        guard let serial = DeviceSerial(rawValue: String(part)) else {
            throw TransportError.badAddress(text, reason: "'\(excerpt(part))' is no serial number: qkdctl devices lists them")
        }
        return serial.rawValue
    }

    /// Whether a device with this address can be plugged in later, and under which serial number.
    public var hotplugSerial: String? {
        switch self {
        case .usb(let serial): serial
        case .serial(let device, _, _): device.hasPrefix("/") ? nil : device
        case .tcp, .replay: nil
        }
    }

    private static func tcp(_ text: String, _ rest: String) throws -> Address {
        guard let colon = rest.lastIndex(of: ":"), let port = Int(rest[rest.index(after: colon)...]), (1...65535).contains(port) else {
            throw TransportError.badAddress(text, reason: "write tcp:HOST:PORT with a port from 1 to 65535")
        }
        var host = String(rest[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard !host.isEmpty else { throw TransportError.badAddress(text, reason: "the host is missing") }
        return .tcp(host: host, port: port)
    }

    private static func serial(_ text: String, _ rest: String) throws -> Address {
        let parts = rest.split(separator: "?", maxSplits: 1)
        guard let device = parts.first else {
            throw TransportError.badAddress(text, reason: "the device must be a path such as /dev/ttyUSB0, or a serial number")
        }
        if !device.hasPrefix("/") { _ = try serialNumber(text, device) }
        var baud: Int?
        var flowControl = true
        for option in parts.dropFirst().flatMap({ $0.split(separator: "&") }) {
            switch option.split(separator: "=", maxSplits: 1).map(String.init) {
            case let pair where pair.count == 2 && pair[0] == "baud":
                guard let value = Int(pair[1]), value > 0 else { throw TransportError.badAddress(text, reason: "baud must be a number") }
                baud = value
            case ["flow", "none"]: flowControl = false
            case ["flow", "hardware"]: flowControl = true
            default: throw TransportError.badAddress(text, reason: "'\(option)' is none of baud=N, flow=none, flow=hardware")
            }
        }
        return .serial(device: String(device), baud: baud, flowControl: flowControl)
    }

    public var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "tcp:[\(host)]:\(port)" : "tcp:\(host):\(port)"
        case .serial(let device, let baud, let flow):
            Self.joined("serial:\(device)", [baud.map { "baud=\($0)" }, flow ? nil : "flow=none"].compactMap { $0 })
        case .usb(let serial): "usb:\(serial)"
        case .replay(let file): "replay:\(file)"
        }
    }

    private static func joined(_ start: String, _ options: [String]) -> String {
        options.isEmpty ? start : start + "?" + options.joined(separator: "&")
    }
}
