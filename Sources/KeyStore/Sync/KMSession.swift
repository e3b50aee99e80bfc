// One end of the KM link to one peer, as a value: what comes in, and what is to be done about it. No I/O.
//
//     down --connected--> greeting --peer's taken, peer's hello--> up --disconnected, close--> down
//
// Before anything is tagged each end says up to where it has taken the other's tags: an end on an old copy of its database
// would tag with pad that has served. It says nothing more until it has the newest, or another secret.
//
// In `up`: one confirm open at a time (the first-sorting node asks), one reserve open at a time (a batch of many
// requests), voids until acknowledged. Whatever was open when the link went down is asked again when it is up.

package import QKDModel

/// The state machine of a KM link.
package struct KMSession: Sendable {
    package enum Phase: Sendable, Equatable { case down, greeting, up }

    package enum Input: Sendable {
        /// - Parameters:
        ///   - taken: where this end's receiving pad stands.
        ///   - next: where its sending pad does.
        case connected(taken: UInt64, next: UInt64)
        case disconnected
        case message(KMMessage)
        /// Blocks that this end holds unconfirmed: all of them when the link is up, new ones as they come.
        case held([BlockID])
        /// Blocks that the peer has to be told to void.
        case void([BlockID], KMMessage.VoidReason)
        case reserve(request: UInt64, [KMMessage.ReserveItem])
        case tick
    }

    package enum Action: Sendable, Equatable {
        case send(KMMessage)
        /// Hash the block and send `confirm`; where that is impossible, go on with `confirmSkipped`.
        case askConfirm(BlockID)
        case answerConfirm(KMMessage.Confirm)
        /// The peer's word on a block.
        case settle(BlockID, KMMessage.ConfirmedStatus, PadRefill)
        case answerReserve(request: UInt64, [KMMessage.ReserveItem])
        case reserved(request: UInt64, [KMMessage.ReservedStatus])
        case reserveFailed(request: UInt64, String)
        case applyVoid(request: UInt64, KMMessage.VoidReason, [BlockID])
        case voidsTold([BlockID])
        /// The peer has followed a refill, or never will.
        case refillSettled(BlockID, applied: Bool)
        case isUp
        /// The peer has taken tags of this end from beyond where its pad stands: the database is an old copy. End the connection.
        case isOld(taken: UInt64, next: UInt64)
        /// End the connection: the peer broke the rules, or is silent.
        case close(String)
    }

    package static let version: UInt16 = 2
    static let silence = Duration.seconds(15)
    static let pause = Duration.seconds(5)

    package let node: NodeID
    package let peer: NodeID
    package private(set) var phase = Phase.down
    private let patience: Duration
    private var heard = Duration.zero
    private var said = Duration.zero
    private var toConfirm: [BlockID] = []
    private var confirming: BlockID?
    private var reserving: (request: UInt64, items: Int, until: Duration)?
    private var voiding: [UInt64: [BlockID]] = [:]
    private var number: UInt64 = 0
    /// Where the sending pad stands, until the peer has said what it has taken of it.
    private var unproven: UInt64?

    /// Whether this end asks for confirmations; the other decides on refills.
    package var asks: Bool { node < peer }
    package var isReserving: Bool { reserving != nil }

    /// - Parameter patience: how long a reserve may stay without answer.
    package init(node: NodeID, peer: NodeID, patience: Duration = .seconds(3)) {
        self.node = node
        self.peer = peer
        self.patience = patience
    }

    /// - Parameter now: time since any fixed moment, never going back.
    package mutating func input(_ input: Input, at now: Duration) -> [Action] {
        var actions: [Action]
        switch input {
        case .connected(let taken, let next): actions = connected(taken, next, now)
        case .disconnected: actions = disconnected("the connection ended")
        case .message(let message): actions = received(message, now)
        case .held(let blocks): actions = held(blocks)
        case .void(let blocks, let reason): actions = void(blocks, reason)
        case .reserve(let request, let items): actions = reserve(request, items, now)
        case .tick: actions = tick(now)
        }
        if actions.contains(where: { if case .send = $0 { true } else { false } }) { said = now }
        return actions
    }

    /// The block that was to be confirmed cannot be (gone, or void meanwhile): go on with the next.
    package mutating func confirmSkipped() -> [Action] {
        confirming = nil
        return nextConfirm()
    }

    // MARK: Life

    private mutating func connected(_ taken: UInt64, _ next: UInt64, _ now: Duration) -> [Action] {
        var actions = phase == .down ? [] : disconnected("a newer connection took its place")
        phase = .greeting
        heard = now
        unproven = next
        actions.append(.send(.taken(taken)))
        return actions
    }

    private mutating func disconnected(_ reason: String) -> [Action] {
        phase = .down
        toConfirm = []
        confirming = nil
        voiding = [:]
        defer { reserving = nil }
        return reserving.map { [.reserveFailed(request: $0.request, reason)] } ?? []
    }

    private mutating func tick(_ now: Duration) -> [Action] {
        guard phase != .down else { return [] }
        if now - heard > Self.silence { return [.close("it has been silent for \(Self.silence)")] }
        var actions: [Action] = []
        if let open = reserving, now > open.until {
            reserving = nil
            actions.append(.reserveFailed(request: open.request, "no answer within \(patience)"))
        }
        if phase == .up, now - said > Self.pause {
            number += 1
            actions.append(.send(.ping(number)))
        }
        return actions
    }

    // MARK: Own wishes

    private mutating func held(_ blocks: [BlockID]) -> [Action] {
        guard phase == .up, !blocks.isEmpty else { return [] }
        guard asks else {
            return stride(from: 0, to: blocks.count, by: 1000).map { .send(.have(Array(blocks[$0..<min($0 + 1000, blocks.count)]))) }
        }
        for block in blocks where block != confirming && !toConfirm.contains(block) { toConfirm.append(block) }
        return nextConfirm()
    }

    private mutating func nextConfirm() -> [Action] {
        guard phase == .up, confirming == nil, !toConfirm.isEmpty else { return [] }
        let block = toConfirm.removeFirst()
        confirming = block
        return [.askConfirm(block)]
    }

    private mutating func void(_ blocks: [BlockID], _ reason: KMMessage.VoidReason) -> [Action] {
        guard phase == .up, !blocks.isEmpty else { return [] }
        return stride(from: 0, to: blocks.count, by: 1000).map { start in
            number += 1
            let part = Array(blocks[start..<min(start + 1000, blocks.count)])
            voiding[number] = part
            return .send(.void(request: number, reason, part))
        }
    }

    private mutating func reserve(_ request: UInt64, _ items: [KMMessage.ReserveItem], _ now: Duration) -> [Action] {
        guard phase == .up else { return [.reserveFailed(request: request, "the link is down")] }
        guard reserving == nil else { return [.reserveFailed(request: request, "another exchange is open")] }
        reserving = (request, items.count, now + patience)
        return [.send(.reserve(request: request, items))]
    }

    // MARK: The peer's

    private mutating func received(_ message: KMMessage, _ now: Duration) -> [Action] {
        heard = now
        switch (phase, message) {
        case (.down, _): return []
        case (.greeting, .taken(let taken)):
            guard let next = unproven else { return [.close("it said taken twice")] }
            guard taken <= next else { return [.isOld(taken: taken, next: next)] }
            unproven = nil
            return [.send(.hello(version: Self.version, node: node))]
        case (.greeting, _) where unproven != nil: return [.close("it said something else before taken")]
        case (.greeting, .hello(Self.version, peer)):
            phase = .up
            return [.isUp]
        case (.greeting, .hello(let version, let node)):
            return [.close("it calls itself \(node), version \(version); \(peer), version \(Self.version) is due")]
        case (.greeting, _): return [.close("it said something else before hello")]
        case (.up, .hello), (.up, .taken): return [.close("it greeted twice")]
        case (.up, .ping(let number)): return [.send(.pong(number))]
        case (.up, .pong): return []
        case (.up, .have(let blocks)): return asks ? held(blocks) : [.close("it said have, but is the one that asks")]
        case (.up, .confirm(let confirm)): return asks ? [.close("it asked for a confirmation")] : [.answerConfirm(confirm)]
        case (.up, .confirmed(let block, let status, let refill)): return confirmed(block, status, refill)
        case (.up, .reserve(let request, let items)): return [.answerReserve(request: request, items)]
        case (.up, .reserved(let request, let statuses)): return reserved(request, statuses)
        case (.up, .void(let request, let reason, let blocks)): return [.applyVoid(request: request, reason, blocks)]
        case (.up, .settled(let block, let applied)):
            return asks ? [.close("it settled a refill that it decided")] : [.refillSettled(block, applied: applied)]
        case (.up, .voided(let request)): return voiding.removeValue(forKey: request).map { [.voidsTold($0)] } ?? []
        }
    }

    private mutating func confirmed(_ block: BlockID, _ status: KMMessage.ConfirmedStatus, _ refill: PadRefill) -> [Action] {
        guard asks, confirming == block else { return [.close("it confirmed a block that was not asked for")] }
        confirming = nil
        return [.settle(block, status, refill)] + nextConfirm()
    }

    private mutating func reserved(_ request: UInt64, _ statuses: [KMMessage.ReservedStatus]) -> [Action] {
        // An answer that comes after our patience: the keys stay offered and will be asked for again.
        guard let open = reserving, open.request == request else { return [] }
        guard statuses.count == open.items else { return [.close("its answer does not fit the question")] }
        reserving = nil
        return [.reserved(request: request, statuses)]
    }
}
