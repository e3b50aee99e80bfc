import Foundation
import PostProcessing
import Testing

@Suite struct KeyLengthTests {
    /// A Norte block as the demo has it: code rate .10, SNR .163, some frames failed.
    static func input(
        link: TrueLink = TrueLink(), symbols: Int = 50_000_000, calibration: Int = 50_000_000, rate: Double = 0.1, failed: Int = 4,
        efficiencyError: Double = 0, epsilon: Double = 1e-10, seed: UInt64 = 1
    ) throws -> KeyLengthInput {
        var draws = Draws(seed)
        let budget = try SecurityBudget(total: epsilon)
        let estimate = try link.estimate(
            symbols: symbols, shot: calibration, dark: max(2000, calibration / 10), efficiencyError: efficiencyError, budget: budget, &draws
        )
        let frames = symbols / 102_400
        let verified = (frames - failed) * 102_400
        return KeyLengthInput(
            symbols: symbols, verifiedSymbols: verified, frames: frames, failedFrames: failed,
            syndromeBits: Int((1 - rate) * 2 * Double(verified)), verificationBits: 24 * (frames - failed) + 64, estimate: estimate,
            budget: budget)
    }

    @Test func demoBlocksGiveTheirKey() throws {
        let norte = try KeyLength.compute(Self.input())
        #expect((1_000_000...2_500_000).contains(norte.secretBits), "\(norte)")
        #expect((0.85...1).contains(norte.reconciliationEfficiency))
        let concepcion = try KeyLength.compute(
            Self.input(
                link: TrueLink(modulationVariance: 2.6, transmittance: 0.0794), symbols: 400_000_000, calibration: 400_000_000, rate: 0.05))
        #expect((1_000_000...6_000_000).contains(concepcion.secretBits), "\(concepcion)")
    }

    /// The formula written out a second time.
    @Test(arguments: FrameErrorConvention.allCases) func isTheFormula(convention: FrameErrorConvention) throws {
        var input = try Self.input()
        input.convention = convention
        input.alignmentSymbols = 4000
        let length = try KeyLength.compute(input)
        let (all, n, budget) = (5e7, Double(input.verifiedSymbols), input.budget)
        let left = 2 - Double(input.syndromeBits + input.verificationBits + 8000) / n
        let chi = input.estimate.worstHolevoBound
        let delta =
            8 * (log2(2 / (budget.smoothing * budget.smoothing)) / n).squareRoot()
            - log2(2 * budget.correctness * budget.hashing * budget.hashing) / n
        let key = convention == .selecting ? (left - chi) * n / all - delta : left * n / all - chi - delta
        #expect(abs(length.balance - key * all) < 1)
        #expect(length.secretBits == Int(length.balance) / 8 * 8)
        #expect(
            abs(length.rawBits - length.disclosedBits - length.holevoBits - length.smoothingBits - length.hashingBits - length.balance)
                < 1e-3)
    }

    @Test func conservativeConventionIsShorter() throws {
        let length = try KeyLength.compute(Self.input(failed: 20))
        #expect(length.convention == .conservative)
        #expect(length.secretBits < length.secretBitsOtherConvention)
    }

    @Test func authenticationIsAccountedApart() throws {
        var input = try Self.input()
        let whole = try KeyLength.compute(input)
        input.authenticationBits = 1024
        let length = try KeyLength.compute(input)
        #expect(length.secretBits == whole.secretBits)
        #expect(length.authenticationBits == 1024 && length.depositedBits == whole.secretBits - 1024)
        input.authenticationBits = 1 << 40
        let swallowed = try KeyLength.compute(input)
        #expect(swallowed.depositedBits == 0 && swallowed.limitedBy.hasPrefix("authentication"))
    }

    @Test func everyDisclosedBitIsSubtracted() throws {
        var input = try Self.input()
        let before = try KeyLength.compute(input)
        input.verificationBits += 8000
        #expect(try KeyLength.compute(input).secretBits == before.secretBits - 8000)
        input.syndromeBits += 8000
        #expect(try KeyLength.compute(input).secretBits == before.secretBits - 16_000)
        input.alignmentSymbols += 4000
        #expect(try KeyLength.compute(input).secretBits == before.secretBits - 24_000)
    }

    @Test func smallerEpsilonCostsKey() throws {
        let lengths = try [1e-6, 1e-10, 1e-14].map { try KeyLength.compute(Self.input(epsilon: $0)).secretBits }
        #expect(lengths[0] > lengths[1] && lengths[1] > lengths[2] && lengths[2] > 0)
    }

    // MARK: - No key, and why

    func reason(_ input: KeyLengthInput) throws -> String {
        let length = try KeyLength.compute(input)
        #expect(length.secretBits == 0 && length.depositedBits == 0)
        return length.limitedBy
    }

    @Test func zeroKeySaysWhy() throws {
        // Intercept and resend adds two units at the input.
        #expect(try reason(Self.input(link: TrueLink(excessNoise: 2.005))).hasPrefix("excess noise"))
        #expect(try reason(Self.input(symbols: 3_000_000, calibration: 10_000_000_000, failed: 0)).hasPrefix("block length"))
        #expect(try reason(Self.input(calibration: 400_000)).hasPrefix("statistics of the noise calibration"))
        #expect(try reason(Self.input(symbols: 500_000, calibration: 10_000_000_000, failed: 0)).hasPrefix("statistics of the estimate"))
        // The same power at the detector, but most of the loss trusted: it matters how well that is known.
        let lossy = TrueLink(transmittance: 0.669, efficiency: 0.3)
        let unsure = try Self.input(
            link: lossy, symbols: 1_000_000_000, calibration: 1_000_000_000, rate: 0.0575, efficiencyError: 0.04)
        #expect(try reason(unsure).hasPrefix("uncertainty of the receiver's efficiency"))
        #expect(try reason(Self.input(rate: 0)).hasPrefix("disclosure"))
        #expect(try reason(Self.input(failed: 488)).hasPrefix("no frame decoded"))
        #expect(try reason(Self.input(failed: 250)).hasPrefix("frame errors"))
    }

    @Test func keyNamesItsCost() throws {
        #expect(try KeyLength.compute(Self.input()).limitedBy.contains("costs"))
    }

    @Test func refusedBlocksHaveNoKey() throws {
        let length = try KeyLength.refused("no correlation", budget: SecurityBudget())
        #expect(length.secretBits == 0 && length.limitedBy == "no correlation")
    }

    @Test func impossibleCountsAreErrors() throws {
        var input = try Self.input()
        input.verifiedSymbols = input.symbols + 1
        #expect(throws: PostProcessingError.self) { try KeyLength.compute(input) }
        input = try Self.input()
        input.syndromeBits = -1
        #expect(throws: PostProcessingError.outOfRange(quantity: "syndrome bits", value: -1, allowed: "0 or more")) {
            try KeyLength.compute(input)
        }
        input.syndromeBits = .max
        #expect(throws: PostProcessingError.self) { try KeyLength.compute(input) }
    }

    @Test func budgetAddsUp() throws {
        let budget = try SecurityBudget(total: 1e-10)
        #expect(abs(budget.total / 1e-10 - 1) < 1e-12)
        #expect(abs(budget.rows.reduce(0) { $0 + Double($1.times) * $1.epsilon } / 1e-10 - 1) < 1e-12)
        for row in budget.rows { #expect(budget.table.contains(row.symbol)) }
        #expect(throws: PostProcessingError.self) { try SecurityBudget(total: 0) }
        #expect(throws: PostProcessingError.self) { try SecurityBudget(total: 0.2) }
        // The block's 64-bit hash over 4 MB of raw key is far inside eps_cor, and a tag over 1 GB inside eps_auth.
        #expect(BlockVerification.collisionProbability(bytes: 4_000_000) < budget.correctness)
    }
}
