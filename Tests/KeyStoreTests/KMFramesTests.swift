import Foundation
import KeyMaterial
import KeyStore
import QKDModel
import QKDTesting
import Testing

@Suite struct KMFramesTests {
    private let block = BlockID(UUID())

    private var samples: [KMMessage] {
        var refill = PadRefill()
        (refill.forwardStart, refill.forwardCount, refill.backwardStart, refill.backwardCount) = (1 << 40, 7, 3, 4096)
        let run = KeyRun(block: block, offset: 1_500_000, keyBytes: 32, count: 17)
        return [
            .hello(version: 1, node: almagro), .ping(.max), .pong(3), .have([block, BlockID(UUID())]), .have([]),
            .confirm(
                .init(
                    block: block, link: link("almagro-norte"), emulated: true, firstEnd: true, byteCount: 187_500, hashPadOffset: 0,
                    maskedHash: noise(16, 1))),
            .confirmed(block, .differs, refill),
            .reserve(request: 9, [.init(run: run, master: sae("app-almagro"), slave: sae("app-norte"))]),
            .reserved(request: 9, KMMessage.ReservedStatus.allCases), .void(request: 4, .zeroised, [block]), .voided(request: 4),
            .settled(block, applied: true), .settled(block, applied: false), .taken(0), .taken(1 << 40),
        ]
    }

    /// Both directions of one connection, each end with its own copy of the secrets.
    private func pair() throws -> (KMFrames, KMFrames) {
        func direction(_ seed: UInt64) -> (SecretBytes, SecretBytes) { (secret(noise(16, seed)), secret(noise(4096, seed + 1))) }
        let (forth, back) = (direction(10), direction(20))
        func frames(_ send: (SecretBytes, SecretBytes), _ receive: (SecretBytes, SecretBytes)) throws -> KMFrames {
            try KMFrames(send: (send.0, VolatilePad(send.1)), receive: (receive.0, VolatilePad(receive.1)))
        }
        return (try frames(forth, back), try frames(back, forth))
    }

    @Test func everyMessageArrivesAsItWasSent() throws {
        var (here, there) = try pair()
        for message in samples where !isConfirm(message) {
            let frame = try here.encode(message)
            #expect(try there.decode(frame).message == message)
        }
        let frame = try there.encode(.hello(version: 1, node: norte))
        #expect(try here.decode(frame).message == .hello(version: 1, node: norte))
    }

    private func isConfirm(_ message: KMMessage) -> Bool { if case .confirm = message { true } else { false } }

    @Test func padOfAHashIsReadBeforeTheTagMovesOn() throws {
        let pad = secret(noise(4096, 1))
        let sending = VolatilePad(pad)
        let key = secret(noise(16, 2))
        var here = try KMFrames(send: (key, sending), receive: (key, VolatilePad(pad)))
        var there = try KMFrames(send: (key, VolatilePad(pad)), receive: (key, VolatilePad(pad)))
        let (offset, bytes) = try sending.burn(32)
        let confirm = KMMessage.confirm(
            .init(
                block: block, link: link("l"), emulated: false, firstEnd: true, byteCount: 64, hashPadOffset: offset,
                maskedHash: noise(16, 1)))
        let decoded = try there.decode(try here.encode(confirm))
        #expect(decoded.hashPad?.matches(bytes) == true)
        // The same pad bytes cannot be named again.
        let again = try here.encode(confirm)
        #expect(throws: KeyMaterialError.self) { _ = try there.decode(again) }
    }

    @Test func everyFlippedBitIsRefused() throws {
        var (here, there) = try pair()
        let frame = try here.encode(.reserved(request: 9, [.reserved, .notFree]))
        for bit in 0..<frame.count * 8 {
            var bad = frame
            bad[bit / 8] ^= 1 << (bit % 8)
            // A frame that became a ping is a ping: it changes nothing.
            if let message = try? there.decode(bad).message { Issue.record("bit \(bit) was accepted as \(message)") }
        }
        #expect(try there.decode(frame).message == .reserved(request: 9, [.reserved, .notFree]))
    }

    @Test func replayedReorderedAndForeignFramesAreRefused() throws {
        var (here, there) = try pair()
        let frames = try (0..<3).map { try here.encode(.voided(request: $0)) }
        #expect(throws: KeyStoreError.self) { _ = try there.decode(frames[1]) }
        _ = try there.decode(frames[0])
        #expect(throws: KeyStoreError.self) { _ = try there.decode(frames[0]) }
        // A new connection counts from 0 again: the pad's cursor still refuses the old frame.
        let pad = VolatilePad(secret(noise(4096, 11)))
        var (old, new) = (
            try KMFrames(send: (secret(noise(16, 10)), VolatilePad(secret(noise(4096, 11)))), receive: (secret(noise(16, 10)), pad)),
            try KMFrames(send: (secret(noise(16, 10)), pad), receive: (secret(noise(16, 10)), pad))
        )
        let first = try old.encode(.voided(request: 7))
        _ = try new.decode(first)
        var reconnected = try KMFrames(send: (secret(noise(16, 10)), pad), receive: (secret(noise(16, 10)), pad))
        #expect(throws: KeyMaterialError.self) { _ = try reconnected.decode(first) }
    }

    @Test func noiseNeverDecodes() throws {
        var (here, there) = try pair()
        let random = SeededRandom(4)
        let good = try samples.filter { !isConfirm($0) }.map { try here.encode($0) }
        for _ in 0..<4000 {
            var frame = good[Int(random.word() % UInt64(good.count))]
            for _ in 0..<1 + random.word() % 6 where !frame.isEmpty {
                let index = Int(random.word() % UInt64(frame.count))
                switch random.word() % 3 {
                case 0: frame[index] = UInt8(truncatingIfNeeded: random.word())
                case 1: frame.remove(at: index)
                default: frame.insert(UInt8(truncatingIfNeeded: random.word()), at: index)
                }
            }
            guard !good.contains(frame), let message = try? there.decode(frame).message else { continue }
            switch message {
            case .ping, .pong: break
            default: Issue.record("noise was accepted as \(message)")
            }
        }
    }
}
