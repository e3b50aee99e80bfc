import CKeyMaterial
import Foundation
import KeyMaterial
import Testing

@Suite struct RunningHashTests {
    struct Vector: Decodable { let key: String, message: String, value: String }

    /// GHASH orders the bits within each byte the other way round.
    static func mirrored(_ bytes: [UInt8]) -> [UInt8] {
        bytes.map { byte in
            var mirrored: UInt8 = 0
            for bit in 0..<8 where byte & (1 << bit) != 0 { mirrored |= 0x80 >> bit }
            return mirrored
        }
    }

    static func polynomial(key: [UInt8], blocks: [UInt8], kernel: Int32) -> [UInt8] {
        var hash = ckm_hash()
        ckm_hash_begin(&hash, key, kernel)
        ckm_hash_blocks(&hash, blocks, blocks.count / 16, kernel)
        return withUnsafeBytes(of: hash.state) { Array($0) }
    }

    @Test(arguments: [
        // McGrew and Viega, test case 2; RFC 8452, appendix A.
        [
            "66e94bd4ef8a2c3b884cfa59ca342b2e", "0388dace60b6a392f328c2b971b2fe7800000000000000000000000000000080",
            "f38cbb1ad69223dcc3457ae5b6b0f885",
        ],
        [
            "25629347589242761d31f826ba4b757b", "4f4f95668c83dfb6401762bb2d01a262d1a24ddd2721d006bbe45f20d3c9f362",
            "bd9b3997046731fb96251b91f9c99d7a",
        ],
    ])
    func agreesWithPublishedGHASH(vector: [String]) {
        let parts = vector.map { Self.mirrored(bytes(hex: $0)) }
        for kernel in [Int32(CKM_PORTABLE), ckm_kernel()] {
            #expect(Self.polynomial(key: parts[0], blocks: parts[1], kernel: kernel) == parts[2])
        }
    }

    @Test(arguments: [false, true]) func agreesWithBigIntegers(portable: Bool) throws {
        let vectors = try JSONDecoder().decode([Vector].self, from: vector("gf128/hash.json"))
        #expect(vectors.count > 40)
        for vector in vectors {
            var hash = RunningHash(key: secret(bytes(hex: vector.key)), portable: portable)
            hash.update(bytes(hex: vector.message))
            #expect(plain(hash.value()) == bytes(hex: vector.value), "\(vector.message.count / 2) bytes")
        }
    }

    @Test func kernelsAgreeOnAnySplit() {
        let message = noise(5_003, seed: 1)
        var fast = RunningHash(key: secret(noise(16, seed: 2)))
        var slow = RunningHash(key: secret(noise(16, seed: 2)), portable: true)
        slow.update(message)
        var rest = message[...]
        var step = 1
        while !rest.isEmpty {
            fast.update(Array(rest.prefix(step)))
            rest = rest.dropFirst(step)
            step = (step * 7 + 3) % 97
        }
        #expect(fast.value().matches(slow.value()))
        #expect(fast.length == 5_003)
    }

    @Test func copiesGoTheirOwnWays() {
        var first = RunningHash(key: secret(noise(16, seed: 3)))
        first.update([1, 2, 3])
        var second = first
        let before = first.value()
        second.update([4])
        #expect(first.value().matches(before))
        #expect(!second.value().matches(before))
        second.restart()
        second.update([1, 2, 3])
        #expect(second.value().matches(before))
    }

    @Test func lengthIsPartOfTheMessage() {
        let key = secret(noise(16, seed: 4))
        func value(_ message: [UInt8]) -> SecretBytes {
            var hash = RunningHash(key: key)
            hash.update(message)
            return hash.value()
        }
        let values = (0..<40).map { value([UInt8](repeating: 0, count: $0)) }
        for i in values.indices { for j in values.indices where i < j { #expect(!values[i].matches(values[j])) } }
    }

    /// For a fixed pair of messages the difference of values is a nonzero polynomial in the key: over random keys its values do not repeat.
    @Test func differencesAreSpreadOverKeys() {
        let (a, b) = (noise(100, seed: 5), noise(100, seed: 6))
        let differences = (0..<500).map { seed in
            func value(_ message: [UInt8]) -> [UInt8] {
                var hash = RunningHash(key: secret(noise(16, seed: 100 + UInt64(seed))))
                hash.update(message)
                return plain(hash.value())
            }
            return zip(value(a), value(b)).map { $0 ^ $1 }
        }
        #expect(Set(differences).count == 500)
    }
}
