// The phase by which the receiver turns within a slot, as decoded frames show it one after the other.

internal import Synchronization

/// Follows phase and its rate from frame to frame. One frame shows the phase to about .006 rad at the SNRs in use, so a little of each is enough;
/// the rate carries the expectation over the frames that are decoded side by side.
///
/// Frames are taken in by their order, whenever they come, and the expectation for a frame rests on those `lag` or more before it: it
/// does not depend on how fast the decoders were.
package final class PhaseTrack: Sendable {
    private struct Track {
        var phase = 0.0
        /// rad per frame
        var rate = 0.0
        /// The newest frame that showed its phase.
        var index: Int?
    }

    private struct State {
        /// After so many frames.
        var tracks = [Track()]
        var waiting: [Int: Double?] = [:]
    }

    /// A frame is expected by what those before this many showed: so many are decoded side by side at most.
    package static let lag = 4
    private static let phaseGain = 0.6
    private static let rateGain = 0.15

    private let state = Mutex(State())

    package init() {}

    /// rad, 0 until a frame was decoded.
    package func expected(at index: UInt32) -> Double {
        state.withLock { state in
            let known = min(state.tracks.count - 1, max(0, Int(index) - Self.lag + 1))
            let track = state.tracks[known]
            return track.phase + track.rate * Double(Int(index) - (track.index ?? Int(index)))
        }
    }

    /// What a frame showed, once for each; nil: nothing, it did not decode.
    package func saw(_ phase: Double?, at index: UInt32) {
        state.withLock { state in
            guard Int(index) >= state.tracks.count - 1 else { return }
            state.waiting[Int(index)] = .some(phase)
            while let next = state.waiting.removeValue(forKey: state.tracks.count - 1), let last = state.tracks.last {
                state.tracks.append(Self.follow(last, next, at: state.tracks.count - 1))
            }
        }
    }

    private static func follow(_ track: Track, _ phase: Double?, at index: Int) -> Track {
        guard let phase, phase.isFinite else { return track }
        var track = track
        // The slot's own alignment is phase 0 at its beginning.
        let steps = Double(index - (track.index ?? -1))
        let expected = track.phase + track.rate * steps
        track.rate += rateGain * (phase - expected) / steps
        track.phase = expected + phaseGain * (phase - expected)
        track.index = index
        return track
    }
}
