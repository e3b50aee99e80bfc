import Foundation
import KeyStore
import QKDModel
import Testing

@Suite struct KMSessionTests {
    private let one = BlockID(UUID())
    private let two = BlockID(UUID())
    private let refill = PadRefill()
    private var item: KMMessage.ReserveItem {
        .init(run: KeyRun(block: one, offset: 0, keyBytes: 32, count: 1), master: sae("a"), slave: sae("b"))
    }

    /// A session that is up. The first-sorting node asks.
    private func up(_ name: NodeID = almagro, _ peer: NodeID = norte) -> KMSession {
        var session = KMSession(node: name, peer: peer)
        #expect(session.input(.connected(taken: 96, next: 48), at: .zero) == [.send(.taken(96))])
        #expect(session.input(.message(.taken(48)), at: .zero) == [.send(.hello(version: KMSession.version, node: name))])
        #expect(session.input(.message(.hello(version: KMSession.version, node: peer)), at: .zero) == [.isUp])
        #expect(session.phase == .up)
        return session
    }

    @Test func nothingIsHeardBeforeHello() {
        var session = KMSession(node: almagro, peer: norte)
        #expect(session.input(.message(.ping(1)), at: .zero) == [])
        _ = session.input(.connected(taken: 0, next: 0), at: .zero)
        #expect(isClose(session.input(.message(.hello(version: KMSession.version, node: norte)), at: .zero)))
        _ = session.input(.message(.taken(0)), at: .zero)
        #expect(isClose(session.input(.message(.taken(0)), at: .zero)))
        #expect(isClose(session.input(.message(.reserve(request: 1, [item])), at: .zero)))
        #expect(isClose(session.input(.message(.hello(version: KMSession.version, node: node("other"))), at: .zero)))
        #expect(isClose(session.input(.message(.hello(version: KMSession.version + 1, node: norte)), at: .zero)))
        #expect(session.phase == .greeting)
    }

    @Test("An end whose pad stands before what the peer has taken says nothing that carries a tag")
    func anOldCopyTagsNothing() {
        var session = KMSession(node: almagro, peer: norte)
        #expect(session.input(.connected(taken: 0, next: 1023), at: .zero) == [.send(.taken(0))])
        #expect(session.input(.message(.taken(1024)), at: .zero) == [.isOld(taken: 1024, next: 1023)])
        #expect(session.phase == .greeting && isClose(session.input(.message(.hello(version: KMSession.version, node: norte)), at: .zero)))
        // A newer connection asks again.
        #expect(session.input(.connected(taken: 0, next: 1024), at: .zero).last == .send(.taken(0)))
        #expect(session.input(.message(.taken(1024)), at: .zero) == [.send(.hello(version: KMSession.version, node: almagro))])
    }

    private func isClose(_ actions: [KMSession.Action]) -> Bool {
        if case .close? = actions.last { return true }
        return false
    }

    @Test func blocksAreConfirmedOneByOne() {
        var session = up()
        #expect(session.input(.held([one, two, one]), at: .zero) == [.askConfirm(one)])
        #expect(session.input(.message(.have([two])), at: .zero) == [])
        #expect(session.input(.message(.confirmed(one, .agreed, refill)), at: .zero) == [.settle(one, .agreed, refill), .askConfirm(two)])
        #expect(session.confirmSkipped() == [])
        #expect(isClose(session.input(.message(.confirmed(two, .agreed, refill)), at: .zero)))
    }

    @Test func theOtherNodeAnnouncesAndAnswers() {
        var session = up(norte, almagro)
        #expect(session.input(.held([one]), at: .zero) == [.send(.have([one]))])
        let confirm = KMMessage.Confirm(
            block: one, link: link("l"), emulated: false, firstEnd: true, byteCount: 64, hashPadOffset: 0,
            maskedHash: [UInt8](repeating: 0, count: 16))
        #expect(session.input(.message(.confirm(confirm)), at: .zero) == [.answerConfirm(confirm)])
        #expect(isClose(session.input(.message(.confirmed(one, .agreed, refill)), at: .zero)))
        #expect(isClose(session.input(.message(.have([one])), at: .zero)))
    }

    @Test func oneReserveAtATimeAndLateAnswersAreIgnored() {
        var session = up()
        #expect(session.input(.reserve(request: 1, [item]), at: .seconds(1)) == [.send(.reserve(request: 1, [item]))])
        #expect(session.input(.reserve(request: 2, [item]), at: .seconds(1)) == [.reserveFailed(request: 2, "another exchange is open")])
        #expect(session.input(.tick, at: .seconds(3)) == [])
        guard case .reserveFailed(1, _)? = session.input(.tick, at: .seconds(5)).first else { return #expect(Bool(false), "no time-out") }
        #expect(!session.isReserving)
        #expect(session.input(.message(.reserved(request: 1, [.reserved])), at: .seconds(5)) == [])
        #expect(session.input(.reserve(request: 3, [item]), at: .seconds(5)).count == 1)
        #expect(isClose(session.input(.message(.reserved(request: 3, [.reserved, .reserved])), at: .seconds(5))))
        #expect(session.input(.message(.reserved(request: 3, [.reserved])), at: .seconds(5)) == [.reserved(request: 3, [.reserved])])
    }

    @Test func aLostConnectionFailsWhatWasOpenAndAsksAnew() {
        var session = up()
        _ = session.input(.held([one]), at: .zero)
        _ = session.input(.reserve(request: 1, [item]), at: .zero)
        #expect(session.input(.disconnected, at: .zero) == [.reserveFailed(request: 1, "the connection ended")])
        #expect(session.input(.reserve(request: 2, [item]), at: .zero) == [.reserveFailed(request: 2, "the link is down")])
        #expect(session.input(.held([one]), at: .zero) == [])
        _ = session.input(.connected(taken: 0, next: 0), at: .zero)
        _ = session.input(.message(.taken(0)), at: .zero)
        _ = session.input(.message(.hello(version: KMSession.version, node: norte)), at: .zero)
        #expect(session.input(.held([one]), at: .zero) == [.askConfirm(one)])
    }

    @Test func silenceIsAskedThenEndsTheConnection() {
        var session = up()
        #expect(session.input(.tick, at: .seconds(4)) == [])
        #expect(session.input(.tick, at: .seconds(6)) == [.send(.ping(1))])
        _ = session.input(.message(.pong(1)), at: .seconds(7))
        #expect(session.input(.message(.ping(4)), at: .seconds(8)) == [.send(.pong(4))])
        #expect(isClose(session.input(.tick, at: .seconds(24))))
    }

    @Test func voidsAreRepeatedUntilAcknowledged() {
        var session = up()
        #expect(session.input(.void([one], .zeroised), at: .zero) == [.send(.void(request: 1, .zeroised, [one]))])
        #expect(session.input(.message(.voided(request: 1)), at: .zero) == [.voidsTold([one])])
        #expect(session.input(.message(.voided(request: 1)), at: .zero) == [])
        #expect(
            session.input(.message(.void(request: 5, .differs, [two])), at: .zero) == [.applyVoid(request: 5, .differs, [two])])
    }
}
