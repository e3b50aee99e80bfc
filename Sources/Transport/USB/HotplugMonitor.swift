// News of devices that come and go, from udev, after its rules have run.

import CTransport
import CUdev
import Foundation
import Glibc
import Synchronization

/// A device of ours has come, has changed, or has gone.
public struct AttachmentChange: Sendable, Equatable {
    public enum Kind: String, Sendable { case plugged, changed, unplugged }

    public var kind: Kind
    public var device: AttachedDevice
}

/// One thread and one socket for the whole process, however many listen.
public final class HotplugMonitor: Sendable {
    public static let shared = HotplugMonitor()

    private struct State {
        var listeners: [Int: AsyncStream<AttachmentChange>.Continuation] = [:]
        var nextID = 0
        var hasStarted = false
        /// By path in sysfs: what goes away cannot be asked any more.
        var present: [String: AttachedDevice] = [:]
    }

    private let state = Mutex(State())

    private init() {}

    /// Every change from now on. Where there is no udev the stream stays silent.
    public func changes() -> AsyncStream<AttachmentChange> {
        let (stream, continuation) = AsyncStream.makeStream(of: AttachmentChange.self, bufferingPolicy: .bufferingNewest(256))
        let (id, mustStart) = state.withLock { state in
            defer {
                state.nextID += 1
                state.hasStarted = true
            }
            state.listeners[state.nextID] = continuation
            return (state.nextID, !state.hasStarted)
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { _ = $0.listeners.removeValue(forKey: id) }
        }
        if mustStart { start() }
        return stream
    }

    private func start() {
        let begun = DispatchSemaphore(value: 0)
        let thread = Thread { [self] in
            guard let udev = udev_new(), let monitor = udev_monitor_new_from_netlink(udev, "udev") else {
                begun.signal()
                return
            }
            udev_monitor_filter_add_match_subsystem_devtype(monitor, "usb", "usb_device")
            udev_monitor_filter_add_match_subsystem_devtype(monitor, "tty", nil)
            udev_monitor_enable_receiving(monitor)
            rememberPresent(udev)
            begun.signal()
            while true { wait(monitor) }
        }
        thread.name = "hotplug"
        thread.start()
        begun.wait()
    }

    private func rememberPresent(_ udev: OpaquePointer) {
        guard let search = udev_enumerate_new(udev) else { return }
        defer { udev_enumerate_unref(search) }
        udev_enumerate_add_match_subsystem(search, "usb")
        udev_enumerate_add_match_subsystem(search, "tty")
        udev_enumerate_scan_devices(search)
        var entry = udev_enumerate_get_list_entry(search)
        while let current = entry {
            if let path = udev_list_entry_get_name(current), let device = udev_device_new_from_syspath(udev, path) {
                if let ours = UdevDevice(device).attached { state.withLock { $0.present[String(cString: path)] = ours } }
                udev_device_unref(device)
            }
            entry = udev_list_entry_get_next(current)
        }
    }

    private func wait(_ monitor: OpaquePointer) {
        var polled = pollfd(fd: udev_monitor_get_fd(monitor), events: Int16(POLLIN), revents: 0)
        guard poll(&polled, 1, -1) > 0 else { return }
        guard let raw = udev_monitor_receive_device(monitor) else {
            // Nothing of ours behind the filter, or an overrun of the socket: do not spin.
            usleep(1000)
            return
        }
        defer { udev_device_unref(raw) }
        take(UdevDevice(raw))
    }

    private func take(_ device: UdevDevice) {
        let path = device.path
        let isGone = device.action == "remove"
        let now = isGone ? nil : device.attached
        let (change, listeners) = state.withLock { state -> (AttachmentChange?, [AsyncStream<AttachmentChange>.Continuation]) in
            let before = state.present[path]
            state.present[path] = now
            let change: AttachmentChange? =
                switch (before, now) {
                case (nil, let now?): AttachmentChange(kind: .plugged, device: now)
                case (let before?, let now?):
                    // The same port, another device: it was replugged faster than udev says so.
                    AttachmentChange(kind: before.node == now.node && before.serial == now.serial ? .changed : .plugged, device: now)
                case (let before?, nil): AttachmentChange(kind: .unplugged, device: before)
                case (nil, nil): nil
                }
            return (change, Array(state.listeners.values))
        }
        if let change { for listener in listeners { listener.yield(change) } }
    }
}
