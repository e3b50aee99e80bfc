// The shared transmitter of a node: owns the plan of slots. Links ask for turns; one link uses the device at a time.

public import QKDModel

public actor TransmitterStation {
    public let name: String
    let device: any SlotTransmitter
    private var schedule = SlotSchedule()
    private var turns: [LinkID: CheckedContinuation<SlotGrant?, Never>] = [:]
    private var ready: [LinkID: Bool] = [:]
    private var wanted: [LinkID: (frames: Int, slotFrames: Int)] = [:]
    /// Those whose turn has come before the device is free.
    private var waitingForDevice: [LinkID: CheckedContinuation<Bool, Never>] = [:]
    /// Who is in, by session: a session that ends late takes no other's place.
    private var tickets: [LinkID: Int] = [:]
    private var lastTicket = 0
    private var clock = RunningClock()

    public init(name: String, device: any SlotTransmitter) {
        self.name = name
        self.device = device
    }

    /// - Returns: the ticket to leave with.
    func enter(_ link: LinkID, weight: Double) -> Int {
        lastTicket += 1
        tickets[link] = lastTicket
        schedule.enter(link, weight: weight)
        return lastTicket
    }

    func leave(_ link: LinkID, ticket: Int) {
        guard tickets[link] == ticket else { return }
        tickets[link] = nil
        schedule.leave(link)
        (ready[link], wanted[link]) = (nil, nil)
        turns.removeValue(forKey: link)?.resume(returning: nil)
        waitingForDevice.removeValue(forKey: link)?.resume(returning: false)
        grant()
    }

    /// What the far receiver last said.
    func receiver(_ link: LinkID, ready isReady: Bool) {
        ready[link] = isReady
        grant()
    }

    /// Waits for the link's turn. The device may still be another's for a moment: `device(for:)`.
    /// - Parameters:
    ///   - frames: what the block still needs.
    ///   - slotFrames: of a slot.
    /// - Returns: nil when the link has left.
    func turn(_ link: LinkID, wanted frames: Int, slotFrames: Int) async -> SlotGrant? {
        // A link that has left waits for nothing.
        guard tickets[link] != nil else { return nil }
        return await withCheckedContinuation { continuation in
            turns.removeValue(forKey: link)?.resume(returning: nil)
            turns[link] = continuation
            wanted[link] = (frames, slotFrames)
            grant()
        }
    }

    /// Waits until the device is the link's whose turn it is.
    /// - Returns: false when the link has left meanwhile.
    func device(for link: LinkID) async -> Bool {
        if schedule.holder == link { return true }
        guard schedule.isNext(link) else { return false }
        return await withCheckedContinuation { continuation in
            waitingForDevice.removeValue(forKey: link)?.resume(returning: false)
            waitingForDevice[link] = continuation
        }
    }

    /// The slot of the link whose device it is will be over within a moment: the next link may begin to open its own.
    func ending(_ link: LinkID) {
        schedule.ending(link)
        grant()
    }

    /// The link's block is over: it waits for no turn any more.
    func withdraw(_ link: LinkID) {
        turns.removeValue(forKey: link)?.resume(returning: nil)
        grant()
    }

    func finished(_ link: LinkID, symbols: Int, seconds: Double, refused: Bool) {
        schedule.finished(link, symbols: symbols, seconds: seconds, refused: refused)
        grant()
    }

    func closed(_ link: LinkID, keyBits: Int, symbols: Double, calibrationSymbols: Double, symbolRate: Double) {
        schedule.closed(link, keyBits: keyBits, symbols: symbols, calibrationSymbols: calibrationSymbols, symbolRate: symbolRate)
    }

    /// The device's clock as its symbols show it.
    func saw(deviceTime: UInt64) {
        clock.saw(deviceTime)
        schedule.elapsed(clock.seconds)
    }

    var elapsedSeconds: Double { schedule.elapsedSeconds }

    public func report() -> SharingReport { schedule.report() }
    public func condition() async -> (state: DeviceState, reason: String) { await device.condition() }

    private func grant() {
        for link in schedule.entries.keys {
            let need = turns[link] == nil ? nil : wanted[link]
            schedule.update(link, ready: ready[link] ?? false, wanted: need?.frames ?? 0, slotFrames: need?.slotFrames)
        }
        if let holder = schedule.holder { waitingForDevice.removeValue(forKey: holder)?.resume(returning: true) }
        guard let grant = schedule.next() else { return }
        turns.removeValue(forKey: grant.link)?.resume(returning: grant)
    }
}
