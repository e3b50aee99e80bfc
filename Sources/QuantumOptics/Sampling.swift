// Streams of symbols that are functions of (seed, stream, index): jump anywhere, in any order, on any thread.

internal import CQuantumOptics

/// Which instructions a kernel uses. All levels give the same bits; the choice is for tests and benchmarks.
public enum KernelLevel: Int, Sendable, Comparable, CaseIterable {
    case portable = 0
    case avx2 = 1
    case avx512 = 2

    /// The best that this processor has.
    public static let best = KernelLevel(rawValue: Int(qo_best_level())) ?? .portable
    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    var number: Int32 { Int32(rawValue) }
}

/// One transmitter's Gaussian modulation: converter levels, and how they are drawn.
public struct SymbolStream: Sendable, Equatable {
    public var seed: UInt64
    public var stream: UInt64
    /// Standard deviation of a quadrature in steps of the transmitter's converter.
    public var sigmaLSB: Float
    /// Largest level: `limitLSB / sigmaLSB` is the truncation in standard deviations.
    public var limitLSB: Int32

    public init(seed: UInt64, stream: UInt64, sigmaLSB: Float = 400, limitLSB: Int32 = 2047) {
        self.seed = seed
        self.stream = stream
        self.sigmaLSB = sigmaLSB
        self.limitLSB = limitLSB
    }

    /// Amplitude per level at the fibre's input in sqrt(SNU) for a modulation variance in SNU.
    public func scale(modulationVariance: Double) -> Float { Float(modulationVariance.squareRoot() / Double(sigmaLSB)) }

    /// Fills `out` (2 x count values, x and p in turn) with the symbols `first` ..< `first + count`.
    public func fill(_ out: UnsafeMutableBufferPointer<Int16>, first: UInt64, level: KernelLevel = .best) {
        guard let base = out.baseAddress else { return }
        qo_modulate(level.number, seed, stream, first, out.count / 2, sigmaLSB, limitLSB, base)
    }
}

/// Normal deviates for anybody, with the same properties.
public struct GaussianStream: Sendable, Equatable {
    public var seed: UInt64
    public var stream: UInt64

    public init(seed: UInt64, stream: UInt64) {
        self.seed = seed
        self.stream = stream
    }

    /// Fills `x` and `p` (equally long) with the pairs `first` ..< `first + count`.
    public func fill(
        x: UnsafeMutableBufferPointer<Float>, p: UnsafeMutableBufferPointer<Float>, first: UInt64, level: KernelLevel = .best
    ) {
        guard let x0 = x.baseAddress, let p0 = p.baseAddress else { return }
        qo_gaussians(level.number, seed, stream, first, min(x.count, p.count), x0, p0)
    }

    /// One deviate by its index, for slow quantities.
    public func value(_ index: UInt64) -> Double {
        var x: Float = 0
        var p: Float = 0
        qo_gaussians(KernelLevel.portable.number, seed, stream, index, 1, &x, &p)
        return Double(x)
    }

    /// One uniform word by its index.
    public func word(_ index: UInt64) -> UInt64 {
        var words = [UInt32](repeating: 0, count: 4)
        qo_philox(seed, stream, index, &words)
        return UInt64(words[0]) << 32 | UInt64(words[1])
    }
}

/// What one receiver reports of a run of symbols during which nothing changes.
public struct Reception: Sendable {
    var kernel: qo_reception

    /// - Parameters:
    ///   - signalGain: receiver steps per transmitter level; 0 when no signal arrives.
    ///   - delay: symbols that the light is on its way; may be negative after a slip.
    ///   - noiseSigmaLSB: standard deviation of all noise of a quadrature in receiver steps.
    ///   - phase: rad between transmitter and receiver; `phaseSigma` rad of residual phase noise around it.
    ///   - phaseStep: turns per 64 symbols by which an unlocked receiver runs away.
    ///   - fullScaleLSB: samples at or beyond it are saturated.
    public init(
        modulation: SymbolStream, signalGain: Double, delay: Int64, noise: GaussianStream, noiseSigmaLSB: Double, phase: Double,
        phaseSigma: Double, phaseStep: Double = 0, fullScaleLSB: Int32 = 2047
    ) {
        kernel = qo_reception()
        kernel.modulation_seed = modulation.seed
        kernel.modulation_stream = modulation.stream
        kernel.modulation_sigma = modulation.sigmaLSB
        kernel.modulation_limit = modulation.limitLSB
        kernel.delay = UInt64(bitPattern: delay)
        kernel.signal_gain = Float(signalGain)
        kernel.noise_seed = noise.seed
        kernel.noise_stream = noise.stream
        kernel.noise_sigma = Float(noiseSigmaLSB)
        kernel.phase = Self.turns(phase / (2 * .pi))
        kernel.phase_step = Self.turns(phaseStep)
        kernel.phase_sigma = Float(phaseSigma)
        kernel.limit = fullScaleLSB
    }

    /// Fills `out` (2 x count values, x and p in turn); returns how many samples saturated.
    public func fill(_ out: UnsafeMutableBufferPointer<Int16>, first: UInt64, level: KernelLevel = .best) -> Int {
        guard let base = out.baseAddress else { return 0 }
        return withUnsafePointer(to: kernel) { Int(qo_receive(level.number, $0, first, out.count / 2, base)) }
    }

    private static func turns(_ value: Double) -> UInt32 {
        UInt32(truncatingIfNeeded: Int64((value - value.rounded(.down)) * 4_294_967_296))
    }
}
