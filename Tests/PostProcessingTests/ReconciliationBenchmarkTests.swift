import PostProcessing
import Testing

@Suite struct ReconciliationBenchmarkTests {
    /// Against tables of the Clopper-Pearson interval.
    @Test(arguments: [
        (0, 100, 0.0, 0.03622), (5, 100, 0.01643, 0.11283), (50, 100, 0.39832, 0.60168), (10, 10, 0.69150, 1.0),
        (1, 4500, 0.0000056, 0.0012376),
    ]) func confidenceIsExact(count: Int, frames: Int, low: Double, high: Double) {
        let range = ReconciliationBenchmark.confidence(count, of: frames)
        #expect(abs(range.lowerBound - low) < 1e-5 && abs(range.upperBound - high) < 1e-5, "\(range)")
    }

    /// What frames in the waterfall cost is what is taken off the efficiency, and little remains lost.
    @Test func disclosureIsTakenOffTheEfficiency() throws {
        let code = try ReconciliationCode.named(r10)
        let run = try ReconciliationBenchmark.run(code: code, efficiency: 0.945, frames: 24, random: SplitMix(401), disclosing: true)
        #expect(run.frameErrors > 0 && run.lost == 0 && run.undetected == 0)
        #expect(run.disclosedBits % code.disclosureBits == 0 && run.requestBits == run.disclosedBits / code.disclosureBits)
        let information = Double(code.frameBits - code.syndromeBits) * 24
        #expect(abs(run.netEfficiency - 0.945 * (1 - Double(run.disclosedBits + run.requestBits) / information)) < 1e-12)
        #expect(run.netEfficiency > 0.92)
    }

    /// Without disclosure such frames are lost.
    @Test func withoutDisclosureTheyAreLost() throws {
        let code = try ReconciliationCode.named(r10)
        let run = try ReconciliationBenchmark.run(code: code, efficiency: 0.96, frames: 4, random: SplitMix(402), maximumPasses: 60)
        #expect(run.lost == run.frameErrors && run.lost > 0 && run.disclosedBits == 0)
    }
}
