import KeyMaterial
import Testing

@Suite struct PadTests {
    @Test func givesEveryByteOnceAndInOrder() throws {
        let bits = noise(100, seed: 1)
        let pad = VolatilePad(secret(Array(bits.prefix(30))))
        pad.append(secret(Array(bits.dropFirst(30))))
        var seen: [UInt8] = []
        for count in [7, 20, 40, 33] {
            let (offset, bytes) = try pad.burn(count)
            #expect(offset == UInt64(seen.count))
            seen += plain(bytes)
        }
        #expect(seen == bits)
        #expect(throws: KeyMaterialError.padExhausted(needed: 1, remaining: 0)) { try pad.burn(1) }
    }

    @Test func receiverMovesForwardOnly() throws {
        let bits = noise(100, seed: 2)
        let pad = VolatilePad(secret(bits))
        #expect(plain(try pad.burn(at: 10, count: 5)) == Array(bits[10..<15]))
        #expect(pad.remaining == 85)
        #expect(throws: KeyMaterialError.padUsed(offset: 14, cursor: 15)) { try pad.burn(at: 14, count: 1) }
        #expect(plain(try pad.peek(at: 15, count: 5)) == Array(bits[15..<20]))
        #expect(pad.remaining == 85)
        #expect(throws: KeyMaterialError.padBeyond(offset: 99, count: 2, end: 100)) { try pad.burn(at: 99, count: 2) }
    }

    @Test func offsetsGoOnAfterAppending() throws {
        let pad = VolatilePad(secret(noise(8, seed: 3)))
        _ = try pad.burn(8)
        pad.append(secret(noise(8, seed: 4)))
        let (offset, bytes) = try pad.burn(8)
        #expect(offset == 8)
        #expect(plain(bytes) == noise(8, seed: 4))
    }
}
