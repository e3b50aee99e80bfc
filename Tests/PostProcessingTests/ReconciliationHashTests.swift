import PostProcessingKernels
import QKDModel
import Testing

@Suite struct ReconciliationHashTests {
    /// z^(2^n) = z and no smaller field: the modulus is irreducible, so the rings are fields (Rabin's test).
    @Test func bothRingsAreFields() {
        let frobenius40 = { (k: Int) in (0..<k).reduce(UInt64(2)) { z, _ in frame_hash_product40(z, z) } }
        #expect(frobenius40(40) == 2)
        let frobenius24 = { (k: Int) in (0..<k).reduce(UInt32(2)) { z, _ in frame_hash_product24(z, z) } }
        #expect(frobenius24(24) == 2)
        // gcd(z^(2^(n/p)) - z, modulus) = 1 for each prime p of n.
        for k in [20, 8] { #expect(Self.gcd(frobenius40(k) ^ 2, 1 << 40 | 0x39) == 1) }
        for k in [12, 8] { #expect(Self.gcd(UInt64(frobenius24(k)) ^ 2, 1 << 24 | 0x1B) == 1) }
    }

    static func gcd(_ a: UInt64, _ b: UInt64) -> UInt64 {
        var (a, b) = (a, b)
        while b != 0 {
            while a != 0, a.leadingZeroBitCount <= b.leadingZeroBitCount { a ^= b << UInt64(b.leadingZeroBitCount - a.leadingZeroBitCount) }
            (a, b) = (b, a)
        }
        return a
    }

    @Test func productsKeepTheFieldsLaws() {
        let random = SplitMix(31)
        for _ in 0..<200 {
            let (a, b, c) = (random.word() >> 24, random.word() >> 24, random.word() >> 24)
            #expect(frame_hash_product40(a, b) == frame_hash_product40(b, a))
            #expect(frame_hash_product40(a, b ^ c) == frame_hash_product40(a, b) ^ frame_hash_product40(a, c))
            #expect(frame_hash_product40(a, frame_hash_product40(b, c)) == frame_hash_product40(frame_hash_product40(a, b), c))
            #expect(frame_hash_product40(a, 1) == a)
        }
    }

    /// The hash against its definition with powers instead of Horner's scheme.
    @Test func hashIsThePolynomial() {
        let random = SplitMix(32)
        for bytes in [1, 5, 23, 3200] {
            let (message, key) = (random.bytes(bytes), random.word())
            let point = key & 0xFF_FFFF_FFFF
            let count = (bytes + 4) / 5
            var value: UInt64 = 0
            for symbol in 0..<count {
                var term: UInt64 = 0
                for k in 0..<5 where 5 * symbol + k < bytes { term |= UInt64(message[5 * symbol + k]) << UInt64(8 * k) }
                for _ in symbol..<count { term = frame_hash_product40(term, point) }
                value ^= term
            }
            let wanted = frame_hash_product24(UInt32(value >> 24), UInt32(key >> 40)) ^ UInt32(value & 0xFF_FFFF)
            #expect(frame_hash(key, message, bytes) == wanted)
        }
    }

    /// 2^16 keys, eight bits of the difference: a single flipped bit goes unseen by the low byte for about 1 of 256 keys, and by
    /// all 24 bits for none.
    @Test func flippedBitsAreSeen() {
        let random = SplitMix(33)
        let message = random.bytes(40)
        var other = message
        other[17] ^= 0x20
        var low = 0
        var all = 0
        for _ in 0..<65_536 {
            let key = random.word()
            let difference = frame_hash(key, message, 40) ^ frame_hash(key, other, 40)
            low += difference & 0xFF == 0 ? 1 : 0
            all += difference == 0 ? 1 : 0
        }
        #expect(abs(low - 256) < 80)
        #expect(all <= 1)
    }
}
