// From a serial number to an open device: exact words for everything that can be in the way.

import CUSB
import Foundation
import Glibc

/// Opens `usb:SERIAL`.
enum USBOpening {
    /// How long a device that cannot be opened yet is tried again: permissions come after the device, and the
    /// process that had it before may still be letting go.
    private static let settling = Duration.milliseconds(1500)
    private static let pause = Duration.milliseconds(40)

    static func open(serial: String, _ patience: Patience) throws -> USBTMCLine {
        let settling = patience.atMost(settling)
        while true {
            do { return try attempt(serial: serial, patience) } catch let error as TransportError {
                guard isPassing(error), !settling.isOver else { throw error }
                if patience.cancellation.isCancelled { throw CancellationError() }
                Thread.sleep(forTimeInterval: pause / .seconds(1))
            }
        }
    }

    private static func isPassing(_ error: TransportError) -> Bool {
        switch error {
        case .noPermission, .inUse, .closed: true
        default: false
        }
    }

    private static func attempt(serial: String, _ patience: Patience) throws -> USBTMCLine {
        let name = "usb:\(serial)"
        let attached = try find(serial, name)
        if let trouble = attached.trouble { throw TransportError.noPermission(name, reason: trouble) }
        guard attached.release >> 8 <= 1 else {
            let release = String(attached.release, radix: 16)
            throw TransportError.unknownFirmware(name, reason: "its release \(release) is newer than this program: bring sdqkd up to date")
        }
        let handle = try open(attached, name)
        do {
            let layout = try prepare(handle, attached, patience)
            return USBTMCLine(handle: handle, layout: layout)
        } catch {
            handle.close()
            throw error
        }
    }

    private static func find(_ serial: String, _ name: String) throws -> AttachedDevice {
        let all = try AttachedDevices.list().filter { $0.transport == .usb }
        let ours = all.filter { $0.serial == serial }
        guard let first = ours.first else {
            let others = all.map(\.serial)
            throw TransportError.notFound(
                name, reason: others.isEmpty ? "no device of ours is plugged in" : "plugged in are \(others.joined(separator: ", "))")
        }
        guard ours.count == 1 else {
            throw TransportError.inUse(
                name, reason: "two devices have this serial number, at ports \(ours.map(\.port).joined(separator: " and "))")
        }
        return first
    }

    /// Only the device at this place is opened: no other one's owner notices anything.
    private static func open(_ attached: AttachedDevice, _ name: String) throws -> USBHandle {
        let context = try USBContext.shared()
        var list: UnsafeMutablePointer<OpaquePointer?>?
        let count = libusb_get_device_list(context.pointer, &list)
        defer { if let list { libusb_free_device_list(list, 1) } }
        for index in 0..<max(count, 0) {
            guard let device = list?[index], libusb_get_bus_number(device) == attached.bus,
                libusb_get_device_address(device) == attached.device
            else { continue }
            var handle: OpaquePointer?
            let code = libusb_open(device, &handle)
            if code == 0, let handle { return USBHandle(handle, name: name, context: context) }
            throw refusal(code, attached, name)
        }
        // udev has seen it already (or still), libusb not yet (or no longer).
        throw TransportError.closed(name, reason: "it is coming or going")
    }

    private static func refusal(_ code: Int32, _ attached: AttachedDevice, _ name: String) -> TransportError {
        switch libusb_error(rawValue: code) {
        case LIBUSB_ERROR_ACCESS:
            .noPermission(
                name, reason: NodeAccess.trouble(attached.node) ?? "\(attached.node) refuses: a sandbox or device policy is in the way")
        case LIBUSB_ERROR_NO_DEVICE: .closed(name, reason: "it is coming or going")
        case LIBUSB_ERROR_BUSY: .inUse(name, reason: holder(attached.node))
        default: .cannotOpen(name, reason: USBContext.words(code))
        }
    }

    /// Who has the node open, as far as this user may see.
    private static func holder(_ node: String) -> String {
        let pids = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { Int32($0) }
        for pid in pids where pid != getpid() {
            let folder = "/proc/\(pid)/fd"
            for number in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
            where (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\(number)")) == node {
                let program = (try? String(contentsOfFile: "/proc/\(pid)/comm", encoding: .utf8)) ?? "?"
                return "\(program.trimmingCharacters(in: .whitespacesAndNewlines)) (process \(pid)) has it open"
            }
        }
        return "another program has claimed it"
    }

    // MARK: - Layout

    private static func prepare(_ handle: USBHandle, _ attached: AttachedDevice, _ patience: Patience) throws -> USBLayout {
        var layout = try handle.use { try self.layout($0, handle.name) }
        try claim(handle, Int32(layout.control.interface), attached)
        // A session that died may have left an answer, or a halt.
        let interface = UInt16(layout.control.interface)
        guard let capabilities = try handle.control(0xA1, 7, value: 0, index: interface, length: 24, patience.atMost(.seconds(2))),
            capabilities.count >= 16, capabilities[0] == 1
        else {
            throw TransportError.unknownFirmware(handle.name, reason: "it does not tell its USBTMC capabilities")
        }
        layout.hasStatusByte = capabilities[14] & 0b100 != 0
        if let symbols = layout.symbols { try claim(handle, symbols.interface, attached) }
        try handle.clearHalt(layout.control.bulkOut)
        return layout
    }

    private static func claim(_ handle: USBHandle, _ interface: Int32, _ attached: AttachedDevice) throws {
        let code = try handle.claim(interface)
        guard code == 0 else { throw refusal(code, attached, handle.name) }
    }

    private static func layout(_ handle: OpaquePointer, _ name: String) throws -> USBLayout {
        guard let device = libusb_get_device(handle) else { throw TransportError.closed(name, reason: "it is coming or going") }
        var pointer: UnsafeMutablePointer<libusb_config_descriptor>?
        var code = libusb_get_active_config_descriptor(device, &pointer)
        if code == LIBUSB_ERROR_NOT_FOUND.rawValue {
            libusb_set_configuration(handle, 1)
            code = libusb_get_active_config_descriptor(device, &pointer)
        }
        guard code == 0, let configuration = pointer?.pointee else {
            throw TransportError.cannotOpen(name, reason: USBContext.words(code))
        }
        defer { libusb_free_config_descriptor(pointer) }
        let interfaces = (0..<Int(configuration.bNumInterfaces)).compactMap { configuration.interface[$0].altsetting?.pointee }
        guard let control = interfaces.first(where: { $0.matches(0xFE, 3, nil) }), let commandIn = control.endpoint(isIn: true, bulk: true),
            let commandOut = control.endpoint(isIn: false, bulk: true)
        else { throw TransportError.unknownFirmware(name, reason: "it has no USBTMC interface") }
        let symbols = interfaces.first { $0.matches(0xFF, 0x51, 1) }
        return USBLayout(
            control: .init(
                interface: control.bInterfaceNumber, bulkOut: commandOut.bEndpointAddress, bulkIn: commandIn.bEndpointAddress,
                interruptIn: control.endpoint(isIn: true, bulk: false)?.bEndpointAddress),
            controlPacket: Int(commandIn.wMaxPacketSize & 0x7FF), symbols: symbols.flatMap(Self.symbols))
    }

    private static func symbols(_ interface: libusb_interface_descriptor) -> USBLayout.Symbols? {
        guard let input = interface.endpoint(isIn: true, bulk: true), let output = interface.endpoint(isIn: false, bulk: true) else {
            return nil
        }
        return USBLayout.Symbols(
            interface: Int32(interface.bInterfaceNumber), bulkOut: output.bEndpointAddress, bulkIn: input.bEndpointAddress,
            packet: Int(input.wMaxPacketSize & 0x7FF))
    }
}

extension libusb_interface_descriptor {
    fileprivate func matches(_ class_: UInt8, _ subclass: UInt8, _ protocol_: UInt8?) -> Bool {
        bInterfaceClass == class_ && bInterfaceSubClass == subclass && (protocol_ == nil || protocol_ == bInterfaceProtocol)
    }

    fileprivate func endpoint(isIn: Bool, bulk: Bool) -> libusb_endpoint_descriptor? {
        (0..<Int(bNumEndpoints)).map { endpoint[$0] }.first {
            ($0.bEndpointAddress & 0x80 != 0) == isIn && $0.bmAttributes & 3 == (bulk ? 2 : 3)
        }
    }
}
