import KeyMaterial
import PostProcessing
import Testing

@Suite struct ReconciliationFrameTests {
    /// Frame error rates at both links' design points. The bounds are 3 standard deviations above what long runs measured.
    @Test(arguments: [(r10, 0.92, 300, 0.010), (r10, 0.90, 200, 0.002), (r05, 0.92, 300, 0.045), (r05, 0.90, 200, 0.005)])
    func frameErrorRate(id: String, efficiency: Double, frames: Int, measured: Double) throws {
        let code = try ReconciliationCode.named(id)
        let result = try ReconciliationBenchmark.run(code: code, efficiency: efficiency, frames: frames, random: SplitMix(41))
        let mean = measured * Double(frames)
        print(
            "\(id) at beta \(efficiency): \(result.frameErrors) of \(frames) frames wrong, \(result.meanPasses) passes,",
            "\(Int(result.decodedBitsPerSecond / 1e6)) Mb/s decoding, \(Int(result.encodedBitsPerSecond / 1e6)) Mb/s encoding, kernel \(result.level)"
        )
        #expect(Double(result.frameErrors) <= mean + 3 * mean.squareRoot() + 1)
        #expect(result.undetected == 0)
    }

    /// The long code works where the short one does not.
    @Test func longCodeDecodesCloserToCapacity() throws {
        let code = try ReconciliationCode.named("r10-n1024000")
        let result = try ReconciliationBenchmark.run(code: code, efficiency: 0.94, frames: 6, random: SplitMix(42))
        #expect(result.frameErrors == 0)
    }

    /// Beyond capacity nothing decodes, and nothing pretends to.
    @Test func beyondCapacityFails() throws {
        let code = try ReconciliationCode.named(r10)
        let result = try ReconciliationBenchmark.run(code: code, efficiency: 1.02, frames: 3, random: SplitMix(43), maximumPasses: 40)
        #expect(result.frameErrors == 3)
        #expect(result.undetected == 0)
    }

    @Test(arguments: [r10, r05]) func bothEndsHoldTheSameCore(id: String) throws {
        let code = try ReconciliationCode.named(id)
        let decoder = try FrameDecoder(code: code)
        for seed in 50..<55 as Range<UInt64> {
            let trial = try Trial(code, efficiency: 0.88, seed: seed)
            let core = try #require(try trial.decode(with: decoder).core)
            #expect(core.count * 8 == code.coreBits)
            #expect(core.matches(trial.core))
        }
    }

    /// The receiver's quadratures come back: norms exactly, directions to the rotations' rounding.
    @Test func quadraturesAreReconstructed() throws {
        let code = try ReconciliationCode.named(r05)
        let trial = try Trial(code, efficiency: 0.88, seed: 61)
        let back = try #require(try trial.decode(with: FrameDecoder(code: code)).quadratures)
        let moment = { (a: [Float], b: [Float]) in zip(a, b).reduce(0.0) { $0 + Double($1.0) * Double($1.1) } / Double(a.count) }
        #expect(abs(moment(back, back) / moment(trial.received, trial.received) - 1) < 1e-6)
        let correlation = moment(back, trial.received) / moment(trial.received, trial.received)
        #expect(correlation > 1 - 5e-5)
        // The covariance with what was sent is what the transmittance comes from.
        #expect(abs(moment(back, trial.sent) / moment(trial.received, trial.sent) - 1) < 1e-3)
    }

    /// A failed frame's core, disclosed, gives the same quadratures as decoding would have; another core is refused.
    @Test func disclosedFramesAreReconstructed() throws {
        let code = try ReconciliationCode.named(r10)
        let decoder = try FrameDecoder(code: code)
        var trial = try Trial(code, efficiency: 0.88, seed: 62)
        let disclosed = try decoder.quadratures(disclosing: trial.core, message: trial.message, hashKey: trial.hashKey)
        #expect(try trial.decode(with: decoder).quadratures == disclosed.withFloats(Array.init))
        let other = try Trial(code, efficiency: 0.88, seed: 63).core
        #expect(throws: ReconciliationError.disclosedCore) {
            try decoder.quadratures(disclosing: other, message: trial.message, hashKey: trial.hashKey)
        }
        trial.message.syndrome[0] ^= 4
        #expect(throws: ReconciliationError.disclosedCore) {
            try decoder.quadratures(disclosing: trial.core, message: trial.message, hashKey: trial.hashKey)
        }
    }

    /// Units do not matter, each end's own; the quadratures come back in the receiver's.
    @Test func unitsAreFree() throws {
        let code = try ReconciliationCode.named(r10)
        let random = SplitMix(71)
        let snr = code.designSNR(efficiency: 0.88)
        var channel = GaussianChannel(snr: snr, count: code.frameBits, random: random)
        channel.next()
        let received = channel.received.map { $0 * 150 }
        let sent = channel.sent.map { $0 * 0.01 }
        let encoder = try FrameEncoder(code: code, random: random)
        let (message, core) = try received.withUnsafeBufferPointer { try encoder.encode(quadratures: $0, hashKey: 5) }
        let outcome = try sent.withUnsafeBufferPointer {
            try FrameDecoder(code: code).decode(symbols: $0, message: message, snr: snr, hashKey: 5)
        }
        #expect(outcome.core?.matches(core) == true)
        let back = try #require(outcome.quadratures)
        #expect(abs(back[1000] - received[1000]) < 10)
    }

    /// An estimate of the signal-to-noise ratio that is off by some percent does no harm.
    @Test(arguments: [0.93, 1.07]) func roughEstimateIsEnough(factor: Double) throws {
        let code = try ReconciliationCode.named(r10)
        let trial = try Trial(code, efficiency: 0.88, seed: 72)
        let decoder = try FrameDecoder(code: code)
        #expect(try trial.decode(with: decoder, snr: trial.snr * factor).core?.matches(trial.core) == true)
    }

    enum Fault: CaseIterable { case strangerSymbols, shiftedSymbols, vacuum, oppositeSign, syndrome, hash, hashKey }

    /// Unequal input is never verified.
    @Test(arguments: Fault.allCases) func wrongInputIsNeverVerified(fault: Fault) throws {
        let code = try ReconciliationCode.named(r10)
        let decoder = try FrameDecoder(code: code)
        var trial = try Trial(code, efficiency: 0.85, seed: 81)
        #expect(try trial.decode(with: decoder).core?.matches(trial.core) == true)
        switch fault {
        case .strangerSymbols: trial.sent = try Trial(code, efficiency: 0.85, seed: 82).sent
        case .shiftedSymbols: trial.sent = Array(trial.sent[2...] + trial.sent[..<2])
        case .vacuum: trial.sent = trial.sent.map { _ in 0 }
        case .oppositeSign: trial.sent = trial.sent.map { -$0 }
        case .syndrome: trial.message.syndrome[20_000] ^= 1
        case .hash: trial.message.verification ^= 1
        case .hashKey: trial.hashKey ^= 1 << 50
        }
        let outcome = try trial.decode(with: decoder)
        if let core = outcome.core {
            // One wrong syndrome bit of an LDGM row changes one weak bit that is no part of the core.
            #expect(fault == .syndrome && core.matches(trial.core))
        }
    }

    /// One decoder keeps nothing from one frame to the next.
    @Test func decodersForget() throws {
        let code = try ReconciliationCode.named(r05)
        let (used, fresh) = (try FrameDecoder(code: code), try FrameDecoder(code: code))
        _ = try Trial(code, efficiency: 1.1, seed: 91).decode(with: used, maximumPasses: 5)
        let trial = try Trial(code, efficiency: 0.91, seed: 92)
        let (a, b) = (try trial.decode(with: used), try trial.decode(with: fresh))
        #expect(a.passes == b.passes)
        #expect(a.quadratures == b.quadratures)
    }

    @Test func wordsAreFresh() throws {
        let code = try ReconciliationCode.named(r05)
        let encoder = try FrameEncoder(code: code, random: SplitMix(93))
        let quadratures = [Float](repeating: 1, count: code.frameBits)
        let frames = try (0..<2).map { _ in try quadratures.withUnsafeBufferPointer { try encoder.encode(quadratures: $0, hashKey: 1) } }
        #expect(!frames[0].core.matches(frames[1].core))
        #expect(frames[0].message.syndrome != frames[1].message.syndrome)
    }

    @Test func unusableInputIsAnError() throws {
        let code = try ReconciliationCode.named(r05)
        let encoder = try FrameEncoder(code: code, random: SplitMix(94))
        var quadratures = [Float](repeating: 1, count: code.frameBits)
        #expect(throws: ReconciliationError.frameLength(expected: 204_800, found: 100)) {
            try quadratures.prefix(100).withUnsafeBufferPointer { try encoder.encode(quadratures: $0, hashKey: 1) }
        }
        quadratures[512 + 3] = .nan
        #expect(throws: ReconciliationError.unusableQuadratures(group: 64 + 3)) {
            try quadratures.withUnsafeBufferPointer { try encoder.encode(quadratures: $0, hashKey: 1) }
        }
        let trial = try Trial(code, efficiency: 0.9, seed: 95)
        #expect(throws: ReconciliationError.signalToNoise(0)) { try trial.decode(with: FrameDecoder(code: code), snr: 0) }
    }
}
