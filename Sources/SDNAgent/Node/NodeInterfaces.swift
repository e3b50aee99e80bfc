// Devices become interfaces: numbered by serial, told when they appear, fail, come back and are out.

import Foundation
import NodeAPI
import QKDModel

struct NodeInterface: Sendable {
    enum Status: String, Sendable { case enabled = "ENABLED", disabled = "DISABLED", failed = "FAILED" }

    var number: UInt32
    var device: LinkDevice
    var status: Status
    var reason = ""
    /// Since when it cannot be reached.
    var goneSince: Date?
}

extension NodeModel {
    mutating func takeDevices(_ devices: [LinkDevice], _ now: Date, _ out: inout [NodeOutput]) {
        for device in devices { take(device, now, &out) }
        // What the link service no longer lists is gone for good.
        let listed = Set(devices.map(\.name))
        for interface in interfaces.values where !listed.contains(interface.device.name) { drop(interface, now, &out) }
    }

    mutating func take(_ device: LinkDevice, _ now: Date, _ out: inout [NodeOutput]) {
        // Before it was open for the first time nobody knows what it is.
        guard let serial = device.serial else { return }
        let known = numbers.bySerial[serial].flatMap { interfaces[$0] }
        let status = Self.status(of: device.state)
        guard var interface = known else {
            let isInTree = numbers.bySerial[serial].map { desired.interfaces[$0] != nil } ?? false
            // One that is gone does not come into the tree by being remembered.
            if device.state != .off || isInTree { appear(device, serial, status, isInTree: isInTree, now, &out) }
            return
        }
        let before = interface
        (interface.device, interface.status, interface.reason) = (device, status, device.reason)
        interface.goneSince = device.state == .off ? before.goneSince ?? now : nil
        interfaces[interface.number] = interface
        if before.status == .enabled, status != .enabled { out.append(.notify(.interfaceDown(interface))) }
        if before.status != .enabled, status == .enabled { out.append(.notify(.interfaceUp(interface))) }
        mergeInterface(interface, &out)
    }

    private static func status(of state: DeviceState) -> NodeInterface.Status {
        switch state {
        case .off: .disabled
        case .fault: .failed
        case .initialising, .calibrating, .ready, .generating: .enabled
        }
    }

    /// - Parameter isInTree: known from before the agent was started: nothing new.
    private mutating func appear(
        _ device: LinkDevice, _ serial: String, _ status: NodeInterface.Status, isInTree: Bool, _ now: Date, _ out: inout [NodeOutput]
    ) {
        let (number, isNew) = numbers.number(of: serial)
        if isNew { out.append(.keepNumbers(numbers.bySerial)) }
        let interface = NodeInterface(
            number: number, device: device, status: status, reason: device.reason, goneSince: device.state == .off ? now : nil)
        interfaces[number] = interface
        mergeInterface(interface, &out)
        if !isInTree { out.append(.notify(.interfaceNew(interface, entry(interface)))) }
        if status != .enabled { out.append(.notify(.interfaceDown(interface))) }
    }

    private mutating func drop(_ interface: NodeInterface, _ now: Date, _ out: inout [NodeOutput]) {
        interfaces[interface.number] = nil
        desired.interfaces[interface.number] = nil
        merged["interface/\(interface.number)"] = nil
        out.append(.notify(.interfaceOut(interface.number)))
        out.append(.removeInterface(interface.number))
    }

    mutating func settleInterfaces(_ now: Date, _ out: inout [NodeOutput]) {
        for interface in interfaces.values.sorted(by: { $0.number < $1.number }) {
            guard let since = interface.goneSince, now.timeIntervalSince(since) >= settings.thresholds.outAfter else { continue }
            drop(interface, now, &out)
        }
        guard linkService.isHere == true else { return }
        // Entries of an earlier life whose devices do not come back.
        for number in desired.interfaces.keys.sorted() where interfaces[number] == nil {
            let since = strays[number] ?? now
            strays[number] = since
            guard now.timeIntervalSince(since) >= settings.thresholds.outAfter else { continue }
            desired.interfaces[number] = nil
            out.append(.notify(.interfaceOut(number)))
            out.append(.removeInterface(number))
        }
        strays = strays.filter { desired.interfaces[$0.key] != nil && interfaces[$0.key] == nil }
    }

    mutating func loseInterfaces(_ now: Date, _ out: inout [NodeOutput]) {
        for var interface in interfaces.values.sorted(by: { $0.number < $1.number }) where interface.status == .enabled {
            (interface.status, interface.reason) = (.failed, "the link service is away: \(linkService.reason)")
            interfaces[interface.number] = interface
            out.append(.notify(.interfaceDown(interface)))
        }
    }
}
