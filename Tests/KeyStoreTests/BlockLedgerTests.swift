import Foundation
import KeyStore
import QKDModel
import QKDTesting
import Testing

@Suite struct BlockLedgerTests {
    private let id = BlockID(UUID())

    @Test func halvesAreApartAndCoverTheBlock() {
        for bytes in [64, 100, 1000, 187_501] {
            for pads in [0, 16, 48] {
                let first = BlockLedger(block: id, byteCount: bytes, pads: pads, firstEnd: true)
                let other = BlockLedger(block: id, byteCount: bytes, pads: pads, firstEnd: false)
                #expect(first.ownHalf == other.peerHalf && first.peerHalf == other.ownHalf)
                #expect(first.ownHalf.lowerBound == pads && first.ownHalf.upperBound == other.ownHalf.lowerBound)
                #expect(other.ownHalf.upperBound == bytes)
            }
        }
    }

    @Test func takesInOrderUntilItsHalfIsEmpty() {
        var ledger = BlockLedger(block: id, byteCount: 256, pads: 0, firstEnd: true)
        #expect(ledger.take(keys: 2, size: 32) == 0..<64)
        #expect(ledger.take(keys: 100, size: 32) == 64..<128)
        #expect(ledger.take(keys: 1, size: 8) == nil)
        #expect(ledger.take(keys: 1, size: 0) == nil)
        #expect(!ledger.isSpent(smallest: 8))
    }

    @Test func refusesWhatIsNotThePeersOrNotFree() throws {
        var ledger = BlockLedger(block: id, byteCount: 256, pads: 0, firstEnd: true)
        for bad in [0..<32, 96..<160, 240..<272, 128..<128] {
            #expect(throws: KeyStoreError.rangeTaken(id)) { try ledger.accept(bad) }
        }
        try ledger.accept(160..<192)
        #expect(ledger.gaps == [128..<160])
        #expect(throws: KeyStoreError.rangeTaken(id)) { try ledger.accept(150..<170) }
        #expect(throws: KeyStoreError.rangeTaken(id)) { try ledger.accept(160..<192) }
        try ledger.accept(136..<144)
        #expect(ledger.gaps == [128..<136, 144..<160])
        #expect(ledger.peerRemaining == 8 + 16 + 64)
    }

    /// Two ends whose messages are lost, repeated and late: whatever is accepted anywhere is accepted once.
    @Test(arguments: UInt64(0)..<200)
    func noByteIsEverGivenTwice(seed: UInt64) {
        let random = SeededRandom(seed)
        func below(_ limit: Int) -> Int { Int(random.word() % UInt64(limit)) }
        let size = 64 + below(4000)
        let pads = below(60)
        var ends = [true, false].map { BlockLedger(block: id, byteCount: size, pads: pads, firstEnd: $0) }
        var given = [UInt8](repeating: 0, count: size)
        var accepted = [UInt8](repeating: 0, count: size)
        var messages: [(to: Int, range: Range<Int>)] = []
        for _ in 0..<300 {
            switch below(3) {
            case 0:
                let end = below(2)
                if let range = ends[end].take(keys: 1 + below(4), size: [8, 16, 32, 33][below(4)]) {
                    for index in range { given[index] += 1 }
                    messages.append((1 - end, range))
                }
            case 1 where !messages.isEmpty:
                let message = messages[below(messages.count)]
                if (try? ends[message.to].accept(message.range)) != nil { for index in message.range { accepted[index] += 1 } }
            case 2 where !messages.isEmpty: if below(4) == 0 { messages.remove(at: below(messages.count)) }
            default: break
            }
        }
        #expect(given.allSatisfy { $0 <= 1 })
        #expect(accepted.allSatisfy { $0 <= 1 })
        #expect(zip(given, accepted).allSatisfy { $1 <= $0 })
        #expect(given[0..<min(pads, size)].allSatisfy { $0 == 0 })
    }
}

@Suite struct KeyLifeTests {
    @Test func nothingLeadsBackToBits() {
        for state in KeyState.allCases where !state.holdsBits {
            for event in KeyState.Event.allCases {
                #expect(throws: KeyStoreError.self) { _ = try state.after(event) }
            }
        }
    }

    @Test func statesOfOneEndNeverReachTheOthers() throws {
        #expect(throws: KeyStoreError.self) { _ = try KeyState.offered.after(.reservedAgain) }
        #expect(throws: KeyStoreError.self) { _ = try KeyState.offered.after(.expire) }
        #expect(throws: KeyStoreError.self) { _ = try KeyState.reserved.after(.peerRefused) }
        let delivered = try KeyState.reserved.after(.deliver)
        #expect(delivered == .delivered)
    }

    @Test func keyIDsAreTheSameAtBothEndsAndDifferByRange() {
        let block = BlockID(UUID(uuid: (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)))
        // sha256("sdqkd key 1" | 000102..0f | 00000040 | 00000020), by Python's hashlib.
        #expect(KeyID(block: block, range: 64..<96).description == "b375b060-4065-8d83-aca9-ec9155baa5a4")
        var seen = Set<KeyID>()
        for start in 0..<200 { for size in [8, 16, 32] { seen.insert(KeyID(block: block, range: start..<start + size)) } }
        #expect(seen.count == 600)
    }
}
