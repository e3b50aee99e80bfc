public import KeyMaterial
internal import PostProcessingKernels
public import QKDModel

/// The receiver's end: turns quadratures into a message and raw key. For one thread at a time.
public final class FrameEncoder {
    public let code: ReconciliationCode
    public let level: KernelLevel
    private let random: any RandomSource

    /// - Parameter random: source of the words, which become key: the kernel's generator in production.
    /// - Throws: `ReconciliationError.kernelUnavailable`.
    public init(code: ReconciliationCode, random: any RandomSource, level: KernelLevel = .best) throws {
        guard level.isAvailable else { throw ReconciliationError.kernelUnavailable(level) }
        self.code = code
        self.random = random
        self.level = level
    }

    /// Encodes one frame with a fresh word.
    /// - Parameters:
    ///   - quadratures: `code.frameBits` values x0, p0, x1, p1, ... in any one unit.
    ///   - hashKey: 64 uniform bits, the same at both ends, one key per block.
    /// - Returns: the message, which may be public, and `code.coreBits` raw key bits (bit i in byte i / 8, lowest bit first).
    /// - Throws: `ReconciliationError.frameLength`, `.unusableQuadratures`.
    public func encode(
        quadratures: UnsafeBufferPointer<Float>, hashKey: UInt64
    ) throws -> (message: FrameMessage, core: SecretBytes) {
        let bits = code.frameBits
        guard quadratures.count == bits else { throw ReconciliationError.frameLength(expected: bits, found: quadratures.count) }
        let word = SecretBytes(count: bits / 8, random: random)
        let rotated = rotate(quadratures, word)
        if let group = rotated.norms.firstIndex(where: { !$0.isFinite }) { throw ReconciliationError.unusableQuadratures(group: group) }
        let core = word.slice(0..<code.coreBits / 8)
        let message = FrameMessage(
            rotations: rotated.rotations, norms: rotated.norms, syndrome: syndrome(word),
            verification: Verification.hash(core, key: hashKey))
        return (message, core)
    }

    private func rotate(_ quadratures: UnsafeBufferPointer<Float>, _ word: SecretBytes) -> (rotations: [Int8], norms: [Float]) {
        let bits = code.frameBits
        let planes = code.planes(of: word)
        var norms: [Float] = []
        let rotations = [Int8](unsafeUninitializedCapacity: bits) { rotations, filledRotations in
            norms = [Float](unsafeUninitializedCapacity: bits / 8) { norms, filledNorms in
                planes.withWords {
                    rotation_encode(
                        level.raw, quadratures.baseAddress, $0.baseAddress, bits / ROTATION_SET, rotations.baseAddress,
                        norms.baseAddress)
                }
                filledNorms = bits / 8
            }
            filledRotations = bits
        }
        return (rotations, norms)
    }

    private func syndrome(_ word: SecretBytes) -> [UInt8] {
        let words = [UInt64](unsafeUninitializedCapacity: code.syndromeBits / 64) { out, filled in
            word.withWords { if let w = $0.baseAddress, let s = out.baseAddress { code.syndrome(of: w, into: s) } }
            filled = code.syndromeBits / 64
        }
        return words.withUnsafeBytes { [UInt8]($0) }
    }
}

/// The frame's short universal hash (PostProcessingKernels/include/frame_hash.h: two binary fields, at most a share
/// 2^-24 + 2^-30 of the keys takes two different cores of the shorter codes for the same).
enum Verification {
    static func hash(_ core: SecretBytes, key: UInt64) -> UInt32 {
        core.withBytes { frame_hash(key, $0.assumingMemoryBound(to: UInt8.self).baseAddress, $0.count) }
    }
}

extension SecretBytes {
    /// The bytes as 64-bit words; words and packed bits agree on the little-endian machines this runs on.
    func withWords<R>(_ body: (UnsafeBufferPointer<UInt64>) throws -> R) rethrows -> R {
        try withBytes { try body($0.assumingMemoryBound(to: UInt64.self)) }
    }

    func withMutableWords<R>(_ body: (UnsafeMutableBufferPointer<UInt64>) throws -> R) rethrows -> R {
        try withMutableBytes { try body($0.assumingMemoryBound(to: UInt64.self)) }
    }
}

extension ReconciliationCode {
    /// The word in the order of the rotations' planes.
    func planes(of word: SecretBytes) -> SecretBytes {
        let planes = SecretBytes(count: frameBits / 8)
        word.withWords { from in
            planes.withMutableWords { to in
                if let from = from.baseAddress, let to = to.baseAddress { self.planes(of: from, into: to) }
            }
        }
        return planes
    }
}
