// `qkdctl device URI ACTION`: one instrument at an address. The address stands first, as people say it; ArgumentParser wants
// subcommands first, so the actions are parsed here.

import ArgumentParser
import Instruments
import PostProcessing
import Transport

struct DeviceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "device",
        abstract: "Identify, calibrate, capture and look at one instrument.",
        usage: "qkdctl device <uri> <action> [<options>]",
        discussion: """
            ADDRESSES
              usb:SERIAL                 a device on USB, by its serial number (qkdctl devices lists them)
              tcp:HOST:PORT              loopback only, unless --allow-remote
              serial:/dev/NAME?baud=N    raw tty, locked for this program; serial:SERIAL finds it
              replay:FILE                a recorded session

            ACTIONS
              identify    who it is and what it can do
              status      how it is, calibrations, pilot, temperatures
              calibrate   run calibrations; dark and shot noise evaluated here, not in the device
              capture     write symbols to a file (key-equivalent; the device is locked meanwhile)
              spectrum    optical spectrum, in the terminal or as PNG or SVG
              otdr        reflectometry, likewise
              console     type SCPI by hand

            'qkdctl device URI ACTION --help' says more about each.
            """)

    @Argument(help: "Where the instrument is.")
    var uri: String

    @Argument(help: ArgumentHelp("What to do: \(Action.allCases.map(\.rawValue).joined(separator: ", ")).", valueName: "action"))
    var action: Action

    @Argument(parsing: .captureForPassthrough, help: .hidden)
    var rest: [String] = []

    enum Action: String, CaseIterable, Sendable, ExpressibleByArgument {
        case identify, status, calibrate, capture, spectrum, otdr, console

        var command: any DeviceAction.Type {
            switch self {
            case .identify: IdentifyAction.self
            case .status: StatusAction.self
            case .calibrate: CalibrateAction.self
            case .capture: CaptureAction.self
            case .spectrum: SpectrumAction.self
            case .otdr: OTDRAction.self
            case .console: ConsoleAction.self
            }
        }
    }

    func run() async throws {
        if rest.contains("--help") || rest.contains("-h") {
            print(action.command.helpMessage(includeHidden: false))
            return
        }
        do { _ = try action.command.parseAsRoot(rest) } catch {
            // Said with the action's own usage; the root command would print its own.
            Output.complain(action.command.fullMessage(for: error))
            throw ExitCode.validationFailure
        }
        do {
            try await Interruption.watched { [uri, action, rest] in
                guard let parsed = try action.command.parseAsRoot(rest) as? any DeviceAction else { return }
                try await parsed.run(at: uri)
            }
        } catch let error where Self.isOurs(error) {
            Output.complain("qkdctl device \(uri): \(error)")
            throw Self.isArgument(error) ? ExitCode.validationFailure : ExitCode(1)
        }
    }

    /// What was asked cannot be, whatever the device does.
    private static func isArgument(_ error: any Error) -> Bool {
        switch error {
        case TransportError.badAddress, InstrumentError.outOfRange, DeviceFailure.wrongKind: true
        default: false
        }
    }

    /// Anything else is a mistake of ours, and is shown as it is.
    private static func isOurs(_ error: any Error) -> Bool {
        switch error {
        case is TransportError, is InstrumentError, is DeviceFailure, is CaptureError, is PostProcessingError: true
        default: false
        }
    }
}

/// One action on a device, with its own options.
protocol DeviceAction: ParsableCommand {
    func run(at uri: String) async throws
}
