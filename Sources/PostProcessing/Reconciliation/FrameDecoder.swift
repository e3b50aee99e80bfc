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

/// The transmitter's end: finds the receiver's word from what was sent and the message. For one thread at a time; holds about
/// 1 MB (5 MB for the long codes) of scratch memory, which is overwritten after each frame.
public final class FrameDecoder {
    public let code: ReconciliationCode
    public let level: KernelLevel
    private let decoder: OpaquePointer
    private let likelihoods: SecretBytes

    /// Passes after which a frame is given up by default; frames at a code's design point take 20 to 50.
    public static let defaultPasses = 150

    /// - Throws: `ReconciliationError.kernelUnavailable`.
    public init(code: ReconciliationCode, level: KernelLevel = .best) throws {
        guard let decoder = ldpc_decoder_open(code.table.code, level.raw) else { throw ReconciliationError.kernelUnavailable(level) }
        self.decoder = decoder
        self.code = code
        self.level = level
        likelihoods = SecretBytes(count: code.frameBits * MemoryLayout<Float>.size)
    }

    deinit { ldpc_decoder_close(decoder) }

    /// Decodes one frame.
    /// - Parameters:
    ///   - symbols: `code.frameBits` values x0, p0, x1, p1, ... as sent, in any one unit.
    ///   - snr: signal-to-noise ratio per quadrature at the receiver.
    ///   - hashKey: as at the receiver's end.
    /// - Throws: `ReconciliationError` when the frame or the message cannot be of this code.
    public func decode(
        symbols: UnsafeBufferPointer<Float>, message: FrameMessage, snr: Double, hashKey: UInt64,
        maximumPasses: Int = FrameDecoder.defaultPasses
    ) throws -> FrameOutcome {
        guard symbols.count == code.frameBits else {
            throw ReconciliationError.frameLength(expected: code.frameBits, found: symbols.count)
        }
        guard snr.isFinite, snr > 0 else { throw ReconciliationError.signalToNoise(snr) }
        try message.check(for: code)
        guard let scale = Self.scale(symbols, message.norms, snr: snr) else { return .failed(passes: 0) }
        defer { likelihoods.zeroise() }
        let word = SecretBytes(count: code.frameBits / 8)
        let result = run(symbols, message, scale: scale, passes: maximumPasses, into: word)
        let passes = Int(result.passes)
        guard result.converged else { return .failed(passes: passes) }
        let core = word.slice(0..<code.coreBits / 8)
        guard Verification.hash(core, key: hashKey) == message.verification else { return .failed(passes: passes) }
        return .decoded(core: core, quadratures: reconstruct(word, message), passes: passes)
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
        let syndrome = words(message.syndrome)
        let sound = word.withMutableWords { words in
            core.withBytes { UnsafeMutableRawBufferPointer(words).copyMemory(from: $0) }
            return ldpc_complete(code.table.code, syndrome, words.baseAddress)
        }
        guard sound else { throw ReconciliationError.disclosedCore }
        return reconstruct(word, message)
    }

    private func words(_ syndrome: [UInt8]) -> [UInt64] {
        [UInt64](unsafeUninitializedCapacity: code.syndromeBits / 64) { words, filled in
            syndrome.withUnsafeBytes { UnsafeMutableRawBufferPointer(words).copyMemory(from: $0) }
            filled = code.syndromeBits / 64
        }
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

    private func run(
        _ symbols: UnsafeBufferPointer<Float>, _ message: FrameMessage, scale: Float, passes: Int, into word: SecretBytes
    ) -> ldpc_result {
        let syndrome = words(message.syndrome)
        let limits = ldpc_limits(maximum_passes: Int32(clamping: passes), stall_passes: 0)
        return likelihoods.withMutableBytes { bytes in
            let llr = bytes.assumingMemoryBound(to: Float.self)
            rotation_llr(
                level.raw, symbols.baseAddress, message.rotations, message.norms, scale, code.frameBits / ROTATION_SET,
                llr.baseAddress)
            return word.withMutableWords { ldpc_decode(decoder, llr.baseAddress, syndrome, limits, $0.baseAddress) }
        }
    }

    private func reconstruct(_ word: SecretBytes, _ message: FrameMessage) -> SecretBytes {
        let quadratures = SecretBytes(count: code.frameBits * MemoryLayout<Float>.size)
        code.planes(of: word).withWords { planes in
            quadratures.withMutableBytes { bytes in
                rotation_reconstruct(
                    level.raw, message.rotations, message.norms, planes.baseAddress, code.frameBits / ROTATION_SET,
                    bytes.assumingMemoryBound(to: Float.self).baseAddress)
            }
        }
        return quadratures
    }
}
