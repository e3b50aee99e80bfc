import Foundation
import GRDB
import KeyMaterial
import KeyStore
import QKDModel
import QKDTesting
import Synchronization
import Testing

@Suite struct StoreTests {
    private let request = KeyRequest(peer: norte, master: sae("app-almagro"), slave: sae("app-norte"), count: 3, keyBytes: 32)

    @Test func commitsAreSynchronisedInFullAndErasureOverwrites() throws {
        let store = try openStore(Scratch(), almagro)
        let pragmas = try store.pool.writeWithoutTransaction { database in
            try ["synchronous", "journal_mode", "secure_delete"].map { try String.fetchOne(database, sql: "PRAGMA \($0)") }
        }
        #expect(pragmas == ["2", "wal", "1"])
    }

    @Test func depositIsIdempotentByIDAndContent() throws {
        let store = try openStore(Scratch(), almagro)
        let id = BlockID(UUID())
        #expect(try store.deposit(noise(5000, 1), id: id, peer: norte, firstEnd: true) == .stored)
        #expect(try store.deposit(noise(5000, 1), id: id, peer: norte, firstEnd: true) == .alreadyHeld)
        #expect(throws: KeyStoreError.otherContent(id)) { _ = try store.deposit(noise(5000, 2), id: id, peer: norte, firstEnd: true) }
        #expect(throws: KeyStoreError.otherContent(id)) { _ = try store.deposit(noise(5000, 1), id: id, peer: norte, firstEnd: false) }
        let figures = try store.changeNow { try $0.figures() }
        #expect(figures.count == 1 && figures[0].held == 40_000 && figures[0].blocks == 1)
        // Also once its bits are gone.
        try store.changeNow { _ = try $0.void(id, tell: false) }
        #expect(try store.deposit(noise(5000, 1), id: id, peer: norte, firstEnd: true) == .alreadyHeld)
        #expect(try store.changeNow { try $0.figures() }[0].held == 0)
    }

    @Test func limitsAreKept() throws {
        let store = try openStore(Scratch(), almagro) { $0.capacityBits = 10_000 }
        #expect(try store.deposit(noise(1000, 1), peer: norte, firstEnd: true) == .stored)
        #expect(throws: KeyStoreError.storeFull(link("almagro-norte"), limitBits: 10_000)) {
            _ = try store.deposit(noise(1000, 2), peer: norte, firstEnd: true)
        }
        #expect(throws: KeyStoreError.blockSize(63)) { _ = try store.deposit(noise(63, 2), peer: norte, firstEnd: true) }
    }

    @Test func nothingIsOfferedBeforeConfirmation() throws {
        let store = try openStore(Scratch(), almagro)
        _ = try store.deposit(noise(5000, 1), peer: norte, firstEnd: true)
        #expect(throws: KeyStoreError.self) { try store.changeNow { _ = try $0.offer(request, exchange: 1) } }
    }

    @Test func bothEndsGetTheSameKeysUnderTheSameIDsAndOnlyOnce() throws {
        let scratch = try Scratch()
        let (here, there) = (try openStore(scratch, almagro), try openStore(scratch, norte, masterSeed: 2))
        let (id, bytes) = (BlockID(UUID()), noise(20_000, 7))
        try here.confirmed(bytes, id: id, peer: norte, firstEnd: true)
        try there.confirmed(bytes, id: id, peer: almagro, firstEnd: false)
        let runs = try here.changeNow { try $0.offer(request, exchange: 1) }
        for run in runs { try there.changeNow { try $0.reserve(run, peer: almagro, master: request.master, slave: request.slave) } }
        let ids = runs.flatMap(\.ids)
        let mine = try here.changeNow { try $0.deliver(ids) }
        let theirs = try there.changeNow { try $0.fetch(ids, master: request.master, slave: request.slave) }
        #expect(mine.map(\.id) == ids && theirs.map(\.id) == ids)
        for (key, range) in zip(mine, runs.flatMap(\.ranges)) { #expect(key.bits.plain == Array(bytes[range])) }
        #expect(zip(mine, theirs).allSatisfy { $0.bits.matches($1.bits) })
        #expect(throws: KeyStoreError.self) { try here.changeNow { _ = try $0.deliver(ids) } }
        #expect(throws: KeyStoreError.noSuchKey) {
            try there.changeNow { _ = try $0.fetch(ids, master: request.master, slave: request.slave) }
        }
        #expect(throws: KeyStoreError.rangeTaken(id)) {
            try there.changeNow { try $0.reserve(runs[0], peer: almagro, master: request.master, slave: request.slave) }
        }
    }

    @Test func keysOfOthersAreNotFetched() throws {
        let there = try openStore(Scratch(), norte)
        let (id, bytes) = (BlockID(UUID()), noise(2000, 7))
        try there.confirmed(bytes, id: id, peer: almagro, firstEnd: false)
        let run = KeyRun(block: id, offset: 0, keyBytes: 32, count: 2)
        try there.changeNow { try $0.reserve(run, peer: almagro, master: request.master, slave: request.slave) }
        #expect(throws: KeyStoreError.notForCaller) {
            try there.changeNow { _ = try $0.fetch(run.ids, master: request.master, slave: sae("app-other")) }
        }
        #expect(throws: KeyStoreError.noSuchKey) {
            try there.changeNow { _ = try $0.fetch(run.ids, master: sae("app-other"), slave: request.slave) }
        }
        // All or none.
        let unknown = [run.ids[0], KeyID(UUID())]
        #expect(throws: KeyStoreError.noSuchKey) {
            try there.changeNow { _ = try $0.fetch(unknown, master: request.master, slave: request.slave) }
        }
        #expect(try there.changeNow { try $0.fetch(run.ids, master: request.master, slave: request.slave) }.count == 2)
    }

    @Test func keysInDoubtAreOfferedAgainAndNewNamesCount() throws {
        let scratch = try Scratch()
        let (here, there) = (try openStore(scratch, almagro), try openStore(scratch, norte))
        let (id, bytes) = (BlockID(UUID()), noise(2000, 7))
        try here.confirmed(bytes, id: id, peer: norte, firstEnd: true)
        try there.confirmed(bytes, id: id, peer: almagro, firstEnd: false)
        let first = try here.changeNow { try $0.offer(request, exchange: 1) }
        try there.changeNow { try $0.reserve(first[0], peer: almagro, master: request.master, slave: request.slave) }
        // The answer is lost; another application asks.
        var other = request
        other.slave = sae("app-other")
        let second = try here.changeNow { try $0.offer(other, exchange: 2) }
        #expect(second == first)
        try there.changeNow { try $0.reserve(second[0], peer: almagro, master: other.master, slave: other.slave) }
        #expect(throws: KeyStoreError.notForCaller) {
            try there.changeNow { _ = try $0.fetch(first[0].ids, master: request.master, slave: request.slave) }
        }
        #expect(try there.changeNow { try $0.fetch(first[0].ids, master: other.master, slave: other.slave) }.count == 3)
        // Within one exchange nothing is offered twice.
        let third = try here.changeNow { transaction in
            (try transaction.offer(request, exchange: 3), try transaction.offer(request, exchange: 3))
        }
        #expect(Set(third.0.flatMap(\.ids)).isDisjoint(with: third.1.flatMap(\.ids)))
    }

    @Test func runsThatEndBeyondTheBlockAreRefusedAndNotATrap() throws {
        let there = try openStore(Scratch(), norte)
        let id = BlockID(UUID())
        try there.confirmed(noise(2000, 7), id: id, peer: almagro, firstEnd: false)
        for (offset, count) in [(0xFFFF_FFFF, 2), (0xFFFF_FFFF, 0xFFFF), (0xFFFF_FFE0, 1), (1984, 1), (2000, 1)] {
            #expect(throws: KeyStoreError.rangeTaken(id)) {
                try there.changeNow {
                    try $0.reserve(
                        KeyRun(block: id, offset: offset, keyBytes: 32, count: count), peer: almagro, master: request.master,
                        slave: request.slave)
                }
            }
        }
    }

    @Test func aBlockSharedWithAnotherNodeIsNotThisPeersToConfirm() throws {
        let there = try openStore(Scratch(), norte)
        let (id, bytes, pad) = (BlockID(UUID()), noise(2000, 7), secret(noise(32, 8)))
        try there.changeNow { try $0.install(secret: secret(noise(8192, 9)), peer: almagro) }
        _ = try there.deposit(bytes, id: id, peer: almagro, firstEnd: false)
        var question = KMMessage.Confirm(
            block: id, link: link("almagro-norte"), emulated: false, firstEnd: true, byteCount: 2000, hashPadOffset: 0,
            maskedHash: maskedHash(secret(noise(2000, 6)), pad))
        // Neither erased nor confirmed by somebody else's question, right or wrong.
        #expect(try there.changeNow { try $0.answer(question, peer: node("concepcion"), pad: pad) } == .notHeld)
        question.maskedHash = maskedHash(secret(bytes), pad)
        #expect(try there.changeNow { try $0.answer(question, peer: node("concepcion"), pad: pad) } == .notHeld)
        #expect(try there.changeNow { try $0.block(id) }?.state == .held)
        guard case .agreed(_, newly: true) = try there.changeNow({ try $0.answer(question, peer: almagro, pad: pad) }) else {
            Issue.record("its own peer is not answered")
            return
        }
    }

    @Test func emulatedKeysStayWhereTheyAreUnlessAllowed() throws {
        let scratch = try Scratch()
        let here = try openStore(scratch, almagro) { $0.deliverEmulated = false }
        let id = BlockID(UUID())
        try here.confirmed(noise(2000, 7), id: id, peer: norte, firstEnd: true, provenance: .emulated)
        #expect(throws: KeyStoreError.self) { try here.changeNow { _ = try $0.offer(request, exchange: 1) } }
        let counts = try here.changeNow { try $0.storedKeys(peer: norte, keyBytes: 32) }
        #expect(counts.deliverable == 0 && counts.withheld == 31)
        let run = KeyRun(block: id, offset: 1000, keyBytes: 32, count: 1)
        #expect(throws: KeyStoreError.refusedByPeer("emulated")) {
            try here.changeNow { try $0.reserve(run, peer: norte, master: request.slave, slave: request.master) }
        }
    }

    @Test func aBlockIsErasedOnceAllOfItIsGiven() throws {
        let here = try openStore(Scratch(), almagro)
        let (id, bytes) = (BlockID(UUID()), noise(10_240, 3))
        try here.confirmed(bytes, id: id, peer: norte, firstEnd: true)
        var all = request
        all.count = 160
        _ = try here.changeNow { try $0.offer(all, exchange: 1) }
        func segments() throws -> Int { try here.pool.read { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM segment") ?? -1 } }
        #expect(try segments() == 2)
        try here.changeNow {
            try $0.reserve(
                KeyRun(block: id, offset: 5120, keyBytes: 32, count: 160), peer: norte, master: request.slave, slave: request.master)
        }
        #expect(try segments() == 0)
        let row = try #require(try here.changeNow { try $0.block(id) })
        #expect(row.state == .spent)
        let wrapped = try here.pool.read { try Data.fetchOne($0, sql: "SELECT data_key FROM block") }
        #expect(wrapped == nil)
    }

    @Test func whatNobodyWantsExpires() throws {
        let clock = Mutex(Date(timeIntervalSince1970: 1_000_000))
        let here = try openStore(Scratch(), norte, change: { $0.reservedLife = 100 }, now: { clock.withLock { $0 } })
        let id = BlockID(UUID())
        try here.confirmed(noise(2000, 7), id: id, peer: almagro, firstEnd: false)
        let waiting = BlockID(UUID())
        _ = try here.deposit(noise(2000, 8), id: waiting, peer: almagro, firstEnd: false)
        let run = KeyRun(block: id, offset: 0, keyBytes: 32, count: 2)
        try here.changeNow { try $0.reserve(run, peer: almagro, master: request.master, slave: request.slave) }
        clock.withLock { $0 += 99 }
        #expect(try here.changeNow { try $0.expire() }.keys == 0)
        clock.withLock { $0 += 2 }
        #expect(try here.changeNow { try $0.expire() }.keys == 2)
        #expect(throws: KeyStoreError.noSuchKey) {
            try here.changeNow { _ = try $0.fetch(run.ids, master: request.master, slave: request.slave) }
        }
        clock.withLock { $0 += 8 * 86_400 }
        #expect(try here.changeNow { try $0.expire() }.blocks == [waiting])
        #expect(try here.changeNow { try $0.voidsToTell(almagro) } == [waiting])
    }

    @Test func aClockThatIsSetErasesNothing() throws {
        let clock = Mutex(Date(timeIntervalSince1970: 1_000_000))
        let here = try openStore(Scratch(), norte, change: { $0.reservedLife = 100 }, now: { clock.withLock { $0 } })
        let id = BlockID(UUID())
        try here.confirmed(noise(2000, 7), id: id, peer: almagro, firstEnd: false)
        _ = try here.deposit(noise(2000, 8), peer: almagro, firstEnd: false)
        let run = KeyRun(block: id, offset: 0, keyBytes: 32, count: 2)
        try here.changeNow { try $0.reserve(run, peer: almagro, master: request.master, slave: request.slave) }
        func pass(_ wall: TimeInterval, _ elapsed: Double) throws -> Int {
            clock.withLock { $0 += wall }
            let expired = try here.changeNow { try $0.expire(elapsed: elapsed) }
            return expired.keys + expired.blocks.count
        }
        #expect(try pass(30, 30) == 0)
        // A month ahead, back again, and a long absence.
        #expect(try pass(30 * 86_400, 30) == 0)
        #expect(try pass(-60 * 86_400, 30) == 0)
        #expect(try pass(90 * 86_400, 1) == 0)
        // Time that passes counts.
        let passing = try (0..<4).map { _ in try pass(30, 30) }
        #expect(passing.contains(2))
    }

    @Test func thePeerIsToldOfEveryBlockAlsoOfSpentOnes() throws {
        let here = try openStore(Scratch(), almagro)
        let spent = BlockID(UUID())
        try here.confirmed(noise(64, 1), id: spent, peer: norte, firstEnd: true)
        let runs = try here.changeNow { transaction in
            let runs = try transaction.offer(
                KeyRequest(peer: norte, master: request.master, slave: request.slave, count: 1, keyBytes: 32), exchange: 1)
            try transaction.reserve(
                KeyRun(block: spent, offset: 32, keyBytes: 32, count: 1), peer: norte, master: request.slave, slave: request.master)
            _ = try transaction.deliver(runs.flatMap(\.ids))
            return try transaction.fetch(
                KeyRun(block: spent, offset: 32, keyBytes: 32, count: 1).ids, master: request.slave, slave: request.master)
        }
        let state = try here.changeNow { try $0.block(spent) }?.state
        #expect(runs.count == 1 && state == .spent)
        for seed in UInt64(0)..<1200 { _ = try here.deposit(noise(64, seed), peer: norte, firstEnd: true) }
        #expect(try here.changeNow { try $0.zeroise(link("almagro-norte")) }.blocks == 1200)
        let tell = try here.changeNow { try $0.voidsToTell(norte) }
        #expect(tell.count == 1201 && tell.contains(spent))
        // In parts that fit into messages, all of them at once.
        var session = KMSession(node: almagro, peer: norte)
        _ = session.input(.connected(taken: 0, next: 0), at: .zero)
        _ = session.input(.message(.taken(0)), at: .zero)
        _ = session.input(.message(.hello(version: KMSession.version, node: norte)), at: .zero)
        let parts = session.input(.void(tell, .zeroised), at: .zero)
        let told = [UInt64(1), 2].flatMap { session.input(.message(.voided(request: $0)), at: .zero) }
        #expect(parts.count == 2 && told == [.voidsTold(Array(tell[..<1000])), .voidsTold(Array(tell[1000...]))])
    }

    @Test func zeroiseLeavesNothing() async throws {
        let scratch = try Scratch()
        let here = try openStore(scratch, almagro)
        for seed in UInt64(0)..<3 { try here.confirmed(noise(3000, seed), id: BlockID(UUID()), peer: norte, firstEnd: true) }
        _ = try here.changeNow { try $0.offer(request, exchange: 1) }
        let report = try here.changeNow { try $0.zeroise(link("almagro-norte")) }
        #expect(report.blocks == 3 && report.bits == 72_000 && report.keys == 3)
        let left = try await here.pool.read { database in
            try Int.fetchOne(
                database,
                sql: "SELECT (SELECT COUNT(*) FROM segment) + (SELECT COUNT(*) FROM key WHERE sealed IS NOT NULL) + "
                    + "(SELECT COUNT(*) FROM block WHERE data_key IS NOT NULL)")
        }
        #expect(left == 0)
    }

    // MARK: At rest

    /// No eight bytes of any key stand in any file; the marker that is written in the clear is found, so the search works.
    @Test func filesHoldNoKeyInTheClear() async throws {
        let scratch = try Scratch()
        let here = try openStore(scratch, almagro)
        let bytes = noise(40_000, 11)
        try here.confirmed(bytes, id: BlockID(UUID()), peer: norte, firstEnd: true)
        try here.changeNow { try $0.install(secret: secret(noise(8192, 12)), peer: norte) }
        _ = try here.changeNow { try $0.offer(request, exchange: 1) }
        func search(_ files: Data) -> Int {
            let found = Set((0..<files.count - 8).lazy.map { files[files.startIndex + $0..<files.startIndex + $0 + 8] })
            let secrets = bytes + noise(8192, 12)
            return stride(from: 0, to: secrets.count - 8, by: 4).count { found.contains(Data(secrets[$0..<$0 + 8])) }
        }
        #expect(search(try scratch.contents()) == 0)
        try await here.tidy()
        let files = try scratch.contents()
        #expect(search(files) == 0)
        #expect(files.range(of: Data("app-almagro".utf8)) != nil)
    }

    /// What was delivered and erased is gone from the files too, ciphertext included.
    @Test func erasedRowsAreOverwritten() async throws {
        let scratch = try Scratch()
        let here = try openStore(scratch, almagro)
        try here.confirmed(noise(4000, 11), id: BlockID(UUID()), peer: norte, firstEnd: true)
        let runs = try here.changeNow { try $0.offer(request, exchange: 1) }
        let sealed = try await here.pool.read { try Data.fetchAll($0, sql: "SELECT sealed FROM key") }
        try await here.tidy()
        var files = try scratch.contents()
        #expect(sealed.allSatisfy { files.range(of: $0) != nil })
        _ = try here.changeNow { try $0.deliver(runs.flatMap(\.ids)) }
        try await here.tidy()
        files = try scratch.contents()
        #expect(sealed.count == 3 && sealed.allSatisfy { files.range(of: $0) == nil })
    }

    @Test func anotherMasterKeyOpensNothing() throws {
        let scratch = try Scratch()
        try openStore(scratch, almagro).close()
        #expect {
            _ = try openStore(scratch, almagro, masterSeed: 99)
        } throws: { error in
            guard case KeyStoreError.sealBroken = error else { return false }
            return true
        }
    }

    @Test func recordsMovedOrTurnedBackDoNotOpen() throws {
        let scratch = try Scratch()
        let here = try openStore(scratch, almagro)
        let (one, two) = (BlockID(UUID()), BlockID(UUID()))
        try here.confirmed(noise(4000, 1), id: one, peer: norte, firstEnd: true)
        _ = try here.deposit(noise(4000, 2), id: two, peer: norte, firstEnd: true)
        // Somebody who can write the file declares the second block confirmed.
        try here.pool.write {
            try $0.execute(sql: "UPDATE block SET state = 'confirmed', own_free = 2000, own_cursor = 0, split = 2000 WHERE number = 2")
        }
        let row = try #require(try here.changeNow { try $0.block(two) })
        #expect {
            try here.changeNow { _ = try $0.content(row) }
        } throws: { error in
            guard case KeyStoreError.sealBroken = error else { return false }
            return true
        }
    }

    @Test func changesThatComeTogetherShareACommitAndFailAlone() async throws {
        let here = try openStore(Scratch(), almagro)
        let outcomes = await withTaskGroup(of: Bool.self) { group in
            for index in 0..<200 {
                group.addTask {
                    let outcome = try? await here.change { transaction in
                        try transaction.database.execute(sql: "INSERT INTO fact VALUES (?, x'00')", arguments: ["n\(index)"])
                        if index % 5 == 0 { throw KeyStoreError.noSuchKey }
                        return index
                    }
                    return outcome == index
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(outcomes == 160)
        let rows = try await here.pool.read { try Int.fetchOne($0, sql: "SELECT COUNT(*) FROM fact WHERE name LIKE 'n%'") }
        #expect(rows == 160)
    }
}
