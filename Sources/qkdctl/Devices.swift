// `qkdctl devices`: what is plugged in, by serial number; what is missing to use it; what comes and goes.

import ArgumentParser
import Foundation
import Instruments
import QKDModel
import Transport

struct DevicesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "devices",
        abstract: "List the devices on USB and serial lines, and watch them come and go.",
        discussion: """
            Only devices of known models are listed and opened, never anybody else's adapter. A device that a link service
            has open is shown as IN-USE. States: INIT, READY, CALIBRATING, GENERATING, FAULT, IN-USE, NO-PERMISSION, GONE.
            """)

    @Flag(help: "Go on, and print a line for each device that comes, changes or goes.")
    var watch = false

    @Flag(help: "Print JSON for programs; with --watch one object a line.")
    var json = false

    @Flag(help: "Open nothing: list what udev knows.")
    var passive = false

    @Option(help: ArgumentHelp("Longest wait for a device's answer, in seconds.", valueName: "seconds"))
    var timeout = 3.0

    func validate() throws {
        guard timeout > 0, timeout < 3600 else { throw ValidationError("--timeout must be above 0 and below an hour") }
    }

    func run() async throws {
        do {
            try await Interruption.watched { [self] in try await list() }
        } catch DeviceFailure.interrupted {
            return
        } catch let error as TransportError {
            Output.complain("qkdctl devices: \(error)")
            throw ExitCode(1)
        }
    }

    private func list() async throws {
        // Before the list is made: nothing falls between the two.
        let changes = watch ? HotplugMonitor.shared.changes() : nil
        var rows: [DeviceRow] = []
        for device in try AttachedDevices.list() { rows.append(await row(device, event: watch ? "present" : nil)) }
        if json, !watch { return try Output.json(rows) }
        if !json { print(DeviceRow.titles(event: watch)) }
        for row in rows { try show(row) }
        if rows.isEmpty, !json { Output.complain("no device of a known model is plugged in; docs/attaching-devices.md helps") }
        guard let changes else { return }
        for await change in changes {
            // What has just come gets the time that its permissions need.
            if change.kind != .unplugged { try await Task.sleep(for: .milliseconds(100)) }
            try show(await row(change.device, event: change.kind.rawValue))
        }
    }

    private func row(_ device: AttachedDevice, event: String?) async -> DeviceRow {
        var row = DeviceRow(device, event: event)
        if event == "unplugged" {
            row.state = "GONE"
        } else if device.trouble != nil {
            row.state = "NO-PERMISSION"
        } else if !passive {
            (row.state, row.trouble) = await state(device)
        }
        return row
    }

    private func state(_ device: AttachedDevice) async -> (state: String, trouble: String?) {
        do {
            let options = OpenOptions(deadline: .seconds(timeout))
            let session = try await InstrumentSession.open(try Address(device.address), options: options)
            defer { session.close() }
            let phase: ModuleStatus.Phase = try await SCPISession(session).word("SYSTem:STATe?")
            let status = ModuleStatus(phase: phase, operation: [], questionable: [], deviceTime: 0, overruns: 0)
            return (status.state.rawValue, nil)
        } catch TransportError.inUse(_, let reason) {
            return ("IN-USE", reason)
        } catch TransportError.noPermission(_, let reason) {
            return ("NO-PERMISSION", reason)
        } catch TransportError.notFound, TransportError.closed {
            return ("GONE", nil)
        } catch {
            return (DeviceState.fault.rawValue, "\(error)")
        }
    }

    private func show(_ row: DeviceRow) throws {
        guard json else { return print(row.line(event: watch)) }
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        print(String(decoding: try encoder.encode(row), as: UTF8.self))
        Output.flush()
    }
}

/// One line of the list.
private struct DeviceRow: Encodable {
    var event: String?
    var address: String
    var transport: String
    var serial: String
    var role: String?
    var state: String?
    var port: String
    var node: String
    var maker: String
    var model: String
    var trouble: String?

    init(_ device: AttachedDevice, event: String?) {
        self.event = event
        address = device.address
        transport = device.transport.rawValue
        serial = device.serial
        role = device.role?.rawValue.lowercased()
        port = device.port
        node = device.node
        maker = device.maker
        model = device.model
        trouble = device.trouble
    }

    private static func joined(_ columns: [(String, Int)]) -> String {
        var text = columns.map { $0.0.padding(toLength: max($0.1, $0.0.count), withPad: " ", startingAt: 0) }.joined(separator: "  ")
        while text.last == " " { text.removeLast() }
        return text
    }

    static func titles(event: Bool) -> String {
        joined((event ? [("EVENT", 9)] : []) + [("ADDRESS", 24), ("ROLE", 11), ("STATE", 13), ("PORT", 8), ("NODE", 21), ("TROUBLE", 0)])
    }

    func line(event: Bool) -> String {
        Self.joined(
            (event ? [(self.event ?? "", 9)] : []) + [
                (address, 24), (role ?? "?", 11), (state ?? "?", 13), (port, 8), (node, 21), (trouble ?? "", 0),
            ])
    }
}
