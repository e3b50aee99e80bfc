// A generator that gives the same bytes for the same seed. For tests: nothing here is fit for secrets.

public import QKDModel
internal import Synchronization

/// SplitMix64 behind the `RandomSource` protocol.
public final class SeededRandom: RandomSource {
    private let state: Mutex<UInt64>

    public init(_ seed: UInt64) { state = Mutex(seed) }

    public func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        state.withLock { state in
            for start in stride(from: 0, to: buffer.count, by: 8) {
                state &+= 0x9E37_79B9_7F4A_7C15
                var word = state
                word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
                word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
                word ^= word >> 31
                for offset in 0..<min(8, buffer.count - start) {
                    buffer[start + offset] = UInt8(truncatingIfNeeded: word >> (8 * UInt64(offset)))
                }
            }
        }
    }
}
