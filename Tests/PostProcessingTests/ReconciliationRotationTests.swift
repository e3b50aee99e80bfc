import PostProcessing
import PostProcessingKernels
import QKDModel
import Testing

@Suite struct ReconciliationRotationTests {
    static func product(_ a: [Float], _ b: [Float]) -> [Float] {
        var c = [Float](repeating: 0, count: 8)
        rotation_product(a, b, &c)
        return c
    }

    static func vectors(_ count: Int, seed: UInt64) -> [[Float]] {
        let random = SplitMix(seed)
        return (0..<count).map { _ in (0..<8).map { _ in Float(Int64(bitPattern: random.word()) >> 40) / Float(1 << 23) } }
    }

    static func square(_ a: [Float]) -> Float { a.reduce(0) { $0 + $1 * $1 } }
    static func conjugate(_ a: [Float]) -> [Float] { [a[0]] + a.dropFirst().map { -$0 } }
    static func distance(_ a: [Float], _ b: [Float]) -> Float { square(zip(a, b).map(-)).squareRoot() }

    /// The octonions are a normed alternative division algebra: left multiplication keeps norms and is undone by the conjugate.
    @Test func productIsNormedAndAlternative() {
        for pair in zip(Self.vectors(200, seed: 1), Self.vectors(200, seed: 2)) {
            let (a, b) = pair
            let c = Self.product(a, b)
            #expect(abs(Self.square(c) - Self.square(a) * Self.square(b)) < 1e-4)
            let back = Self.product(Self.conjugate(a), c)
            #expect(Self.distance(back, b.map { $0 * Self.square(a) }) < 1e-4)
            #expect(Self.distance(Self.product(c, Self.conjugate(b)), a.map { $0 * Self.square(b) }) < 1e-4)
        }
    }

    /// alpha, of length 127 after rounding, takes y / |y| to the word's signs, by the plain product.
    @Test func messageCarriesQuadraturesToTheWord() throws {
        let trial = Rotated(sets: 3, seed: 3)
        for set in 0..<3 {
            for lane in 0..<64 {
                let y = trial.group(trial.y, set, lane)
                let alpha = trial.group(trial.alpha.map(Float.init), set, lane)
                let norm = trial.norms[64 * set + lane]
                #expect(abs(Self.square(y).squareRoot() - norm) < 1e-5 * norm)
                #expect(abs(Self.square(alpha).squareRoot() - 127) < 1.5)
                let u = Self.product(alpha, y.map { $0 / norm / 127 })
                let wanted = (0..<8).map {
                    trial.bits[8 * set + $0] >> UInt64(lane) & 1 == 0 ? Float(0.125).squareRoot() : -Float(0.125).squareRoot()
                }
                #expect(Self.distance(u, wanted) < 0.02)
            }
        }
    }

    @Test(arguments: KernelLevel.allCases.filter(\.isAvailable)) func reconstructionUndoesTheRotation(level: KernelLevel) {
        let trial = Rotated(sets: 5, seed: 4)
        var back = [Float](repeating: 0, count: trial.y.count)
        rotation_reconstruct(level.kernel, trial.alpha, trial.norms, trial.bits, 5, &back)
        for set in 0..<5 {
            for lane in 0..<64 {
                let y = trial.group(trial.y, set, lane)
                let again = trial.group(back, set, lane)
                #expect(Self.distance(again, y) < 0.02 * Self.square(y).squareRoot())
                #expect(abs(Self.square(again).squareRoot() - Self.square(y).squareRoot()) < 1e-5)
            }
        }
    }

    /// The likelihood ratio against its definition, and zero for a group that was erased.
    @Test func likelihoodRatioIsTheScaledProduct() {
        let trial = Rotated(sets: 2, seed: 5)
        let x = Self.vectors(128, seed: 6).flatMap { $0 }
        var llr = x
        rotation_llr(KernelLevel.best.kernel, x, trial.alpha, trial.norms, 1.5, 2, &llr)
        for set in 0..<2 {
            for lane in 0..<64 {
                let alpha = trial.group(trial.alpha.map(Float.init), set, lane)
                let length = Self.square(alpha).squareRoot()
                let wanted = Self.product(alpha.map { $0 / length }, trial.group(x, set, lane)).map {
                    1.5 * $0 * trial.norms[64 * set + lane]
                }
                #expect(Self.distance(trial.group(llr, set, lane), wanted) < 1e-4)
            }
        }
        var nothing = [Int8](repeating: 0, count: 512)
        nothing[64 * 3 + 9] = 5
        rotation_llr(KernelLevel.best.kernel, x, nothing, trial.norms, 1.5, 1, &llr)
        #expect((0..<512).allSatisfy { llr[$0] == 0 || $0 % 64 == 9 })
        #expect(llr[9] != 0)
    }

    /// A group without length must not show its bits.
    @Test func emptyGroupTellsNothing() {
        let y = [Float](repeating: 0, count: 512)
        var messages: [[Int8]] = []
        for bits in [UInt64(0), .max, 0x1234_5678_9ABC_DEF0] {
            var alpha = [Int8](repeating: 1, count: 512)
            var norms = [Float](repeating: 1, count: 64)
            rotation_encode(KernelLevel.best.kernel, y, [UInt64](repeating: bits, count: 8), 1, &alpha, &norms)
            messages.append(alpha)
            #expect(norms.allSatisfy { $0 == 0 })
        }
        #expect(Set(messages).count == 1)
    }

    /// Two words for the same kind of quadratures give messages of the same distribution: means and second moments of alpha do
    /// not depend on the bit it hides, to statistical accuracy.
    @Test func messageIsIndependentOfTheWord() {
        let trial = Rotated(sets: 400, seed: 8)
        for component in 0..<8 {
            var sums = [Double](repeating: 0, count: 4)
            for set in 0..<400 {
                for lane in 0..<64 {
                    let bit = Int(trial.bits[8 * set + component] >> UInt64(lane) & 1)
                    let value = Double(trial.alpha[512 * set + 64 * component + lane]) / 127
                    sums[bit] += 1
                    sums[2 + bit] += value
                }
            }
            // A component of a uniform unit vector has variance 1/8: 12,800 of them have a mean of deviation .0031.
            #expect(abs(sums[2] / sums[0]) < 0.0160)
            #expect(abs(sums[3] / sums[1]) < 0.0160)
        }
    }

    @Test func levelsAgreeBitForBit() {
        let one = Rotated(sets: 7, seed: 9, level: .portable)
        var portable = one.y
        rotation_llr(KERNEL_PORTABLE, one.y.reversed(), one.alpha, one.norms, 0.3, 7, &portable)
        for level in KernelLevel.allCases where level.isAvailable {
            let other = Rotated(sets: 7, seed: 9, level: level)
            #expect(other.alpha == one.alpha)
            #expect(other.norms == one.norms)
            var llr = one.y
            rotation_llr(level.kernel, one.y.reversed(), one.alpha, one.norms, 0.3, 7, &llr)
            #expect(llr == portable)
        }
    }
}

/// Random groups with random bits, encoded.
private struct Rotated {
    var y: [Float]
    var bits: [UInt64]
    var alpha: [Int8]
    var norms: [Float]

    init(sets: Int, seed: UInt64, level: KernelLevel = .best) {
        let random = SplitMix(seed)
        var channel = GaussianChannel(snr: 1, count: 512 * sets, random: random)
        channel.next()
        y = channel.received
        bits = (0..<8 * sets).map { _ in random.word() }
        alpha = [Int8](repeating: 0, count: 512 * sets)
        norms = [Float](repeating: 0, count: 64 * sets)
        rotation_encode(level.kernel, y, bits, sets, &alpha, &norms)
    }

    func group(_ values: [Float], _ set: Int, _ lane: Int) -> [Float] { (0..<8).map { values[512 * set + 64 * $0 + lane] } }
}

extension KernelLevel {
    var kernel: kernel_level {
        switch self {
        case .portable: KERNEL_PORTABLE
        case .avx2: KERNEL_AVX2
        case .avx512: KERNEL_AVX512
        }
    }
}
