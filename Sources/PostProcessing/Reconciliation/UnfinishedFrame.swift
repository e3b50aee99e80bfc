internal import KeyMaterial
internal import PostProcessingKernels

/// A frame that did not decode by its message alone, with the decoder's messages as they stand: 1 MB (5 MB for the long codes) until it
/// is dropped. For one thread at a time, any one.
public final class UnfinishedFrame: @unchecked Sendable {
    public let code: ReconciliationCode
    /// Passes so far.
    public private(set) var passes: Int
    /// Rounds taken in.
    public private(set) var rounds = 0
    /// How often the hash refused a word that met all checks. More bits lead away from it.
    public private(set) var refusals: Int
    /// Few core checks fail, or none.
    private var isNear: Bool
    private let scratch: DecoderScratch
    private let message: FrameMessage
    private let hashKey: UInt64

    /// Passes per round after which the next one is asked for.
    public static let passesPerRound = 50
    /// A round gives up early: a few more bits help more than many passes.
    private static let stallPasses: Int32 = 4

    init(_ scratch: DecoderScratch, message: FrameMessage, hashKey: UInt64, after run: DecoderScratch.Run) {
        (self.scratch, self.message, self.hashKey) = (scratch, message, hashKey)
        (passes, refusals, isNear) = (run.passes, run.converged ? 1 : 0, run.isNear)
        code = scratch.code
    }

    deinit { scratch.forget() }

    /// The round to ask the receiver's end for; nil when the frame is to be disclosed altogether: after the last round, and after half of them
    /// when the frame is still far from decoded.
    public var nextRound: Int? { rounds < (isNear ? code.disclosureRounds : code.disclosureRounds / 2) ? rounds + 1 : nil }

    /// Core bits disclosed so far.
    public var disclosedBits: Int { rounds * code.disclosureBits }

    /// Goes on with a round's bits.
    /// - Returns: `.unfinished` with this object, while it may go on.
    /// - Throws: `ReconciliationError.disclosureRound` when it is not the next round, `.messageField` when it is of another code.
    public func resume(with disclosure: FrameDisclosure) throws -> FrameAttempt {
        guard disclosure.round == nextRound else { throw ReconciliationError.disclosureRound(disclosure.round) }
        guard disclosure.bits.count == (code.disclosureBits + 7) / 8 else {
            throw ReconciliationError.messageField("number of disclosed bytes")
        }
        rounds += 1
        scratch.reveal(code.disclosurePositions(round: rounds).map { UInt32($0) }, disclosure.bits)
        let more = scratch.proceed(passes: Self.passesPerRound, stall: Self.stallPasses, patience: FrameDecoder.patience)
        passes += more.passes
        isNear = more.isNear
        if more.converged {
            if let frame = scratch.finish(message, hashKey: hashKey) {
                return .decoded(
                    DecodedFrame(
                        core: frame.core, quadratures: frame.quadratures, passes: passes, rounds: rounds, disclosedBits: disclosedBits))
            }
            refusals += 1
        }
        guard nextRound != nil else {
            scratch.forget()
            return .failed(passes: passes, rounds: rounds)
        }
        return .unfinished(self)
    }
}

/// A kernel decoder and its memory, with one frame in it at most.
final class DecoderScratch: @unchecked Sendable {
    let code: ReconciliationCode
    private let level: KernelLevel
    private let decoder: OpaquePointer

    /// How a run of passes ended.
    struct Run {
        var converged: Bool
        var passes: Int
        /// Fewer than one core check in fifty fails.
        var isNear: Bool
    }

    init(code: ReconciliationCode, level: KernelLevel) throws {
        guard let decoder = ldpc_decoder_open(code.table.code, level.raw) else { throw ReconciliationError.kernelUnavailable(level) }
        (self.code, self.level, self.decoder) = (code, level, decoder)
    }

    deinit { ldpc_decoder_close(decoder) }

    func begin(_ llr: UnsafePointer<Float>?, _ syndrome: [UInt8], passes: Int, patience: Int) -> Run {
        ldpc_begin(decoder, llr, Self.words(syndrome))
        return proceed(passes: passes, stall: 0, patience: patience)
    }

    func proceed(passes: Int, stall: Int32, patience: Int) -> Run {
        let limits = ldpc_limits(maximum_passes: Int32(clamping: passes), stall_passes: stall, patience: Int32(clamping: patience))
        let result = ldpc_continue(decoder, limits)
        let checks = ldpc_core_rows(code.table.code) * ldpc_blocks(code.table.code) * 64
        return Run(converged: result.converged, passes: Int(result.passes), isNear: result.failing_checks * 50 < checks)
    }

    func reveal(_ positions: [UInt32], _ bits: [UInt8]) { ldpc_reveal(decoder, positions, positions.count, bits) }

    /// Core and quadratures of a converged frame, if the hash agrees. The scratch memory is empty then, otherwise it stays as it is.
    func finish(_ message: FrameMessage, hashKey: UInt64) -> (core: SecretBytes, quadratures: SecretBytes)? {
        let word = SecretBytes(count: code.frameBits / 8)
        word.withMutableWords { ldpc_word(decoder, Self.words(message.syndrome), $0.baseAddress) }
        let core = word.slice(0..<code.coreBits / 8)
        guard Verification.hash(core, key: hashKey) == message.verification else { return nil }
        forget()
        return (core, code.reconstruct(word, message, level))
    }

    func forget() { ldpc_forget(decoder) }

    static func words(_ syndrome: [UInt8]) -> [UInt64] {
        [UInt64](unsafeUninitializedCapacity: syndrome.count / 8) { words, filled in
            syndrome.withUnsafeBytes { UnsafeMutableRawBufferPointer(words).copyMemory(from: $0) }
            filled = syndrome.count / 8
        }
    }
}

extension ReconciliationCode {
    /// The receiver's quadratures from the word and the rotations.
    func reconstruct(_ word: SecretBytes, _ message: FrameMessage, _ level: KernelLevel) -> SecretBytes {
        let quadratures = SecretBytes(count: frameBits * MemoryLayout<Float>.size)
        planes(of: word).withWords { planes in
            quadratures.withMutableBytes { bytes in
                rotation_reconstruct(
                    level.raw, message.rotations, message.norms, planes.baseAddress, frameBits / ROTATION_SET,
                    bytes.assumingMemoryBound(to: Float.self).baseAddress)
            }
        }
        return quadratures
    }
}
