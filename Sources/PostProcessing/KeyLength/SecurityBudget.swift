/// How the failure probability of one block's key is shared out. The sum is what the key is worth: it is epsilon-secure for the sum.
public struct SecurityBudget: Codable, Hashable, Sendable {
    /// eps_s: smoothing of the entropy.
    public let smoothing: Double
    /// eps_h: privacy amplification (leftover hashing).
    public let hashing: Double
    /// eps_cor: the ends hold different bits and the hashes did not tell.
    public let correctness: Double
    /// eps_auth: a message on the classical channel was forged.
    public let authentication: Double
    /// eps_pe: one confidence bound fails; there are `boundCount`.
    public let parameterEstimation: Double

    /// One-sided bounds that `ParameterEstimate` uses: slope (2), signal variance (1), shot-noise calibration (2), dark calibration (2),
    /// efficiency (2), modulation variance (1).
    public static let boundCount = 10

    /// Shares `total` out: 20 % smoothing, 20 % hashing, 40 % estimation, 10 % correctness, 10 % authentication.
    ///
    /// - Parameter total: epsilon of one block, in (1e-30, 0.1]; the product's is 1e-10.
    /// - Throws: `PostProcessingError.outOfRange`.
    public init(total: Double = 1e-10) throws(PostProcessingError) {
        guard total > 1e-30, total <= 0.1 else { throw .outOfRange(quantity: "epsilon", value: total, allowed: "in (1e-30, 0.1]") }
        try self.init(
            smoothing: 0.2 * total, hashing: 0.2 * total, correctness: 0.1 * total, authentication: 0.1 * total,
            parameterEstimation: 0.4 * total / Double(Self.boundCount))
    }

    /// - Throws: `PostProcessingError.outOfRange`.
    public init(
        smoothing: Double, hashing: Double, correctness: Double, authentication: Double, parameterEstimation: Double
    ) throws(PostProcessingError) {
        for (name, value) in [
            ("epsilon of smoothing", smoothing), ("epsilon of hashing", hashing), ("epsilon of correctness", correctness),
            ("epsilon of authentication", authentication), ("epsilon of estimation", parameterEstimation),
        ] {
            guard value > 0, value < 0.5 else { throw .outOfRange(quantity: name, value: value, allowed: "in (0, 0.5)") }
        }
        self.smoothing = smoothing
        self.hashing = hashing
        self.correctness = correctness
        self.authentication = authentication
        self.parameterEstimation = parameterEstimation
    }

    /// eps_total = eps_s + eps_h + (number of bounds) eps_pe + eps_cor + eps_auth.
    public var total: Double {
        smoothing + hashing + Double(Self.boundCount) * parameterEstimation + correctness + authentication
    }

    public struct Row: Codable, Hashable, Sendable {
        public let symbol: String
        public let epsilon: Double
        public let times: Int
        public let meaning: String
    }

    /// Every epsilon, for people and for the public log.
    public var rows: [Row] {
        [
            Row(symbol: "eps_s", epsilon: smoothing, times: 1, meaning: "smoothing of the min-entropy"),
            Row(symbol: "eps_h", epsilon: hashing, times: 1, meaning: "privacy amplification"),
            Row(symbol: "eps_pe", epsilon: parameterEstimation, times: Self.boundCount, meaning: "confidence bounds of the estimate"),
            Row(symbol: "eps_cor", epsilon: correctness, times: 1, meaning: "verification hashes"),
            Row(symbol: "eps_auth", epsilon: authentication, times: 1, meaning: "authentication of the classical channel"),
        ]
    }

    /// The table in plain text.
    public var table: String {
        func line(_ name: String, _ value: Double, _ times: Int, _ meaning: String) -> String {
            let sum = Double(times) * value
            return [pad(name, 10), pad("\(times)", 6), pad("\(value)", 24), pad("\(sum)", 24), meaning].joined(separator: " ")
        }
        return
            ([[pad("epsilon", 10), pad("times", 6), pad("each", 24), pad("sum", 24), "for"].joined(separator: " ")]
            + rows.map { line($0.symbol, $0.epsilon, $0.times, $0.meaning) } + [line("eps_total", total, 1, "all of it")])
            .joined(separator: "\n")
    }
}

private func pad(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }
