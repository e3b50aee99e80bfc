// The phase by which the receiver turns within a slot, as decoded frames show it one after the other.

internal import Synchronization

/// Follows phase and its rate from frame to frame. One frame shows the phase to about .006 rad at the SNRs in use, so a little of each is enough;
/// the rate carries the expectation over the frames that are decoded side by side.
package final class PhaseTrack: Sendable {
    private struct State {
        var phase = 0.0
        /// rad per frame
        var rate = 0.0
        /// The newest frame that was seen.
        var index: Int?
    }

    private static let phaseGain = 0.6
    private static let rateGain = 0.15

    private let state = Mutex(State())

    package init() {}

    /// rad, 0 until a frame was decoded.
    package func expected(at index: UInt32) -> Double {
        state.withLock { state in state.phase + state.rate * Double(Int(index) - (state.index ?? Int(index))) }
    }

    /// Frames that come late change nothing.
    package func saw(_ phase: Double, at index: UInt32) {
        state.withLock { state in
            guard phase.isFinite, Int(index) > state.index ?? -1 else { return }
            // The slot's own alignment is phase 0 at its beginning.
            let steps = Double(Int(index) - (state.index ?? -1))
            let expected = state.phase + state.rate * steps
            state.rate += Self.rateGain * (phase - expected) / steps
            state.phase = expected + Self.phaseGain * (phase - expected)
            state.index = Int(index)
        }
    }
}
