import KeyMaterial
import PostProcessing
import Testing

@Suite struct ReconciliationKernelTests {
    /// Every level gives the same message, the same number of passes and the same words as plain C, whether a frame decodes, stalls
    /// or runs out of passes.
    @Test(arguments: [(r10, 0.90, 150), (r10, 0.95, 60), (r05, 0.92, 150), (r05, 1.0, 20)])
    func levelsAgreeBitForBit(id: String, efficiency: Double, passes: Int) throws {
        let code = try ReconciliationCode.named(id)
        let levels = KernelLevel.allCases.filter(\.isAvailable)
        print("kernel levels compared: \(levels), best \(KernelLevel.best)")
        let reference = try FrameDecoder(code: code, level: .portable)
        for seed in 100..<103 as Range<UInt64> {
            let trial = try Trial(code, efficiency: efficiency, seed: seed, level: .portable)
            let wanted = try trial.decode(with: reference, maximumPasses: passes)
            for level in levels where level != .portable {
                #expect(try Trial(code, efficiency: efficiency, seed: seed, level: level).message == trial.message)
                let found = try trial.decode(with: FrameDecoder(code: code, level: level), maximumPasses: passes)
                #expect(found.passes == wanted.passes)
                #expect(found.quadratures == wanted.quadratures)
                #expect(found.core.map { core in wanted.core?.matches(core) == true } ?? (wanted.core == nil))
            }
        }
    }

    @Test func bestLevelIsAvailable() {
        #expect(KernelLevel.portable.isAvailable)
        #expect(KernelLevel.best.isAvailable)
    }
}
