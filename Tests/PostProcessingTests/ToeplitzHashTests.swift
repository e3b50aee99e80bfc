import Foundation
import KeyMaterial
import PostProcessing
import PostProcessingKernels
import Testing

@Suite struct ToeplitzHashTests {
    static let kernels = (Int32(TOEPLITZ_PORTABLE)...toeplitz_kernel()).map { $0 }
    static let transforms = ToeplitzHash.Method.all.filter { if case .transform = $0 { true } else { false } }

    static func bit(_ bytes: [UInt8], _ index: Int) -> UInt8 { bytes[index >> 3] >> UInt8(index & 7) & 1 }

    /// The definition, one bit at a time.
    static func slow(_ input: [UInt8], _ n: Int, _ m: Int, _ seed: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: (m + 7) / 8)
        for i in 0..<m {
            var sum: UInt8 = 0
            for j in 0..<n { sum ^= bit(seed, n - 1 + i - j) & bit(input, j) }
            out[i >> 3] |= sum << UInt8(i & 7)
        }
        return out
    }

    /// Cuts bytes into parts of uneven size.
    static func parts(_ bytes: [UInt8], _ draws: inout Draws) -> [SecretBytes] {
        var (parts, rest) = ([SecretBytes](), bytes[...])
        while !rest.isEmpty {
            var part = Array(rest.prefix(Int(draws.next() % 97)))
            rest = rest.dropFirst(part.count)
            parts.append(SecretBytes(consuming: &part))
        }
        return parts
    }

    /// Every output bit, odd sizes, every kernel and several tiles.
    @Test(arguments: [
        (1, 1), (2, 1), (7, 5), (8, 8), (63, 63), (64, 1), (65, 64), (511, 300), (512, 512), (513, 7), (1000, 999), (1025, 513),
        (2600, 1300), (3001, 1),
    ]) func agreesWithTheDefinition(n: Int, m: Int) throws {
        var draws = Draws(UInt64(n * 10_000 + m))
        let input = draws.bytes((n + 7) / 8 + 2)
        let seed = draws.bytes(ToeplitzHash.seedBytes(inputBits: n, outputBits: m))
        let expected = Self.slow(input, n, m, seed)
        for kernel in Self.kernels {
            for tile in [8, 16, 32, nil] {
                let output = try ToeplitzHash.hash(
                    input: Self.parts(input, &draws), inputBits: n, outputBits: m, seed: seed, by: .tiles(kernel: kernel, words: tile))
                #expect(plain(output) == expected, "kernel \(kernel), tile \(tile ?? 0)")
            }
        }
        for method in Self.transforms {
            let output = try ToeplitzHash.hash(
                input: Self.parts(input, &draws), inputBits: n, outputBits: m, seed: seed, by: method)
            #expect(plain(output) == expected, "\(method)")
        }
    }

    @Test func kernelsAgreeOnALargerBlock() throws {
        var draws = Draws(1)
        let (n, m) = (1_200_003, 100_001)
        let input = [draws.secret((n + 7) / 8)]
        let seed = draws.bytes(ToeplitzHash.seedBytes(inputBits: n, outputBits: m))
        let outputs = try ToeplitzHash.Method.all.map {
            try ToeplitzHash.hash(input: input, inputBits: n, outputBits: m, seed: seed, by: $0)
        }
        for output in outputs { #expect(output.matches(outputs[0])) }
    }

    /// Sizes at which blocks of input, windows of the seed and tiles of the output have borders inside: every bit against the tiles.
    @Test(arguments: [(17_000_003, 5), (30_011_011, 70_001), (16_646_080, 65_537), (9_000_001, 8_999_999), (33_000_017, 123_457)])
    func everyBitOfBlocksAndTilesIsRight(n: Int, m: Int) throws {
        var draws = Draws(UInt64(n + m))
        let input = [draws.secret((n + 7) / 8)]
        let seed = draws.bytes(ToeplitzHash.seedBytes(inputBits: n, outputBits: m))
        let tiles = ToeplitzHash.Method.tiles(kernel: toeplitz_kernel(), words: nil)
        let expected = try ToeplitzHash.hash(input: input, inputBits: n, outputBits: m, seed: seed, by: tiles)
        for method in Self.transforms.suffix(m > 1_000_000 ? 1 : 2) {
            #expect(try ToeplitzHash.hash(input: input, inputBits: n, outputBits: m, seed: seed, by: method).matches(expected), "\(method)")
        }
    }

    /// The size of a link's block: 300 output bits against sums over whole words, which share no code with the kernel.
    @Test func fullSizeBitsAreRight() throws {
        var draws = Draws(2)
        let (n, m) = (28_000_013, 1_600_007)
        let input = draws.bytes((n + 7) / 8)
        let seed = draws.bytes(ToeplitzHash.seedBytes(inputBits: n, outputBits: m) + 16)
        let hashed = input.withUnsafeBytes { SecretBytes(copying: $0) }
        let clock = ContinuousClock()
        let start = clock.now
        let output = plain(try ToeplitzHash.hash(input: [hashed], inputBits: n, outputBits: m, seed: seed))
        let seconds = start.duration(to: clock.now) / .seconds(1)
        print("privacy amplification of \(n) to \(m) bits: \(seconds) s")
        if toeplitz_kernel() != Int32(TOEPLITZ_PORTABLE) { #expect(seconds < 10) }

        // reversed bit u of the input is bit n - 1 - u; then y_i = parity of (seed from bit i on) and reversed.
        var reversed = [UInt64](repeating: 0, count: (n + 63) / 64)
        for j in 0..<n where Self.bit(input, j) != 0 { reversed[(n - 1 - j) >> 6] |= 1 << UInt64((n - 1 - j) & 63) }
        let words = seed.withUnsafeBytes { bytes in
            (0..<bytes.count / 8).map { UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self)) }
        }
        let chosen = [0, 1, 63, 64, m - 2, m - 1] + (0..<294).map { _ in Int(draws.next() % UInt64(m)) }
        let wrong = chosen.filter { i in
            var sum: UInt64 = 0
            let (skip, shift) = (i >> 6, UInt64(i & 63))
            for w in reversed.indices {
                let high = w + skip + 1 < words.count ? words[w + skip + 1] : 0
                sum ^= (words[w + skip] >> shift | (shift == 0 ? 0 : high << (64 - shift))) & reversed[w]
            }
            return UInt8(sum.nonzeroBitCount & 1) != Self.bit(output, i)
        }
        #expect(wrong.isEmpty)
    }

    @Test func isLinear() throws {
        var draws = Draws(3)
        let (n, m) = (5_003, 1_009)
        let (a, b) = (draws.bytes((n + 7) / 8), draws.bytes((n + 7) / 8))
        let seed = draws.bytes(ToeplitzHash.seedBytes(inputBits: n, outputBits: m))
        func hash(_ bytes: [UInt8]) throws -> [UInt8] {
            var bytes = bytes
            return plain(try ToeplitzHash.hash(input: [SecretBytes(consuming: &bytes)], inputBits: n, outputBits: m, seed: seed))
        }
        let sum = zip(a, b).map { $0 ^ $1 }
        #expect(try hash(sum) == zip(hash(a), hash(b)).map { $0 ^ $1 })
        #expect(try hash([UInt8](repeating: 0, count: a.count)).allSatisfy { $0 == 0 })
    }

    /// Over all seeds every nonzero input takes every output equally often: two inputs collide for exactly 2^-m of the seeds.
    @Test(arguments: [(6, 3), (5, 3), (4, 4), (7, 1)]) func isExactlyUniversal(n: Int, m: Int) throws {
        for x in 1..<1 << n {
            let input = [SecretBytes(count: 1)]
            input[0].withMutableBytes { $0[0] = UInt8(x) }
            var histogram = [Int](repeating: 0, count: 1 << m)
            for seed in 0..<1 << (n + m - 1) {
                let output = try ToeplitzHash.hash(
                    input: input, inputBits: n, outputBits: m, seed: [UInt8(seed & 255), UInt8(seed >> 8)],
                    by: .tiles(kernel: toeplitz_kernel(), words: 8))
                histogram[Int(plain(output)[0])] += 1
            }
            #expect(histogram.allSatisfy { $0 == 1 << (n - 1) }, "input \(x)")
        }
    }

    @Test func badLengthsAreErrors() {
        let input = [SecretBytes(count: 10)]
        #expect(throws: PostProcessingError.lengthMismatch(what: "raw key bits", expected: 81, found: 80)) {
            try ToeplitzHash.hash(input: input, inputBits: 81, outputBits: 8, seed: [UInt8](repeating: 0, count: 20))
        }
        #expect(throws: PostProcessingError.lengthMismatch(what: "seed bytes", expected: 11, found: 10)) {
            try ToeplitzHash.hash(input: input, inputBits: 80, outputBits: 8, seed: [UInt8](repeating: 0, count: 10))
        }
        #expect(throws: PostProcessingError.self) {
            try ToeplitzHash.hash(input: input, inputBits: 80, outputBits: 81, seed: [UInt8](repeating: 0, count: 30))
        }
        #expect(throws: PostProcessingError.self) { try ToeplitzHash.hash(input: [], inputBits: 0, outputBits: 0, seed: []) }
    }

    @Test func nothingWantedIsNothing() throws {
        #expect(try ToeplitzHash.hash(input: [SecretBytes(count: 1)], inputBits: 8, outputBits: 0, seed: [0]).count == 0)
    }

    @Test func benchmarkRuns() throws {
        let result = try PrivacyAmplificationBenchmark.run(inputBits: 1_000_000, outputBits: 50_000)
        #expect(result.seconds > 0 && result.inputBitsPerSecond.isFinite)
    }
}
