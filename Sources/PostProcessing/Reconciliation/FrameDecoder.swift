public import KeyMaterial
internal import PostProcessingKernels

/// What became of a frame at the transmitter's end.
public enum FrameOutcome: Sendable {
    /// The word was found and its hash agrees.
    /// - core: raw key, `coreBits` bits, the same as the receiver's.
    /// - quadratures: the receiver's quadratures in its unit (Float, `frameBits` of them, the frame's order; read them with
    ///   `withFloats`), up to the rotations' rounding: right to .6 % of a group's norm, norms exact. They determine the word: secret.
    case decoded(core: SecretBytes, quadratures: SecretBytes, passes: Int)
    /// Not found, or found and refused by the hash.
    case failed(passes: Int)
}

extension SecretBytes {
    /// The bytes as native floats.
    public func withFloats<R>(_ body: (UnsafeBufferPointer<Float>) throws -> R) rethrows -> R {
        try withBytes { try body($0.assumingMemoryBound(to: Float.self)) }
    }
}

/// A frame that was decoded and whose hash agrees.
public struct DecodedFrame: Sendable {
    /// As in `FrameOutcome.decoded`.
    public var core: SecretBytes
    public var quadratures: SecretBytes
    /// Over all rounds.
    public var passes: Int
    /// Rounds of disclosure it took.
    public var rounds: Int
    /// Core bits that were disclosed for it, beyond syndrome and hash.
    public var disclosedBits: Int
    /// Bits by which this end asked for them, one a round. They depend on both ends' data: they count as disclosed.
    public var requestBits: Int { rounds }
}

/// How an attempt at a frame ended.
public enum FrameAttempt: Sendable {
    case decoded(DecodedFrame)
    /// Not yet, or to a word that the hash refuses: ask the receiver's end for `frame.nextRound`, or give it up.
    case unfinished(UnfinishedFrame)
    /// Given up: no round is left, or there is nothing to decode. The frame is to be disclosed altogether.
    case failed(passes: Int, rounds: Int)
}

/// The transmitter's end: finds the receiver's word from what was sent and the message. For one thread at a time; holds about
/// 1 MB (5 MB for the long codes) of scratch memory, which is overwritten after each frame.
public final class FrameDecoder {
    public let code: ReconciliationCode
    public let level: KernelLevel
    private var scratch: DecoderScratch
    private let likelihoods: SecretBytes

    /// Passes after which a frame is given up by default; frames at a code's design point take 20 to 50.
    public static let defaultPasses = 150

    /// An attempt asks for more bits when so many passes in a row have hardly helped (ldpc.h): they cost less than passes do.
    static let patience = 12

    /// - Throws: `ReconciliationError.kernelUnavailable`.
    public init(code: ReconciliationCode, level: KernelLevel = .best) throws {
        scratch = try DecoderScratch(code: code, level: level)
        self.code = code
        self.level = level
        likelihoods = SecretBytes(count: code.frameBits * MemoryLayout<Float>.size)
    }

    /// Decodes one frame by its message alone.
    /// - Parameters:
    ///   - symbols: `code.frameBits` values x0, p0, x1, p1, ... as sent, in any one unit.
    ///   - snr: signal-to-noise ratio per quadrature at the receiver.
    ///   - hashKey: as at the receiver's end.
    /// - Throws: `ReconciliationError` when the frame or the message cannot be of this code.
    public func decode(
        symbols: UnsafeBufferPointer<Float>, message: FrameMessage, snr: Double, hashKey: UInt64,
        maximumPasses: Int = FrameDecoder.defaultPasses
    ) throws -> FrameOutcome {
        guard let run = try begin(symbols, message, snr: snr, passes: maximumPasses, patience: 0) else { return .failed(passes: 0) }
        guard run.converged, let frame = scratch.finish(message, hashKey: hashKey) else {
            scratch.forget()
            return .failed(passes: run.passes)
        }
        return .decoded(core: frame.core, quadratures: frame.quadratures, passes: run.passes)
    }

    /// Like `decode`, for a frame that may get more bits: one that does not decode keeps its messages and this decoder's scratch
    /// memory (the decoder takes new), until more bits come or it is dropped.
    public func attempt(
        symbols: UnsafeBufferPointer<Float>, message: FrameMessage, snr: Double, hashKey: UInt64,
        maximumPasses: Int = FrameDecoder.defaultPasses
    ) throws -> FrameAttempt {
        try attempt(
            symbols: symbols, message: message, snr: snr, hashKey: hashKey, maximumPasses: maximumPasses, patience: Self.patience)
    }

    /// - Parameter patience: passes in a row after which more bits are asked for if they hardly helped; 0: all passes are made.
    func attempt(
        symbols: UnsafeBufferPointer<Float>, message: FrameMessage, snr: Double, hashKey: UInt64, maximumPasses: Int, patience: Int
    ) throws -> FrameAttempt {
        guard let run = try begin(symbols, message, snr: snr, passes: maximumPasses, patience: patience) else {
            return .failed(passes: 0, rounds: 0)
        }
        if run.converged, let frame = scratch.finish(message, hashKey: hashKey) {
            return .decoded(
                DecodedFrame(core: frame.core, quadratures: frame.quadratures, passes: run.passes, rounds: 0, disclosedBits: 0))
        }
        let fresh: DecoderScratch
        do { fresh = try DecoderScratch(code: code, level: level) } catch {
            scratch.forget()
            throw error
        }
        let unfinished = UnfinishedFrame(scratch, message: message, hashKey: hashKey, after: run)
        scratch = fresh
        return .unfinished(unfinished)
    }

    /// - Returns: nil when frame or norms vanish.
    private func begin(
        _ symbols: UnsafeBufferPointer<Float>, _ message: FrameMessage, snr: Double, passes: Int, patience: Int
    ) throws -> DecoderScratch.Run? {
        guard try likelihoods(symbols, message, snr: snr) else { return nil }
        defer { likelihoods.zeroise() }
        return likelihoods.withMutableBytes {
            scratch.begin(
                UnsafePointer($0.assumingMemoryBound(to: Float.self).baseAddress), message.syndrome, passes: passes, patience: patience)
        }
    }

    /// Fills in `likelihoods`, in plane order.
    /// - Returns: whether there is anything to decode.
    private func likelihoods(_ symbols: UnsafeBufferPointer<Float>, _ message: FrameMessage, snr: Double) throws -> Bool {
        guard symbols.count == code.frameBits else {
            throw ReconciliationError.frameLength(expected: code.frameBits, found: symbols.count)
        }
        guard snr.isFinite, snr > 0 else { throw ReconciliationError.signalToNoise(snr) }
        try message.check(for: code)
        guard let scale = Self.scale(symbols, message.norms, snr: snr) else { return false }
        likelihoods.withMutableBytes { bytes in
            rotation_llr(
                level.raw, symbols.baseAddress, message.rotations, message.norms, scale, code.frameBits / ROTATION_SET,
                bytes.assumingMemoryBound(to: Float.self).baseAddress)
        }
        return true
    }

    /// Log-likelihood ratios of a frame as they enter the decoder, for comparison with other decoders.
    package func likelihoods(symbols: UnsafeBufferPointer<Float>, message: FrameMessage, snr: Double) throws -> [Float] {
        defer { likelihoods.zeroise() }
        return try likelihoods(symbols, message, snr: snr) ? likelihoods.withFloats(Array.init) : []
    }

    /// The receiver's quadratures of a frame that failed and whose core the receiver's end then disclosed: failed frames enter
    /// the estimation too. As in `FrameOutcome.decoded`; not secret any more, and never key.
    /// - Parameter core: `coreBits` bits as `FrameEncoder.encode` returned them.
    /// - Throws: `ReconciliationError.disclosedCore` when core, syndrome and hash do not belong together.
    public func quadratures(disclosing core: SecretBytes, message: FrameMessage, hashKey: UInt64) throws -> SecretBytes {
        try message.check(for: code)
        guard core.count * 8 == code.coreBits, Verification.hash(core, key: hashKey) == message.verification else {
            throw ReconciliationError.disclosedCore
        }
        let word = SecretBytes(count: code.frameBits / 8)
        let syndrome = DecoderScratch.words(message.syndrome)
        let sound = word.withMutableWords { words in
            core.withBytes { UnsafeMutableRawBufferPointer(words).copyMemory(from: $0) }
            return ldpc_complete(code.table.code, syndrome, words.baseAddress)
        }
        guard sound else { throw ReconciliationError.disclosedCore }
        return code.reconstruct(word, message, level)
    }

    /// From (norm) (alpha x)_i to a log-likelihood ratio.
    ///
    /// With x and y of unit variance and correlation rho, rho^2 = SNR / (1 + SNR): alpha x = rho |y| u + sqrt(1 - rho^2) noise, u = +-1 / sqrt 8,
    /// so that LLR = 2 rho |y| (alpha x)_i / (sqrt 8 (1 - rho^2)) and rho / (1 - rho^2) = sqrt(SNR (1 + SNR)).
    private static func scale(_ symbols: UnsafeBufferPointer<Float>, _ norms: [Float], snr: Double) -> Float? {
        let sent = rotation_mean_square(symbols.baseAddress, symbols.count)
        let received = norms.withUnsafeBufferPointer { rotation_mean_square($0.baseAddress, $0.count) } / 8
        let scale = Float((snr * (1 + snr) / 2 / (sent * received)).squareRoot())
        return scale.isFinite && scale > 0 ? scale : nil
    }
}
