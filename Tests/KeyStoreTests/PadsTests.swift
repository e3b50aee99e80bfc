import Foundation
import KeyMaterial
import KeyStore
import QKDModel
import QKDTesting
import Testing

@Suite struct PadsTests {
    private func store(_ scratch: Scratch, _ node: NodeID, peer: NodeID, secretSeed: UInt64 = 5, bytes: Int = 8192) throws -> Store {
        let store = try openStore(scratch, node)
        try store.changeNow { try $0.install(secret: secret(noise(bytes, secretSeed)), peer: peer) }
        return store
    }

    @Test func whatOneEndSendsTheOtherReads() throws {
        let scratch = try Scratch()
        let (here, there) = (try store(scratch, almagro, peer: norte), try store(scratch, norte, peer: almagro))
        for (from, to) in [(here, there), (there, here)] {
            let peers = (from.rules.node, to.rules.node)
            let (sending, receiving) = (SendingPad(store: from, peer: peers.1), ReceivingPad(store: to, peer: peers.0))
            for count in [16, 32, 16, 1500, 16] {
                let (offset, bytes) = try sending.burn(count)
                #expect(bytes.matches(try receiving.peek(at: offset, count: count)))
                #expect(bytes.matches(try receiving.burn(at: offset, count: count)))
                #expect(throws: KeyMaterialError.self) { _ = try receiving.burn(at: offset, count: count) }
            }
            let keys = (try from.changeNow { try $0.hashKeys(peers.1) }, try to.changeNow { try $0.hashKeys(peers.0) })
            #expect(keys.0.send.matches(keys.1.receive) && !keys.0.send.matches(keys.0.receive))
        }
    }

    @Test func noByteServesTwiceAcrossRestarts() throws {
        let scratch = try Scratch()
        var seen = Set<UInt64>()
        for _ in 0..<5 {
            let here = try store(scratch, almagro, peer: norte, bytes: 16384)
            let pad = SendingPad(store: here, peer: norte)
            for _ in 0..<3 {
                let offset = try pad.burn(16).offset
                for byte in offset..<offset + 16 { #expect(seen.insert(byte).inserted) }
            }
            try here.close()
        }
    }

    @Test func restartsTakeLittleOfAPadThatRunsLow() throws {
        let scratch = try Scratch()
        var seen = Set<UInt64>()
        var left: [Int] = []
        for _ in 0..<30 {
            let here = try store(scratch, almagro, peer: norte, bytes: 4096 + 32)
            let pad = SendingPad(store: here, peer: norte)
            let (offset, bytes) = try pad.burn(48)
            #expect(bytes.count == 48)
            for byte in offset..<offset + 48 { #expect(seen.insert(byte).inserted) }
            try here.close()
            left.append(try SendingPad(store: try store(scratch, almagro, peer: norte, bytes: 4096 + 32), peer: norte).remaining)
        }
        #expect(left.first == 2048 - 64 && left.last == 2048 - 64 * 30)
    }

    @Test func aSecretThatWasReplacedNeverComesBack() throws {
        let scratch = try Scratch()
        let here = try store(scratch, almagro, peer: norte)
        _ = try SendingPad(store: here, peer: norte).burn(16)
        #expect(try here.changeNow { try $0.install(secret: secret(noise(8192, 6)), peer: norte) })
        #expect {
            try here.changeNow { _ = try $0.install(secret: secret(noise(8192, 5)), peer: norte) }
        } throws: { "\($0)".contains("may not serve twice") }
        #expect(try here.changeNow { try $0.install(secret: secret(noise(8192, 6)), peer: norte) } == false)
    }

    @Test("One file for two peers, or one of the classical channel, would make pads serve twice: refused")
    func secretsOfOthersAreRefused() throws {
        let scratch = try Scratch()
        let here = try store(scratch, almagro, peer: norte)
        #expect {
            try here.changeNow { _ = try $0.install(secret: secret(noise(8192, 5)), peer: node("concepcion")) }
        } throws: { "\($0)".contains("the one for norte") }
        #expect(try here.changeNow { try $0.install(secret: secret(noise(8192, 7)), peer: node("concepcion")) })
        let channel = try scratch.write(Array("SDQKSEC1".utf8) + noise(8184, 1), "channel")
        #expect { _ = try SecretFile.readPair(channel) } throws: { "\($0)".contains("classical channel") }
        #expect(try SecretFile.readPair(try scratch.write(noise(8192, 1), "pair")).count == 8192)
    }

    @Test func runsDryWithAClearErrorAndAnotherSecretRefills() throws {
        let scratch = try Scratch()
        let here = try store(scratch, almagro, peer: norte, bytes: 4096)
        let pad = SendingPad(store: here, peer: norte)
        #expect(try pad.remaining == 2032)
        for _ in 0..<126 { _ = try pad.burn(16) }
        #expect(throws: KeyMaterialError.self) { _ = try pad.burn(32) }
        // The same file again brings nothing back; another one does.
        #expect(try here.changeNow { try $0.install(secret: secret(noise(4096, 5)), peer: norte) } == false)
        #expect(throws: KeyMaterialError.self) { _ = try SendingPad(store: here, peer: norte).burn(32) }
        #expect(try here.changeNow { try $0.install(secret: secret(noise(4096, 6)), peer: norte) })
        #expect(try SendingPad(store: here, peer: norte).burn(32).offset == 0)
        #expect(throws: KeyStoreError.self) { try here.changeNow { _ = try $0.install(secret: secret(noise(4095, 6)), peer: norte) } }
    }

    @Test func refillsContinueBothPadsAtBothEnds() throws {
        let scratch = try Scratch()
        let (here, there) = (try store(scratch, almagro, peer: norte, bytes: 4096), try store(scratch, norte, peer: almagro, bytes: 4096))
        let (id, bytes) = (BlockID(UUID()), noise(80_000, 3))
        _ = try here.deposit(bytes, id: id, peer: norte, firstEnd: true)
        _ = try there.deposit(bytes, id: id, peer: almagro, firstEnd: false)
        // The second-sorting node decides, the first follows.
        let refill = try there.changeNow { transaction in
            let refill = try transaction.planRefill(almagro, bytes: 80_000)
            try transaction.confirm(id, refill: refill)
            return refill
        }
        #expect(refill.forwardCount == 20_000 && refill.backwardCount == 20_000)
        try here.changeNow { try $0.confirm(id, refill: refill) }
        let (forth, back) = (SendingPad(store: here, peer: norte), ReceivingPad(store: there, peer: almagro))
        #expect(try forth.remaining == 22_032)
        for _ in 0..<688 {
            let (offset, bytes) = try forth.burn(32)
            #expect(bytes.matches(try back.burn(at: offset, count: 32)))
        }
        // What went to the pads is in neither half.
        let ledgers = (try here.changeNow { try $0.block(id) }?.ledger, try there.changeNow { try $0.block(id) }?.ledger)
        #expect(ledgers.0?.ownHalf.lowerBound == 40_000 && ledgers.1?.peerHalf.lowerBound == 40_000)
    }

    /// What the asking end says about a block, as the answering end takes it.
    private func question(_ id: BlockID, _ bytes: [UInt8], _ pad: SecretBytes) -> KMMessage.Confirm {
        KMMessage.Confirm(
            block: id, link: link("almagro-norte"), emulated: false, firstEnd: true, byteCount: bytes.count, hashPadOffset: 0,
            maskedHash: maskedHash(secret(bytes), pad))
    }

    private func ask(_ id: BlockID, _ bytes: [UInt8], at store: Store) throws -> PadRefill? {
        let pad = secret(noise(32, 8))
        guard case .agreed(let refill, _) = try store.changeNow({ try $0.answer(question(id, bytes, pad), peer: almagro, pad: pad) }) else {
            return nil
        }
        return refill
    }

    @Test func nothingIsSentOutOfARefillBeforeTheAskingEndHasIt() throws {
        let scratch = try Scratch()
        let (here, there) = (try store(scratch, almagro, peer: norte, bytes: 4096), try store(scratch, norte, peer: almagro, bytes: 4096))
        let back = SendingPad(store: there, peer: almagro)
        for _ in 0..<127 { _ = try back.burn(16) }
        // A block is erased at the asking end while the answer is on its way: the refill must not be used, and no hole stays.
        let (lost, kept) = (BlockID(UUID()), BlockID(UUID()))
        for (id, seed) in [(lost, UInt64(3)), (kept, 4)] {
            _ = try here.deposit(noise(8000, seed), id: id, peer: norte, firstEnd: true)
            _ = try there.deposit(noise(8000, seed), id: id, peer: almagro, firstEnd: false)
        }
        let first = try #require(try ask(lost, noise(8000, 3), at: there))
        #expect(first.backwardCount == 2000)
        #expect(throws: KeyMaterialError.self) { _ = try back.burn(16) }
        try here.changeNow { transaction in
            _ = try transaction.void(lost, tell: true)
            try transaction.confirm(lost, refill: first)
            #expect(try transaction.block(lost)?.refill == nil)
        }
        #expect(try there.changeNow { try $0.unsettled(almagro) } == [lost])
        try there.changeNow { try $0.settleRefill(lost, peer: almagro, applied: false) }
        #expect(throws: KeyMaterialError.self) { _ = try back.burn(16) }
        // The next one serves, in both directions, once it is settled.
        let second = try #require(try ask(kept, noise(8000, 4), at: there))
        try here.changeNow { try $0.confirm(kept, refill: second) }
        #expect(throws: KeyMaterialError.self) { _ = try back.burn(16) }
        try there.changeNow { try $0.settleRefill(kept, peer: almagro, applied: true) }
        #expect(try there.changeNow { try $0.unsettled(almagro) } == [])
        let (offset, bytes) = try back.burn(16)
        let received = try ReceivingPad(store: here, peer: norte).burn(at: offset, count: 16)
        #expect(offset == second.backwardStart && bytes.matches(received))
        let forth = SendingPad(store: here, peer: norte)
        while let (offset, bytes) = try? forth.burn(16) {
            #expect(bytes.matches(try ReceivingPad(store: there, peer: almagro).burn(at: offset, count: 16)))
        }
    }

    @Test func aRefillOfAnOlderSecretIsErasedAtBothEnds() throws {
        let scratch = try Scratch()
        let (here, there) = (try store(scratch, almagro, peer: norte, bytes: 4096), try store(scratch, norte, peer: almagro, bytes: 4096))
        let (id, bytes) = (BlockID(UUID()), noise(8000, 3))
        _ = try here.deposit(bytes, id: id, peer: norte, firstEnd: true)
        _ = try there.deposit(bytes, id: id, peer: almagro, firstEnd: false)
        let before = try #require(try ask(id, bytes, at: there))
        // The answer is lost; both ends get another secret; the question is repeated.
        for (store, peer) in [(here, norte), (there, almagro)] {
            #expect(try store.changeNow { try $0.install(secret: secret(noise(4096, 6)), peer: peer) })
        }
        let after = try #require(try ask(id, bytes, at: there))
        #expect(after.count == before.count && after.forwardStart == PadRefill.nowhere && after.backwardStart == PadRefill.nowhere)
        #expect(try PadRefill(decoding: after.encoded()) == after)
        try here.changeNow { try $0.confirm(id, refill: after) }
        for (store, peer) in [(here, norte), (there, almagro)] {
            #expect(try SendingPad(store: store, peer: peer).remaining == 2032)
            #expect(try ReceivingPad(store: store, peer: peer).remaining == 2032)
        }
        let halves = (try here.changeNow { try $0.block(id) }?.ledger.ownHalf, try there.changeNow { try $0.block(id) }?.ledger.peerHalf)
        #expect(halves.0 == halves.1 && halves.0?.lowerBound == before.count)
    }

    @Test func aSecondRefillBeforeTheFirstLeavesAHoleThatIsSkipped() throws {
        let scratch = try Scratch()
        let here = try store(scratch, almagro, peer: norte, bytes: 4096)
        var refills: [(BlockID, PadRefill)] = []
        for seed in UInt64(0)..<2 {
            let id = BlockID(UUID())
            _ = try here.deposit(noise(10_000, seed), id: id, peer: norte, firstEnd: true)
            var refill = PadRefill()
            refill.forwardStart = 2032 + seed * 640
            refill.forwardCount = 640
            refills.append((id, refill))
        }
        try here.changeNow { try $0.confirm(refills[1].0, refill: refills[1].1) }
        let pad = SendingPad(store: here, peer: norte)
        for _ in 0..<127 { _ = try pad.burn(16) }
        #expect(try pad.burn(16).offset == 2672)
        try here.changeNow { try $0.confirm(refills[0].0, refill: refills[0].1) }
        #expect(try pad.burn(16).offset == 2688)
    }

    @Test func secretFilesOfOthersAreRefused() throws {
        let scratch = try Scratch()
        let path = try scratch.write(noise(4096, 1), "secret", mode: 0o640)
        #expect {
            _ = try SecretFile.read(path, sizes: 4096...8192)
        } throws: { "\($0)".contains("chmod 600") }
        let good = try scratch.write(noise(4096, 1), "good")
        #expect(try SecretFile.read(good, sizes: 4096...8192).plain == noise(4096, 1))
        #expect(throws: KeyStoreError.self) { _ = try SecretFile.read(good, sizes: 32...32) }
        #expect(throws: KeyStoreError.self) { _ = try SecretFile.read(scratch.path + "/none", sizes: 32...32) }
        #expect(throws: KeyStoreError.self) { try SecretFile.create(good, secret([1])) }
    }
}
