// The messages of the classical channel as values. docs/wire/classical-channel.md is their schema; MessageCodec turns
// them into bytes and back.

public import NIOCore
public import PostProcessing
public import QKDModel

/// What a tag is for.
public enum TagPurpose: UInt8, Sendable, CaseIterable, CustomStringConvertible {
    case handshake = 1
    case block = 2
    case commit = 3

    public var description: String {
        switch self {
        case .handshake: "handshake"
        case .block: "block"
        case .commit: "commit"
        }
    }
}

/// The first message of each end. Nothing in it is believed before the handshake's tag has verified.
public struct Hello: Equatable, Sendable {
    public static let version: UInt16 = 1
    public var version = Hello.version
    public var node: String
    public var peer: String
    public var link: String
    public var role: DeviceRole
    /// 32 fresh random bytes.
    public var nonce: [UInt8]
    /// Secrets held, newest first.
    public var epochs: [Epoch]
    /// For each of them the pad position up to which this end has taken the other's tags.
    public var taken: [UInt64]
    /// Blocks that this end holds without knowing whether the other committed them.
    public var inDoubt: [BlockID]

    /// - Parameter taken: as many as epochs.
    package init(
        node: String, peer: String, link: String, role: DeviceRole, nonce: [UInt8], epochs: [Epoch], taken: [UInt64], inDoubt: [BlockID]
    ) {
        self.taken = taken
        self.node = node
        self.peer = peer
        self.link = link
        self.role = role
        self.nonce = nonce
        self.epochs = epochs
        self.inDoubt = inDoubt
    }
}

/// The public, random name of one installed secret.
public struct Epoch: Hashable, Sendable, CustomStringConvertible {
    /// 16 bytes.
    public let bytes: [UInt8]
    public init(_ bytes: [UInt8]) { self.bytes = bytes }
    public var description: String { bytes.prefix(4).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() + "…" }
}

/// Says which of the other's blocks in doubt were committed here.
public struct Resolve: Equatable, Sendable {
    public struct Answer: Equatable, Sendable {
        public var block: BlockID
        public var committed: Bool

        package init(block: BlockID, committed: Bool) {
            self.block = block
            self.committed = committed
        }
    }
    public var epoch: Epoch
    public var answers: [Answer]

    package init(epoch: Epoch, answers: [Answer]) {
        self.epoch = epoch
        self.answers = answers
    }
}

/// A one-time-padded tag of 16 bytes.
public struct TagMessage: Equatable, Sendable {
    public var purpose: TagPurpose
    public var padOffset: UInt64
    public var tag: [UInt8]

    package init(purpose: TagPurpose, padOffset: UInt64, tag: [UInt8]) {
        self.purpose = purpose
        self.padOffset = padOffset
        self.tag = tag
    }
}

/// What the receiver's end can do now, and the calibration that the transmitter's end tunes by.
public struct Readiness: Equatable, Sendable {
    public var ready: Bool
    public var reason: String
    public var emulated: Bool
    public var captured: Bool
    /// Detector efficiency and its standard uncertainty.
    public var efficiency: Double
    public var efficiencyError: Double
    /// Shot-noise variance in LSB^2, electronic noise in SNU.
    public var shotNoise: Double
    public var electronicNoise: Double
    /// Hz
    public var symbolRate: Double
    /// SHOT symbols that the running block can count on.
    public var calibrationSymbols: UInt64
    /// Its link service records symbols: nothing may be deposited.
    public var recording: Bool
    /// The reconciliation code that its configuration asks for, or "auto".
    public var code: String

    package init(
        ready: Bool, reason: String, emulated: Bool, captured: Bool, efficiency: Double, efficiencyError: Double, shotNoise: Double,
        electronicNoise: Double, symbolRate: Double, calibrationSymbols: UInt64, recording: Bool = false, code: String = "auto"
    ) {
        self.recording = recording
        self.code = code
        self.ready = ready
        self.reason = reason
        self.emulated = emulated
        self.captured = captured
        self.efficiency = efficiency
        self.efficiencyError = efficiencyError
        self.shotNoise = shotNoise
        self.electronicNoise = electronicNoise
        self.symbolRate = symbolRate
        self.calibrationSymbols = calibrationSymbols
    }
}

/// Everything about a block that is fixed before its first symbol.
public struct BlockPlan: Equatable, Sendable {
    public var block: BlockID
    /// Id of a `ReconciliationCode`.
    public var code: String
    public var frames: UInt32
    /// Total security parameter.
    public var epsilon: Double
    /// Per quadrature.
    public var designSNR: Double
    /// Whether the transmitter is an emulator.
    public var emulated: Bool

    package init(block: BlockID, code: String, frames: UInt32, epsilon: Double, designSNR: Double, emulated: Bool) {
        self.block = block
        self.code = code
        self.frames = frames
        self.epsilon = epsilon
        self.designSNR = designSNR
        self.emulated = emulated
    }
}

/// The start of a slot, as disclosed by the transmitter's end.
public struct Disclosure: Equatable, Sendable {
    public struct Position: Equatable, Sendable {
        /// From the window's first symbol.
        public var index: UInt32
        public var x: Int16
        public var p: Int16

        package init(index: UInt32, x: Int16, p: Int16) {
            self.index = index
            self.x = x
            self.p = p
        }
    }
    public var slot: UInt32
    /// UTC of the window's first symbol at the transmitter, ns.
    public var utc: UInt64
    /// Symbols in the window.
    public var window: UInt32
    /// sqrt(SNU) per LSB.
    public var scale: Float
    public var positions: [Position]

    package init(slot: UInt32, utc: UInt64, window: UInt32, scale: Float, positions: [Position]) {
        self.slot = slot
        self.utc = utc
        self.window = window
        self.scale = scale
        self.positions = positions
    }
}

/// How the receiver's end turned its samples: `y = (sample - mean) / unit`, rotated by `phase`.
public struct SlotFrameOfReference: Equatable, Sendable {
    public var slot: UInt32
    public var aligned: Bool
    /// Standard deviations above chance.
    public var significance: Double
    /// rad
    public var phase: Double
    /// LSB per sqrt(SNU)
    public var unit: Double
    public var meanX: Double
    public var meanP: Double

    package init(slot: UInt32, aligned: Bool, significance: Double, phase: Double, unit: Double, meanX: Double, meanP: Double) {
        self.slot = slot
        self.aligned = aligned
        self.significance = significance
        self.phase = phase
        self.unit = unit
        self.meanX = meanX
        self.meanP = meanP
    }
}

/// One reconciliation frame.
public struct FrameBody: Sendable, Equatable {
    public var slot: UInt32
    public var index: UInt32
    public var hashKey: UInt64
    /// The encoding of a `FrameMessage`.
    public var message: ByteBuffer

    package init(slot: UInt32, index: UInt32, hashKey: UInt64, message: ByteBuffer) {
        self.slot = slot
        self.index = index
        self.hashKey = hashKey
        self.message = message
    }
}

/// What the transmitter's end made of a frame.
public struct Verdict: Equatable, Sendable {
    public var slot: UInt32
    public var index: UInt32
    public var decoded: Bool

    package init(slot: UInt32, index: UInt32, decoded: Bool) {
        self.slot = slot
        self.index = index
        self.decoded = decoded
    }
}

/// The transmitter's end asks for more bits of frames that their messages alone did not decode, many at once.
public struct FrameMore: Equatable, Sendable {
    public struct Request: Equatable, Sendable {
        public var index: UInt32
        /// 1 for the first.
        public var round: UInt8

        package init(index: UInt32, round: UInt8) {
            self.index = index
            self.round = round
        }
    }
    public var slot: UInt32
    public var frames: [Request]

    package init(slot: UInt32, frames: [Request]) {
        self.slot = slot
        self.frames = frames
    }
}

/// The bits that were asked for.
public struct FrameDisclosed: Equatable, Sendable {
    public struct Part: Equatable, Sendable {
        public var index: UInt32
        /// The encoding of a `FrameDisclosure`.
        public var disclosure: ByteBuffer

        package init(index: UInt32, disclosure: ByteBuffer) {
            self.index = index
            self.disclosure = disclosure
        }
    }
    public var slot: UInt32
    public var frames: [Part]

    package init(slot: UInt32, frames: [Part]) {
        self.slot = slot
        self.frames = frames
    }
}

/// A failed frame in the clear.
public struct FrameValues: Equatable, Sendable {
    public var slot: UInt32
    public var index: UInt32
    /// x0, p0, x1, ... as the converter gave them.
    public var samples: [Int16]

    package init(slot: UInt32, index: UInt32, samples: [Int16]) {
        self.slot = slot
        self.index = index
        self.samples = samples
    }
}

/// What the receiver's end discloses when all frames are decided.
public struct BlockSums: Equatable, Sendable {
    public var block: BlockID
    public var dark: CalibrationSums
    public var shot: CalibrationSums
    /// Of all frames with a verdict: quadratures and sum of squares in SNU by the slot's unit.
    public var quadratures: UInt64
    public var squares: Double
    public var saturated: UInt64
    public var verificationKey: [UInt8]
    public var verificationHash: UInt64
    /// What the receiver's noise may have moved between calibrations and signal, a share of it.
    public var drift: Double

    package init(
        block: BlockID, dark: CalibrationSums, shot: CalibrationSums, quadratures: UInt64, squares: Double, saturated: UInt64,
        verificationKey: [UInt8], verificationHash: UInt64, drift: Double = 0
    ) {
        self.block = block
        self.dark = dark
        self.shot = shot
        self.quadratures = quadratures
        self.squares = squares
        self.saturated = saturated
        self.verificationKey = verificationKey
        self.verificationHash = verificationHash
        self.drift = drift
    }
}

/// The public numbers from which both ends compute the key length, and the seed.
public struct BlockResult: Equatable, Sendable {
    public var block: BlockID
    public var quadratures: UInt64
    public var xx: Double
    public var xy: Double
    public var yy: Double
    public var decoded: UInt32
    public var failed: UInt32
    public var secretBits: UInt64
    public var padBitsForward: UInt32
    public var padBitsBackward: UInt32
    public var limitedBy: String
    public var seed: [UInt8]

    package init(
        block: BlockID, quadratures: UInt64, xx: Double, xy: Double, yy: Double, decoded: UInt32, failed: UInt32, secretBits: UInt64,
        padBitsForward: UInt32, padBitsBackward: UInt32, limitedBy: String, seed: [UInt8]
    ) {
        self.block = block
        self.quadratures = quadratures
        self.xx = xx
        self.xy = xy
        self.yy = yy
        self.decoded = decoded
        self.failed = failed
        self.secretBits = secretBits
        self.padBitsForward = padBitsForward
        self.padBitsBackward = padBitsBackward
        self.limitedBy = limitedBy
        self.seed = seed
    }
}

/// One message of the classical channel.
public enum ChannelMessage: Equatable, Sendable {
    case hello(Hello)
    case resolve(Resolve)
    case tag(TagMessage)
    case bye(String)
    case readiness(Readiness)
    /// Says nothing but that its sender goes on.
    /// A sign of life: how many messages its sender has sent on this connection before it.
    case alive(sent: UInt64)
    case blockPrepare(BlockPlan)
    case blockAccept(BlockID)
    case blockRefuse(BlockID, reason: String)
    case blockAbort(BlockID, reason: String)
    case blockClose(BlockID)
    case blockSums(BlockSums)
    case blockResult(BlockResult)
    case blockAck(BlockID)
    case blockCommit(BlockID)
    case blockDone(BlockID)
    case slotOffer(slot: UInt32, frames: UInt32, variance: Double)
    case slotAnswer(slot: UInt32, accepted: Bool, reason: String)
    case slotLit(slot: UInt32)
    case slotLocked(slot: UInt32)
    case slotRunning(slot: UInt32, utc: UInt64)
    case slotReceiving(slot: UInt32, utc: UInt64, symbols: UInt32)
    case slotDisclose(Disclosure)
    case slotAligned(SlotFrameOfReference)
    case slotEnd(slot: UInt32, frames: UInt32, reason: String)
    case frame(FrameBody)
    case verdict(Verdict)
    case frameValues(FrameValues)
    case frameMore(FrameMore)
    case frameDisclosed(FrameDisclosed)
}
