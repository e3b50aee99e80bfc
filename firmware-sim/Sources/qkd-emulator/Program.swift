// qkd-emulator: a whole testbed of emulated CV-QKD devices on TCP ports and pseudo-terminals.

internal import ArgumentParser
internal import Dispatch
internal import FirmwareSim
internal import Foundation

@main
struct Program: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "qkd-emulator",
        abstract: "Emulates the devices of a testbed and the fibre between them.",
        discussion:
            "The devices speak docs/wire/instrument-protocol.md. The program runs until SIGINT or SIGTERM, with --virtual until its input ends."
    )

    @Option(help: "Testbed file (YAML).")
    var testbed: String?

    @Option(help: ArgumentHelp("Measure how fast symbols are made, with this many of them, and stop.", valueName: "symbols"))
    var bench: Int?

    @Option(help: "real: wall time, what is not read in time is lost; follow: time waits for readers.")
    var pace: PaceName = .follow

    @Option(help: "With --pace follow: while devices work, device time runs at most this many times faster than the wall clock.")
    var speed = 20.0

    @Option(help: "Replaces the testbed's seed.")
    var seed: UInt64?

    @Flag(help: "Any free ports instead of the testbed's.")
    var anyPorts = false

    @Option(
        name: .customLong("ports"),
        help: ArgumentHelp("A device's TCP ports instead of the testbed's, or of any; may be repeated.", valueName: "SERIAL=CONTROL,DATA"))
    var ports: [FixedPorts] = []

    @Flag(help: "Read the testbed, then stop.")
    var check = false

    @Flag(help: "Offer nothing and wait for nobody: read `SERIAL MESSAGE` and `wait SECONDS` lines from standard input.")
    var virtual = false

    @Flag(help: "Print endpoints as JSON lines.")
    var json = false

    enum PaceName: String, ExpressibleByArgument, CaseIterable { case real, follow }

    func validate() throws {
        guard (testbed == nil) != (bench == nil) else { throw ValidationError("either --testbed or --bench is needed") }
        guard bench ?? 1 > 0 else { throw ValidationError("--bench must be above 0") }
        guard speed > 0, speed <= 10_000 else { throw ValidationError("--speed must be above 0 and at most 10000") }
    }

    func run() async throws {
        if let bench { return try measure(bench) }
        guard let testbed else { return }
        var configuration = try TestbedConfiguration(file: testbed)
        if let seed { configuration.seed = seed }
        if anyPorts { configuration.useAnyPorts() }
        for ports in ports { try configuration.use(ports) }
        if let conflict = configuration.portConflict { throw ValidationError("--ports: \(conflict)") }
        for warning in configuration.warnings { FileHandle.standardError.write(Data("qkd-emulator: warning: \(warning)\n".utf8)) }
        if check { return print("\(testbed): usable") }
        if virtual { return try converse(configuration) }
        let server = try await EmulatorServer.start(configuration, pace: pace == .real ? .real : .follow(speed: speed))
        print(json ? server.endpoints.map(\.json).joined(separator: "\n") : Self.table(server.endpoints))
        fflush(nil)
        await Signals.wait()
        await server.stop()
    }

    private func measure(_ symbols: Int) throws {
        let rate = try EmulatorBenchmark.run(symbols: symbols)
        print(json ? "{\"symbols_per_second\":\(rate)}" : "\((rate / 1e5).rounded() / 10) million symbols/s on one core")
    }

    private func converse(_ configuration: TestbedConfiguration) throws {
        var script = VirtualScript(configuration)
        while let line = readLine() {
            for answer in try script.run(line) { print(answer) }
        }
    }

    static func table(_ endpoints: [Endpoint]) -> String {
        let rows =
            [["DEVICE", "ROLE", "TRANSPORT", "URI", "DATA PORT"]]
            + endpoints.map { [$0.device, $0.role, $0.transport, $0.uri, $0.dataPort.map(String.init) ?? "-"] }
        let widths = (0..<5).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            zip(row, widths).map { $0.padding(toLength: $1 + 2, withPad: " ", startingAt: 0) }.joined()
        }.joined(separator: "\n")
    }
}

/// Waits for the signals that end a program.
private enum Signals {
    static func wait() async {
        let (stream, continuation) = AsyncStream<Void>.makeStream()
        let sources = [SIGINT, SIGTERM].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { continuation.yield() }
            source.resume()
            return source
        }
        for await _ in stream { break }
        for source in sources { source.cancel() }
    }
}
