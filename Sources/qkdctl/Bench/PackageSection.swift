// The decoder of the PyPI package information-reconciliation and ours, in the same run, at equal rate, signal-to-noise ratio and frame size.

import Foundation
import PostProcessing

struct PackageSection: BenchSection {
    static let name = "package"

    private struct Answer: Decodable {
        var bits: Int
        var rate: Double
        var snr: Double
        var frames: Int
        var frameErrors: Int
        var bitsPerSecond: Double
    }

    func figures(_ bench: Bench) async throws -> [BenchFigure] {
        let script = "scripts/bench-reconciliation.py"
        guard FileManager.default.isExecutableFile(atPath: bench.python), FileManager.default.fileExists(atPath: script) else {
            Output.complain("bench: information-reconciliation is not run beside ours: there is no \(bench.python) or no \(script) here")
            return []
        }
        let code = try ReconciliationCode.named("r10-n204800")
        let arguments = [
            script, "--rate", "\(code.rate)", "--efficiency", "\(bench.efficiency)", "--bits", "\(code.frameBits)", "--frames",
            "\(max(2, min(10, bench.frames / 4)))",
        ]
        let theirs = try JSONDecoder().decode(Answer.self, from: await bench.output(of: bench.python, arguments))
        let ours = try ReconciliationBenchmark.run(code: code, efficiency: code.efficiency(snr: theirs.snr), frames: bench.frames)
        let channel = { (rate: Double, bits: Int) in
            "rate \(String(format: "%.3f", rate)), \(bits) bits, SNR \(String(format: "%.4f", theirs.snr))"
        }
        let theirName = "information-reconciliation 1.0.0, \(channel(theirs.rate, theirs.bits))"
        let ourName = "our decoder, \(channel(code.rate, code.frameBits)), \(ours.level)"
        return [
            BenchFigure(theirName, theirs.bitsPerSecond, "code bit/s"),
            BenchFigure(
                "\(theirName): frame errors, \(DecoderSection.confidence(theirs.frameErrors, of: theirs.frames))",
                Double(theirs.frameErrors) / Double(theirs.frames), "of frames"),
            BenchFigure("\(ourName), baseline theirs", ours.decodedBitsPerSecond, "code bit/s", baseline: theirs.bitsPerSecond),
            BenchFigure(
                "\(ourName): frame errors, \(DecoderSection.confidence(ours.frameErrors, of: ours.frames))", ours.frameErrorRate,
                "of frames"),
        ]
    }
}
