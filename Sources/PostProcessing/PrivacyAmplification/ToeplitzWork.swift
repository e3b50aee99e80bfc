import KeyMaterial
import PostProcessingKernels

/// The buffers of one hash by products of tiles. Those that depend on the input are secret bytes.
///
/// The input streams through one tile at a time; the sums R_a (two tiles each) and one seed tile are all that is held beside it.
struct ToeplitzWork {
    private let inputBits: Int
    private let outputBits: Int
    private let words: Int
    private let kernel: Int32
    private let sums: SecretBytes
    private let inputTile: SecretBytes
    private let scratch: SecretBytes
    private var seedTile: [UInt64]

    private var tileBits: Int { 64 * words }
    /// Sums R_0 ... R_(count - 1): one more than output tiles.
    private var sumCount: Int { (outputBits + tileBits - 1) / tileBits + 1 }

    init(inputBits: Int, outputBits: Int, tileWords: Int, kernel: Int32) {
        self.inputBits = inputBits
        self.outputBits = outputBits
        words = tileWords
        self.kernel = kernel
        let sumCount = (outputBits + 64 * tileWords - 1) / (64 * tileWords) + 1
        sums = SecretBytes(count: 16 * tileWords * sumCount)
        inputTile = SecretBytes(count: 8 * tileWords)
        scratch = SecretBytes(count: 8 * toeplitz_scratch(tileWords))
        seedTile = [UInt64](repeating: 0, count: tileWords)
    }

    mutating func run(input: [SecretBytes], seed: [UInt8]) {
        var reader = PartReader(parts: input, bits: inputBits)
        let tiles = (inputBits + tileBits - 1) / tileBits
        for k in 0..<tiles {
            inputTile.withMutableBytes { reader.read(into: $0) }
            for a in 0..<sumCount { add(seedTile: a - k - 1, to: a, seed: seed) }
        }
    }

    private mutating func add(seedTile index: Int, to a: Int, seed: [UInt8]) {
        let (words, kernel) = (words, kernel)
        let bits = Int64(inputBits + outputBits - 1)
        let start = Int64(inputBits - 1) + Int64(index) * Int64(tileBits)
        guard start < bits, start + Int64(tileBits) > 0 else { return }
        toeplitz_window(&seedTile, words, seed, bits, start)
        sums.withWords { sums in
            inputTile.withWords { input in
                scratch.withWords { scratch in
                    toeplitz_multiply_add(sums + 2 * words * a, seedTile, input, words, scratch, kernel)
                }
            }
        }
    }

    /// Output tile b: upper half of R_b plus lower half of R_(b+1).
    func output() -> SecretBytes {
        let result = SecretBytes(count: (outputBits + 7) / 8)
        let whole = SecretBytes(count: 8 * words * (sumCount - 1))
        sums.withWords { sums in
            whole.withWords { whole in
                for b in 0..<sumCount - 1 {
                    let (upper, lower, target) = (sums + (2 * b + 1) * words, sums + (2 * b + 2) * words, whole + b * words)
                    for w in 0..<words { target[w] = upper[w] ^ lower[w] }
                }
            }
        }
        whole.withBytes { whole in
            result.withMutableBytes { result in
                result.copyMemory(from: UnsafeRawBufferPointer(rebasing: whole[0..<result.count]))
                if outputBits % 8 != 0 { result[result.count - 1] &= UInt8(1 << (outputBits % 8) - 1) }
            }
        }
        return result
    }
}

/// Reads the parts as one string, a tile at a time; bits beyond the end are zeros.
struct PartReader {
    let parts: [SecretBytes]
    var bits: Int
    var part = 0
    var offset = 0

    init(parts: [SecretBytes], bits: Int) {
        self.parts = parts
        self.bits = bits
    }

    mutating func read(into tile: UnsafeMutableRawBufferPointer) {
        var filled = 0
        let wanted = min(tile.count, (bits + 7) / 8)
        while filled < wanted, part < parts.count {
            let count = min(wanted - filled, parts[part].count - offset)
            parts[part].withBytes { source in
                let rest = UnsafeMutableRawBufferPointer(rebasing: tile[filled..<filled + count])
                rest.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[offset..<offset + count]))
            }
            filled += count
            offset += count
            if offset == parts[part].count { (part, offset) = (part + 1, 0) }
        }
        for index in filled..<tile.count { tile[index] = 0 }
        if bits < 8 * filled { tile[filled - 1] &= UInt8(truncatingIfNeeded: (1 << (bits % 8)) - 1) }
        bits -= min(bits, 8 * filled)
    }
}

extension SecretBytes {
    fileprivate func withWords(_ body: (UnsafeMutablePointer<UInt64>) -> Void) {
        withMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            body(base.assumingMemoryBound(to: UInt64.self))
        }
    }
}
