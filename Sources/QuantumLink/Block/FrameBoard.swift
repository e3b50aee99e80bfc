// The frames of one slot at the transmitter's end, and when more bits are asked for. A value.
//
//     arrived -> attempted -> decided
//                    \-> open -> asked -> answered -> decided, or open again
//
// Rounds of disclosure are batched: open frames wait until there are `batch` of them or nothing else is to come, then all are asked for in
// one message; the next is sent when all answers have been tried. Attempts start in the order of the frames and at most `PhaseTrack.lag`
// apart, so that each sees the phase that the same earlier frames showed, however fast the decoders are.

internal import PostProcessing

struct FrameBoard: Sendable {
    /// Less than the frames that the receiver's end may have under way.
    static let batch = 8
    /// So many first attempts in a row that come to nothing: the two ends do not see the same symbols any more. Where half of all frames
    /// need more than their message (the last step of beta), twenty in a row come once in a million. Less than `ReceiverSession.mostInFlight`, so that
    /// it is seen before the first of them have used up their rounds.
    static let lostAfter = 20

    /// By index, until all before them are attempted too: whether they were decoded at once.
    private var results: [UInt32: Bool] = [:]
    /// All frames before this one were attempted.
    private(set) var attempted: UInt32 = 0
    private(set) var failuresInARow = 0
    private var open: [UInt32: OpenFrame] = [:]
    private var asked: [UInt32: OpenFrame] = [:]
    private var answered: Set<UInt32> = []

    /// Whether the first attempt at a frame may begin.
    func isDue(_ index: UInt32) -> Bool { index < attempted + UInt32(PhaseTrack.lag) }

    var isLost: Bool { failuresInARow >= Self.lostAfter }
    var isWaiting: Bool { !open.isEmpty || !asked.isEmpty || !answered.isEmpty }

    /// A first attempt is over.
    mutating func attempted(_ index: UInt32, decoded: Bool) {
        results[index] = decoded
        while let decoded = results.removeValue(forKey: attempted) {
            attempted += 1
            failuresInARow = decoded ? 0 : failuresInARow + 1
        }
    }

    mutating func keep(_ frame: OpenFrame, _ index: UInt32) {
        answered.remove(index)
        open[index] = frame
    }

    mutating func settled(_ index: UInt32) { answered.remove(index) }

    /// What to ask for now, in the order of frames; empty: nothing.
    /// - Parameter isLast: no frame will come to those that were attempted.
    mutating func request(isLast: Bool) -> [FrameMore.Request] {
        guard asked.isEmpty, answered.isEmpty, isLast || open.count >= Self.batch else { return [] }
        asked = open
        open = [:]
        return asked.sorted { $0.key < $1.key }.map { .init(index: $0.key, round: UInt8(clamping: $0.value.frame.rounds + 1)) }
    }

    /// - Returns: the frame that an answer belongs to; nil: it was not asked for.
    mutating func answer(_ index: UInt32) -> OpenFrame? {
        guard let frame = asked.removeValue(forKey: index) else { return nil }
        answered.insert(index)
        return frame
    }

    /// All frames that wait for nothing but to be asked for: they are given up.
    mutating func giveUp() -> [(index: UInt32, frame: OpenFrame)] {
        defer { open = [:] }
        return open.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }
}
