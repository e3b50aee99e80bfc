// The seam at which a link is recorded: everything that enters the state machines of one end, and everything they decided.
//
// What enters: messages of the far end, symbols of the own device, calibrations, random draws, the state of the pads; what leaves:
// messages and accounts. A session hands each to its tap at the moment it is applied, in the actor that applies it, so that the order of
// a recording is the order of the run. `LinkReplay` feeds the same inputs to the same values (TransmitterBlock, ReceiverBlock, BlockLife,
// BlockPlanner, PhaseTrack, SlotOpening, BlockSettlement, FrameEncoder, FrameDecoder) and compares what they decide bit for bit.
//
// Symbols and random words are key. A link that has a tap deposits nothing: its transmitter's end sends no secret bits, its receiver's
// end says so in READINESS and takes none.

internal import Foundation
public import PostProcessing
internal import QKDModel

/// One entry of a recording.
public enum LinkRecord: Sendable, Equatable {
    /// A connection's session begins: the state machines are new.
    case session
    /// From the far end, verified or not yet.
    case heard(ChannelMessage)
    /// To the far end.
    case said(ChannelMessage)
    /// What the random source gave.
    case random([UInt8])
    /// Samples of frame `index` of the slot, before anything is done with them.
    case frame(index: UInt32, scale: Float, samples: [Int16])
    /// Receiver's end: what is searched for the disclosed window: samples from `start` on, where the clocks expect it, and how far off it may lie.
    case opening(start: Int, samples: [Int16], expected: Int, margin: Int)
    /// Receiver's end: a block begins with this calibration.
    case begins(plan: BlockPlan, dark: CalibrationSums, shot: CalibrationSums, emulated: Bool)
    /// Saturated samples of the running slot, more of them.
    case saturated(UInt64)
    /// A slot's frames begin, and have ended with so many decided.
    case slotBegan(slot: UInt32, frames: UInt32)
    case slotEnded(frames: UInt32)
    /// Transmitter's end: its device when a block is agreed on.
    case transmitter(serial: String, emulated: Bool, receiverEmulated: Bool)
    /// Receiver's end: the calibration that the block is judged by.
    case calibration(dark: CalibrationSums, shot: CalibrationSums, drift: Double)
    case efficiency(Double, error: Double)
    case pads(PadAccount)
    /// Text of the block's accounting record: a decision.
    case account(String)
    /// Nothing is missing: so many entries came before, and their bytes have this hash. The recorder's own.
    case whole(entries: UInt64, hash: [UInt8])
}

/// Takes a recording's entries in the order of the run. Called from any task; must not wait.
public protocol LinkTap: Sendable {
    func take(_ record: LinkRecord)
}

/// A random source whose draws are recorded.
struct TappedRandom: RandomSource {
    private let source: any RandomSource
    private let tap: any LinkTap

    init(_ source: any RandomSource, _ tap: any LinkTap) {
        self.source = source
        self.tap = tap
    }

    func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        source.fill(buffer)
        tap.take(.random(Array(buffer)))
    }
}
