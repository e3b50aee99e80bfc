import KeyMaterial
import QKDModel
import Testing

@Suite struct SecretBytesTests {
    static let pattern: [UInt8] = [0xDE, 0xAD, 0xBE, 0xEF, 0x5A, 0x5A, 0x5A, 0x5A]

    static func secret() -> SecretBytes {
        var bytes = pattern
        return SecretBytes(consuming: &bytes)
    }

    @Test func consumesAndOverwritesItsSource() {
        var source = Self.pattern
        let secret = SecretBytes(consuming: &source)
        #expect(source.isEmpty)
        #expect(secret.withBytes { Array($0) } == Self.pattern)
    }

    @Test func startsAsZeros() {
        #expect(SecretBytes(count: 10_000).withBytes { $0.allSatisfy { $0 == 0 } })
        #expect(SecretBytes(count: 0).count == 0)
    }

    @Test func showsOnlyItsLength() {
        struct Holder { let name = "pad", secret = SecretBytesTests.secret() }
        let secret = Self.secret()
        var dumped = ""
        dump(Holder(), to: &dumped)
        var printed = ""
        print(secret, Holder(), [secret], to: &printed)
        let texts = [dumped, printed, "\(secret)", String(reflecting: secret), String(describing: [secret]), String(reflecting: Holder())]
        for text in texts {
            #expect(text.contains("<8 secret bytes>"))
            // Neither decimal, hexadecimal nor base 64.
            for leak in ["222", "173", "dead", "DEAD", "5a5a", "90, 90", "3q2+"] { #expect(!text.contains(leak), "\(text)") }
        }
        #expect(Mirror(reflecting: secret).children.isEmpty)
    }

    @Test func cannotBeEncodedOrUsedAsADictionaryKey() {
        let secret: Any = Self.secret()
        #expect(!(secret is any Encodable))
        #expect(!(secret is any Hashable))
    }

    @Test func slicesAndJoins() {
        let secret = Self.secret()
        let joined = SecretBytes.concatenate([secret.slice(0..<3), SecretBytes(count: 0), secret.slice(3..<8)])
        #expect(joined.matches(secret))
        #expect(!secret.slice(0..<7).matches(secret))
        let other = secret.slice(0..<8)
        other.withMutableBytes { $0[7] ^= 1 }
        #expect(!other.matches(secret))
        #expect(joined.matches(secret), "a slice is a copy")
    }

    @Test func zeroisesOnRequest() {
        let secret = Self.secret()
        secret.zeroise()
        #expect(secret.matches(SecretBytes(count: 8)))
    }

    @Test func fillsItselfFromARandomSource() {
        let (a, b) = (SecretBytes(count: 32, random: KernelRandom()), SecretBytes(count: 32, random: KernelRandom()))
        #expect(!a.matches(b))
    }

    /// The kernel's own account of a large secret: not dumped (`dd`), wiped on fork (`wf`).
    @Test func pagesStayOutOfCoreDumps() throws {
        let secret = SecretBytes(count: 3 << 20)
        let address = secret.withBytes { UInt(bitPattern: $0.baseAddress) }
        let flags = try #require(memoryFlags(at: address))
        #expect(flags.contains("dd"))
        #expect(flags.contains("wf"))
        #expect(flags.contains("lo") == secret.isLocked)
        #expect(secret.isLocked || SecretBytes.unlockedBytes >= secret.count)
    }

    @Test func countsWhatIsAlive() {
        let before = SecretBytes.livingBytes
        let big = SecretBytes(count: 60_000_000)
        #expect(SecretBytes.livingBytes - before > 40_000_000)
        _ = big.count
    }
}
