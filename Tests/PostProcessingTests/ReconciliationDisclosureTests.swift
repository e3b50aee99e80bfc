import KeyMaterial
import PostProcessing
import Testing

/// Frames that their message alone does not decode.
@Suite struct ReconciliationDisclosureTests {
    /// Frames close to capacity are saved by rounds of disclosure; what comes out is the receiver's core, and every bit is counted.
    @Test(arguments: [(r10, 0.95), (r05, 0.95), ("r15-n204800+40", 0.94)])
    func roundsSaveFrames(id: String, efficiency: Double) throws {
        let code = try ReconciliationCode.named(id)
        let decoder = try FrameDecoder(code: code)
        var rounds = 0
        for seed in 200..<208 as Range<UInt64> {
            let trial = try Trial(code, efficiency: efficiency, seed: seed)
            var attempt = try trial.attempt(with: decoder, maximumPasses: 60)
            while case .unfinished(let frame) = attempt {
                guard let round = frame.nextRound else { break }
                attempt = try frame.resume(with: FrameDisclosure(of: trial.core, round: round, code: code))
            }
            guard case .decoded(let frame) = attempt else { continue }
            #expect(frame.core.matches(trial.core))
            #expect(frame.disclosedBits == frame.rounds * code.disclosureBits)
            #expect(frame.requestBits == frame.rounds)
            rounds += frame.rounds
        }
        print("\(id) at \(efficiency): \(rounds) rounds of disclosure for 8 frames")
        #expect(rounds > 0)
    }

    /// Without need of more, an attempt is a decode.
    @Test func goodFramesNeedNothing() throws {
        let code = try ReconciliationCode.named(r10)
        let trial = try Trial(code, efficiency: 0.88, seed: 220)
        let decoder = try FrameDecoder(code: code)
        guard case .decoded(let frame) = try trial.attempt(with: decoder) else {
            Issue.record("a good frame did not decode")
            return
        }
        #expect((frame.rounds, frame.disclosedBits) == (0, 0))
        #expect(try trial.decode(with: decoder).quadratures == frame.quadratures.withFloats(Array.init))
    }

    /// A frame that waits and the frames decoded meanwhile do not disturb each other.
    @Test func waitingFramesKeepTheirMessages() throws {
        let code = try ReconciliationCode.named(r10)
        let decoder = try FrameDecoder(code: code)
        let (bad, good) = (try Trial(code, efficiency: 0.94, seed: 221), try Trial(code, efficiency: 0.88, seed: 222))
        var passes: [Int] = []
        for meanwhile in [false, true] {
            guard case .unfinished(let frame) = try bad.attempt(with: decoder, maximumPasses: 12) else {
                Issue.record("twelve passes sufficed")
                return
            }
            if meanwhile { #expect(try good.decode(with: decoder).core?.matches(good.core) == true) }
            var attempt = FrameAttempt.unfinished(frame)
            while case .unfinished(let frame) = attempt {
                guard let round = frame.nextRound else { break }
                attempt = try frame.resume(with: FrameDisclosure(of: bad.core, round: round, code: code))
            }
            if case .decoded(let done) = attempt { passes.append(done.passes) }
        }
        #expect(passes.count == 2 && passes[0] == passes[1])
    }

    /// Bits of another frame never make a frame pass; after the last round it is given up.
    @Test func strangersBitsSaveNothing() throws {
        let code = try ReconciliationCode.named(r05)
        let decoder = try FrameDecoder(code: code)
        let (trial, other) = (try Trial(code, efficiency: 1.2, seed: 223), try Trial(code, efficiency: 1.2, seed: 224))
        var attempt = try trial.attempt(with: decoder, maximumPasses: 3)
        var rounds = 0
        while case .unfinished(let frame) = attempt {
            let round = try #require(frame.nextRound)
            attempt = try frame.resume(with: FrameDisclosure(of: other.core, round: round, code: code))
            rounds += 1
        }
        guard case .failed(_, let taken) = attempt else {
            Issue.record("a frame with a stranger's bits was accepted")
            return
        }
        #expect(taken == rounds && rounds == code.disclosureRounds / 2)
    }

    @Test func roundsComeInOrder() throws {
        let code = try ReconciliationCode.named(r05)
        let trial = try Trial(code, efficiency: 1.2, seed: 225)
        guard case .unfinished(let frame) = try trial.attempt(with: FrameDecoder(code: code), maximumPasses: 2) else {
            Issue.record("beyond capacity")
            return
        }
        #expect(frame.nextRound == 1)
        #expect(throws: ReconciliationError.disclosureRound(2)) {
            try frame.resume(with: FrameDisclosure(of: trial.core, round: 2, code: code))
        }
        #expect(throws: ReconciliationError.disclosureRound(0)) { try FrameDisclosure(of: trial.core, round: 0, code: code) }
        #expect(throws: ReconciliationError.disclosureRound(41)) { try FrameDisclosure(of: trial.core, round: 41, code: code) }
        let short = try ReconciliationCode.named(r10)
        #expect(throws: ReconciliationError.disclosedCore) { try FrameDisclosure(of: trial.core, round: 1, code: short) }
    }

    /// Positions of all rounds are different core bits, the same for everybody.
    @Test(arguments: ReconciliationCode.all) func positionsAreDistinct(code: ReconciliationCode) {
        let positions = (1...code.disclosureRounds).flatMap { code.disclosurePositions(round: $0) }
        #expect(positions.count == code.disclosureRounds * code.disclosureBits)
        #expect(Set(positions).count == positions.count)
        #expect(positions.allSatisfy { (0..<code.coreBits).contains($0) })
        // A fifth of the core altogether.
        #expect(positions.count * 5 >= code.coreBits && (positions.count - code.disclosureRounds) * 5 < code.coreBits)
    }

    /// Bytes there and back; anything else is refused.
    @Test func bytesAreChecked() throws {
        let code = try ReconciliationCode.named("r15-n204800")  // 187 bits a round: no whole number of bytes
        let trial = try Trial(code, efficiency: 0.9, seed: 226)
        let disclosure = try FrameDisclosure(of: trial.core, round: 3, code: code)
        let bytes = disclosure.encoded()
        let read = { (bytes: [UInt8]) in try bytes.withUnsafeBytes { try FrameDisclosure(decoding: $0, for: code) } }
        #expect(bytes.count == FrameDisclosure.byteCount(code))
        #expect(try read(bytes) == disclosure)
        for (offset, value) in [(0, 0), (4, 0), (4, 41), (8, 1), (bytes.count - 1, 0x80)] as [(Int, UInt8)] {
            var damaged = bytes
            damaged[offset] = value
            #expect(throws: ReconciliationError.self, "\(offset)") { try read(damaged) }
        }
        #expect(throws: ReconciliationError.messageLength(expected: bytes.count, found: bytes.count - 1)) {
            try read(Array(bytes.dropLast()))
        }
    }
}

extension Trial {
    func attempt(with decoder: FrameDecoder, maximumPasses: Int = FrameDecoder.defaultPasses) throws -> FrameAttempt {
        try sent.withUnsafeBufferPointer {
            try decoder.attempt(symbols: $0, message: message, snr: snr, hashKey: hashKey, maximumPasses: maximumPasses)
        }
    }
}
