// The decoder's rows of `qkdctl bench`: speed by code and by processor level, frame errors with their confidence, and another package's
// decoder on the same problem.

import Foundation
import PostProcessing

enum DecoderBench {
    private static let needed = 1e7  // code bit/s at 5 Mbaud

    /// Short frames at one efficiency, long ones, which are there to work closer to capacity, at their own.
    static func all(efficiency: Double, frames: Int) throws -> [BenchFigure] {
        var figures: [BenchFigure] = []
        for code in ReconciliationCode.all {
            let long = code.frameBits > 500_000
            figures += try rows(
                code: code, efficiency: long ? code.operatingEfficiency : min(efficiency, code.operatingEfficiency),
                frames: long ? max(1, frames / 4) : frames)
        }
        return try figures + levels(efficiency: efficiency, frames: frames)
    }

    static func rows(code: ReconciliationCode, efficiency: Double, frames: Int) throws -> [BenchFigure] {
        let run = try ReconciliationBenchmark.run(code: code, efficiency: efficiency, frames: frames, disclosing: true)
        let what = "\(code.id) at efficiency \(efficiency)"
        let share = { (name: String, count: Int) in
            BenchFigure(name, Double(count) / Double(run.frames), confidence(count, of: run.frames))
        }
        return [
            BenchFigure("decoder \(what) (\(run.level))", run.decodedBitsPerSecond, "code bit/s", baseline: needed),
            BenchFigure("  encoder (\(run.level))", run.encodedBitsPerSecond, "code bit/s", baseline: needed),
            share("  frame error rate before disclosure", run.frameErrors),
            share("  given up after disclosure", run.lost),
            share("  valid words refused by the hash", run.refused),
            share("  wrong and not detected", run.undetected),
            BenchFigure("  efficiency after disclosure and losses", run.netEfficiency, "of capacity"),
            BenchFigure("  mean passes", run.meanPasses, "passes"),
        ]
    }

    private static func confidence(_ count: Int, of frames: Int) -> String {
        let range = ReconciliationBenchmark.confidence(count, of: frames)
        return String(format: "of %d, 95 %% in %.2g to %.2g", frames, range.lowerBound, range.upperBound)
    }

    /// The other levels of the processor.
    private static func levels(efficiency: Double, frames: Int) throws -> [BenchFigure] {
        let code = try ReconciliationCode.named("r10-n204800")
        return try KernelLevel.allCases.filter { $0.isAvailable && $0 != .best }.map { level in
            let run = try ReconciliationBenchmark.run(code: code, efficiency: efficiency, frames: max(1, frames / 8), kernel: level)
            return BenchFigure(
                "decoder \(code.id) at efficiency \(efficiency) (\(level))", run.decodedBitsPerSecond, "code bit/s", baseline: needed)
        }
    }

    private struct Answer: Decodable {
        var bits: Int
        var frames: Int
        var frameErrors: Int
        var bitsPerSecond: Double
    }

    /// The package information-reconciliation and our decoder at equal rate, signal-to-noise ratio and frame size, in the same run.
    static func beside(
        python: String, efficiency: Double, frames: Int, output: (String, [String]) async throws -> Data
    ) async throws -> [BenchFigure] {
        let script = "scripts/bench-reconciliation.py"
        guard FileManager.default.isExecutableFile(atPath: python), FileManager.default.fileExists(atPath: script) else {
            print("information-reconciliation is not run beside ours: there is no \(python) or no \(script) here")
            return []
        }
        let code = try ReconciliationCode.named("r10-n204800")
        let count = max(2, min(10, frames / 10))
        let arguments = [
            script, "--rate", "\(code.rate)", "--efficiency", "\(efficiency)", "--bits", "\(code.frameBits)", "--frames", "\(count)",
        ]
        let other = try JSONDecoder().decode(Answer.self, from: try await output(python, arguments))
        let ours = try ReconciliationBenchmark.run(code: code, efficiency: efficiency, frames: frames)
        return [
            BenchFigure(
                "decoder of information-reconciliation, rate \(code.rate), \(other.bits) bits, efficiency \(efficiency)",
                other.bitsPerSecond, "code bit/s"),
            BenchFigure(
                "  frame error rate", Double(other.frameErrors) / Double(other.frames), confidence(other.frameErrors, of: other.frames)),
            BenchFigure("decoder \(code.id) beside it (\(ours.level))", ours.decodedBitsPerSecond, "code bit/s"),
            BenchFigure("  frame error rate", ours.frameErrorRate, confidence(ours.frameErrors, of: ours.frames)),
            BenchFigure("  speed over theirs", ours.decodedBitsPerSecond / other.bitsPerSecond, "times", baseline: 300),
        ]
    }
}
