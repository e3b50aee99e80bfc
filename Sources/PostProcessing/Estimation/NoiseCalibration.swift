internal import PostProcessingKernels

/// Sums over the samples of one calibration (or several that are merged), in LSB. Exact integers, so merging loses nothing.
public struct CalibrationSums: Codable, Hashable, Sendable {
    /// Symbols; each has two quadratures.
    public private(set) var symbols: Int = 0
    public private(set) var sumX: Int64 = 0
    public private(set) var sumP: Int64 = 0
    public private(set) var sumSquaresX: Int64 = 0
    public private(set) var sumSquaresP: Int64 = 0
    /// Samples at the converter's ends, as the device counts them. They are never dropped.
    public var saturated: Int = 0
    /// Windows that were merged.
    public private(set) var windows: Int = 1

    public init() {}

    /// Sums that were computed elsewhere, by the far end say [LSB, LSB^2].
    public init(symbols: Int, sumX: Int64, sumP: Int64, sumSquaresX: Int64, sumSquaresP: Int64, saturated: Int = 0, windows: Int = 1) {
        (self.symbols, self.saturated, self.windows) = (symbols, saturated, windows)
        (self.sumX, self.sumP, self.sumSquaresX, self.sumSquaresP) = (sumX, sumP, sumSquaresX, sumSquaresP)
    }

    /// - Parameters:
    ///   - samples: interleaved x, p in LSB.
    ///   - saturated: how many of them the device marked.
    public mutating func add(samples: UnsafeBufferPointer<Int16>, saturated: Int = 0) {
        precondition(samples.count % 2 == 0, "samples come in pairs")
        guard let base = samples.baseAddress else { return }
        var sums: [Int64] = [sumX, sumP, sumSquaresX, sumSquaresP]
        symbols_moments(base, samples.count / 2, &sums)
        (sumX, sumP, sumSquaresX, sumSquaresP) = (sums[0], sums[1], sums[2], sums[3])
        symbols += samples.count / 2
        self.saturated += saturated
    }

    /// Takes in another window.
    ///
    /// Offsets of the converter are taken out of each window's variance only as far as they are common: merge windows whose means agree.
    public mutating func merge(_ other: CalibrationSums) {
        symbols += other.symbols
        sumX += other.sumX
        sumP += other.sumP
        sumSquaresX += other.sumSquaresX
        sumSquaresP += other.sumSquaresP
        saturated += other.saturated
        windows += other.windows
    }

    /// Values, two per symbol.
    public var count: Int { 2 * symbols }
    public var meanX: Double { symbols > 0 ? Double(sumX) / Double(symbols) : 0 }
    public var meanP: Double { symbols > 0 ? Double(sumP) / Double(symbols) : 0 }
    public var saturatedShare: Double { count > 0 ? Double(saturated) / Double(count) : 0 }

    /// Variance of one quadrature, mean of both [LSB^2].
    public var variance: Double {
        guard symbols > 1 else { return 0 }
        func spread(_ sum: Int64, _ squares: Int64) -> Double { Double(squares) - Double(sum) * (Double(sum) / Double(symbols)) }
        return (spread(sumX, sumSquaresX) + spread(sumP, sumSquaresP)) / Double(2 * (symbols - 1))
    }

    /// Standard error of `variance` for Gaussian samples: `S sqrt(2 / m)`.
    public var varianceError: Double { variance * (2 / Double(max(1, count))).squareRoot() }
}

/// What one shot-noise unit is at a receiver, how large its electronic noise is, and how well both are known.
///
/// Dark: local oscillator off. Shot: local oscillator on, the receiver's own shutter closed, never the lit fibre.
public struct NoiseCalibration: Codable, Hashable, Sendable {
    public let dark: CalibrationSums
    public let shot: CalibrationSums
    /// A bound on what the variances may have moved between calibration and signal, as a share of them; widens every confidence interval.
    public let drift: Double

    public static let saturationLimit = 1e-5
    public static let minimumSymbols = 1000

    /// - Throws: `PostProcessingError.tooFewSamples`, `.saturated`, `.noShotNoise`, `.outOfRange`.
    public init(dark: CalibrationSums, shot: CalibrationSums, drift: Double = 0) throws(PostProcessingError) {
        for (name, sums) in [("dark calibration", dark), ("shot-noise calibration", shot)] {
            guard sums.symbols >= Self.minimumSymbols else {
                throw .tooFewSamples(what: name, found: sums.symbols, needed: Self.minimumSymbols)
            }
            guard sums.saturatedShare <= Self.saturationLimit else {
                throw .saturated(what: name, share: sums.saturatedShare, limit: Self.saturationLimit)
            }
        }
        guard drift >= 0, drift < 0.5 else { throw .outOfRange(quantity: "drift allowance", value: drift, allowed: "in [0, 0.5)") }
        guard shot.variance > dark.variance else { throw .noShotNoise(shot: shot.variance, dark: dark.variance) }
        self.dark = dark
        self.shot = shot
        self.drift = drift
    }

    /// N0: the variance of one vacuum quadrature [LSB^2].
    public var shotNoiseVariance: Double { shot.variance - dark.variance }
    public var shotNoiseError: Double { (shot.varianceError * shot.varianceError + dark.varianceError * dark.varianceError).squareRoot() }

    /// v_el per quadrature [SNU].
    public var electronicNoise: Double { dark.variance / shotNoiseVariance }
    public var electronicNoiseError: Double {
        // v = D / (S - D): dv = S dD / N0^2 - D dS / N0^2
        let n0 = shotNoiseVariance
        let (a, b) = (shot.variance * dark.varianceError / (n0 * n0), dark.variance * shot.varianceError / (n0 * n0))
        return (a * a + b * b).squareRoot()
    }

    /// Relative change of the shot noise since an earlier calibration, and its standard error: for alarms and for merging windows.
    public func change(since earlier: NoiseCalibration) -> (relative: Double, standardError: Double) {
        let (a, b) = (shotNoiseVariance, earlier.shotNoiseVariance)
        let (da, db) = (shotNoiseError / a, earlier.shotNoiseError / b)
        return (a / b - 1, a / b * (da * da + db * db).squareRoot())
    }
}

/// A receiver's efficiency as calibrated by its maker or the lab: a trusted number with an uncertainty.
public struct ReceiverEfficiency: Codable, Hashable, Sendable {
    /// eta in (0, 1].
    public let value: Double
    /// One standard deviation, 0 or more.
    public let standardError: Double

    /// - Throws: `PostProcessingError.outOfRange`.
    public init(_ value: Double, standardError: Double) throws(PostProcessingError) {
        guard value > 0, value <= 1 else { throw .outOfRange(quantity: "efficiency", value: value, allowed: "in (0, 1]") }
        guard standardError >= 0, standardError < value / 2 else {
            throw .outOfRange(
                quantity: "efficiency's standard error", value: standardError, allowed: "0 or more and far below the efficiency")
        }
        self.value = value
        self.standardError = standardError
    }
}
