/// How frames that failed to decode enter the length.
public enum FrameErrorConvention: String, Codable, Sendable, CaseIterable {
    /// An eavesdropper is charged chi_BE for every symbol, those of failed frames too. The default.
    case conservative
    /// chi_BE for symbols of verified frames only: success of decoding selects symbols.
    case selecting
}

/// Everything public that decides how long a block's key may be. No symbol and no key bit: it goes into the public log as it is.
public struct KeyLengthInput: Codable, Hashable, Sendable {
    /// N: all symbols of the block, failed frames included.
    public var symbols: Int
    /// n: symbols in verified frames.
    public var verifiedSymbols: Int
    public var frames: Int
    public var failedFrames: Int
    /// Syndrome bits of verified frames.
    public var syndromeBits: Int
    /// Whatever else was disclosed to save verified frames, and what asked for it.
    public var disclosureBits: Int
    /// Hash bits of verified frames and of the block.
    public var verificationBits: Int
    /// What an observer of the channel learns beside what is sent to reconcile: how long decoding took, and the block's published sums.
    public var observedBits: Int
    /// Symbols of verified frames whose values were disclosed at slot starts; both their raw bits are charged. Symbols that were
    /// cut out of the frames before reconciliation do not count here.
    public var alignmentSymbols: Int
    /// Bits that both link services keep for their pads: tags of this block and what refills the reserve.
    public var authenticationBits: Int
    public var convention: FrameErrorConvention
    public var estimate: ParameterEstimate
    public var budget: SecurityBudget

    public init(
        symbols: Int, verifiedSymbols: Int, frames: Int, failedFrames: Int, syndromeBits: Int, disclosureBits: Int = 0,
        verificationBits: Int,
        observedBits: Int = 0, alignmentSymbols: Int = 0, authenticationBits: Int = 0, convention: FrameErrorConvention = .conservative,
        estimate: ParameterEstimate, budget: SecurityBudget
    ) {
        self.symbols = symbols
        self.verifiedSymbols = verifiedSymbols
        self.frames = frames
        self.failedFrames = failedFrames
        self.syndromeBits = syndromeBits
        self.disclosureBits = disclosureBits
        self.verificationBits = verificationBits
        self.observedBits = observedBits
        self.alignmentSymbols = alignmentSymbols
        self.authenticationBits = authenticationBits
        self.convention = convention
        self.estimate = estimate
        self.budget = budget
    }

    func validate() throws(PostProcessingError) {
        let limit = 1 << 50
        for (name, value) in [
            ("symbols", symbols), ("verified symbols", verifiedSymbols), ("frames", frames), ("failed frames", failedFrames),
            ("syndrome bits", syndromeBits), ("disclosure bits", disclosureBits), ("verification bits", verificationBits),
            ("observed bits", observedBits),
            ("alignment symbols", alignmentSymbols), ("authentication bits", authenticationBits),
        ] {
            guard value >= 0, value <= limit else { throw .outOfRange(quantity: name, value: Double(value), allowed: "0 or more") }
        }
        guard symbols > 0 else { throw .outOfRange(quantity: "symbols", value: 0, allowed: "above 0") }
        guard verifiedSymbols <= symbols else {
            throw .outOfRange(quantity: "verified symbols", value: Double(verifiedSymbols), allowed: "at most the block's \(symbols)")
        }
        guard failedFrames <= frames else {
            throw .outOfRange(quantity: "failed frames", value: Double(failedFrames), allowed: "at most the block's \(frames)")
        }
    }
}
