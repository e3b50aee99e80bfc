internal import KeyMaterial
internal import PostProcessingKernels
internal import QKDModel

/// How quickly this machine hashes a block of given size.
public struct PrivacyAmplificationBenchmark: Codable, Hashable, Sendable {
    public let inputBits: Int
    public let outputBits: Int
    public let seconds: Double
    /// Which way the bits were made, "transform, GFNI" say.
    public let method: String
    public var inputBitsPerSecond: Double { Double(inputBits) / seconds }

    /// Ways by transforms on this processor, the quickest first.
    public static var transforms: [String] {
        ToeplitzHash.Method.all.reversed().filter { if case .transform = $0 { true } else { false } }.map(\.description)
    }

    /// Hashes random bits. Making input and seed is not counted; transforming the seed is.
    ///
    /// - Parameters:
    ///   - repeats: of which the quickest counts.
    ///   - method: one of `transforms`; nil: what a block of this size is hashed by.
    /// - Throws: `PostProcessingError.outOfRange` for lengths that cannot be hashed.
    public static func run(
        inputBits: Int, outputBits: Int, repeats: Int = 1, method: String? = nil
    ) throws(PostProcessingError) -> PrivacyAmplificationBenchmark {
        guard inputBits > 0, inputBits <= ToeplitzHash.maximumBits, outputBits >= 0, outputBits <= inputBits else {
            throw .outOfRange(quantity: "input bits", value: Double(inputBits), allowed: "positive and not fewer than output bits")
        }
        let random = KernelRandom()
        let input = SecretBytes(count: (inputBits + 7) / 8, random: random)
        let seed = random.bytes(ToeplitzHash.seedBytes(inputBits: inputBits, outputBits: outputBits))
        let asked = ToeplitzHash.Method.all.last { $0.description == method }
        let method = asked ?? ToeplitzHash.best(inputBits: inputBits, outputBits: outputBits)
        var quickest = Double.infinity
        for _ in 0..<max(1, repeats) {
            let start = ThreadTime.now
            let output = try ToeplitzHash.hash(input: [input], inputBits: inputBits, outputBits: outputBits, seed: seed, by: method)
            quickest = min(quickest, ThreadTime.now - start)
            precondition(output.count == (outputBits + 7) / 8, "a hash of the wrong length")
        }
        return PrivacyAmplificationBenchmark(
            inputBits: inputBits, outputBits: outputBits, seconds: quickest, method: method.description)
    }
}

extension ToeplitzHash.Method: CustomStringConvertible {
    package var description: String {
        switch self {
        case .tiles(let kernel, _):
            "tiles, "
                + (kernel == Int32(TOEPLITZ_VPCLMULQDQ) ? "VPCLMULQDQ" : kernel == Int32(TOEPLITZ_PCLMULQDQ) ? "PCLMULQDQ" : "portable")
        case .transform(let kind):
            "transform, " + (kind == ADDITIVE_FFT_GFNI ? "GFNI" : kind == ADDITIVE_FFT_AVX2 ? "AVX2" : "portable")
        }
    }
}
