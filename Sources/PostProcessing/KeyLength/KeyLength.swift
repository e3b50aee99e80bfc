internal import Foundation
internal import QuantumOptics

/// How many secret bits a block gives, with every term that decided it, in bits over the whole block.
///
/// `K = [2R' - chi_BE(worst case)] n/N - Delta` per symbol, `Delta = 8 sqrt(log2(2/eps_s^2) / n) - log2(2 eps_cor eps_h^2) / n`, times N. 2R' is what is left of
/// two raw bits per verified symbol after everything that was disclosed. The conservative convention replaces chi_BE n/N by chi_BE.
public struct KeyLength: Codable, Hashable, Sendable {
    /// Two per verified symbol.
    public let rawBits: Double
    /// Syndromes, what saved frames, hashes, what timing and published sums tell, and aligned symbols.
    public let disclosedBits: Double
    /// chi_BE at the worst case over the symbols that the convention charges.
    public let holevoBits: Double
    /// N times the first part of Delta.
    public let smoothingBits: Double
    /// N times the second part of Delta.
    public let hashingBits: Double
    /// Before rounding; negative where there is no key.
    public let balance: Double
    /// The length to hash to: `balance` rounded down to whole bytes, 0 where there is none.
    public let secretBits: Int
    /// The same under the other convention, for print.
    public let secretBitsOtherConvention: Int
    public let convention: FrameErrorConvention
    /// Of `secretBits`: what stays with both link services, and what goes to the key stores.
    public let authenticationBits: Int
    public let depositedBits: Int

    public let frameErrorRate: Double
    /// Against I_AB of the estimate: (raw bits - syndrome bits) / (n I_AB).
    public let reconciliationEfficiency: Double
    /// Asymptotic rate at the point estimate with this disclosure [bits per symbol]: what finite size takes its share of.
    public let asymptoticBits: Double
    public let epsilon: Double
    /// In words: what stands between this block and (more) key.
    public let limitedBy: String

    /// To be printed with every figure.
    public static let claim = "composable, Gaussian collective attacks, trusted calibrated receiver, finite size"

    /// - Throws: `PostProcessingError.outOfRange` for counts that no block has. No key is a result, not an error.
    public static func compute(_ input: KeyLengthInput) throws(PostProcessingError) -> KeyLength {
        try input.validate()
        return KeyLength(Terms(input), input)
    }

    /// A block that was given up before its length could be computed.
    public static func refused(_ reason: String, convention: FrameErrorConvention = .conservative, budget: SecurityBudget) -> KeyLength {
        KeyLength(refusal: reason, convention: convention, epsilon: budget.total)
    }
}

extension KeyLength {
    /// The accounting itself, before it is put into words.
    struct Terms {
        let raw: Double, disclosed: Double, holevo: Double, otherHolevo: Double, smoothing: Double, hashing: Double
        var left: Double { raw - disclosed }
        var balance: Double { left - holevo - smoothing - hashing }
        var otherBalance: Double { left - otherHolevo - smoothing - hashing }

        init(_ input: KeyLengthInput) {
            let (all, verified) = (Double(input.symbols), Double(input.verifiedSymbols))
            raw = 2 * verified
            disclosed =
                Double(input.syndromeBits) + Double(input.disclosureBits) + Double(input.verificationBits) + Double(input.observedBits)
                + 2 * Double(input.alignmentSymbols)
            let chi = input.estimate.worstHolevoBound
            let (conservative, selecting) = (chi * all, chi * verified)
            (holevo, otherHolevo) = input.convention == .conservative ? (conservative, selecting) : (selecting, conservative)
            let budget = input.budget
            // Without verified symbols there is nothing to smooth; any positive length keeps the terms finite.
            let n = max(1, verified)
            smoothing = all * KeyRate.smoothingTerm(symbols: n, epsilon: budget.smoothing)
            hashing = all * KeyRate.hashingTerm(symbols: n, hashing: budget.hashing, correctness: budget.correctness)
        }
    }

    private static func whole(_ balance: Double) -> Int {
        // Sums that no channel makes may end in anything but a number: no key then.
        balance >= 8 && balance < 0x1p52 ? Int(balance / 8) * 8 : 0
    }

    private init(_ terms: Terms, _ input: KeyLengthInput) {
        rawBits = terms.raw
        disclosedBits = terms.disclosed
        holevoBits = terms.holevo
        smoothingBits = terms.smoothing
        hashingBits = terms.hashing
        balance = terms.balance
        let secret = Self.whole(terms.balance)
        secretBits = secret
        secretBitsOtherConvention = Self.whole(terms.otherBalance)
        convention = input.convention
        authenticationBits = min(secret, input.authenticationBits)
        depositedBits = secret - min(secret, input.authenticationBits)
        frameErrorRate = input.frames > 0 ? Double(input.failedFrames) / Double(input.frames) : 0
        let information = Double(input.verifiedSymbols) * input.estimate.mutualInformation
        reconciliationEfficiency = information > 0 ? (terms.raw - Double(input.syndromeBits)) / information : 0
        asymptoticBits = terms.left - input.estimate.holevoBound * Double(input.verifiedSymbols)
        epsilon = input.budget.total
        limitedBy = Limit(terms, input).words
    }

    private init(refusal: String, convention: FrameErrorConvention, epsilon: Double) {
        (rawBits, disclosedBits, holevoBits, smoothingBits, hashingBits, balance, asymptoticBits) = (0, 0, 0, 0, 0, 0, 0)
        (secretBits, secretBitsOtherConvention, authenticationBits, depositedBits) = (0, 0, 0, 0)
        (frameErrorRate, reconciliationEfficiency) = (0, 0)
        self.convention = convention
        self.epsilon = epsilon
        limitedBy = refusal
    }
}
