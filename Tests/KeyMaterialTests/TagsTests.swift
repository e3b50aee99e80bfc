import KeyMaterial
import QKDModel
import Testing

@Suite struct TagsTests {
    static func ends(padBytes: Int = 64) throws -> (TagMaker, TagChecker, VolatilePad, VolatilePad) {
        let key = secret(noise(16, seed: 7))
        let bits = secret(noise(padBytes, seed: 8))
        let (near, far) = (VolatilePad(bits), VolatilePad(bits))
        return (try TagMaker(hashKey: key, pad: near), try TagChecker(hashKey: key, pad: far), near, far)
    }

    @Test func acceptsWhatWasSaid() throws {
        var (maker, checker, near, far) = try Self.ends()
        for round in 0..<4 {
            let message = noise(1000 + round, seed: UInt64(round))
            maker.update(Array(message.prefix(300)))
            maker.update(Array(message.dropFirst(300)))
            checker.update(message)
            let (offset, tag) = try maker.tag()
            #expect(offset == UInt64(16 * round))
            try checker.check(tag, padOffset: offset)
        }
        #expect(near.remaining == 0 && far.remaining == 0)
        #expect(throws: KeyMaterialError.padExhausted(needed: 16, remaining: 0)) { try maker.tag() }
    }

    @Test func refusesAnyFlippedBit() throws {
        let message = noise(40, seed: 9)
        var (maker, _, _, _) = try Self.ends()
        maker.update(message)
        let (offset, tag) = try maker.tag()
        for bit in 0..<8 * (message.count + 16) {
            var (_, checker, _, far) = try Self.ends()
            var forged = message + tag.bytes
            forged[bit / 8] ^= 1 << UInt8(bit % 8)
            checker.update(Array(forged.prefix(message.count)))
            let forgedTag = try AuthenticationTag(bytes: forged.suffix(16))
            #expect(throws: KeyMaterialError.tagMismatch(padOffset: 0)) { try checker.check(forgedTag, padOffset: offset) }
            #expect(far.remaining == 64, "a refused tag spends no pad")
        }
    }

    @Test(arguments: [[UInt8](), [0], [UInt8](repeating: 0, count: 16)]) func refusesMoreOrLess(extra: [UInt8]) throws {
        var (maker, checker, _, _) = try Self.ends()
        maker.update([1, 2, 3])
        let (offset, tag) = try maker.tag()
        checker.update(extra.isEmpty ? [1, 2] : [1, 2, 3] + extra)
        #expect(throws: KeyMaterialError.tagMismatch(padOffset: 0)) { try checker.check(tag, padOffset: offset) }
    }

    @Test func refusesReplay() throws {
        var (maker, checker, _, _) = try Self.ends()
        maker.update([1])
        checker.update([1])
        let (offset, tag) = try maker.tag()
        try checker.check(tag, padOffset: offset)
        checker.update([1])
        #expect(throws: KeyMaterialError.padUsed(offset: 0, cursor: 16)) { try checker.check(tag, padOffset: offset) }
    }

    @Test func farOffsetsDoNotSpendThePad() throws {
        var (maker, checker, _, far) = try Self.ends()
        maker.update([1])
        let (_, tag) = try maker.tag()
        checker.update([1])
        #expect(throws: KeyMaterialError.tagMismatch(padOffset: 48)) { try checker.check(tag, padOffset: 48) }
        checker.update([1])
        #expect(throws: KeyMaterialError.padBeyond(offset: 50, count: 16, end: 64)) { try checker.check(tag, padOffset: 50) }
        #expect(throws: KeyMaterialError.padBeyond(offset: .max, count: 16, end: 64)) { try checker.check(tag, padOffset: .max) }
        #expect(far.remaining == 64)
        checker.update([1])
        try checker.check(tag, padOffset: 0)
    }

    @Test func lostTagsSkipTheirPad() throws {
        var (maker, checker, _, far) = try Self.ends()
        maker.update([1])
        _ = try maker.tag()
        maker.update([2])
        let (offset, tag) = try maker.tag()
        checker.update([2])
        try checker.check(tag, padOffset: offset)
        #expect(far.remaining == 32)
    }

    @Test func differentSecretsNeverAgree() throws {
        var (maker, _, _, _) = try Self.ends()
        maker.update([1])
        let (offset, tag) = try maker.tag()
        var stranger = try TagChecker(hashKey: secret(noise(16, seed: 70)), pad: VolatilePad(secret(noise(64, seed: 8))))
        stranger.update([1])
        #expect(throws: KeyMaterialError.tagMismatch(padOffset: 0)) { try stranger.check(tag, padOffset: offset) }
    }

    /// The same message under the same hash key gives unrelated tags: the pad hides the hash.
    @Test func tagsOfEqualMessagesDiffer() throws {
        var (maker, _, _, _) = try Self.ends()
        maker.update([1])
        let first = try maker.tag().tag
        maker.update([1])
        let second = try maker.tag().tag
        #expect(first != second)
    }

    @Test func badLengthsAreErrors() {
        #expect(throws: KeyMaterialError.badTagLength(count: 15)) { try AuthenticationTag(bytes: [UInt8](repeating: 0, count: 15)) }
        #expect(throws: KeyMaterialError.badKeyLength(count: 17)) {
            try TagMaker(hashKey: SecretBytes(count: 17), pad: VolatilePad(SecretBytes(count: 1)))
        }
    }
}
