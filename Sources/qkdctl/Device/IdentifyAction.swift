import ArgumentParser
import Instruments
import QKDModel

struct IdentifyAction: DeviceAction {
    static let configuration = CommandConfiguration(
        commandName: "qkdctl device <uri> identify", abstract: "Who the device is and what it can do.")

    @OptionGroup var options: DeviceOptions

    private struct Report: Encodable {
        var address: String
        var maker: String
        var model: String
        var serial: String
        var firmware: String
        var role: DeviceRole
        var emulated: Bool
        var capabilities: ModuleCapabilities
    }

    func run(at uri: String) async throws {
        let report = try await options.withModule(uri) { module in
            Report(
                address: module.address, maker: module.identity.maker, model: module.identity.model,
                serial: module.identity.serial.rawValue, firmware: module.identity.firmware, role: module.role,
                emulated: module.isEmulated, capabilities: module.capabilities)
        }
        if options.json { return try Output.json(report) }
        let able = report.capabilities
        Output.table(
            [
                ("device", "\(report.maker) \(report.model), serial \(report.serial), firmware \(report.firmware)"),
                ("role", report.role.rawValue.lowercased() + (report.emulated ? ", emulated: its keys are no secrets" : "")),
                ("symbol rates", able.symbolRates.map { "\(Output.number($0 / 1e6)) Mbaud" }.joined(separator: ", ")),
                ("modulation", able.modulations.joined(separator: ", ").lowercased()),
                ("wavelengths", able.wavelengths.map { "\(Output.number($0)) nm" }.joined(separator: " to ")),
                ("paths", able.paths.joined(separator: ", ")),
                ("frames", "\(able.symbolsPerFrame) symbols, \(able.framesInRing) in the ring"),
            ]
                + able.calibrations.map {
                    (
                        "calibration \($0.kind.rawValue)",
                        "\($0.symbols) symbols, \(Output.number($0.duration)) s, good for \(Output.number($0.validity)) s"
                    )
                })
    }
}
