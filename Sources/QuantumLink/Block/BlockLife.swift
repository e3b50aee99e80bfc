// The life of one block at one end as a value. Every step has its place; a message out of place is an error and voids
// the block.
//
//     prepared -> committed -> generating <-> waiting -> reconciled -> verified -> estimated -> amplified -> tagged -> deposited
//          \__________\____________\____________\____________\_____________\____________\___________\-> void
//
// `committed` here means that both ends have agreed to the plan; nothing of it can change until the block ends.

public import QKDModel

public enum BlockStage: String, Codable, Sendable, CaseIterable {
    case prepared, committed, generating, waiting, reconciled, verified, estimated, amplified, tagged, deposited, void
}

public struct BlockLife: Sendable, Equatable {
    public enum Step: Sendable, Equatable {
        case accepted
        case slotBegan(slot: UInt32, frames: Int)
        /// A frame was decided.
        case frame(decoded: Bool)
        case slotEnded
        /// All frames are decided and nothing more will enter.
        case closed
        case rawKeysEqual
        case estimate(secretBits: Int, limitedBy: String)
        case amplified
        /// Both tags have verified.
        case tagged
        case deposited
        case gaveUp(reason: String)
    }

    public let block: BlockID
    /// Fixed before the first symbol.
    public let frames: Int
    public private(set) var stage: BlockStage = .prepared
    public private(set) var decoded = 0
    public private(set) var failed = 0
    public private(set) var slots = 0
    /// Failures since the last success in this slot.
    public private(set) var failuresInARow = 0
    public private(set) var secretBits = 0
    /// Why there is no (more) key.
    public private(set) var reason = ""
    private var slot: UInt32?
    private var slotFrames = 0

    /// Failures in a row after which alignment is taken to be lost.
    public static let failuresToRealign = 3

    public init(block: BlockID, frames: Int) {
        self.block = block
        self.frames = frames
    }

    public var decided: Int { decoded + failed }
    public var wanted: Int { max(0, frames - decided) }
    public var progress: Double { frames > 0 ? Double(decided) / Double(frames) : 0 }
    public var lostAlignment: Bool { failuresInARow >= Self.failuresToRealign }
    public var isOver: Bool { stage == .deposited || stage == .void }

    /// - Throws: `QuantumLinkError.unexpected` when the step has no place now; the life is then unchanged.
    public mutating func take(_ step: Step) throws {
        switch (stage, step) {
        case (.prepared, .accepted): stage = .committed
        case (.committed, .slotBegan(let number, let count)), (.waiting, .slotBegan(let number, let count)):
            guard count > 0, count <= wanted, number != slot else { throw misplaced(step) }
            (slot, slotFrames, failuresInARow) = (number, count, 0)
            slots += 1
            stage = .generating
        case (.generating, .frame(let isDecoded)):
            guard slotFrames > 0 else { throw misplaced(step) }
            slotFrames -= 1
            if isDecoded {
                (decoded, failuresInARow) = (decoded + 1, 0)
            } else {
                (failed, failuresInARow) = (failed + 1, failuresInARow + 1)
            }
        case (.generating, .slotEnded): stage = .waiting
        case (.waiting, .closed) where wanted == 0: stage = .reconciled
        case (.reconciled, .rawKeysEqual): stage = .verified
        case (.verified, .estimate(let bits, let limitedBy)):
            (secretBits, reason) = (bits, limitedBy)
            stage = bits > 0 ? .estimated : .void
        case (.estimated, .amplified): stage = .amplified
        case (.amplified, .tagged): stage = .tagged
        case (.tagged, .deposited): stage = .deposited
        case (.tagged, .gaveUp), (.deposited, .gaveUp), (.void, .gaveUp): break
        case (_, .gaveUp(let reason)):
            self.reason = reason
            stage = .void
        default: throw misplaced(step)
        }
    }

    private func misplaced(_ step: Step) -> QuantumLinkError {
        .unexpected(message: "\(step)", during: "a block that is \(stage.rawValue)")
    }
}
