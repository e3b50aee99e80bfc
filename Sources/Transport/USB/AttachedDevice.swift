// What is plugged in and ours, as udev knows it: nothing is opened for that.

import CUdev
import Glibc
public import QKDModel

/// One of our devices on a bus.
public struct AttachedDevice: Sendable, Equatable, Codable {
    public var transport: USBModel.Connection
    public var serial: String
    /// `nil` where an adapter's rule does not tell.
    public var role: DeviceRole?
    public var maker: String
    public var model: String
    public var vendor: UInt16
    public var product: UInt16
    /// The port as the kernel names it: bus, hub ports, e.g. `1-2.4`; it stays the same while the device sits there.
    public var port: String
    /// `/dev/bus/usb/001/004` or `/dev/ttyACM0`; changes with every plug.
    public var node: String
    /// Release of the firmware, binary-coded decimal; 0 where it is not told.
    public var release: UInt16
    /// Why this user cannot open it, in words; `nil` where it can.
    public var trouble: String?
    var bus: UInt8 = 0
    var device: UInt8 = 0

    private enum CodingKeys: String, CodingKey { case transport, serial, role, maker, model, vendor, product, port, node, release, trouble }

    /// How it is opened.
    public var address: String { "\(transport.rawValue):\(serial)" }

    /// Whether this is what an address means.
    public func isAt(_ address: Address) -> Bool {
        switch address {
        case .usb: transport == .usb && serial == address.hotplugSerial
        case .serial: transport == .serial && serial == address.hotplugSerial
        case .tcp, .replay: false
        }
    }
}

/// Looks through udev's database.
public enum AttachedDevices {
    /// All of ours, sorted by serial number.
    /// - Throws: `TransportError.cannotOpen` where there is no udev.
    public static func list() throws -> [AttachedDevice] {
        guard let udev = udev_new() else { throw TransportError.cannotOpen("usb", reason: "udev cannot be asked") }
        defer { udev_unref(udev) }
        let found = subsystem("usb", udev) + subsystem("tty", udev)
        return found.sorted { ($0.serial, $0.transport.rawValue, $0.port) < ($1.serial, $1.transport.rawValue, $1.port) }
    }

    private static func subsystem(_ name: String, _ udev: OpaquePointer) -> [AttachedDevice] {
        guard let search = udev_enumerate_new(udev) else { return [] }
        defer { udev_enumerate_unref(search) }
        udev_enumerate_add_match_subsystem(search, name)
        udev_enumerate_scan_devices(search)
        var found: [AttachedDevice] = []
        var entry = udev_enumerate_get_list_entry(search)
        while let current = entry {
            if let path = udev_list_entry_get_name(current), let device = udev_device_new_from_syspath(udev, path) {
                if let ours = UdevDevice(device).attached { found.append(ours) }
                udev_device_unref(device)
            }
            entry = udev_list_entry_get_next(current)
        }
        return found
    }
}

/// Reads one `udev_device`, which its owner keeps.
struct UdevDevice {
    private let device: OpaquePointer

    init(_ device: OpaquePointer) { self.device = device }

    private static func text(_ pointer: UnsafePointer<CChar>?) -> String { pointer.map { String(cString: $0) } ?? "" }
    private static func attribute(_ device: OpaquePointer, _ name: String) -> String { text(udev_device_get_sysattr_value(device, name)) }
    private func property(_ name: String) -> String { Self.text(udev_device_get_property_value(device, name)) }

    var action: String { Self.text(udev_device_get_action(device)) }
    var path: String { Self.text(udev_device_get_syspath(device)) }

    /// `nil` for what is not ours.
    var attached: AttachedDevice? {
        switch Self.text(udev_device_get_subsystem(device)) {
        case "usb" where property("DEVTYPE") == "usb_device": usb
        case "tty": tty
        default: nil
        }
    }

    private var usb: AttachedDevice? { read(device, .usb) { _, _ in false } }

    private var tty: AttachedDevice? {
        // Borrowed from its child.
        guard let parent = udev_device_get_parent_with_subsystem_devtype(device, "usb", "usb_device") else { return nil }
        // A rule of the site may say that an adapter belongs to a device of ours.
        return read(parent, .serial) { _, _ in !property("QKD_SERIAL").isEmpty }
    }

    private func read(
        _ usb: OpaquePointer, _ connection: USBModel.Connection, claimed: (_ vendor: UInt16, _ product: UInt16) -> Bool
    ) -> AttachedDevice? {
        guard let vendor = UInt16(Self.attribute(usb, "idVendor"), radix: 16),
            let product = UInt16(Self.attribute(usb, "idProduct"), radix: 16)
        else { return nil }
        let name = Self.attribute(usb, "product")
        let model = USBModel.matching(connection, vendor: vendor, product: product, text: name)
        guard model != nil || claimed(vendor, product) else { return nil }
        let ruled = property("QKD_SERIAL")
        let node = Self.text(udev_device_get_devnode(device))
        let serial = ruled.isEmpty ? Self.attribute(usb, "serial") : ruled
        guard !node.isEmpty, DeviceSerial(rawValue: serial) != nil else { return nil }
        return AttachedDevice(
            transport: connection, serial: serial, role: model?.role ?? DeviceRole(rawValue: property("QKD_ROLE")),
            maker: Self.attribute(usb, "manufacturer"), model: name, vendor: vendor, product: product,
            port: Self.text(udev_device_get_sysname(usb)), node: node,
            release: UInt16(Self.attribute(usb, "bcdDevice"), radix: 16) ?? 0, trouble: NodeAccess.trouble(node),
            bus: UInt8(Self.attribute(usb, "busnum")) ?? 0, device: UInt8(Self.attribute(usb, "devnum")) ?? 0)
    }
}

/// Whether this user may open a device node, and what is missing.
package enum NodeAccess {
    /// The group that `udev/60-qkd.rules` gives our devices to.
    static let group = "qkd"
    static let rule = "60-qkd.rules"

    static func trouble(_ node: String) -> String? {
        guard access(node, R_OK | W_OK) != 0 else { return nil }
        guard errno == EACCES || errno == EPERM || errno == EROFS else { return "\(node): \(systemError(errno))" }
        var status = stat()
        guard stat(node, &status) == 0 else { return "\(node): \(systemError(errno))" }
        return words(node, group: groupName(status.st_gid), mode: status.st_mode & 0o777)
    }

    /// - Parameters:
    ///   - owner: the node's group.
    ///   - mode: its permission bits.
    package static func words(_ node: String, group owner: String, mode: UInt32) -> String {
        let who = "\(node) belongs to group \(owner), mode 0\(String(mode, radix: 8))"
        guard owner == group else { return "\(who): the udev rule \(rule) has not seen it; install it and plug the device in again" }
        guard mode & 0o060 == 0o060 else { return "\(who): a later udev rule took the group's access away" }
        return "\(who): join the group (sudo usermod -aG \(group) $USER), then log in again"
    }

    private static func groupName(_ id: gid_t) -> String { getgrgid(id).map { String(cString: $0.pointee.gr_name) } ?? "\(id)" }
}
