// `calibrate`: the device does it, the host judges it. Dark and shot noise come out of the symbols themselves.

import ArgumentParser
import Instruments
import PostProcessing
import QKDModel

struct CalibrateAction: DeviceAction {
    static let configuration = CommandConfiguration(
        commandName: "qkdctl device <uri> calibrate", abstract: "Run calibrations, all that the device has or those named.",
        discussion:
            """
            Dark and shot noise are evaluated here from the symbols (N0 and v_el with their standard errors), never taken from the device.
            Frames that are lost are told on standard error; the standard errors are those of the symbols that came.
            """
    )

    @OptionGroup var options: DeviceOptions

    @Argument(
        help: "dark, shot, lock, bias.",
        transform: { text in
            guard let kind = CalibrationKind(rawValue: text.uppercased()) else { throw ValidationError("'\(text)' is no calibration") }
            return kind
        })
    var kinds: [CalibrationKind] = []

    @Option(help: "Symbols of dark and shot each; the device's own number if left out.")
    var symbols: Int?

    func validate() throws {
        if let symbols, !(1...FrameCollection.mostSymbols).contains(symbols) {
            throw ValidationError("--symbols must be from 1 to \(FrameCollection.mostSymbols)")
        }
    }

    struct Noise: Encodable {
        var symbols: Int
        var meanX: Double
        var meanP: Double
        var varianceLsb2: Double
        var varianceErrorLsb2: Double
        var saturated: Int
    }

    struct Report: Encodable {
        var serial: String
        var calibrations: [CalibrationRecord] = []
        var dark: Noise?
        var shot: Noise?
        /// Variance of one vacuum quadrature, LSB^2.
        var n0Lsb2: Double?
        var n0ErrorLsb2: Double?
        var electronicNoiseSnu: Double?
        var electronicNoiseErrorSnu: Double?
    }

    func run(at uri: String) async throws {
        let report = try await options.withClaimed(uri) { try await calibrate($0) }
        if options.json { try Output.json(report) } else { Output.table(Self.rows(report)) }
        if let failed = report.calibrations.first(where: { $0.result == .fail }) {
            let hint =
                failed.kind == .lock ? "it needs the transmitter's light: is its output on, and its path here?" : "see the device's status"
            throw InstrumentError.calibrationFailed(kind: failed.kind.rawValue, reason: hint)
        }
    }

    private func calibrate(_ module: any QKDModule) async throws -> Report {
        var report = Report(serial: module.identity.serial.rawValue)
        var sums: [CalibrationKind: CalibrationSums] = [:]
        for kind in kinds.isEmpty ? module.capabilities.calibrations.map(\.kind) : kinds {
            if kind.frames != nil {
                sums[kind] = try await measure(kind, module)
            } else {
                if kind == .lock, let receiver = module as? any QuantumReceiver {
                    // The search needs the fibre's light and an oscillator to beat it with.
                    try await receiver.setLocalOscillator(true)
                    try await receiver.setShutter(closed: false)
                }
                try await module.startCalibration(kind)
            }
            report.calibrations.append(try await finish(kind, module))
        }
        report.dark = sums[.dark].map(Self.noise)
        report.shot = sums[.shot].map(Self.noise)
        if let dark = sums[.dark], let shot = sums[.shot] {
            let noise = try NoiseCalibration(dark: dark, shot: shot)
            report.n0Lsb2 = noise.shotNoiseVariance
            report.n0ErrorLsb2 = noise.shotNoiseError
            report.electronicNoiseSnu = noise.electronicNoise
            report.electronicNoiseErrorSnu = noise.electronicNoiseError
        }
        return report
    }

    private func measure(_ kind: CalibrationKind, _ module: any QKDModule) async throws -> CalibrationSums {
        let stream = try await module.openStream()
        defer { stream.close() }
        let wanted = symbols ?? module.capabilities.calibrations.first { $0.kind == kind }?.symbols ?? 0
        var sums = CalibrationSums()
        let outcome = try await FrameCollection(module, stream).run(.calibration(kind), symbols: max(1, wanted)) { frame in
            frame.samples.withInt16 { sums.add(samples: $0, saturated: frame.saturated) }
            Output.progress("\(kind.rawValue): \(100 * sums.symbols / max(1, wanted)) %")
        }
        Output.endProgress()
        if let complaint = outcome.complaint { Output.complain("\(kind.rawValue): \(complaint); the figures are those of the others") }
        return sums
    }

    /// Waits until the device is done with it, showing how far it is.
    private func finish(_ kind: CalibrationKind, _ module: any QKDModule) async throws -> CalibrationRecord {
        while true {
            let (running, progress) = try await module.calibrationProgress()
            guard running == kind else { break }
            if kind.frames == nil { Output.progress("\(kind.rawValue): \(Int(100 * progress)) %") }
            try await Task.sleep(for: .milliseconds(100))
        }
        if kind.frames == nil { Output.endProgress() }
        return try await module.calibration(kind)
    }

    private static func noise(_ sums: CalibrationSums) -> Noise {
        Noise(
            symbols: sums.symbols, meanX: sums.meanX, meanP: sums.meanP, varianceLsb2: sums.variance,
            varianceErrorLsb2: sums.varianceError, saturated: sums.saturated)
    }

    private static func rows(_ report: Report) -> [(String, String)] {
        var rows = report.calibrations.map {
            ($0.kind.rawValue, "\($0.result.rawValue.lowercased()), \($0.isValid ? "valid" : "not valid")")
        }
        func add(_ name: String, _ noise: Noise?) {
            guard let noise else { return }
            rows.append(
                (
                    "\(name) noise",
                    "\(Output.number(noise.varianceLsb2)) +- \(Output.number(noise.varianceErrorLsb2, digits: 2)) LSB^2 from \(noise.symbols) symbols, \(noise.saturated) saturated"
                ))
        }
        add("dark", report.dark)
        add("shot", report.shot)
        if let n0 = report.n0Lsb2, let error = report.n0ErrorLsb2 {
            rows.append(("N0", "\(Output.number(n0)) +- \(Output.number(error, digits: 2)) LSB^2 for one vacuum quadrature"))
        }
        if let noise = report.electronicNoiseSnu, let error = report.electronicNoiseErrorSnu {
            rows.append(("v_el", "\(Output.number(noise)) +- \(Output.number(error, digits: 2)) SNU"))
        }
        return rows
    }
}
