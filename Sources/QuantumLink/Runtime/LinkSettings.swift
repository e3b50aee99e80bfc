// What a link is told by its configuration.

public import QKDModel

public struct LinkSettings: Sendable, Equatable, Codable {
    public var identity: LinkIdentity
    /// Optical path of the transmitter.
    public var path: String
    /// Number of the grid channel of the quantum signal (`GridChannel`); nil: as the device is set.
    public var gridChannel: Int?
    /// Expected loss, the start of the modulation's tuning.
    public var loss: Decibels
    /// Id of a `ReconciliationCode`, or `automatic`: what gives the longest key (`BlockChooser`).
    public var code: String
    /// Reconciliation efficiency that the modulation aims at; nil: chosen.
    public var efficiency: Double?
    /// Modulation variance, SNU per quadrature; nil: chosen.
    public var variance: Double?
    public var blockSymbols: Int
    public var slotSymbols: Int
    /// Share of generating time against the transmitter's other links.
    public var weight: Double
    /// Total security parameter.
    public var epsilon: Double
    /// SHOT symbols that a slot needs per generated symbol of the block.
    public var calibrationRatio: Double
    public var maximumPasses: Int
    /// A known bound on what the receiver's noise moves between calibration and signal, a share of it; what windows show beyond their
    /// statistics is charged on top.
    public var driftAllowance: Double
    /// Windows that disagree by more than this beyond their statistics void the block.
    public var driftLimit: Double
    public var patience = Patience()

    /// How long one end waits for the other.
    public struct Patience: Sendable, Equatable, Codable {
        /// A sign of life goes out this often.
        public var aliveEvery = Duration.seconds(5)
        /// Without any message for so long the connection is over.
        public var silence = Duration.seconds(20)
        /// Frames, verdicts and values that are due: without any progress for so long the session is over.
        public var progress = Duration.seconds(45)
        /// Answers that need no work of a device.
        public var answer = Duration.seconds(15)
        /// Symbols of a device that runs.
        public var symbols = Duration.seconds(30)

        public init() {}
    }

    public static let automatic = "auto"

    public init(
        identity: LinkIdentity, path: String, loss: Decibels, code: String = LinkSettings.automatic, efficiency: Double? = nil,
        variance: Double? = nil, blockSymbols: Int, slotSymbols: Int,
        weight: Double = 1, epsilon: Double = 1e-10, calibrationRatio: Double = 0.5, maximumPasses: Int = 150, driftAllowance: Double = 0,
        driftLimit: Double = 0.005
    ) {
        self.identity = identity
        self.path = path
        self.loss = loss
        self.code = code
        self.efficiency = efficiency
        self.variance = variance
        self.blockSymbols = blockSymbols
        self.slotSymbols = slotSymbols
        self.weight = weight
        self.epsilon = epsilon
        self.calibrationRatio = calibrationRatio
        self.maximumPasses = maximumPasses
        self.driftAllowance = driftAllowance
        self.driftLimit = driftLimit
    }
}

/// The key store has judged a block itself and will never take it.
public struct DepositRefused: Error, CustomStringConvertible {
    public var reason: String
    public init(reason: String) { self.reason = reason }
    public var description: String { reason }
}

/// Takes distilled key. Idempotent by block id; returns only when the key is durably stored.
public protocol KeySink: Sendable {
    /// - Throws: `DepositRefused` when the block will never be taken; anything else is tried again.
    func deposit(_ deposit: PendingDeposit, firstEnd: Bool) async throws
}
