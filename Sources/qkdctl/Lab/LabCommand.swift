// `qkdctl lab`: a whole emulated network on this machine, out of the programs that real nodes run.

import ArgumentParser
import Foundation

struct LabCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab", abstract: "Run an emulated network on this machine.", subcommands: [Run.self, Prepare.self])

    /// How the emulator's time runs.
    enum Pace: String, ExpressibleByArgument, CaseIterable {
        /// Device time waits for readers.
        case follow
        /// Device time is wall time; what is not read in time is lost, as with hardware.
        case real
    }

    struct Options: ParsableArguments {
        @Argument(help: "The testbed file, for example firmware-sim/testbeds/madrid.yaml.")
        var testbed: String

        @Option(help: "Where configuration, state and logs go; an earlier lab there is removed. Default: lab/<testbed>.")
        var folder: String?

        @Flag(help: "Sites get devices and secrets, but no peers and no links: a controller makes these (scripts/sdn-link).")
        var bare = false
    }

    struct Run: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Start emulator and services, distil keys, fetch them at both ends, report, stop.",
            discussion: """
                Ends with status 0 when every link has stored a key that both ends deliver alike, with status 1 when that did not \
                happen within --limit minutes. With --minutes it goes on that long, with --stay until it is interrupted (^C).

                With --record both ends of every link write down what entered and what they decided (SITE/recordings), and nothing is \
                deposited: the files are key material. When every link has closed a block the lab stops and runs each file again; it ends with \
                status 0 when all decisions are the same bit for bit and no key was stored.
                """)

        @OptionGroup var options: Options

        @Option(help: "Run at least this many minutes.")
        var minutes: Double?

        @Flag(help: "Run until interrupted.")
        var stay = false

        @Option(help: "Minutes after which a link without key is a failure.")
        var limit = 15.0

        @Flag(help: "Record every link instead of storing key, and replay the recordings at the end.")
        var record = false

        @Option(help: "Write the result to this file.")
        var json: String?

        @Option(help: "The emulator's time: 'follow' waits for readers, 'real' does not.")
        var pace = Pace.follow

        @Option(
            help: "With --pace follow: device time runs at most this many times faster than the wall clock (default: \(Lab.defaultSpeed)).")
        var speed: Double?

        func validate() throws {
            guard speed ?? 1 > 0 else { throw ValidationError("--speed must be more than 0") }
            guard speed == nil || pace == .follow else {
                throw ValidationError("--speed belongs to --pace follow: real time has one speed")
            }
            guard !record || !options.bare else { throw ValidationError("--record needs links: it cannot go with --bare") }
            guard limit > 0, minutes ?? 1 > 0 else { throw ValidationError("minutes and limit must be more than 0") }
        }

        func run() async throws {
            let lab = try Lab(
                testbed: options.testbed, folder: options.folder, bare: options.bare, records: record, pace: pace,
                speed: speed ?? Lab.defaultSpeed)
            if let json { try OutputFile.check(absolutePath(json)) }
            let ending = Lab.Ending(minutes: minutes, stay: stay, limitMinutes: limit, json: json.map(absolutePath))
            let work = Task { try await lab.run(ending) }
            let signals = StopSignals { work.cancel() }
            defer { signals.restore() }
            do { try await work.value } catch is CancellationError {
                // Before there was anything to report; whoever stays until ^C has what was wanted.
                if !stay { throw LabError.interrupted(missing: []) }
            }
        }
    }

    struct Prepare: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write PKI, secrets and configuration files of a lab, and start nothing.",
            discussion: "Devices get the address that --device names; without it, port 5025 and up on loopback, in the testbed's order.")

        @OptionGroup var options: Options

        @Option(help: "A device's address as SERIAL=URI; may be repeated.")
        var device: [String] = []

        func run() async throws {
            let lab = try Lab(testbed: options.testbed, folder: options.folder, bare: options.bare)
            try await lab.prepare(devices: addresses(lab.bed))
            print(lab.folder.path)
        }

        private func addresses(_ bed: Testbed) throws -> DeviceURIs {
            var uris: DeviceURIs = [:]
            for (index, device) in bed.devices.enumerated() { uris[device.serial] = "tcp:127.0.0.1:\(5025 + index)" }
            for entry in device {
                let parts = entry.split(separator: "=", maxSplits: 1).map(String.init)
                guard parts.count == 2, uris[parts[0]] != nil else {
                    throw ValidationError("'\(entry)' is no SERIAL=URI of a device in the testbed")
                }
                uris[parts[0]] = parts[1]
            }
            return uris
        }
    }
}

/// - Returns: `path` from the root, seen from the folder in which the command was typed.
func absolutePath(_ path: String) -> String { URL(filePath: path).path(percentEncoded: false) }

/// Turns SIGINT, SIGTERM and SIGHUP into one call.
final class StopSignals {
    private let sources: [any DispatchSourceSignal]

    init(_ stop: @escaping @Sendable () -> Void) {
        sources = [SIGINT, SIGTERM, SIGHUP].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler(handler: stop)
            source.resume()
            return source
        }
    }

    func restore() {
        for source in sources { source.cancel() }
        for number in [SIGINT, SIGTERM, SIGHUP] { signal(number, SIG_DFL) }
    }
}
