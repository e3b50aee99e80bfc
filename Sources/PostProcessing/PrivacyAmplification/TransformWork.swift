import KeyMaterial
import PostProcessingKernels

/// The buffers of one hash by additive Fourier transforms, 2 MiB each. All but those of the seed are secret bytes.
///
/// Input block k (bits k L ..< (k + 1) L) meets the window of L + m - 1 seed bits from n - (k + 1) L on; bits L - 1 ... of the product are the block's share of
/// the output. Products are summed as values, so that a tile of the output costs one transform back. Long outputs are cut into tiles, whose windows
/// start as many bits later.
struct TransformWork {
    /// How a hash is cut up.
    struct Plan {
        /// Bits, a multiple of 8.
        let block: Int
        let blocks: Int
        let tile: Int
        let tiles: Int
        /// Transforms of length 2^24.
        let transforms: Int

        init(inputBits n: Int, outputBits m: Int) {
            var best: Plan?
            let fewest = max(1, (m + Self.usable / 2 - 1) / (Self.usable / 2))
            for tiles in fewest...fewest + 3 {
                let plan = Plan(n, m, tiles: tiles)
                if plan.transforms < best?.transforms ?? Int.max { best = plan }
            }
            self = best ?? Plan(n, m, tiles: fewest)
        }

        private static let usable = Int(ADDITIVE_FFT_USABLE)

        private init(_ n: Int, _ m: Int, tiles: Int) {
            let tile = (m + 8 * tiles - 1) / (8 * tiles) * 8
            let longest = (Self.usable - tile) / 8 * 8
            let blocks = (n + longest - 1) / longest
            block = (n + 8 * blocks - 1) / (8 * blocks) * 8
            self.tile = tile
            self.tiles = (m + tile - 1) / tile
            self.blocks = blocks
            transforms = blocks * (self.tiles + (self.tiles + TransformWork.group - 1) / TransformWork.group) + self.tiles
        }
    }

    /// Tiles of the output that are summed at a time.
    private static let group = 8
    private let inputBits: Int
    private let outputBits: Int
    private let kind: additive_fft_kind
    private let plan: Plan
    private let block: SecretBytes
    private let bits: SecretBytes
    private let values: SecretBytes
    private let sums: [SecretBytes]
    private let window: SecretBytes

    init(inputBits: Int, outputBits: Int, kind: additive_fft_kind) {
        self.inputBits = inputBits
        self.outputBits = outputBits
        self.kind = kind
        plan = Plan(inputBits: inputBits, outputBits: outputBits)
        let size = Int(ADDITIVE_FFT_BYTES)
        block = SecretBytes(count: plan.block / 8)
        bits = SecretBytes(count: size)
        values = SecretBytes(count: size)
        window = SecretBytes(count: size)
        sums = (0..<min(plan.tiles, Self.group)).map { _ in SecretBytes(count: size) }
    }

    func run(input: [SecretBytes], seed: [UInt8]) -> SecretBytes {
        let output = SecretBytes(count: (outputBits + 7) / 8)
        for first in stride(from: 0, to: plan.tiles, by: Self.group) {
            let tiles = first..<min(plan.tiles, first + Self.group)
            for sum in sums { sum.zeroise() }
            var reader = PartReader(parts: input, bits: inputBits)
            for k in 0..<plan.blocks {
                block.withMutableBytes { reader.read(into: $0) }
                transform(block, bits: plan.block, from: 0, count: plan.block, into: values)
                for tile in tiles { add(block: k, tile: tile, to: sums[tile - first], seed: seed) }
            }
            for tile in tiles { finish(tile, sums[tile - first], into: output) }
        }
        return output
    }

    private func transform(_ string: SecretBytes, bits count: Int, from start: Int, count wanted: Int, into values: SecretBytes) {
        string.withBytes { string in
            transform(string.assumingMemoryBound(to: UInt8.self), bits: count, from: start, count: wanted, into: values)
        }
    }

    private func transform(
        _ string: UnsafeBufferPointer<UInt8>, bits count: Int, from start: Int, count wanted: Int, into values: SecretBytes
    ) {
        guard let string = string.baseAddress else { return }
        bits.withPointer { bits in
            additive_fft_load(bits, string, Int64(count), Int64(start), Int64(wanted))
            values.withPointer { additive_fft_forward(kind, $0, bits) }
        }
    }

    private func add(block k: Int, tile: Int, to sum: SecretBytes, seed: [UInt8]) {
        let start = inputBits - (k + 1) * plan.block + tile * plan.tile
        seed.withUnsafeBufferPointer {
            transform($0, bits: inputBits + outputBits - 1, from: start, count: plan.block + plan.tile - 1, into: window)
        }
        sum.withPointer { sum in
            values.withPointer { values in window.withPointer { additive_fft_multiply_add(kind, sum, values, $0) } }
        }
    }

    private func finish(_ tile: Int, _ sum: SecretBytes, into output: SecretBytes) {
        let start = tile * plan.tile
        bits.withPointer { bits in
            sum.withPointer { additive_fft_inverse(kind, bits, $0) }
            output.withPointer {
                additive_fft_store($0 + start / 8, bits, Int64(plan.block - 1), Int64(min(plan.tile, outputBits - start)))
            }
        }
    }
}

extension SecretBytes {
    fileprivate func withPointer(_ body: (UnsafeMutablePointer<UInt8>) -> Void) {
        withMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            body(base.assumingMemoryBound(to: UInt8.self))
        }
    }
}
