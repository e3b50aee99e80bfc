// Two stores and a network that loses, repeats and delays messages; processes that end at any moment. Whatever
// happens, no bit reaches two owners, and what both applications get is equal.

import Foundation
import KeyMaterial
import KeyStore
import QKDModel
import QKDTesting
import Testing

/// One end: its store, reopened after each crash.
private final class End {
    let (scratch, name, peer): (Scratch, NodeID, NodeID)
    var store: Store
    init(_ scratch: Scratch, _ name: NodeID, _ peer: NodeID) throws {
        (self.scratch, self.name, self.peer) = (scratch, name, peer)
        store = try openStore(scratch, name)
    }
    func crash() throws {
        try store.close()
        store = try openStore(scratch, name)
    }
}

@Suite struct ReservationTests {
    private struct Offer {
        var from: Int
        var runs: [KeyRun]
        var master: SAEID
        var slave: SAEID
        var answered = false
    }

    @Test(arguments: UInt64(0)..<12)
    func noKeyTwiceAndBothEndsAgree(seed: UInt64) throws {
        let random = SeededRandom(seed)
        func below(_ limit: Int) -> Int { Int(random.word() % UInt64(limit)) }
        let scratch = try Scratch()
        let ends = [try End(scratch, almagro, norte), try End(scratch, norte, almagro)]
        var content: [BlockID: [UInt8]] = [:]
        for index in 0..<3 {
            let (id, bytes) = (BlockID(UUID()), noise(300 + below(3000), seed * 10 + UInt64(index)))
            content[id] = bytes
            for (end, isFirst) in zip(ends, [true, false]) { try end.store.confirmed(bytes, id: id, peer: end.peer, firstEnd: isFirst) }
        }
        var offers: [Offer] = []
        var exchange: Int64 = 0
        var masterKeys: [KeyID: [UInt8]] = [:]
        var slaveKeys: [KeyID: [UInt8]] = [:]
        var given: [BlockID: [Int: KeyID]] = [:]
        func give(_ offer: Offer, _ ids: Set<KeyID>) {
            for run in offer.runs {
                for (range, id) in zip(run.ranges, run.ids) where ids.contains(id) {
                    for byte in range {
                        let owner = given[run.block, default: [:]].updateValue(id, forKey: byte)
                        #expect(owner == nil || owner == id, "byte \(byte) of \(run.block) went to two keys")
                    }
                    #expect(masterKeys[id] == content[run.block].map { Array($0[range]) })
                }
            }
        }
        for _ in 0..<220 {
            switch below(6) {
            case 0, 1:
                let from = below(2)
                exchange += 1
                let request = KeyRequest(
                    peer: ends[from].peer, master: sae("m\(below(2))"), slave: sae("s\(below(2))"), count: 1 + below(4),
                    keyBytes: [16, 32, 40][below(3)])
                guard let runs = try? ends[from].store.changeNow({ try $0.offer(request, exchange: exchange) }) else { break }
                // One exchange per direction at a time: an older one's answer does not count any more.
                offers.removeAll { $0.from == from && !$0.answered && below(2) == 0 }
                for index in offers.indices where offers[index].from == from { offers[index].answered = true }
                offers.append(Offer(from: from, runs: runs, master: request.master, slave: request.slave))
            case 2 where !offers.isEmpty:
                // The reserve arrives, perhaps for the second time, perhaps late; its answer may be lost.
                let index = below(2) == 0 ? offers.count - 1 : below(offers.count)
                let offer = offers[index]
                let slave = ends[1 - offer.from]
                let outcome: Void? = try? slave.store.changeNow { transaction in
                    for run in offer.runs {
                        try transaction.reserve(run, peer: ends[offer.from].name, master: offer.master, slave: offer.slave)
                    }
                }
                let reserved = outcome != nil
                guard reserved, !offer.answered, below(4) > 0 else { break }
                offers[index].answered = true
                let ids = offer.runs.flatMap(\.ids)
                let keys = try ends[offer.from].store.changeNow { try $0.deliver(ids) }
                for key in keys { #expect(masterKeys.updateValue(key.bits.plain, forKey: key.id) == nil, "\(key.id) went out twice") }
                give(offer, Set(ids))
            case 3 where !offers.isEmpty:
                let offer = offers[below(2) == 0 ? offers.count - 1 : below(offers.count)]
                let ids = offer.runs.flatMap(\.ids).filter { _ in below(2) == 0 }
                guard !ids.isEmpty else { break }
                let keys = try? ends[1 - offer.from].store.changeNow { try $0.fetch(ids, master: offer.master, slave: offer.slave) }
                for key in keys ?? [] { #expect(slaveKeys.updateValue(key.bits.plain, forKey: key.id) == nil, "\(key.id) went out twice") }
            case 4 where below(6) == 0: try ends[below(2)].crash()
            default: break
            }
        }
        for (id, bits) in slaveKeys { if let master = masterKeys[id] { #expect(bits == master) } }
        #expect(masterKeys.count > 5)
        #expect(slaveKeys.keys.contains { masterKeys[$0] != nil })
    }
}
