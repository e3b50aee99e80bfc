internal import Glibc
internal import KeyMaterial
public import QKDModel
internal import QuantumOptics

/// Monte Carlo of whole frames over an ideal Gaussian channel: speed, frame errors by type, passes, disclosure.
public struct ReconciliationBenchmark: Sendable {
    /// Code bits per second of a thread's processor time at the transmitter's end (rotation, LLRs, interleaving, decoding, reconstruction).
    public var decodedBitsPerSecond = 0.0
    /// The same at the receiver's end (random word, rotation, syndrome, hash).
    public var encodedBitsPerSecond = 0.0
    public var frames: Int
    /// Frames that their message alone did not bring to the receiver's core bits.
    public var frameErrors = 0
    /// Frames that came to a word with the right syndrome which the hash refused.
    public var refused = 0
    /// Frames that the hash let pass with the wrong core.
    public var undetected = 0
    /// Frames that were given up: their core is disclosed.
    public var lost = 0
    /// Core bits disclosed, and bits that asked for them, for frames that were decoded in the end.
    public var disclosedBits = 0
    public var requestBits = 0
    public var meanPasses = 0.0
    public let level: KernelLevel
    /// Of the code at the channel's signal-to-noise ratio.
    public let efficiency: Double
    let code: ReconciliationCode

    public var codeBitsPerSecond: Double { decodedBitsPerSecond }
    public var frameErrorRate: Double { frames > 0 ? Double(frameErrors) / Double(frames) : 0 }
    /// Share of frames whose bits are lost in the end, whatever was disclosed.
    public var finalFrameErrorRate: Double { frames > 0 ? Double(lost + undetected) / Double(frames) : 0 }
    /// Efficiency after what was disclosed and lost.
    public var netEfficiency: Double {
        let information = Double((code.frameBits - code.syndromeBits) * max(1, frames))
        return efficiency * (1 - finalFrameErrorRate - Double(disclosedBits + requestBits) / information)
    }

    /// - Parameters:
    ///   - efficiency: reconciliation efficiency; sets the channel's signal-to-noise ratio through the code's rate.
    ///   - random: source of symbols, noise and words; the same source gives the same frames.
    ///   - disclosing: whether frames that do not decode get rounds of disclosure. Their time counts.
    /// - Throws: `ReconciliationError.kernelUnavailable`.
    public static func run(
        code: ReconciliationCode, efficiency: Double, frames: Int, kernel: KernelLevel = .best, random: any RandomSource = KernelRandom(),
        maximumPasses: Int = FrameDecoder.defaultPasses, disclosing: Bool = false
    ) throws -> ReconciliationBenchmark {
        let encoder = try FrameEncoder(code: code, random: random, level: kernel)
        let decoder = try FrameDecoder(code: code, level: kernel)
        let snr = code.designSNR(efficiency: efficiency)
        var channel = GaussianChannel(snr: snr, count: code.frameBits, random: random)
        var result = ReconciliationBenchmark(frames: frames, level: kernel, efficiency: efficiency, code: code)
        var (encoding, decoding) = (0.0, 0.0)
        for _ in 0..<frames {
            channel.next()
            let hashKey = random.word()
            let start = ThreadTime.now
            let sent = try channel.received.withUnsafeBufferPointer { try encoder.encode(quadratures: $0, hashKey: hashKey) }
            let middle = ThreadTime.now
            let attempt = try channel.sent.withUnsafeBufferPointer {
                try decoder.attempt(
                    symbols: $0, message: sent.message, snr: snr, hashKey: hashKey, maximumPasses: maximumPasses,
                    patience: disclosing ? FrameDecoder.patience : 0)
            }
            let end = disclosing ? try disclose(attempt, sent.core, code) : attempt
            decoding += ThreadTime.now - middle
            encoding += middle - start
            if case .unfinished(let frame) = attempt, frame.refusals > 0 { result.refused += 1 }
            result.count(end, sent.core)
        }
        let bits = Double(code.frameBits * frames)
        result.decodedBitsPerSecond = bits / decoding
        result.encodedBitsPerSecond = bits / encoding
        return result
    }

    private static func disclose(_ first: FrameAttempt, _ core: SecretBytes, _ code: ReconciliationCode) throws -> FrameAttempt {
        var attempt = first
        while case .unfinished(let frame) = attempt, let round = frame.nextRound {
            attempt = try frame.resume(with: FrameDisclosure(of: core, round: round, code: code))
        }
        return attempt
    }

    private mutating func count(_ attempt: FrameAttempt, _ core: SecretBytes) {
        let passes: Int
        switch attempt {
        case .decoded(let frame):
            passes = frame.passes
            let wrong = !frame.core.matches(core)
            if wrong { undetected += 1 }
            if wrong || frame.rounds > 0 { frameErrors += 1 }
            disclosedBits += frame.disclosedBits
            requestBits += frame.requestBits
        case .unfinished(let frame):
            passes = frame.passes
            frameErrors += 1
            lost += 1
        case .failed(let taken, _):
            passes = taken
            frameErrors += 1
            lost += 1
        }
        meanPasses += Double(passes) / Double(frames)
    }

    /// The range of rates that `count` of `frames` is no surprise for: 95 % by Clopper and Pearson.
    public static func confidence(_ count: Int, of frames: Int) -> ClosedRange<Double> {
        guard frames > 0 else { return 0...1 }
        func atMost(_ k: Int, _ p: Double) -> Double {
            guard k >= 0 else { return 0 }
            let odds = log(p) - log1p(-p)
            var term = Double(frames) * log1p(-p)
            var sum = exp(term)
            for i in 0..<k {
                term += log(Double(frames - i) / Double(i + 1)) + odds
                sum += exp(term)
            }
            return sum
        }
        func root(_ above: (Double) -> Bool) -> Double {
            var (low, high) = (0.0, 1.0)
            for _ in 0..<60 {
                let middle = (low + high) / 2
                if above(middle) { low = middle } else { high = middle }
            }
            return (low + high) / 2
        }
        let low = count <= 0 ? 0 : root { 1 - atMost(count - 1, $0) < 0.025 }
        let high = count >= frames ? 1 : root { atMost(count, $0) > 0.025 }
        return min(low, high)...high
    }
}

/// y = sqrt(snr) x + noise, both of unit variance.
package struct GaussianChannel {
    package private(set) var sent: [Float]
    package private(set) var received: [Float]
    private let gain: Float
    private let deviates: GaussianStream
    private var drawn: UInt64 = 0

    package init(snr: Double, count: Int, random: any RandomSource) {
        sent = [Float](repeating: 0, count: count)
        received = sent
        gain = Float(snr.squareRoot())
        deviates = GaussianStream(seed: random.word(), stream: 0)
    }

    /// The next frame.
    package mutating func next() {
        sent.withUnsafeMutableBufferPointer { x in
            received.withUnsafeMutableBufferPointer { y in
                deviates.fill(x: x, p: y, first: drawn)
                for i in y.indices { y[i] += gain * x[i] }
            }
        }
        drawn += UInt64(sent.count)
    }
}
