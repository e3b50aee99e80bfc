// How a link fares, as a value: what was seen goes in, alarms and states come out. One place decides what is an alarm, so that
// both ends say the same about the same.
//
//     slots        two failures in a row, or one and ten seconds without a success; a success ends it
//     blocks       without key: `no-key`, MAJOR after three in a row
//     connection   `tampering` and `tag-refused` stay for ten minutes, or until they are acknowledged; `channel` while it is down
//                  for ten seconds, or was cut three times within five minutes
//     conditions   of the device and of the far end, when they have lasted
//
// While one of the troubles of slots, devices or calibration lasts the link is not ACTIVE.

package import QKDModel

package struct LinkHealth: Sendable {
    package typealias Instant = ContinuousClock.Instant

    package enum Effect: Sendable, Equatable {
        case raise(AlarmKind, Severity, String)
        case clear(AlarmKind)
        case show(LinkState, String)
        case countTampering
        case countInterruption
    }

    /// What a look at a link finds.
    package struct Facts: Sendable {
        package var isConnected = false
        /// Of the link's device here.
        package var device: DeviceState = .ready
        package var deviceReason = ""
        /// Why the far end's receiver is not ready, at the transmitter's end; nil: it is, or nobody knows.
        package var receiver: String?
        /// It calibrates, which takes its time.
        package var isCalibrating = false
        /// A block is under way.
        package var hasBlock = false
        /// Authentication key is missing: there is no connection because of that.
        package var hasPad = true

        package init() {}
    }

    package static let failuresInARow = 2
    package static let damping = Duration.seconds(10)
    package static let calibrationDamping = Duration.seconds(60)
    package static let hold = Duration.seconds(600)
    package static let cutsSpan = Duration.seconds(300)
    package static let mostCuts = 3
    package static let blocksWithoutKey = 3

    private struct Trouble {
        var text: String
        /// Ends with the next slot that succeeds.
        var isOfSlots: Bool
    }

    private var troubles: [AlarmKind: Trouble] = [:]
    private var failures: (kind: AlarmKind, reason: String, count: Int, since: Instant)?
    /// A block was agreed on and nothing else was said since.
    private var isGenerating = false
    private var withoutKey = 0
    private var held: [AlarmKind: Instant] = [:]
    private var tamperings = 0
    private var isUp = false
    private var downSince: Instant?
    private var downReason = ""
    private var isChannelTold = false
    private var cuts: [Instant] = []
    private var conditions: [AlarmKind: Instant] = [:]
    private var idleSince: Instant?

    package init() {}

    // MARK: States

    /// Both ends have agreed on a block.
    package mutating func generating() -> [Effect] {
        isGenerating = true
        return [shown]
    }

    /// The link's state was set for a reason of its own.
    package mutating func wasSet(_ state: LinkState) { isGenerating = state == .active }

    private var shown: Effect {
        guard let first = AlarmKind.allCases.first(where: { troubles[$0] != nil }), let trouble = troubles[first] else {
            return .show(.active, "generating")
        }
        return .show(.pending, trouble.text)
    }

    package mutating func trouble(_ kind: AlarmKind, _ text: String, isOfSlots: Bool = false) -> [Effect] {
        guard troubles[kind]?.text != text else { return [] }
        troubles[kind] = Trouble(text: text, isOfSlots: isOfSlots)
        return [.raise(kind, .major, text)] + (isGenerating ? [shown] : [])
    }

    package mutating func over(_ kind: AlarmKind) -> [Effect] {
        guard troubles.removeValue(forKey: kind) != nil else { return [] }
        return [.clear(kind)] + (isGenerating ? [shown] : [])
    }

    // MARK: Slots and blocks

    /// - Parameters:
    ///   - frames: that were decided.
    ///   - reason: empty when the slot did what it was meant to.
    package mutating func slotEnded(frames: Int, reason: String, now: Instant) -> [Effect] {
        guard !reason.isEmpty else {
            guard frames > 0 else { return [] }
            failures = nil
            let over = AlarmKind.allCases.filter { troubles[$0]?.isOfSlots == true }
            return over.flatMap { self.over($0) }
        }
        guard let kind = AlarmKind(slotReason: reason) else { return [] }
        failures = (kind, reason, (failures?.count ?? 0) + 1, failures?.since ?? now)
        return failing(now)
    }

    private mutating func failing(_ now: Instant) -> [Effect] {
        guard let failures, failures.count >= Self.failuresInARow || now - failures.since >= Self.damping else { return [] }
        // What is known to last says more than each slot that failed of it.
        if troubles[failures.kind]?.isOfSlots == false { return [] }
        return trouble(failures.kind, failures.reason, isOfSlots: true)
    }

    /// Something within a slot takes longer than it should.
    package mutating func overdue(_ kind: AlarmKind, _ text: String) -> [Effect] {
        troubles[kind] == nil ? trouble(kind, text, isOfSlots: true) : []
    }

    /// A block has ended, with key or without.
    package mutating func blockEnded(hasKey: Bool, reason: String) -> [Effect] {
        withoutKey = hasKey ? 0 : withoutKey + 1
        if hasKey { return [.clear(.noKey)] }
        guard withoutKey >= Self.blocksWithoutKey else { return [] }
        return [.raise(.noKey, .major, "\(withoutKey) blocks in a row gave no key, the last one: \(reason)")]
    }

    // MARK: The connection

    /// The far end has shown that it has the secret.
    package mutating func connected(now: Instant) -> [Effect] {
        (isUp, downSince) = (true, nil)
        return [.clear(.database)] + channelIsUp(now)
    }

    private mutating func channelIsUp(_ now: Instant) -> [Effect] {
        cuts.removeAll { now - $0 >= Self.cutsSpan }
        guard isChannelTold, cuts.count < Self.mostCuts else { return [] }
        isChannelTold = false
        return [.clear(.channel)]
    }

    /// A connection, or the attempt at one, has ended.
    package mutating func ended(_ error: any Error, now: Instant) -> [Effect] {
        if error is CancellationError {
            isUp = false
            return []
        }
        defer { isUp = false }
        (downSince, downReason) = (downSince ?? now, describe(error))
        if Self.isTampering(error) { return tampered(error, now) }
        switch error {
        case QuantumLinkError.closed(let reason) where reason.contains(Self.foundChanges): return tampered(error, now)
        case QuantumLinkError.padPosition: return refused(error, now)
        case QuantumLinkError.closed(let reason) where reason.hasSuffix(Self.refusedPosition): return refused(error, now)
        case QuantumLinkError.database:
            return [.raise(.database, .major, describe(error))]
        case QuantumLinkError.padExhausted, QuantumLinkError.device: return []
        default: return isUp ? cut(now) : []
        }
    }

    /// Bytes were changed, lost or injected.
    static func isTampering(_ error: any Error) -> Bool {
        switch error {
        case QuantumLinkError.tagFailed, QuantumLinkError.badMessage, QuantumLinkError.unexpected, QuantumLinkError.messagesLost: true
        default: false
        }
    }

    /// What the other end is told when its bytes were changed on the way.
    static let foundChanges = "the far end found changed bytes: "

    private mutating func tampered(_ error: any Error, _ now: Instant) -> [Effect] {
        tamperings += 1
        held[.tampering] = now + Self.hold
        let times = tamperings > 1 ? " (\(tamperings) times)" : ""
        return [.countTampering, .raise(.tampering, .major, describe(error) + times)]
    }

    private mutating func refused(_ error: any Error, _ now: Instant) -> [Effect] {
        held[.tagRefused] = now + Self.hold
        let text = "\(describe(error)): an end runs on an old copy of its state, or somebody replays; install a new secret at both ends"
        return [.raise(.tagRefused, .major, text)]
    }

    /// What the other end is told when its tag named a position that was used before.
    static let refusedPosition = "a tag was refused here: it names a pad position that was used before"

    private mutating func cut(_ now: Instant) -> [Effect] {
        cuts = cuts.filter { now - $0 < Self.cutsSpan } + [now]
        guard cuts.count >= Self.mostCuts else { return [.countInterruption] }
        isChannelTold = true
        let text = "the connection was lost \(cuts.count) times within \(Self.cutsSpan / .seconds(60)) min, last because \(downReason)"
        return [.countInterruption, .raise(.channel, .major, text)]
    }

    // MARK: Now and then

    package mutating func look(_ facts: Facts, now: Instant) -> [Effect] {
        var effects = failing(now)
        effects += lookAtChannel(facts, now)
        let away = [.off, .fault].contains(facts.device)
        effects += condition(.device, away ? facts.deviceReason : nil, for: Self.damping, now)
        let patience = facts.isCalibrating ? Self.calibrationDamping : Self.damping
        effects += condition(.receiver, facts.isConnected ? facts.receiver : nil, for: patience, now)
        return effects + lookAtWork(facts, now)
    }

    private mutating func lookAtChannel(_ facts: Facts, _ now: Instant) -> [Effect] {
        var effects: [Effect] = []
        if facts.isConnected {
            (isUp, downSince) = (true, nil)
            for (kind, until) in held where now >= until {
                held[kind] = nil
                effects.append(.clear(kind))
            }
            return effects + channelIsUp(now)
        }
        let since = downSince ?? now
        downSince = since
        guard facts.hasPad, now - since >= Self.damping, !isChannelTold else { return effects }
        isChannelTold = true
        let reason = downReason.isEmpty ? "nobody has connected" : downReason
        return effects + [.raise(.channel, .major, "no connection to the far end: \(reason)")]
    }

    /// A condition with a text for what is wrong, which counts when it has lasted.
    private mutating func condition(_ kind: AlarmKind, _ text: String?, for damping: Duration, _ now: Instant) -> [Effect] {
        guard let text else {
            conditions[kind] = nil
            return troubles[kind]?.isOfSlots == false ? over(kind) : []
        }
        let since = conditions[kind] ?? now
        conditions[kind] = since
        return now - since >= damping ? trouble(kind, text) : []
    }

    /// Blocks follow each other at once where both ends are able.
    private mutating func lookAtWork(_ facts: Facts, _ now: Instant) -> [Effect] {
        guard isGenerating, facts.isConnected, !facts.hasBlock else {
            idleSince = nil
            return []
        }
        let since = idleSince ?? now
        idleSince = since
        guard now - since >= Self.damping else { return [] }
        isGenerating = false
        return [.show(.pending, "no block has begun since: the link is disabled at the transmitter's end, or its device is not ready")]
    }

    /// An operator has seen what is held.
    package mutating func acknowledge() -> [Effect] {
        let kinds = held.keys.sorted { $0.rawValue < $1.rawValue }
        (held, cuts, tamperings) = ([:], [], 0)
        return kinds.map { .clear($0) } + (isUp ? channelIsUp(.now) : [])
    }
}
