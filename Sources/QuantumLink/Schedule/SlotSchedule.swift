// Who may use the shared transmitter next. A value: links and their needs in, grants out; the transmitter's service
// owns it, receivers accept or refuse what it offers.
//
// Objective (physics of shared transmitters): maximise the least ratio of stored key to demand over the receivers, then
// the total, over whole blocks, while calibrations are valid. For links with key k per generated second and demand d
// that optimum gives each link a share of time proportional to d / k. Shares are kept by smooth weighted round robin
// over the links that are ready: credits grow by weight, the richest is served and pays the sum. A link that is not
// ready (its receiver calibrates) earns nothing meanwhile, so no time is kept free for it.

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
        var slotFrames: Int
        var credit = 0.0
        var isReady = false
        /// Its session goes on. What it did stays when it ends.
        var isPresent = true
        /// Device time that went by while it was present: until it came last, and that moment.
        var presentBefore = 0.0
        var cameAt = 0.0
        /// Frames that the running block still needs.
        var wanted = 0
        var generatedSeconds = 0.0
        var slots = 0
        var refusals = 0
        var keyBits = 0
        var keySeconds = 0.0
        var keySymbols = 0.0
        var calibratedSymbols = 0.0
        var generatedSymbols = 0.0
    }

    private(set) var entries: [LinkID: Entry] = [:]
    private var running: LinkID?
    /// Device time from the first slot to the last, seconds.
    public private(set) var elapsedSeconds = 0.0

    public init() {}

    /// - Parameter weight: the link's share of generating time against the others', any positive number.
    public mutating func enter(_ link: LinkID, weight: Double, slotFrames: Int) {
        var entry = entries[link] ?? Entry(weight: weight, slotFrames: slotFrames)
        (entry.weight, entry.slotFrames) = (max(weight, 1e-9), max(1, slotFrames))
        (entry.credit, entry.isReady, entry.wanted, entry.isPresent, entry.cameAt) = (0, false, 0, true, elapsedSeconds)
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
        if running == link { running = nil }
    }

    private func presence(_ entry: Entry) -> Double { entry.presentBefore + (entry.isPresent ? elapsedSeconds - entry.cameAt : 0) }

    /// What the link's receiver last said and what its block still needs.
    public mutating func update(_ link: LinkID, ready: Bool, wanted: Int) {
        entries[link]?.isReady = ready
        entries[link]?.wanted = max(0, wanted)
    }

    /// The next turn, or nil while a slot runs or nobody is ready.
    public mutating func next() -> SlotGrant? {
        guard running == nil else { return nil }
        let able = entries.filter { $0.value.isPresent && $0.value.isReady && $0.value.wanted > 0 }
        guard !able.isEmpty else { return nil }
        let total = able.values.reduce(0) { $0 + $1.weight }
        for link in able.keys { entries[link]?.credit += able[link]?.weight ?? 0 }
        // Ties go by name, so that a schedule can be repeated.
        let chosen = able.keys.max { left, right in
            let (a, b) = (entries[left]?.credit ?? 0, entries[right]?.credit ?? 0)
            return a == b ? left > right : a < b
        }
        guard let chosen, let entry = entries[chosen] else { return nil }
        entries[chosen]?.credit -= total
        running = chosen
        // Even slots: no block ends with a slot of one frame, which would cost as much switching as a long one.
        let slots = max(1, Int((Double(entry.wanted) / Double(entry.slotFrames)).rounded()))
        return SlotGrant(link: chosen, frames: (entry.wanted + slots - 1) / slots)
    }

    /// The slot is over. A refused or empty one gives its payment back in part, so that refusing never gains a turn and never starves.
    public mutating func finished(_ link: LinkID, symbols: Int, seconds: Double, refused: Bool) {
        guard running == link else { return }
        running = nil
        entries[link]?.generatedSeconds += seconds
        entries[link]?.generatedSymbols += Double(symbols)
        if refused {
            entries[link]?.refusals += 1
        } else {
            entries[link]?.slots += 1
        }
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
    /// Least stored key / weight against the best that shares without switching, locking and waiting would give; time in which a link
    /// had no session does not count against it.
    public var scheduleEfficiency: Double
}

extension SlotSchedule {
    public func report() -> SharingReport {
        let generated = entries.values.reduce(0) { $0 + $1.generatedSeconds }
        let links = entries.sorted { $0.key < $1.key }.map { link, entry in
            let perSecond = entry.keySeconds > 0 ? Double(entry.keyBits) / entry.keySeconds : 0
            let calibration = entry.keySymbols > 0 ? entry.calibratedSymbols / entry.keySymbols : 0
            let dedicated = perSecond / (1 + calibration)
            let shared = elapsedSeconds > 0 ? perSecond * entry.generatedSeconds / elapsedSeconds : 0
            return SharingReport.Link(
                link: link, slots: entry.slots, refusals: entry.refusals, share: generated > 0 ? entry.generatedSeconds / generated : 0,
                sharedRate: shared, dedicatedRate: dedicated, sharingPenalty: dedicated > 0 ? 1 - shared / dedicated : 0)
        }
        return SharingReport(links: links, scheduleEfficiency: efficiency)
    }

    /// Least (share of the time while the link was there) / (share by weight): 1 when every second generates and shares are as wished.
    private var efficiency: Double {
        let busy = entries.values.filter { $0.generatedSeconds > 0 && presence($0) > 0 }
        let total = busy.reduce(0) { $0 + $1.weight }
        return busy.map { $0.generatedSeconds / presence($0) / ($0.weight / total) }.min().map { min(1, $0) } ?? 0
    }
}
