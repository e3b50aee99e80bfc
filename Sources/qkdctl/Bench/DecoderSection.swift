// Reconciliation: speed by code and by processor level, frame errors with their confidence, efficiency after disclosure.

import Foundation
import PostProcessing

struct DecoderSection: BenchSection {
    static let name = "decoder"
    /// Code bits per second: two per symbol.
    static let needed = 2 * Bench.symbolRate

    func figures(_ bench: Bench) throws -> [BenchFigure] {
        var figures: [BenchFigure] = []
        for level in KernelLevel.allCases.reversed() where level.isAvailable {
            // Plain C takes its time.
            let frames = level == .portable ? max(2, bench.frames / 4) : bench.frames
            figures += try Self.rows(
                code: .named("r10-n204800"), efficiency: bench.efficiency, frames: frames, level: level, disclosing: false)
        }
        for code in ReconciliationCode.all where code.id != "r10-n204800" {
            let long = code.frameBits > 500_000
            figures += try Self.rows(
                code: code, efficiency: long ? code.operatingEfficiency : min(bench.efficiency, code.operatingEfficiency),
                frames: long ? max(1, bench.frames / 4) : bench.frames, disclosing: true)
        }
        // As near to capacity as it goes at this speed: half of the frames get some bits more.
        return try figures + Self.rows(code: .named("r07-n1024000"), efficiency: 0.954, frames: bench.frames, disclosing: true)
    }

    static func rows(
        code: ReconciliationCode, efficiency: Double, frames: Int, level: KernelLevel = .best, disclosing: Bool
    ) throws -> [BenchFigure] {
        let run = try ReconciliationBenchmark.run(code: code, efficiency: efficiency, frames: frames, kernel: level, disclosing: disclosing)
        let what = "decoder \(code.id), efficiency \(efficiency), \(level)"
        let share = { (name: String, count: Int) in
            BenchFigure("\(what): \(name), \(confidence(count, of: run.frames))", Double(count) / Double(run.frames), "of frames")
        }
        let figures = [
            BenchFigure(what, run.decodedBitsPerSecond, "code bit/s", baseline: needed),
            BenchFigure("\(what): encoder", run.encodedBitsPerSecond, "code bit/s", baseline: needed),
            share(disclosing ? "asked for more bits" : "frame errors", run.frameErrors),
            share("undetected errors", run.undetected),
            BenchFigure("\(what): passes", run.meanPasses, "per frame"),
        ]
        guard disclosing else { return figures }
        return figures + [
            share("words refused by the hash", run.refused), share("given up after disclosure", run.lost),
            BenchFigure("\(what): efficiency after disclosure and losses", run.netEfficiency, "of capacity"),
        ]
    }

    static func confidence(_ count: Int, of frames: Int) -> String {
        let range = ReconciliationBenchmark.confidence(count, of: frames)
        return String(format: "%d of %d (%.2g to %.2g)", count, frames, range.lowerBound, range.upperBound)
    }
}
