/// One block's accounting from its public sums to its length, as it goes into the public log (JSON).
///
/// Nothing in it is secret. `scripts/recompute-key-length` computes the same from the same file without any of this code.
public struct AccountingRecord: Codable, Hashable, Sendable {
    /// The counts of `KeyLengthInput`.
    public struct Counts: Codable, Hashable, Sendable {
        public var symbols: Int
        public var verifiedSymbols: Int
        public var frames: Int
        public var failedFrames: Int
        public var syndromeBits: Int
        public var verificationBits: Int
        public var observedBits: Int
        public var alignmentSymbols: Int
        public var authenticationBits: Int
        /// Verified frames by the rounds of disclosure they took: at once, after one, after two, ... Failed ones were disclosed whole.
        public var decodedInRound: [Int]
        /// Core bits that a round discloses.
        public var bitsPerRound: Int
        /// For all rounds of verified frames: those bits and one that asked for them.
        public var disclosureBits: Int

        /// - Parameter decodedInRound: empty: all verified frames were decoded at once.
        public init(
            symbols: Int, verifiedSymbols: Int, frames: Int, failedFrames: Int, syndromeBits: Int, verificationBits: Int,
            observedBits: Int = 0, alignmentSymbols: Int = 0, authenticationBits: Int = 0, decodedInRound: [Int] = [], bitsPerRound: Int = 0
        ) {
            self.symbols = symbols
            self.verifiedSymbols = verifiedSymbols
            self.frames = frames
            self.failedFrames = failedFrames
            self.syndromeBits = syndromeBits
            self.verificationBits = verificationBits
            self.observedBits = observedBits
            self.alignmentSymbols = alignmentSymbols
            self.authenticationBits = authenticationBits
            self.decodedInRound = decodedInRound.isEmpty ? [frames - failedFrames] : decodedInRound
            self.bitsPerRound = bitsPerRound
            disclosureBits = self.decodedInRound.enumerated().reduce(0) { $0 + $1.offset * $1.element } * (bitsPerRound + 1)
        }
    }

    public let claim: String
    public let counts: Counts
    public let convention: FrameErrorConvention
    public let dark: CalibrationSums
    public let shot: CalibrationSums
    public let drift: Double
    /// y in units of the calibration above.
    public let sums: CorrelationSums
    public let efficiency: ReceiverEfficiency
    public let budget: SecurityBudget
    /// `nil` where none could be made; `length.limitedBy` says why.
    public let estimate: ParameterEstimate?
    public let length: KeyLength

    /// Estimates, computes the length, and records both. Never throws: what cannot be computed gives no key and says why.
    public init(
        counts: Counts, convention: FrameErrorConvention = .conservative, dark: CalibrationSums, shot: CalibrationSums, drift: Double = 0,
        sums: CorrelationSums, efficiency: ReceiverEfficiency, budget: SecurityBudget
    ) {
        claim = KeyLength.claim
        (self.counts, self.convention, self.dark, self.shot, self.drift) = (counts, convention, dark, shot, drift)
        (self.sums, self.efficiency, self.budget) = (sums, efficiency, budget)
        do throws(PostProcessingError) {
            let calibration = try NoiseCalibration(dark: dark, shot: shot, drift: drift)
            let estimate = try ParameterEstimate.estimate(sums: sums, calibration: calibration, efficiency: efficiency, budget: budget)
            length = try KeyLength.compute(
                KeyLengthInput(counts: counts, convention: convention, estimate: estimate, budget: budget))
            self.estimate = estimate
        } catch {
            estimate = nil
            length = KeyLength.refused("\(error)", convention: convention, budget: budget)
        }
    }
}

extension KeyLengthInput {
    public init(counts: AccountingRecord.Counts, convention: FrameErrorConvention, estimate: ParameterEstimate, budget: SecurityBudget) {
        self.init(
            symbols: counts.symbols, verifiedSymbols: counts.verifiedSymbols, frames: counts.frames, failedFrames: counts.failedFrames,
            syndromeBits: counts.syndromeBits, disclosureBits: counts.disclosureBits, verificationBits: counts.verificationBits,
            observedBits: counts.observedBits, alignmentSymbols: counts.alignmentSymbols, authenticationBits: counts.authenticationBits,
            convention: convention,
            estimate: estimate, budget: budget)
    }
}
