import ArgumentParser
import Instruments
import QKDModel

struct StatusAction: DeviceAction {
    static let configuration = CommandConfiguration(
        commandName: "qkdctl device <uri> status", abstract: "How the device is: state, calibrations, pilot, temperatures.")

    @OptionGroup var options: DeviceOptions

    private struct Report: Encodable {
        var serial: String
        var role: DeviceRole
        var state: DeviceState
        var phase: ModuleStatus.Phase
        var questionable: [String]
        var deviceTimeS: Double
        var symbolRateHz: Double
        var overruns: UInt64
        var calibrations: [CalibrationRecord]
        var temperaturesC: [Double]
        var opticalPowerDbm: Double
        var lockOwner: String
        // Transmitters
        var path: String?
        var pathSettled: Bool?
        var modulationVarianceSnu: Double?
        // Receivers
        var pilotLocked: Bool?
        var phaseVarianceRad2: Double?
        var efficiency: Double?
    }

    func run(at uri: String) async throws {
        let report = try await options.withModule(uri) { try await read($0) }
        if options.json { return try Output.json(report) }
        Output.table(rows(report))
    }

    private func read(_ module: any QKDModule) async throws -> Report {
        let status = try await module.status()
        var calibrations: [CalibrationRecord] = []
        for calibration in module.capabilities.calibrations { calibrations.append(try await module.calibration(calibration.kind)) }
        var report = Report(
            serial: module.identity.serial.rawValue, role: module.role, state: status.state, phase: status.phase,
            questionable: status.questionable.reasons, deviceTimeS: Double(status.deviceTime) / 1e9,
            symbolRateHz: try await module.symbolRate(), overruns: status.overruns, calibrations: calibrations,
            temperaturesC: try await module.temperatures(), opticalPowerDbm: try await module.opticalPower(),
            lockOwner: try await module.scpi.string("SYSTem:LOCK:OWNer?").lowercased())
        if let transmitter = module as? any QuantumTransmitter {
            report.path = try await transmitter.path()
            report.pathSettled = try await transmitter.pathSettled()
            report.modulationVarianceSnu = try await transmitter.modulationVariance()
        }
        if let receiver = module as? any QuantumReceiver {
            report.pilotLocked = try await receiver.pilotLocked()
            report.phaseVarianceRad2 = try await receiver.phaseVariance()
            report.efficiency = try await receiver.efficiency().eta
        }
        return report
    }

    private func rows(_ report: Report) -> [(String, String)] {
        var rows = [
            ("device", "\(report.serial), \(report.role.rawValue.lowercased())"),
            ("state", "\(report.state.rawValue) (\(report.phase.rawValue.lowercased()))"),
            ("questionable", report.questionable.isEmpty ? "nothing" : report.questionable.joined(separator: ", ")),
            ("up", "\(Output.number(report.deviceTimeS)) s of device time"),
            ("symbol rate", "\(Output.number(report.symbolRateHz / 1e6)) Mbaud"),
            ("frames lost", "\(report.overruns)"),
            ("lock", report.lockOwner),
            ("temperatures", report.temperaturesC.map { "\(Output.number($0, digits: 4)) C" }.joined(separator: ", ")),
            ("optical power", "\(Output.number(report.opticalPowerDbm, digits: 4)) dBm"),
        ]
        if let path = report.path { rows.append(("path", "\(path), \(report.pathSettled == true ? "settled" : "settling")")) }
        if let variance = report.modulationVarianceSnu { rows.append(("modulation variance", "\(Output.number(variance)) SNU")) }
        if let isLocked = report.pilotLocked { rows.append(("pilot", isLocked ? "locked" : "not locked")) }
        if let variance = report.phaseVarianceRad2 { rows.append(("phase variance", "\(Output.number(variance, digits: 3)) rad^2")) }
        if let efficiency = report.efficiency { rows.append(("efficiency", Output.number(efficiency))) }
        return rows + report.calibrations.map { ("calibration \($0.kind.rawValue)", Self.words($0)) }
    }

    private static func words(_ record: CalibrationRecord) -> String {
        guard let age = record.age else { return "never made" }
        let state = record.isValid ? "valid" : "not valid"
        return
            "\(record.result.rawValue.lowercased()), \(state), \(Output.number(age, digits: 4)) s old of \(Output.number(record.validity)) s"
    }
}
