// `qkdctl bench`: how fast the heavy parts are on this machine, beside what a 5 Mbaud network needs of them.

import ArgumentParser
import Foundation
import KeyMaterial
import PostProcessing
import QKDModel

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

    func validate() throws {
        guard frames > 0 else { throw ValidationError("--frames must be more than 0") }
    }

    func run() async throws {
        var figures = try reconciliation()
        figures.append(try privacyAmplification())
        print(Self.table(figures))
        if let json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try (encoder.encode(figures) + Data("\n".utf8)).write(to: URL(filePath: json))
        }
    }

    private func reconciliation() throws -> [BenchFigure] {
        try ReconciliationCode.all.flatMap { code in
            let efficiency = 0.92
            let run = try ReconciliationBenchmark.run(code: code, efficiency: efficiency, frames: frames)
            return [
                BenchFigure("decoder \(code.id) (\(run.level))", run.decodedBitsPerSecond, "code bit/s", baseline: 1e7),
                BenchFigure("encoder \(code.id) (\(run.level))", run.encodedBitsPerSecond, "code bit/s", baseline: 1e7),
                BenchFigure("frame error rate \(code.id) at efficiency \(efficiency)", run.frameErrorRate, "share of \(run.frames)"),
                BenchFigure("mean passes \(code.id)", run.meanPasses, "passes"),
            ]
        }
    }

    /// A block of Norte's size: 5e7 symbols in frames, hashed to the share that 6 dB leave.
    private func privacyAmplification() throws -> BenchFigure {
        let (inputBits, outputBits) = (10_000_000, 1_000_000)
        let random = KernelRandom()
        let input = SecretBytes(count: inputBits / 8, random: random)
        let seed = random.bytes(ToeplitzHash.seedBytes(inputBits: inputBits, outputBits: outputBits))
        let clock = ContinuousClock()
        let start = clock.now
        _ = try ToeplitzHash.hash(input: [input], inputBits: inputBits, outputBits: outputBits, seed: seed)
        let seconds = (clock.now - start) / .seconds(1)
        // A rate .10 code leaves 10 million core bits of 5e7 symbols: 10 s at 5 Mbaud.
        return BenchFigure("privacy amplification, 10 to 1 Mbit", Double(inputBits) / seconds, "input bit/s", baseline: 1e6)
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
