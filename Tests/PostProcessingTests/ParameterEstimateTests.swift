import Foundation
import PostProcessing
import QuantumOptics
import Testing

@Suite struct ParameterEstimateTests {
    static func budget(bound: Double) throws -> SecurityBudget {
        try SecurityBudget(smoothing: 1e-11, hashing: 1e-11, correctness: 1e-11, authentication: 1e-11, parameterEstimation: bound)
    }

    struct Failures {
        var transmittanceLow = 0, transmittanceHigh = 0, noise = 0, holevo = 0
        /// Blocks that were refused because their noise came out below the calibration's; with honest ends that is rare.
        var void = 0
    }

    static func coverage(_ link: TrueLink, runs: Int, shot: Int, dark: Int, efficiencyError: Double, seed: UInt64) throws -> Failures {
        var draws = Draws(seed)
        let budget = try budget(bound: 1e-2)
        let truth = try KeyRateParameters(
            modulationVariance: link.modulationVariance, transmittance: link.transmittance, excessNoise: link.excessNoise,
            efficiency: link.efficiency, electronicNoise: link.electronicNoise)
        let holevo = try KeyRate.holevoBound(truth, receiver: .trusted)
        var failures = Failures()
        for _ in 0..<runs {
            let drawn = try draw(link, shot: shot, dark: dark, efficiencyError: efficiencyError, budget: budget, &draws)
            guard let estimate = drawn else {
                failures.void += 1
                continue
            }
            if link.transmittance < estimate.minimalTransmittance { failures.transmittanceLow += 1 }
            if link.transmittance > estimate.maximalTransmittance { failures.transmittanceHigh += 1 }
            if link.excessNoise > estimate.maximalExcessNoise { failures.noise += 1 }
            if holevo > estimate.worstHolevoBound { failures.holevo += 1 }
        }
        return failures
    }

    /// `nil` where the block is void.
    static func draw(
        _ link: TrueLink, shot: Int, dark: Int, efficiencyError: Double, budget: SecurityBudget, _ draws: inout Draws
    ) throws -> ParameterEstimate? {
        do {
            return try link.estimate(symbols: 1_000_000, shot: shot, dark: dark, efficiencyError: efficiencyError, budget: budget, &draws)
        } catch PostProcessingError.belowShotNoise {
            return nil
        }
    }

    /// 1e4 blocks, every source of error drawn from its own distribution: each bound fails in at most 1 % of them, but for 4 standard deviations.
    @Test(arguments: [TrueLink(), TrueLink(modulationVariance: 2.6, transmittance: 0.0794)])
    func boundsHoldAsOftenAsTheySay(link: TrueLink) throws {
        let runs = 10_000
        let failures = try Self.coverage(link, runs: runs, shot: 700_000, dark: 200_000, efficiencyError: 0.004, seed: 1)
        let allowed = Int(0.01 * Double(runs) + 4 * (0.01 * Double(runs)).squareRoot())
        #expect(failures.transmittanceLow <= allowed && failures.transmittanceHigh <= allowed)
        #expect(failures.noise <= allowed)
        #expect(failures.holevo <= allowed)
        #expect(failures.void <= allowed)
    }

    /// With everything but the signal known, one bound acts alone: it fails about as often as it says, so it is not idle either.
    @Test func aBoundThatActsAloneIsTight() throws {
        var link = TrueLink()
        link.excessNoise = 0.3
        let failures = try Self.coverage(link, runs: 10_000, shot: 100_000_000_000, dark: 100_000_000_000, efficiencyError: 0, seed: 2)
        #expect((10...140).contains(failures.noise), "\(failures.noise)")
        #expect((50...140).contains(failures.transmittanceLow), "\(failures.transmittanceLow)")
        #expect((50...140).contains(failures.transmittanceHigh), "\(failures.transmittanceHigh)")
    }

    /// The same with only the calibration unsure: its own statistics are in the bound.
    @Test func calibrationErrorIsCovered() throws {
        // So much noise that no block is void.
        let failures = try Self.coverage(
            TrueLink(excessNoise: 0.6), runs: 10_000, shot: 20_000, dark: 1_000_000, efficiencyError: 0, seed: 3)
        #expect((30...140).contains(failures.noise), "\(failures.noise)")
    }

    /// 100 blocks at the sizes of a real link: estimates lie inside their own three standard deviations in at least 97.
    @Test func standardErrorsAreRight() throws {
        var draws = Draws(4)
        let budget = try SecurityBudget()
        let link = TrueLink()
        var (inside, noiseInside) = (0, 0)
        var pull = 0.0
        for _ in 0..<100 {
            let estimate = try link.estimate(
                symbols: 50_000_000, shot: 50_000_000, dark: 5_000_000, efficiencyError: 0.004, budget: budget, &draws)
            let (t, xi) = (estimate.transmittance - link.transmittance, estimate.excessNoise - link.excessNoise)
            if abs(t) <= 3 * estimate.transmittanceError { inside += 1 }
            if abs(xi) <= 3 * estimate.excessNoiseError { noiseInside += 1 }
            pull += (xi / estimate.excessNoiseError) * (xi / estimate.excessNoiseError)
            #expect(abs(estimate.electronicNoise - link.electronicNoise) < 1e-3)
            #expect(abs(estimate.modulationVariance - link.modulationVariance) < 1e-2)
        }
        #expect(inside >= 97 && noiseInside >= 97)
        // Sum of squares of 100 standard normals.
        #expect((50...160).contains(pull))
    }

    /// From symbols, not from drawn sums: transmitter's values, channel, converter, calibration, all in LSB.
    @Test func estimatesFromSamples() throws {
        var draws = Draws(5)
        let link = TrueLink(excessNoise: 0.2)
        let symbols = 400_000
        func samples(_ deviation: Double, _ offset: Double) -> [Int16] {
            (0..<2 * symbols).map { _ in Int16((deviation * draws.normal() + offset).rounded()) }
        }
        var (dark, shot, sums) = (CalibrationSums(), CalibrationSums(), CorrelationSums())
        samples((link.unit * link.electronicNoise).squareRoot(), 7).withUnsafeBufferPointer { dark.add(samples: $0) }
        samples((link.unit * (1 + link.electronicNoise)).squareRoot(), 7).withUnsafeBufferPointer { shot.add(samples: $0) }
        let calibration = try NoiseCalibration(dark: dark, shot: shot)
        #expect(
            abs(calibration.shot.meanX - 7) < 2 && abs(calibration.electronicNoise - 0.05) < 5 * calibration.electronicNoiseError + 1e-4)
        #expect(abs(calibration.shotNoiseVariance / link.unit - 1) < 5 * calibration.shotNoiseError / link.unit)

        let angle = 0.7
        let step = 0.002
        var (sent, received) = ([Int16](), [Int16]())
        for _ in 0..<symbols {
            let root = link.modulationVariance.squareRoot() / step
            let (x, p) = ((root * draws.normal()).rounded(), (root * draws.normal()).rounded())
            sent += [Int16(x), Int16(p)]
            let noise = link.noise.squareRoot()
            let (y, q) = (link.slope * step * x + noise * draws.normal(), link.slope * step * p + noise * draws.normal())
            let lsb = link.unit.squareRoot()
            received += [
                Int16((lsb * (cos(angle) * y - sin(angle) * q) + 7).rounded()),
                Int16((lsb * (sin(angle) * y + cos(angle) * q) + 7).rounded()),
            ]
        }
        let x = SymbolConverter(scale: step).convert(sent)
        let y = SymbolConverter(calibration: calibration, phase: angle).convert(received)
        x.withUnsafeBufferPointer { x in y.withUnsafeBufferPointer { sums.add(x: x, y: $0) } }
        #expect(sums.count == 2 * symbols)
        let estimate = try ParameterEstimate.estimate(
            sums: sums, calibration: calibration, efficiency: ReceiverEfficiency(0.8, standardError: 0), budget: SecurityBudget())
        #expect(abs(estimate.transmittance - link.transmittance) < 5 * estimate.transmittanceError)
        #expect(abs(estimate.excessNoise - link.excessNoise) < 5 * estimate.excessNoiseError)
        #expect(abs(estimate.signalToNoise - 0.8 * 0.251 * 1.7 / 2 / link.noise) < 3e-3)
    }

    @Test func worstCaseIsNeverBetter() throws {
        var draws = Draws(6)
        for transmittance in [1, 0.9, 0.25, 0.08, 0.02] {
            let link = TrueLink(transmittance: transmittance)
            let estimate = try link.estimate(
                symbols: 10_000_000, shot: 10_000_000, dark: 1_000_000, efficiencyError: 0.005, budget: SecurityBudget(), &draws)
            #expect(estimate.worstHolevoBound > estimate.holevoBound)
            #expect(estimate.minimalTransmittance < estimate.transmittance && estimate.transmittance <= estimate.maximalTransmittance)
            #expect(estimate.maximalExcessNoise > estimate.excessNoise)
            let (signal, calibration, efficiency) = (
                estimate.holevoSurplus.signal, estimate.holevoSurplus.calibration, estimate.holevoSurplus.efficiency
            )
            let whole = estimate.worstHolevoBound - estimate.holevoBound
            #expect(min(signal, calibration, efficiency) >= 0 && whole >= max(signal, calibration, efficiency))
        }
    }

    // MARK: - Nothing there

    @Test func vacuumIsNoChannel() throws {
        var draws = Draws(7)
        let link = TrueLink(transmittance: 1e-12)
        #expect(throws: PostProcessingError.self) {
            try link.estimate(symbols: 50_000_000, shot: 50_000_000, dark: 5_000_000, budget: SecurityBudget(), &draws)
        }
    }

    @Test func shuffledAndForeignSymbolsAreNoChannel() throws {
        var draws = Draws(8)
        let link = TrueLink()
        let calibration = try link.calibration(shot: 1_000_000, dark: 1_000_000, &draws)
        let x = (0..<200_000).map { _ in Float(1.3 * draws.normal()) }
        let y = x.map { Float(link.slope) * $0 + Float(link.noise.squareRoot() * draws.normal()) }
        func estimate(_ x: [Float], _ y: [Float]) throws -> ParameterEstimate {
            var sums = CorrelationSums()
            x.withUnsafeBufferPointer { x in y.withUnsafeBufferPointer { sums.add(x: x, y: $0) } }
            return try ParameterEstimate.estimate(
                sums: sums, calibration: calibration, efficiency: ReceiverEfficiency(0.8, standardError: 0), budget: SecurityBudget())
        }
        #expect(abs(try estimate(x, y).transmittance - 0.251) < 0.02)
        let foreign = (0..<200_000).map { _ in Float(1.3 * draws.normal()) }
        for wrong in [y.shuffled(using: &draws), Array(y.dropFirst() + y.prefix(1)), y.map { -$0 }] {
            #expect(performing: { try estimate(x, wrong) }, throws: { isNoCorrelation($0) })
        }
        #expect(performing: { try estimate(foreign, y) }, throws: { isNoCorrelation($0) })
    }

    func isNoCorrelation(_ error: any Error) -> Bool {
        if case PostProcessingError.noCorrelation = error { true } else { false }
    }

    @Test func badCalibrationsAreRefused() throws {
        var draws = Draws(9)
        let link = TrueLink()
        let good = link.calibration(22_500, symbols: 100_000, &draws)
        #expect(throws: PostProcessingError.self) { try NoiseCalibration(dark: good, shot: good) }
        #expect(throws: PostProcessingError.tooFewSamples(what: "dark calibration", found: 0, needed: 1000)) {
            try NoiseCalibration(dark: CalibrationSums(), shot: good)
        }
        var saturated = good
        saturated.saturated = 3
        let dark = link.calibration(1000, symbols: 100_000, &draws)
        #expect(throws: PostProcessingError.saturated(what: "shot-noise calibration", share: 1.5e-5, limit: 1e-5)) {
            try NoiseCalibration(dark: dark, shot: saturated)
        }
        var sums = CorrelationSums(count: 200_000, xx: 340_000, xy: 110_000, yy: 250_000)
        sums.saturated = 3
        let calibration = try NoiseCalibration(dark: dark, shot: good)
        #expect(throws: PostProcessingError.saturated(what: "block", share: 1.5e-5, limit: 1e-5)) {
            try ParameterEstimate.estimate(
                sums: sums, calibration: calibration, efficiency: ReceiverEfficiency(0.8, standardError: 0), budget: SecurityBudget())
        }
    }

    /// One per cent of light during calibration would hide .15 SNU of excess noise at 6 dB: no key, and the change is plain to see.
    @Test func lightDuringCalibrationVoidsTheBlock() throws {
        var draws = Draws(11)
        let link = TrueLink()
        let (symbols, light) = (20_000_000, 0.01)
        let honest = try link.calibration(shot: symbols, dark: symbols, &draws)
        let lit = try NoiseCalibration(
            dark: link.calibration(link.unit * 0.05, symbols: symbols, &draws),
            shot: link.calibration(link.unit * (1.05 + light), symbols: symbols, &draws))
        #expect(
            performing: {
                try ParameterEstimate.estimate(
                    sums: link.sums(symbols: symbols, calibration: lit, &draws), calibration: lit,
                    efficiency: ReceiverEfficiency(0.8, standardError: 0), budget: SecurityBudget())
            }, throws: { if case PostProcessingError.belowShotNoise = $0 { true } else { false } })
        let change = lit.change(since: honest)
        #expect(abs(change.relative - light) < 5 * change.standardError && change.relative > 10 * change.standardError)
        let again = try link.calibration(shot: symbols, dark: symbols, &draws).change(since: honest)
        #expect(abs(again.relative) < 5 * again.standardError)
    }

    /// The same from the other side: what the calibration may have drifted widens the bounds.
    @Test func driftAllowanceWidensTheBounds() throws {
        var draws = Draws(12)
        let link = TrueLink()
        let calibration = try link.calibration(shot: 50_000_000, dark: 5_000_000, &draws)
        let sums = link.sums(symbols: 50_000_000, calibration: calibration, &draws)
        let bounds = try [0, 1e-4, 1e-3].map { drift in
            try ParameterEstimate.estimate(
                sums: sums, calibration: NoiseCalibration(dark: calibration.dark, shot: calibration.shot, drift: drift),
                efficiency: ReceiverEfficiency(0.8, standardError: 0), budget: SecurityBudget())
        }
        // A relative error of 1e-3 in the shot noise is worth 1e-3 * 2 * 1.05 / (eta T) of excess noise.
        let expected = 1e-3 * 2 * 1.05 / (0.8 * 0.251)
        #expect(abs((bounds[2].maximalExcessNoise - bounds[0].maximalExcessNoise) / expected - 1) < 0.05)
        #expect(bounds[0].worstHolevoBound < bounds[1].worstHolevoBound && bounds[1].worstHolevoBound < bounds[2].worstHolevoBound)
    }

    @Test func mergingWindowsIsExact() {
        var draws = Draws(10)
        let samples = (0..<20_000).map { _ in Int16(truncatingIfNeeded: draws.next()) }
        var (whole, first, second) = (CalibrationSums(), CalibrationSums(), CalibrationSums())
        samples.withUnsafeBufferPointer { whole.add(samples: $0) }
        samples.prefix(7_000).withContiguousStorageIfAvailable { first.add(samples: $0) }
        samples.dropFirst(7_000).withContiguousStorageIfAvailable { second.add(samples: $0) }
        first.merge(second)
        #expect(first.variance == whole.variance && first.symbols == 10_000 && first.windows == 2)
        let squares = samples.indices.filter { $0 % 2 == 0 }.reduce(Int64(0)) { $0 + Int64(samples[$1]) * Int64(samples[$1]) }
        #expect(whole.sumSquaresX == squares)
    }
}
