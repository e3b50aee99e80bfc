// `qkdctl bench`: how fast the heavy parts are on this machine, beside what a 5 Mbaud network needs of them.

import ArgumentParser
import Foundation
import PostProcessing

/// One figure of the bench. `baseline` is what keeping up with the hardware needs; a `ratio` of 1 or more does.
struct BenchFigure: Codable, Sendable {
    var name: String
    var value: Double
    var unit: String
    var baseline: Double?
    var ratio: Double?

    /// - Parameter baseline: `nil` where there is nothing to keep up with.
    init(_ name: String, _ value: Double, _ unit: String, baseline: Double? = nil) {
        self.name = name
        self.value = value
        self.unit = unit
        self.baseline = baseline
        ratio = baseline.map { value / $0 }
    }

    /// Every field is always there; what is not known is null.
    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(value, forKey: .value)
        try container.encode(unit, forKey: .unit)
        try container.encode(baseline, forKey: .baseline)
        try container.encode(ratio, forKey: .ratio)
    }
}

struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure emulator, decoder, privacy amplification and a small lab on this machine.",
        discussion: "Baselines are what real time at 5 Mbaud needs: 5e6 symbols/s emulated at each device, 1e7 code bits/s decoded.")

    @Option(help: "Write the figures to this file.")
    var json: String?

    @Option(help: "Frames per code; more give a finer frame error rate.")
    var frames = 40

    @Option(help: "The testbed of the end-to-end run.")
    var testbed = "firmware-sim/testbeds/small.yaml"

    @Flag(help: "Leave the end-to-end run out.")
    var noLab = false

    @Option(help: "Only the decoder, with this code or step of one.")
    var code: String?

    @Option(help: "Reconciliation efficiency of the decoder's frames.")
    var efficiency = 0.92

    @Option(help: "A Python that has the package information-reconciliation, which is run beside ours.")
    var python = ".venv/bin/python"

    func validate() throws {
        guard frames > 0 else { throw ValidationError("--frames must be more than 0") }
        guard (0.5...1.2).contains(efficiency) else { throw ValidationError("--efficiency must be from 0.5 to 1.2") }
    }

    func run() async throws {
        if let json { try OutputFile.check(absolutePath(json)) }
        if let code { return try report(DecoderBench.rows(code: .named(code), efficiency: efficiency, frames: frames)) }
        if !noLab { _ = try Lab(testbed: testbed, folder: nil) }
        var figures = try DecoderBench.all(efficiency: efficiency, frames: frames)
        figures += try await DecoderBench.beside(python: python, efficiency: efficiency, frames: frames) { try await output(of: $0, $1) }
        figures += try privacyAmplification()
        figures += try await emulator()
        if !noLab { figures += try await endToEnd() }
        try report(figures)
    }

    private func report(_ figures: [BenchFigure]) throws {
        print(Self.table(figures))
        if let json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try OutputFile.write(encoder.encode(figures) + Data("\n".utf8), to: absolutePath(json))
        }
    }

    /// Whole blocks: 2e7 and 2e8 raw bits are those of 1e8 symbols at 6 dB and of a long block at 11 dB, which take 20 s and more to arrive.
    private func privacyAmplification() throws -> [BenchFigure] {
        let sizes = [(20_000_000, 3_900_000, false), (200_000_000, 9_600_000, false), (20_000_000, 3_900_000, true)]
        return try sizes.map { input, output, portable in
            let run = try PrivacyAmplificationBenchmark.run(inputBits: input, outputBits: output, repeats: 5, portable: portable)
            return BenchFigure(
                "privacy amplification, \(input / 1_000_000) Mbit to \(Double(output) / 1e6) Mbit (\(run.method))", run.inputBitsPerSecond,
                "input bit/s", baseline: 1e6)
        }
    }

    private func emulator() async throws -> [BenchFigure] {
        struct Answer: Decodable {
            var symbols_per_second: Double
        }
        let text = try await output(of: "qkd-emulator", ["--bench", "200000000", "--json"])
        let answer = try JSONDecoder().decode(Answer.self, from: text)
        return [BenchFigure("emulator, transmitter and receiver on one core", answer.symbols_per_second, "symbol/s", baseline: 5e6)]
    }

    /// Symbols to stored keys by all programs of a small lab.
    private func endToEnd() async throws -> [BenchFigure] {
        let folder = try scratch()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let file = folder + "/result.json"
        _ = try await output(of: "qkdctl", ["lab", "run", testbed, "--folder", folder + "/lab", "--json", file, "--minutes", "1"])
        let result = try JSONDecoder().decode(LabResult.self, from: Data(contentsOf: URL(filePath: file)))
        return [
            BenchFigure(
                "end to end, \(result.links.map(\.name).joined(separator: ", "))", result.realTimeFactor, "x real time", baseline: 1)
        ]
            + result.links.map { BenchFigure("key rate of \($0.name)", $0.keyRateBps, "bit/s of device time") }
    }

    private func scratch() throws -> String {
        let folder = NSTemporaryDirectory() + "bench-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        return folder
    }

    /// Standard output of a program of this build, or of the one at a path.
    /// - Throws: `LabError.commandFailed` where it fails.
    private func output(of name: String, _ arguments: [String]) async throws -> Data {
        let folder = try scratch()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let plan = try ChildPlan(
            name: name, command: [name.contains("/") ? name : Lab.programFolder() + "/" + name] + arguments,
            folder: FileManager.default.currentDirectoryPath,
            output: folder + "/run")
        let child = try await ChildProcess.start(plan)
        let end = await child.wait()
        guard end == .exited(0) else {
            throw LabError.commandFailed(command: ([name] + arguments).joined(separator: " "), end: end, tail: child.tail())
        }
        return try Data(contentsOf: URL(filePath: plan.output + ".out"))
    }

    static func table(_ figures: [BenchFigure]) -> String {
        let rows = figures.map { figure in
            [
                figure.name, "\(short(figure.value)) \(figure.unit)", figure.baseline.map(short) ?? "-",
                figure.ratio.map { String(format: "%.2f", $0) } ?? "-",
            ]
        }
        let all = [["figure", "value", "needed", "ratio"]] + rows
        let widths = (0..<4).map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            row.enumerated().map { $0.element.padding(toLength: widths[$0.offset], withPad: " ", startingAt: 0) }.joined(separator: "  ")
        }.joined(separator: "\n")
    }

    private static func short(_ value: Double) -> String {
        switch abs(value) {
        case 1e9...: String(format: "%.2f G", value / 1e9)
        case 1e6...: String(format: "%.2f M", value / 1e6)
        case 1e3...: String(format: "%.2f k", value / 1e3)
        default: String(format: "%.4g", value)
        }
    }
}
