// The streams that everything else stands on: known vectors, equal bits on every path, and the statistics that
// estimation relies on.

import QuantumOptics
import Testing

private func symbols(_ stream: SymbolStream, first: UInt64, count: Int, level: KernelLevel = .best) -> [Int16] {
    [Int16](unsafeUninitializedCapacity: 2 * count) { buffer, filled in
        stream.fill(buffer, first: first, level: level)
        filled = 2 * count
    }
}

private func deviates(_ stream: GaussianStream, first: UInt64, count: Int) -> (x: [Float], p: [Float]) {
    var x = [Float](repeating: 0, count: count)
    var p = [Float](repeating: 0, count: count)
    x.withUnsafeMutableBufferPointer { x in p.withUnsafeMutableBufferPointer { p in stream.fill(x: x, p: p, first: first) } }
    return (x, p)
}

private func received(_ reception: Reception, first: UInt64, count: Int, level: KernelLevel = .best) -> (samples: [Int16], saturated: Int) {
    var saturated = 0
    let samples = [Int16](unsafeUninitializedCapacity: 2 * count) { buffer, filled in
        saturated = reception.fill(buffer, first: first, level: level)
        filled = 2 * count
    }
    return (samples, saturated)
}

private let levels = KernelLevel.allCases.filter { $0 <= .best }
private let modulation = SymbolStream(seed: 5, stream: 9)
private let noise = GaussianStream(seed: 5, stream: 10)

private func reception(
    gain: Double = 0.1, delay: Int64 = 97, sigma: Double = 155, phase: Double = 0, phaseSigma: Double = 0, phaseStep: Double = 0
) -> Reception {
    Reception(
        modulation: modulation, signalGain: gain, delay: delay, noise: noise, noiseSigmaLSB: sigma, phase: phase,
        phaseSigma: phaseSigma, phaseStep: phaseStep)
}

@Suite struct SamplingTests {
    /// Known answers of Philox4x32-10 (Random123's kat_vectors): first two words of counter 0, key 0 and of all ones.
    @Test func generatorGivesThePublishedVectors() {
        #expect(GaussianStream(seed: 0, stream: 0).word(0) == 0x6627_E8D5_E169_C58D)
        #expect(GaussianStream(seed: .max, stream: .max).word(.max) == 0x408F_276D_41C8_3B0E)
    }

    @Test(arguments: levels) func everyLevelGivesTheSameBits(level: KernelLevel) {
        let noisy = reception(phase: 1.3, phaseSigma: 0.03)
        let running = reception(delay: -5, phaseStep: 0.137)
        for first in [0, 1, 63, 64, 12_345, UInt64.max / 64 - 700] {
            #expect(
                symbols(modulation, first: first, count: 2999, level: level)
                    == symbols(modulation, first: first, count: 2999, level: .portable))
            #expect(
                received(noisy, first: first, count: 2999, level: level) == received(noisy, first: first, count: 2999, level: .portable))
            #expect(
                received(running, first: first, count: 2999, level: level) == received(running, first: first, count: 2999, level: .portable)
            )
        }
    }

    @Test func blocksMayBeMadeInAnyOrderAndSize() {
        let whole = received(reception(phaseSigma: 0.05), first: 1000, count: 5000).samples
        for (start, count) in [(4000, 1000), (17, 1), (0, 64), (63, 66), (1029, 2050), (4999, 1)] {
            let part = received(reception(phaseSigma: 0.05), first: UInt64(1000 + start), count: count).samples
            #expect(part == Array(whole[2 * start..<2 * (start + count)]), "from \(start), \(count) symbols")
        }
    }

    /// Moments over 2^24 deviates within five standard errors; the tail as the normal law has it.
    @Test func deviatesAreNormal() {
        var sums = [Double](repeating: 0, count: 8)
        var beyond = [0, 0, 0]
        let block = 1 << 18
        for index in 0..<64 {
            let (x, p) = deviates(noise, first: UInt64(index * block), count: block)
            for i in 0..<block {
                let a = Double(x[i])
                let b = Double(p[i])
                sums[0] += a + b
                sums[1] += a * a + b * b
                sums[2] += a * a * a + b * b * b
                sums[3] += a * a * a * a + b * b * b * b
                sums[4] += a * b
                if i > 0 { sums[5] += a * Double(x[i - 1]) }
                if i >= 32 { sums[6] += a * Double(x[i - 32]) }
                sums[7] += a * a * b * b
                for (bin, limit) in [3.0, 4.0, 5.0].enumerated() { beyond[bin] += (abs(a) > limit ? 1 : 0) + (abs(b) > limit ? 1 : 0) }
            }
        }
        let pairs = Double(64 * block)
        let all = 2 * pairs
        #expect(abs(sums[0]) < 5 * all.squareRoot())
        #expect(abs(sums[1] - all) < 5 * (2 * all).squareRoot())
        #expect(abs(sums[2]) < 5 * (15 * all).squareRoot())
        #expect(abs(sums[3] - 3 * all) < 5 * (96 * all).squareRoot())
        for index in 4...6 { #expect(abs(sums[index]) < 5 * pairs.squareRoot(), "correlation \(index)") }
        #expect(abs(sums[7] - pairs) < 5 * (8 * pairs).squareRoot())
        for (bin, share) in [2.6998e-3, 6.3342e-5, 5.7330e-7].enumerated() {
            let expected = share * all
            #expect(abs(Double(beyond[bin]) - expected) < 5 * expected.squareRoot(), "tail \(bin)")
        }
    }

    @Test func streamsAndSeedsAreIndependent() {
        let count = 1 << 20
        let base = deviates(GaussianStream(seed: 1, stream: 1), first: 0, count: count).x
        for other in [GaussianStream(seed: 2, stream: 1), GaussianStream(seed: 1, stream: 2), GaussianStream(seed: 1, stream: ~1)] {
            let values = deviates(other, first: 0, count: count).x
            var sum = 0.0
            for i in 0..<count { sum += Double(base[i] * values[i]) }
            #expect(abs(sum) < 5 * Double(count).squareRoot())
        }
    }

    @Test func modulationIsDiscretisedAndTruncated() {
        let values = symbols(SymbolStream(seed: 3, stream: 4, sigmaLSB: 400, limitLSB: 1600), first: 0, count: 1 << 20)
        #expect(values.max() == 1600 && values.min() == -1600)
        let variance = values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(values.count)
        // Truncation at four sigma takes 1e-3 of the variance.
        #expect(abs(variance / 160_000 - 0.9990) < 0.005)
        #expect(Set(values).count > 3000, "fewer than 8 effective bits")
    }

    /// y = g R(phase) x + noise, symbol by symbol with the delay.
    @Test func receptionIsTheChannelOfTheTransmitter() {
        let count = 1 << 21
        let phase = 0.7
        let samples = received(reception(gain: 0.1, delay: 33, sigma: 150, phase: phase), first: 5000, count: count).samples
        let sent = symbols(modulation, first: 5000 - 33, count: count)
        var inPhase = 0.0
        var quadrature = 0.0
        var power = 0.0
        var residual = 0.0
        for i in 0..<count {
            let (x, p) = (Double(sent[2 * i]), Double(sent[2 * i + 1]))
            let (y, q) = (Double(samples[2 * i]), Double(samples[2 * i + 1]))
            inPhase += x * y + p * q
            quadrature += x * q - p * y
            power += x * x + p * p
            residual += y * y + q * q
        }
        let error = 150 / (power).squareRoot()
        #expect(abs(inPhase / power - 0.1 * 0.764842187) < 5 * error)
        #expect(abs(quadrature / power - 0.1 * 0.644217687) < 5 * error)
        let noiseVariance = (residual - (inPhase * inPhase + quadrature * quadrature) / power) / Double(2 * count)
        #expect(abs(noiseVariance / (22_500 + 1.0 / 12) - 1) < 5 / Double(count).squareRoot())
    }

    @Test func phaseNoiseTakesItsShareOfTheCorrelation() {
        let count = 1 << 20
        let samples = received(reception(gain: 1, delay: 0, sigma: 1, phaseSigma: 0.2), first: 0, count: count).samples
        let sent = symbols(modulation, first: 0, count: count)
        var cross = 0.0
        var power = 0.0
        for i in 0..<2 * count {
            cross += Double(sent[i]) * Double(samples[i])
            power += Double(sent[i]) * Double(sent[i])
        }
        #expect(abs(cross / power - 0.980199) < 0.002, "exp(-sigma^2/2)")
    }

    @Test func anUnlockedReceiverLosesTheCorrelation() {
        let count = 1 << 18
        let samples = received(reception(gain: 1, delay: 0, sigma: 1, phaseStep: 0.1372), first: 0, count: count).samples
        let sent = symbols(modulation, first: 0, count: count)
        var cross = 0.0
        var power = 0.0
        for i in 0..<2 * count {
            cross += Double(sent[i]) * Double(samples[i])
            power += Double(sent[i]) * Double(sent[i])
        }
        #expect(abs(cross / power) < 0.02)
    }

    @Test func saturationIsClampedAndCounted() {
        let (samples, saturated) = received(reception(gain: 0, sigma: 1500), first: 0, count: 100_000)
        let clipped = samples.count { abs(Int($0)) >= 2047 }
        #expect(saturated == clipped && clipped > 10_000)
        #expect(samples.allSatisfy { abs(Int($0)) <= 2047 })
    }
}
