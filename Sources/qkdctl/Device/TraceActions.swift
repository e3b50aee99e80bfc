// `spectrum` and `otdr`: traces drawn in the terminal, by gnuplot, or printed.

import ArgumentParser
import Foundation
import Instruments
import QKDModel

struct PlotOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Also draw it into a .png or .svg file, by gnuplot.", valueName: "file"))
    var plot: String?

    @Flag(help: "Replace that file if it exists.")
    var force = false

    func validate() throws {
        if let plot, !plot.hasSuffix(".png"), !plot.hasSuffix(".svg") {
            throw ValidationError("--plot needs a name that ends in .png or .svg")
        }
    }

    func draw(_ trace: Trace) throws {
        print(TerminalPlot(columns: 78, rows: 20).draw(trace))
        guard let plot else { return }
        try Gnuplot.draw(trace, to: plot, replaces: force)
        print("drawn into \(plot)")
    }

    /// Said before the device is asked for anything.
    func check() throws {
        if let plot { try NewFile.check(plot, replaces: force) }
    }
}

struct SpectrumAction: DeviceAction {
    static let configuration = CommandConfiguration(
        commandName: "qkdctl device <uri> spectrum", abstract: "The optical spectrum at the device.")

    @OptionGroup var options: DeviceOptions
    @OptionGroup var drawing: PlotOptions

    @Option(help: ArgumentHelp("First wavelength; the device's shortest if left out.", valueName: "nm"))
    var from: Double?

    @Option(help: ArgumentHelp("Last wavelength; the device's longest if left out.", valueName: "nm"))
    var to: Double?

    @Option(help: "Points, 2 to 100000.")
    var points = 2001

    func run(at uri: String) async throws {
        try drawing.check()
        let (spectrum, serial) = try await options.withModule(uri) { module in
            let range = module.capabilities.wavelengths
            return (
                try await module.spectrum(from: from ?? range[0], to: to ?? range[1], points: points), module.identity.serial.rawValue
            )
        }
        if options.json {
            if let plot = drawing.plot { try Gnuplot.draw(trace(spectrum, serial), to: plot, replaces: drawing.force) }
            return try Output.json(spectrum)
        }
        try drawing.draw(trace(spectrum, serial))
    }

    private func trace(_ spectrum: Spectrum, _ serial: String) -> Trace {
        Trace(
            title: "Optical spectrum at \(serial)", xLabel: "wavelength [nm]", yLabel: "power in .1 nm [dBm]",
            points: spectrum.powers.indices.map { (spectrum.wavelength($0), Double(spectrum.powers[$0])) })
    }
}

struct OTDRAction: DeviceAction {
    static let configuration = CommandConfiguration(
        commandName: "qkdctl device <uri> otdr", abstract: "Reflectometry of the fibre at the device.")

    @OptionGroup var options: DeviceOptions
    @OptionGroup var drawing: PlotOptions

    func run(at uri: String) async throws {
        try drawing.check()
        let (reflectometry, serial) = try await options.withModule(uri) { (try await $0.reflectometry(), $0.identity.serial.rawValue) }
        if options.json {
            if let plot = drawing.plot { try Gnuplot.draw(trace(reflectometry, serial), to: plot, replaces: drawing.force) }
            return try Output.json(reflectometry)
        }
        try drawing.draw(trace(reflectometry, serial))
    }

    private func trace(_ reflectometry: Reflectometry, _ serial: String) -> Trace {
        Trace(
            title: "OTDR at \(serial)", xLabel: "distance [km]", yLabel: "level [dB]",
            points: reflectometry.points.map { (Double($0.distance), Double($0.level)) })
    }
}
