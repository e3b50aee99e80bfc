// Shared by the Reconciliation*Tests.

import KeyMaterial
import PostProcessing
import QKDModel
import Synchronization

/// SplitMix64: the same frames in every run.
final class SplitMix: RandomSource {
    private let state: Mutex<UInt64>

    init(_ seed: UInt64) { state = Mutex(seed) }

    func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        state.withLock { state in
            for start in stride(from: 0, to: buffer.count, by: 8) {
                state &+= 0x9E37_79B9_7F4A_7C15
                var word = state
                word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
                word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
                word ^= word >> 31
                withUnsafeBytes(of: word) { bytes in
                    for offset in 0..<min(8, buffer.count - start) { buffer[start + offset] = bytes[offset] }
                }
            }
        }
    }
}

let r10 = "r10-n204800"
let r05 = "r05-n204800"

/// One frame over an ideal channel, encoded.
struct Trial {
    var sent: [Float]
    var received: [Float]
    var message: FrameMessage
    var core: SecretBytes
    var hashKey: UInt64
    var snr: Double

    init(_ code: ReconciliationCode, efficiency: Double, seed: UInt64, level: KernelLevel = .best) throws {
        let random = SplitMix(seed)
        snr = code.designSNR(efficiency: efficiency)
        var channel = GaussianChannel(snr: snr, count: code.frameBits, random: random)
        channel.next()
        (sent, received) = (channel.sent, channel.received)
        hashKey = random.word()
        let encoder = try FrameEncoder(code: code, random: random, level: level)
        let key = hashKey
        (message, core) = try received.withUnsafeBufferPointer { try encoder.encode(quadratures: $0, hashKey: key) }
    }

    func decode(with decoder: FrameDecoder, snr: Double? = nil, maximumPasses: Int = FrameDecoder.defaultPasses) throws -> FrameOutcome {
        try sent.withUnsafeBufferPointer {
            try decoder.decode(
                symbols: $0, message: message, snr: snr ?? self.snr, hashKey: hashKey, maximumPasses: maximumPasses)
        }
    }
}

extension FrameOutcome {
    var core: SecretBytes? {
        if case .decoded(let core, _, _) = self { core } else { nil }
    }

    var quadratures: [Float]? {
        if case .decoded(_, let quadratures, _) = self { quadratures.withFloats(Array.init) } else { nil }
    }

    var passes: Int {
        switch self {
        case .decoded(_, _, let passes), .failed(let passes): passes
        }
    }
}
