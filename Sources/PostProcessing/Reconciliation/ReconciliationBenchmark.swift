internal import Glibc
internal import KeyMaterial
public import QKDModel

/// Monte Carlo of whole frames over an ideal Gaussian channel: speed, frame error rate, passes.
public struct ReconciliationBenchmark: Sendable {
    /// Code bits per second of one thread at the transmitter's end (rotation, decoding, reconstruction).
    public var decodedBitsPerSecond: Double
    /// Code bits per second of one thread at the receiver's end (random word, rotation, syndrome, hash).
    public var encodedBitsPerSecond: Double
    public var frames: Int
    /// Frames that ended in anything but the receiver's core bits.
    public var frameErrors: Int
    /// Of these, the ones that the hash let pass.
    public var undetected: Int
    public var meanPasses: Double
    public var level: KernelLevel

    public var codeBitsPerSecond: Double { decodedBitsPerSecond }
    public var frameErrorRate: Double { frames > 0 ? Double(frameErrors) / Double(frames) : 0 }

    /// - Parameters:
    ///   - efficiency: reconciliation efficiency; sets the channel's signal-to-noise ratio through the code's rate.
    ///   - random: source of symbols, noise and words; the same source gives the same frames.
    /// - Throws: `ReconciliationError.kernelUnavailable`.
    public static func run(
        code: ReconciliationCode, efficiency: Double, frames: Int, kernel: KernelLevel = .best, random: any RandomSource = KernelRandom(),
        maximumPasses: Int = FrameDecoder.defaultPasses
    ) throws -> ReconciliationBenchmark {
        let encoder = try FrameEncoder(code: code, random: random, level: kernel)
        let decoder = try FrameDecoder(code: code, level: kernel)
        let snr = code.designSNR(efficiency: efficiency)
        var channel = GaussianChannel(snr: snr, count: code.frameBits, random: random)
        var result = ReconciliationBenchmark(
            decodedBitsPerSecond: 0, encodedBitsPerSecond: 0, frames: frames, frameErrors: 0, undetected: 0, meanPasses: 0, level: kernel)
        var encoding = Duration.zero
        var decoding = Duration.zero
        let clock = ContinuousClock()
        for _ in 0..<frames {
            channel.next()
            let hashKey = random.word()
            let start = clock.now
            let sent = try channel.received.withUnsafeBufferPointer { try encoder.encode(quadratures: $0, hashKey: hashKey) }
            let middle = clock.now
            let outcome = try channel.sent.withUnsafeBufferPointer {
                try decoder.decode(symbols: $0, message: sent.message, snr: snr, hashKey: hashKey, maximumPasses: maximumPasses)
            }
            decoding += clock.now - middle
            encoding += middle - start
            switch outcome {
            case .decoded(let core, _, let passes):
                result.meanPasses += Double(passes) / Double(frames)
                guard !core.matches(sent.core) else { continue }
                result.undetected += 1
            case .failed(let passes):
                result.meanPasses += Double(passes) / Double(frames)
            }
            result.frameErrors += 1
        }
        let bits = Double(code.frameBits * frames)
        result.decodedBitsPerSecond = bits / (decoding / .seconds(1))
        result.encodedBitsPerSecond = bits / (encoding / .seconds(1))
        return result
    }
}

/// y = sqrt(snr) x + noise, both of unit variance.
package struct GaussianChannel {
    package private(set) var sent: [Float]
    package private(set) var received: [Float]
    private let gain: Float
    private let random: any RandomSource

    package init(snr: Double, count: Int, random: any RandomSource) {
        sent = [Float](repeating: 0, count: count)
        received = sent
        gain = Float(snr.squareRoot())
        self.random = random
    }

    /// The next frame.
    package mutating func next() {
        Self.fill(&sent, random)
        Self.fill(&received, random)
        for i in sent.indices { received[i] += gain * sent[i] }
    }

    /// Standard normal values by the Box-Muller method.
    private static func fill(_ values: inout [Float], _ random: any RandomSource) {
        let words = random.bytes(4 * values.count).withUnsafeBytes { [UInt32]($0.bindMemory(to: UInt32.self)) }
        for i in stride(from: 0, to: values.count - 1, by: 2) {
            let radius = (-2 * logf((Float(words[i] >> 8) + 0.5) / 16_777_216)).squareRoot()
            let angle = Float(words[i + 1] >> 8) * (2 * Float.pi / 16_777_216)
            values[i] = radius * cosf(angle)
            values[i + 1] = radius * sinf(angle)
        }
    }
}
