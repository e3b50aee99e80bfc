// Who may use the shared transmitter next. A value: links and their needs in, grants out; the transmitter's service
// owns it, receivers accept or refuse what it offers.
//
// Objective (physics of shared transmitters): maximise the least ratio of stored key to demand over the receivers, then
// the total, over whole blocks, while calibrations are valid. For links with key k per generated second and demand d
// that optimum gives each link a share of time proportional to d / k: its weight. Shares are kept in time: each link has a clock that runs
// with what it generated, divided by its weight; of the links that are ready the one whose clock is behind is served. No time is kept free
// for a link that is not ready (its receiver calibrates, its block ends): what it misses it gets later, a few slots at most.
//
// While a slot runs out, the next turn is granted ahead: its receiver ends its calibration window and waits, so that the device
// passes from hand to hand without a pause.

public import QKDModel

/// A turn on the transmitter.
public struct SlotGrant: Equatable, Sendable {
    public var link: LinkID
    /// Reconciliation frames.
    public var frames: Int
}

public struct SlotSchedule: Sendable {
    struct Entry: Sendable {
        var weight: Double
        var slotFrames = 1
        /// Generated seconds / weight, and what was granted to the link for standing back.
        var clock = 0.0
        var isReady = false
        /// Its session goes on. What it did stays when it ends.
        var isPresent = true
        /// Device time that went by while it was present: until it came last, and that moment.
        var presentBefore = 0.0
        var cameAt = 0.0
        /// Frames that the running block still needs.
        var wanted = 0
        var generatedSeconds = 0.0
        var longestSlot = 0.0
        var slots = 0
        var refusals = 0
        var keyBits = 0
        var keySeconds = 0.0
        var keySymbols = 0.0
        var calibratedSymbols = 0.0
        var generatedSymbols = 0.0
        var firstTurn: Turn?
        var newestTurn: Turn?
    }

    /// Where a link stood when its turn came.
    struct Turn {
        /// Device time that it was present, seconds.
        var presence: Double
        var generatedSeconds: Double
    }

    /// Slots of others that a link may catch up with.
    private static let mostCatchUp = 3.0

    private(set) var entries: [LinkID: Entry] = [:]
    /// Who has the device.
    public private(set) var holder: LinkID?
    /// Who has the next turn already.
    private var following: LinkID?
    private var isEnding = false
    /// Where the clock of the link stood that was served last.
    private var now = 0.0
    /// Device time from the first slot to the last, seconds.
    public private(set) var elapsedSeconds = 0.0

    public init() {}

    /// - Parameter weight: the link's share of generating time against the others', any positive number.
    public mutating func enter(_ link: LinkID, weight: Double) {
        var entry = entries[link] ?? Entry(weight: weight)
        entry.weight = max(weight, 1e-9)
        // Nothing was missed before it came.
        (entry.clock, entry.isReady, entry.wanted, entry.isPresent, entry.cameAt) = (now, false, 0, true, elapsedSeconds)
        entries[link] = entry
    }

    /// The link's session is over; its account goes on when it comes back.
    public mutating func leave(_ link: LinkID) {
        guard let entry = entries[link], entry.isPresent else { return }
        let present = presence(entry)
        entries[link]?.presentBefore = present
        entries[link]?.isPresent = false
        entries[link]?.isReady = false
        entries[link]?.wanted = 0
        release(link)
    }

    private func presence(_ entry: Entry) -> Double { entry.presentBefore + (entry.isPresent ? elapsedSeconds - entry.cameAt : 0) }

    /// What the link's receiver last said and what its block still needs.
    /// - Parameter slotFrames: of a slot with the block's code.
    public mutating func update(_ link: LinkID, ready: Bool, wanted: Int, slotFrames: Int? = nil) {
        entries[link]?.isReady = ready
        entries[link]?.wanted = max(0, wanted)
        if let slotFrames { entries[link]?.slotFrames = max(1, slotFrames) }
    }

    public func isNext(_ link: LinkID) -> Bool { following == link }

    /// Little is left of the running slot: a turn may be granted ahead.
    public mutating func ending(_ link: LinkID) { if holder == link { isEnding = true } }

    /// The next turn, or nil while a slot runs that is not about to end, or nobody is ready.
    public mutating func next() -> SlotGrant? {
        guard holder == nil || isEnding && following == nil else { return nil }
        let able = entries.filter { $0.value.isPresent && $0.value.isReady && $0.value.wanted > 0 && $0.key != holder }
        // Ties go by name, so that a schedule can be repeated.
        let chosen = able.keys.min { left, right in
            let (a, b) = (entries[left]?.clock ?? 0, entries[right]?.clock ?? 0)
            return a == b ? left < right : a < b
        }
        guard let chosen, let entry = entries[chosen] else { return nil }
        // Who was away for long catches up with a little of it only.
        let turn = entries.values.reduce(0) { max($0, $1.longestSlot / $1.weight) }
        let clock = max(entry.clock, now - Self.mostCatchUp * turn)
        entries[chosen]?.clock = clock
        now = max(now, clock)
        if holder == nil { took(chosen) } else { following = chosen }
        // Even slots: no block ends with a slot of one frame, which would cost as much switching as a long one.
        let slots = max(1, Int((Double(entry.wanted) / Double(entry.slotFrames)).rounded()))
        return SlotGrant(link: chosen, frames: (entry.wanted + slots - 1) / slots)
    }

    /// The slot is over, or its turn was not used.
    public mutating func finished(_ link: LinkID, symbols: Int, seconds: Double, refused: Bool) {
        guard holder == link || following == link else { return }
        release(link)
        guard let entry = entries[link] else { return }
        entries[link]?.generatedSeconds += seconds
        entries[link]?.generatedSymbols += Double(symbols)
        entries[link]?.longestSlot = max(entry.longestSlot, seconds)
        // A slot that came to nothing costs half of one: a link that fails again and again keeps no other waiting.
        entries[link]?.clock += (seconds > 0 ? seconds : refused ? 0 : entry.longestSlot / 2) / entry.weight
        if refused {
            entries[link]?.refusals += 1
        } else {
            entries[link]?.slots += 1
        }
    }

    private mutating func release(_ link: LinkID) {
        if following == link { following = nil }
        guard holder == link else { return }
        let heir = following
        (holder, following, isEnding) = (nil, nil, false)
        if let heir { took(heir) }
    }

    private mutating func took(_ link: LinkID) {
        holder = link
        guard let entry = entries[link] else { return }
        let turn = Turn(presence: presence(entry), generatedSeconds: entry.generatedSeconds)
        entries[link]?.firstTurn = entry.firstTurn ?? turn
        entries[link]?.newestTurn = turn
    }

    /// Device time that has gone by since the schedule began.
    public mutating func elapsed(_ seconds: Double) { elapsedSeconds = max(elapsedSeconds, seconds) }

    /// A block was closed with so many bits of key (0 counts too) from so many generated symbols and calibration symbols.
    public mutating func closed(_ link: LinkID, keyBits: Int, symbols: Double, calibrationSymbols: Double, symbolRate: Double) {
        guard symbolRate > 0 else { return }
        entries[link]?.keyBits += keyBits
        entries[link]?.keySymbols += symbols
        entries[link]?.keySeconds += symbols / symbolRate
        entries[link]?.calibratedSymbols += calibrationSymbols
    }
}

/// How well the transmitter is shared, over the blocks closed so far.
public struct SharingReport: Codable, Sendable, Equatable {
    public struct Link: Codable, Sendable, Equatable {
        public var link: LinkID
        public var slots: Int
        public var refusals: Int
        /// Of the generating time of all links.
        public var share: Double
        /// Bits per second of device time on the shared transmitter.
        public var sharedRate: Double
        /// What the same receiver would get from a transmitter of its own with the same calibration per generated symbol.
        public var dedicatedRate: Double
        /// 1 - shared / dedicated.
        public var sharingPenalty: Double
    }
    public var links: [Link]
    /// Least stored key / demand against the optimum; 1 - this is the schedule's loss. The optimum taken here has no switching, locking and
    /// waiting at all and the shares of the weights: no schedule reaches it, and the best that does switch lies below it.
    public var scheduleEfficiency: Double
}

extension SlotSchedule {
    public func report() -> SharingReport {
        let generated = entries.values.reduce(0) { $0 + $1.generatedSeconds }
        let links = entries.sorted { $0.key < $1.key }.map { link, entry in
            let perSecond = entry.keySeconds > 0 ? Double(entry.keyBits) / entry.keySeconds : 0
            let calibration = entry.keySymbols > 0 ? entry.calibratedSymbols / entry.keySymbols : 0
            let dedicated = perSecond / (1 + calibration)
            let shared = perSecond * (generating(entry) ?? 0)
            return SharingReport.Link(
                link: link, slots: entry.slots, refusals: entry.refusals, share: generated > 0 ? entry.generatedSeconds / generated : 0,
                sharedRate: shared, dedicatedRate: dedicated, sharingPenalty: dedicated > 0 ? 1 - shared / dedicated : 0)
        }
        return SharingReport(links: links, scheduleEfficiency: efficiency)
    }

    /// Least (share of the time while the link was there) / (share by weight): 1 when every second generates and shares are as wished.
    private var efficiency: Double {
        let busy = entries.values.filter { $0.generatedSeconds > 0 }
        let total = busy.reduce(0) { $0 + $1.weight }
        return busy.compactMap { entry in generating(entry).map { $0 / (entry.weight / total) } }.min().map { min(1, $0) } ?? 0
    }

    /// Share of its time that a link generates, from its first turn to its newest: whole rounds of all links with all that lies between slots. A slot
    /// that runs is in neither, nor is what a link waits before its first turn.
    private func generating(_ entry: Entry) -> Double? {
        guard let first = entry.firstTurn, let newest = entry.newestTurn else { return nil }
        let now = presence(entry) - first.presence
        let rounds = newest.presence - first.presence
        guard rounds > 0, newest.generatedSeconds > 0 else { return now > 0 ? entry.generatedSeconds / now : nil }
        // A link whose turn does not come any more falls behind all the same.
        let overdue = now > 0 ? (entry.generatedSeconds - first.generatedSeconds + entry.longestSlot) / now : 1
        return min((newest.generatedSeconds - first.generatedSeconds) / rounds, overdue)
    }
}
