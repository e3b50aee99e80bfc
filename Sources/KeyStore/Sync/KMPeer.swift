// One end of the KM link to one peer at work: executes what KMSession decides, on the store and on the connection.
//
// Everything that happens to the link (frames, deposits, requests, ticks) goes through one stream and is finished
// before the next begins, so that the order of transactions is the order of messages.

import Foundation
import KeyMaterial
package import Logging
package import QKDModel

/// The KM link to one peer.
package actor KMPeer {
    package struct Settings: Sendable {
        package var peer: NodeID
        package var address: HostPort
        /// Common name or DNS name that the peer's certificate must carry.
        package var certificateName: String
        /// How long a reserve may stay without answer.
        package var patience = Duration.seconds(3)

        package init(peer: NodeID, address: HostPort, certificateName: String, patience: Duration = .seconds(3)) {
            self.peer = peer
            self.address = address
            self.certificateName = certificateName
            self.patience = patience
        }
    }

    /// What the status shows.
    package struct Figures: Sendable {
        package var phase = KMSession.Phase.down
        package var reason: String? = "not connected yet"
        package var connections = 0
        package var refused = 0
        package var padSend = 0
        package var padReceive = 0
    }

    enum Event: Sendable {
        case opened(KMConnection)
        case frame(ObjectIdentifier, [UInt8])
        case ended(ObjectIdentifier)
        case held([BlockID])
        case void([BlockID], KMMessage.VoidReason)
        case wanted
        /// Requests have been given time to gather.
        case gathered
        case tick
    }

    struct Waiting {
        var request: KeyRequest
        var priority: Int
        var answer: CheckedContinuation<[DeliveredKey], any Error>
    }

    /// A reserve that is with the peer.
    struct Exchange {
        var number: UInt64
        var entries: [(waiting: Waiting, runs: [KeyRun])]
    }

    nonisolated let settings: Settings
    let store: Store
    let journal: StoreJournal
    let transport: KMTransport
    let logger: Logger
    let clock: any Clock<Duration>
    /// Which node serves which application: this end reserves for its own only, and only what the peer's own ask for.
    let directory: Directory
    let applications: Applications
    let random: any RandomSource
    private let progress: @Sendable (String, Bool) -> Void
    let stream: AsyncStream<Event>
    private nonisolated let events: AsyncStream<Event>.Continuation

    var session: KMSession
    private var connection: KMConnection?
    var frames: KMFrames?
    let sending: SendingPad
    let receiving: ReceivingPad
    var hashPad: SecretBytes?
    var waiting: [Waiting] = []
    var exchange: Exchange?
    var figures = Figures()
    var elapsed = Duration.zero
    var downSince = Duration.zero
    enum Gathering { case no, running, over }
    var gathering = Gathering.no
    var hasLeft = false
    /// Blocks of which the peer says that it does not know them: how often, and since when.
    var unknown: [BlockID: (times: Int, since: Duration)] = [:]
    /// Pad that is kept for hello and confirm, so that a refill can always come: also after many restarts.
    static let padFloor = Schema.padReserve
    /// Below this, requests wait a moment for others to share an exchange with.
    static let padSparing = 4 * padFloor
    static let largestBatch = (requests: 512, keys: 8192)

    package init(
        settings: Settings, store: Store, transport: KMTransport, journal: StoreJournal, directory: Directory,
        applications: Applications, logger: Logger,
        clock: any Clock<Duration> = ContinuousClock(), random: any RandomSource = KernelRandom(),
        progress: @escaping @Sendable (String, Bool) -> Void = { _, _ in }
    ) {
        self.settings = settings
        self.store = store
        self.transport = transport
        self.journal = journal
        self.directory = directory
        self.applications = applications
        self.logger = logger
        self.clock = clock
        self.random = random
        self.progress = progress
        session = KMSession(node: store.rules.node, peer: settings.peer, patience: settings.patience)
        sending = SendingPad(store: store, peer: settings.peer)
        receiving = ReceivingPad(store: store, peer: settings.peer)
        (stream, events) = AsyncStream.makeStream(of: Event.self)
    }

    // MARK: From outside

    /// Keys for an application of this node, once the peer has reserved its copies.
    ///
    /// - Parameter priority: requests of a higher one go first where several wait.
    /// - Throws: `KeyStoreError.notEnoughKey`, `.peerUnavailable` or `.refusedByPeer`.
    package func keys(_ request: KeyRequest, priority: Int = 0) async throws -> [DeliveredKey] {
        guard session.phase == .up, !hasLeft else { throw unavailable() }
        return try await withCheckedThrowingContinuation { continuation in
            let place = waiting.lastIndex { $0.priority >= priority }.map { $0 + 1 } ?? 0
            waiting.insert(Waiting(request: request, priority: priority, answer: continuation), at: place)
            events.yield(.wanted)
        }
    }

    /// A connection from the listener whose certificate carries this peer's name.
    package nonisolated func take(_ connection: KMConnection) { events.yield(.opened(connection)) }
    /// The link service has deposited a block.
    package nonisolated func held(_ block: BlockID) { events.yield(.held([block])) }
    package nonisolated func void(_ blocks: [BlockID], _ reason: KMMessage.VoidReason) { events.yield(.void(blocks, reason)) }

    /// The peer is one no more: ends `run`.
    package nonisolated func leave() { events.finish() }

    package func status() -> Figures {
        var figures = figures
        figures.phase = session.phase
        figures.padSend = (try? sending.remaining) ?? 0
        figures.padReceive = (try? receiving.remaining) ?? 0
        return figures
    }

    /// Serves the link until cancelled.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [clock, events] in
                while (try? await clock.sleep(for: .milliseconds(250))) != nil { events.yield(.tick) }
                events.finish()
            }
            if session.asks { group.addTask { await self.dial() } }
            for await event in stream {
                await handle(event)
                await pump()
            }
            group.cancelAll()
        }
        hasLeft = true
        progress("km \(settings.peer)", false)
        connection?.close()
        failAll(KeyStoreError.peerUnavailable("this store is shutting down, or \(settings.peer) is no peer any more"))
    }

    /// The first-sorting node dials, again and again.
    func dial() async {
        var pause = Duration.milliseconds(200)
        while !Task.isCancelled {
            do {
                let connection = try await transport.dial(settings.address)
                if connection.names.contains(settings.certificateName) {
                    events.yield(.opened(connection))
                    pause = .milliseconds(200)
                    await withTaskCancellationHandler {
                        await connection.ended()
                    } onCancel: {
                        connection.close()
                    }
                } else {
                    connection.close()
                    down("the certificate at \(settings.address) is for \(connection.names), not for \(settings.certificateName)")
                }
            } catch { down("no connection to \(settings.address): \(brief(error))") }
            try? await clock.sleep(for: pause)
            pause = min(pause * 2, .seconds(5))
        }
    }

    // MARK: Events

    func handle(_ event: Event) async {
        switch event {
        case .opened(let connection): await open(connection)
        case .frame(let id, let frame): if isCurrent(id) { await receive(frame) }
        case .ended(let id): if isCurrent(id) { await close(figures.reason ?? "the connection ended") }
        case .held(let blocks): await perform(session.input(.held(blocks), at: elapsed))
        case .void(let blocks, let reason): await perform(session.input(.void(blocks, reason), at: elapsed))
        case .wanted: break
        case .gathered: gathering = .over
        case .tick:
            elapsed += .milliseconds(250)
            watch()
            if elapsed.components.attoseconds == 0 { progress("km \(settings.peer)", true) }
            await perform(session.input(.tick, at: elapsed))
        }
    }

    func isCurrent(_ id: ObjectIdentifier) -> Bool { connection.map { ObjectIdentifier($0) == id } ?? false }

    func open(_ new: KMConnection) async {
        connection?.close()
        connection = new
        figures.reason = nil
        let (taken, next): (UInt64, UInt64)
        do {
            let keys = try await store.look { [peer = settings.peer] in try $0.hashKeys(peer) }
            frames = try KMFrames(send: (keys.send, sending), receive: (keys.receive, receiving))
            (taken, next) = (try receiving.position, try sending.position)
        } catch { return await close("\(error)") }
        let id = ObjectIdentifier(new)
        Task { [events] in
            for await frame in new.frames { events.yield(.frame(id, frame)) }
            events.yield(.ended(id))
        }
        await perform(session.input(.connected(taken: taken, next: next), at: elapsed))
    }

    func receive(_ frame: [UInt8]) async {
        let message: KMMessage
        do {
            guard let decoded = try frames?.decode(frame) else { return }
            (message, hashPad) = decoded
        } catch {
            figures.refused += 1
            journal.raise(.tagRefused, .major, peer: settings.peer, "a message from \(settings.peer) was refused: \(error)")
            return await close("a message was refused: \(error)")
        }
        await perform(session.input(.message(message), at: elapsed))
    }

    func close(_ reason: String) async {
        connection?.close()
        connection = nil
        frames = nil
        let actions = session.input(.disconnected, at: elapsed)
        down(reason)
        await perform(actions)
    }

    func down(_ reason: String) {
        if figures.reason != reason {
            logger.info("KM link down", metadata: ["peer": "\(settings.peer)", "reason": "\(reason)"])
            journal.note(.peer, peer: settings.peer, "KM link down: \(reason)")
        }
        if session.phase == .down {
            if figures.reason == nil { downSince = elapsed }
            figures.reason = reason
            failAll(unavailable())
        }
    }

    func gather() {
        guard gathering == .no else { return }
        gathering = .running
        Task { [clock, events] in
            try? await clock.sleep(for: .milliseconds(30))
            events.yield(.gathered)
        }
    }

    func watch() {
        let peer = settings.peer
        if session.phase != .up, elapsed - downSince > .seconds(10) {
            journal.raise(.peerUnreachable, .major, peer: peer, figures.reason ?? "the key store of \(peer) cannot be reached")
        }
        guard elapsed.components.seconds % 5 == 0, elapsed.components.attoseconds == 0 else { return }
        let left = min((try? sending.remaining) ?? 0, (try? receiving.remaining) ?? 0)
        if left < 2 * Self.padFloor {
            journal.raise(
                .padLow, left < Self.padFloor ? .major : .minor, peer: peer,
                "\(left) bytes of one-time pad are left towards \(peer): the next block refills it, or install a new secret at both ends")
        } else {
            journal.clear(.padLow, peer: peer)
        }
    }

    // MARK: Actions

    func perform(_ actions: [KMSession.Action]) async {
        for action in actions {
            do { try await perform(action) } catch {
                journal.raise(.database, .major, peer: settings.peer, "the KM link cannot go on: \(error)")
                if error is KeyMaterialError { journal.raise(.padLow, .major, peer: settings.peer, "\(error)") }
                return await close("\(error)")
            }
        }
    }

    func perform(_ action: KMSession.Action) async throws {
        switch action {
        case .send(let message): try send(message)
        case .askConfirm(let block): try await askConfirm(block)
        case .answerConfirm(let confirm): try await answer(confirm)
        case .settle(let block, let status, let refill): try await settle(block, status, refill)
        case .answerReserve(let request, let items):
            let statuses = try await reserve(items)
            try send(.reserved(request: request, statuses))
        case .reserved(let request, let statuses): await deliver(request, statuses)
        case .reserveFailed(let request, let reason): fail(request, KeyStoreError.peerUnavailable("\(settings.peer): \(reason)"))
        case .applyVoid(let request, let reason, let blocks):
            try await applyVoid(blocks, reason)
            try send(.voided(request: request))
        case .voidsTold(let blocks): try await store.change { try $0.voidsTold(blocks) }
        case .refillSettled(let block, let applied):
            try await store.change { [peer = settings.peer] in try $0.settleRefill(block, peer: peer, applied: applied) }
        case .isUp: try await isUp()
        case .isOld(let taken, let next): await isOld(taken, next)
        case .close(let reason): await close("\(settings.peer) is not to be followed: \(reason)")
        }
    }

    func send(_ message: KMMessage) throws {
        guard let connection, let frame = try frames?.encode(message) else { return }
        connection.send(frame)
    }

    /// Nothing is tagged any more: the same pad under two messages would give an eavesdropper the hash key.
    func isOld(_ taken: UInt64, _ next: UInt64) async {
        let peer = settings.peer
        let text =
            "\(peer) has taken tags of this store up to pad position \(taken), which here stands at \(next): this database is an old copy, "
            + "or the two have different secrets; bring the newest database back, or install a new secret at both ends"
        journal.raise(.tagRefused, .major, peer: peer, text)
        await close(text)
    }

    func isUp() async throws {
        figures.connections += 1
        figures.reason = nil
        let peer = settings.peer
        for kind in [StoreAlarmRecord.Kind.peerUnreachable, .tagRefused, .database] { journal.clear(kind, peer: peer) }
        journal.note(.peer, peer: peer, "KM link up")
        logger.info("KM link up", metadata: ["peer": "\(peer)"])
        let (held, voids) = try await store.look {
            (try $0.blocks(peer: peer, state: .held).map(\.id) + $0.unsettled(peer), try $0.voidsToTell(peer))
        }
        await perform(session.input(.held(held), at: elapsed) + session.input(.void(voids, .zeroised), at: elapsed))
    }
}

private func brief(_ error: any Error) -> String { String("\(error)".prefix(160)) }
