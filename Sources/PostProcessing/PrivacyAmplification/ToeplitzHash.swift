public import KeyMaterial
package import PostProcessingKernels

/// Privacy amplification by a binary Toeplitz matrix over a whole block.
///
/// `y_i = sum_j t_(n - 1 + i - j) x_j` over GF(2), n input bits x, m output bits y, n + m - 1 fresh, public, uniform seed bits t, which are sent
/// after x is fixed and serve once. Bit u of any string is bit u mod 8 of byte u / 8. For two different inputs the outputs are equal with a probability of
/// exactly 2^-m over the seed. The time taken depends on the lengths only.
///
/// Source: C. Bennett, G. Brassard, C. Crepeau, U. Maurer, Generalized privacy amplification (1995); Y. Mansour, N. Nisan, P. Tiwari (1993).
public struct ToeplitzHash: Sendable {
    public static let maximumBits = 1 << 34

    /// Bytes of seed: `ceil((n + m - 1) / 8)`; surplus bits of the last byte do not matter.
    public static func seedBytes(inputBits: Int, outputBits: Int) -> Int { (inputBits + outputBits - 1 + 7) / 8 }

    /// - Parameters:
    ///   - input: parts of whole bytes that are hashed as one string.
    ///   - inputBits: n, at most as many as the parts hold.
    ///   - outputBits: m, at most n.
    ///   - seed: at least `seedBytes(inputBits:outputBits:)` bytes.
    /// - Returns: `ceil(m / 8)` bytes, surplus bits 0.
    /// - Throws: `PostProcessingError` for lengths that do not fit together.
    public static func hash(input: [SecretBytes], inputBits: Int, outputBits: Int, seed: [UInt8]) throws(PostProcessingError) -> SecretBytes
    {
        try hash(input: input, inputBits: inputBits, outputBits: outputBits, seed: seed, by: nil)
    }

    /// The two ways to the same bits, which share no code: products of tiles by Karatsuba's method, and of large blocks by additive Fourier transforms.
    package enum Method: Hashable, Sendable {
        case tiles(kernel: Int32, words: Int?)
        case transform(additive_fft_kind)

        /// All that this processor can do.
        package static var all: [Method] {
            (Int32(TOEPLITZ_PORTABLE)...toeplitz_kernel()).map { .tiles(kernel: $0, words: nil) }
                + (ADDITIVE_FFT_PORTABLE.rawValue...ADDITIVE_FFT_GFNI.rawValue).map { additive_fft_kind(rawValue: $0) }
                .filter(additive_fft_available).map { .transform($0) }
        }
    }

    /// With a method of choice, for tests and measurements.
    package static func hash(
        input: [SecretBytes], inputBits n: Int, outputBits m: Int, seed: [UInt8], by method: Method?
    ) throws(PostProcessingError) -> SecretBytes {
        guard n > 0, n <= maximumBits else { throw .outOfRange(quantity: "input bits", value: Double(n), allowed: "in 1 ... 2^34") }
        guard m >= 0, m <= n else { throw .outOfRange(quantity: "output bits", value: Double(m), allowed: "at most the \(n) input bits") }
        let held = input.reduce(0) { $0 + $1.count }
        guard 8 * held >= n else { throw .lengthMismatch(what: "raw key bits", expected: n, found: 8 * held) }
        guard seed.count >= seedBytes(inputBits: n, outputBits: m) else {
            throw .lengthMismatch(what: "seed bytes", expected: seedBytes(inputBits: n, outputBits: m), found: seed.count)
        }
        guard m > 0 else { return SecretBytes(count: 0) }
        switch method ?? best(inputBits: n, outputBits: m) {
        case .transform(let kind): return TransformWork(inputBits: n, outputBits: m, kind: kind).run(input: input, seed: seed)
        case .tiles(let kernel, let words):
            let tile = words ?? cheapestTile(inputBits: n, outputBits: m).words
            var work = ToeplitzWork(inputBits: n, outputBits: m, tileWords: tile, kernel: kernel)
            work.run(input: input, seed: seed)
            return work.output()
        }
    }

    /// Transforms have one length, so short strings go by tiles. Both costs were measured; a factor of two either way matters little.
    static func best(inputBits n: Int, outputBits m: Int) -> Method {
        let (kernel, kind) = (toeplitz_kernel(), additive_fft_best())
        // Nanoseconds of a product of eight words, and of a transform.
        let product = kernel == Int32(TOEPLITZ_PORTABLE) ? 700.0 : kernel == Int32(TOEPLITZ_PCLMULQDQ) ? 35.0 : 15.0
        let transform = kind == ADDITIVE_FFT_GFNI ? 0.8e6 : kind == ADDITIVE_FFT_AVX2 ? 9e6 : 20e6
        let tile = cheapestTile(inputBits: n, outputBits: m)
        let transforms = TransformWork.Plan(inputBits: n, outputBits: m).transforms
        return Double(transforms) * transform < tile.cost * product ? .transform(kind) : .tiles(kernel: kernel, words: tile.words)
    }

    /// The power of two that costs the fewest products of eight words: small tiles waste Karatsuba, large ones are mostly padding.
    private static func cheapestTile(inputBits: Int, outputBits: Int) -> (words: Int, cost: Double) {
        var best = (words: 8, cost: Double.infinity)
        var words = 8
        var product = 1.0
        while words <= 1 << 17 {
            let bits = 64 * words
            let tiles = ((inputBits + bits - 1) / bits) * ((outputBits + bits - 1) / bits + 1)
            let cost = Double(tiles) * (product + Double(words) / 8)
            if cost < best.cost { best = (words, cost) }
            words *= 2
            product *= 3
        }
        return best
    }
}
