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

    private enum Event: Sendable {
        case opened(KMConnection)
        case frame(ObjectIdentifier, [UInt8])
        case ended(ObjectIdentifier)
        case held([BlockID])
        case void([BlockID], KMMessage.VoidReason)
        case wanted
        case tick
    }

    struct Waiting {
        var request: KeyRequest
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
    private let transport: KMTransport
    private let logger: Logger
    private let clock: any Clock<Duration>
    /// Applications of this node: only for them does this end reserve.
    private let applications: Set<SAEID>
    private let random: any RandomSource
    private let stream: AsyncStream<Event>
    private nonisolated let events: AsyncStream<Event>.Continuation

    private var session: KMSession
    private var connection: KMConnection?
    private var frames: KMFrames?
    private let sending: SendingPad
    private let receiving: ReceivingPad
    private var hashPad: SecretBytes?
    private var waiting: [Waiting] = []
    private var exchange: Exchange?
    private var figures = Figures()
    private var elapsed = Duration.zero
    private var downSince = Duration.zero
    /// Pad that is kept for hello and confirm, so that a refill can always come.
    private static let padFloor = 1024
    static let largestBatch = (requests: 512, keys: 8192)

    package init(
        settings: Settings, store: Store, transport: KMTransport, journal: StoreJournal, applications: Set<SAEID>, logger: Logger,
        clock: any Clock<Duration> = ContinuousClock(), random: any RandomSource = KernelRandom()
    ) {
        self.settings = settings
        self.store = store
        self.transport = transport
        self.journal = journal
        self.applications = applications
        self.logger = logger
        self.clock = clock
        self.random = random
        session = KMSession(node: store.rules.node, peer: settings.peer, patience: settings.patience)
        sending = SendingPad(store: store, peer: settings.peer)
        receiving = ReceivingPad(store: store, peer: settings.peer)
        (stream, events) = AsyncStream.makeStream(of: Event.self)
    }

    // MARK: From outside

    /// Keys for an application of this node, once the peer has reserved its copies.
    ///
    /// - Throws: `KeyStoreError.notEnoughKey`, `.peerUnavailable` or `.refusedByPeer`.
    package func keys(_ request: KeyRequest) async throws -> [DeliveredKey] {
        guard session.phase == .up else { throw unavailable() }
        return try await withCheckedThrowingContinuation { continuation in
            waiting.append(Waiting(request: request, answer: continuation))
            events.yield(.wanted)
        }
    }

    /// A connection from the listener whose certificate carries this peer's name.
    package nonisolated func take(_ connection: KMConnection) { events.yield(.opened(connection)) }
    /// The link service has deposited a block.
    package nonisolated func held(_ block: BlockID) { events.yield(.held([block])) }
    package nonisolated func void(_ blocks: [BlockID], _ reason: KMMessage.VoidReason) { events.yield(.void(blocks, reason)) }

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
        connection?.close()
        failAll(KeyStoreError.peerUnavailable("this store is shutting down"))
    }

    /// The first-sorting node dials, again and again.
    private func dial() async {
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

    private func handle(_ event: Event) async {
        switch event {
        case .opened(let connection): await open(connection)
        case .frame(let id, let frame): if isCurrent(id) { await receive(frame) }
        case .ended(let id): if isCurrent(id) { await close(figures.reason ?? "the connection ended") }
        case .held(let blocks): await perform(session.input(.held(blocks), at: elapsed))
        case .void(let blocks, let reason): await perform(session.input(.void(blocks, reason), at: elapsed))
        case .wanted: break
        case .tick:
            elapsed += .milliseconds(250)
            watch()
            await perform(session.input(.tick, at: elapsed))
        }
    }

    private func isCurrent(_ id: ObjectIdentifier) -> Bool { connection.map { ObjectIdentifier($0) == id } ?? false }

    private func open(_ new: KMConnection) async {
        connection?.close()
        connection = new
        figures.reason = nil
        do {
            let keys = try await store.look { [peer = settings.peer] in try $0.hashKeys(peer) }
            frames = try KMFrames(send: (keys.send, sending), receive: (keys.receive, receiving))
        } catch { return await close("\(error)") }
        let id = ObjectIdentifier(new)
        Task { [events] in
            for await frame in new.frames { events.yield(.frame(id, frame)) }
            events.yield(.ended(id))
        }
        await perform(session.input(.connected, at: elapsed))
    }

    private func receive(_ frame: [UInt8]) async {
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

    private func close(_ reason: String) async {
        connection?.close()
        connection = nil
        frames = nil
        let actions = session.input(.disconnected, at: elapsed)
        down(reason)
        await perform(actions)
    }

    private func down(_ reason: String) {
        if figures.reason != reason { logger.info("KM link down", metadata: ["peer": "\(settings.peer)", "reason": "\(reason)"]) }
        if session.phase == .down {
            if figures.reason == nil { downSince = elapsed }
            figures.reason = reason
            failAll(unavailable())
        }
        journal.note(.peer, peer: settings.peer, "KM link down: \(reason)")
    }

    private func watch() {
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

    private func perform(_ actions: [KMSession.Action]) async {
        for action in actions {
            do { try await perform(action) } catch {
                journal.raise(.database, .major, peer: settings.peer, "the KM link cannot go on: \(error)")
                if error is KeyMaterialError { journal.raise(.padLow, .major, peer: settings.peer, "\(error)") }
                return await close("\(error)")
            }
        }
    }

    private func perform(_ action: KMSession.Action) async throws {
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
        case .isUp: try await isUp()
        case .close(let reason): await close("\(settings.peer) is not to be followed: \(reason)")
        }
    }

    private func send(_ message: KMMessage) throws {
        guard let connection, let frame = try frames?.encode(message) else { return }
        connection.send(frame)
    }

    private func isUp() async throws {
        figures.connections += 1
        figures.reason = nil
        let peer = settings.peer
        for kind in [StoreAlarmRecord.Kind.peerUnreachable, .tagRefused, .database] { journal.clear(kind, peer: peer) }
        journal.note(.peer, peer: peer, "KM link up")
        logger.info("KM link up", metadata: ["peer": "\(peer)"])
        let (held, voids) = try await store.look { (try $0.blocks(peer: peer, state: .held).map(\.id), try $0.voidsToTell(peer)) }
        await perform(session.input(.held(held), at: elapsed) + session.input(.void(voids, .zeroised), at: elapsed))
    }

    // MARK: Confirmation

    private func askConfirm(_ id: BlockID) async throws {
        let found = try await store.look { transaction in
            try transaction.block(id).flatMap { $0.state == .held ? ($0, try transaction.content($0)) : nil }
        }
        guard let (row, content) = found else { return await perform(session.confirmSkipped()) }
        let (offset, pad) = try sending.burn(32)
        try send(
            .confirm(
                .init(
                    block: id, link: row.link, emulated: row.emulated, firstEnd: row.firstEnd, byteCount: row.bytes, hashPadOffset: offset,
                    maskedHash: maskedHash(content, pad))))
    }

    private func answer(_ confirm: KMMessage.Confirm) async throws {
        guard let pad = hashPad else { return }
        let peer = settings.peer
        let outcome = try await store.change { transaction -> ConfirmOutcome in
            guard let row = try transaction.block(confirm.block) else { return .notHeld }
            switch row.state {
            case .void: return .void
            case .confirmed, .spent: return .agreed(row.refill ?? PadRefill(), newly: false)
            case .held: break
            }
            let same =
                row.link == confirm.link && row.peer == peer && row.emulated == confirm.emulated && row.bytes == confirm.byteCount
                && row.firstEnd != confirm.firstEnd
            guard same, maskedHash(try transaction.content(row), pad) == confirm.maskedHash else {
                try transaction.void(confirm.block, tell: false)
                return .differs
            }
            let refill = try transaction.planRefill(peer, bytes: row.bytes)
            try transaction.confirm(confirm.block, refill: refill)
            return .agreed(refill, newly: true)
        }
        switch outcome {
        case .agreed(let refill, let newly):
            if newly { noteConfirmed(confirm.block, confirm.link, confirm.byteCount) }
            try send(.confirmed(confirm.block, .agreed, refill))
        case .notHeld: try send(.confirmed(confirm.block, .notHeld, PadRefill()))
        case .void: try send(.confirmed(confirm.block, .void, PadRefill()))
        case .differs:
            noteMismatch(confirm.block, confirm.link)
            try send(.confirmed(confirm.block, .differs, PadRefill()))
        }
    }

    private func settle(_ id: BlockID, _ status: KMMessage.ConfirmedStatus, _ refill: PadRefill) async throws {
        switch status {
        case .agreed:
            let row = try await store.change { transaction in
                try transaction.confirm(id, refill: refill)
                return try transaction.block(id)
            }
            if let row { noteConfirmed(id, row.link, row.bytes) }
        case .notHeld: break
        case .differs, .void:
            let row = try await store.change { transaction in
                try transaction.void(id, tell: false)
                return try transaction.block(id)
            }
            guard let row else { return }
            if status == .differs { noteMismatch(id, row.link) } else { noteVoid(id, row.link, "the peer has it as void") }
        }
    }

    private func noteConfirmed(_ id: BlockID, _ link: LinkID, _ bytes: Int) {
        journal.note(.confirmed, link: link, peer: settings.peer, block: id, bits: bytes * 8, "both ends hold the block")
        logger.info("block confirmed", metadata: ["block": "\(id)", "link": "\(link)", "bits": "\(bytes * 8)"])
    }

    private func noteMismatch(_ id: BlockID, _ link: LinkID) {
        journal.raise(.keyMismatch, .major, peer: settings.peer, link: link, "block \(id) differs between the two ends and was erased")
        noteVoid(id, link, "the two ends differ")
    }

    private func noteVoid(_ id: BlockID, _ link: LinkID?, _ why: String) {
        journal.note(.voided, link: link, peer: settings.peer, block: id, "block erased: \(why)")
    }

    private func applyVoid(_ blocks: [BlockID], _ reason: KMMessage.VoidReason) async throws {
        let peer = settings.peer
        let erased = try await store.change { transaction in
            try blocks.filter { id in
                guard try transaction.block(id)?.peer == peer else { return false }
                return try transaction.void(id, tell: false) != nil
            }
        }
        for id in erased { noteVoid(id, nil, "the peer asked for it (\(reason))") }
    }

    // MARK: Reservation, slave's end

    private func reserve(_ items: [KMMessage.ReserveItem]) async throws -> [KMMessage.ReservedStatus] {
        let (peer, applications) = (settings.peer, applications)
        do {
            return try await store.change { transaction in
                try items.map { item in
                    guard applications.contains(item.slave) else { return .unknownSAE }
                    let outcome = try transaction.attempt {
                        try transaction.reserve(item.run, peer: peer, master: item.master, slave: item.slave)
                    }
                    switch outcome {
                    case .success: return .reserved
                    case .failure(KeyStoreError.noSuchKey): return .unknownBlock
                    case .failure(KeyStoreError.refusedByPeer): return .emulated
                    case .failure(KeyStoreError.rangeTaken), .failure(KeyStoreError.badMessage): return .notFree
                    case .failure: return .unavailable
                    }
                }
            }
        } catch {
            journal.raise(.database, .major, "\(error)")
            return items.map { _ in .unavailable }
        }
    }

    // MARK: Reservation, master's end

    /// Sends what has gathered while the last exchange was with the peer.
    private func pump() async {
        guard session.phase == .up, !session.isReserving, !waiting.isEmpty else { return }
        let left = min((try? sending.remaining) ?? 0, (try? receiving.remaining) ?? 0)
        guard left >= Self.padFloor else { return failAll(KeyStoreError.padExhausted(settings.peer)) }
        var batch: [Waiting] = []
        var keys = 0
        while let next = waiting.first, batch.count < Self.largestBatch.requests,
            keys == 0 || keys + next.request.count <= Self.largestBatch.keys
        {
            batch.append(waiting.removeFirst())
            keys += next.request.count
        }
        await offer(batch)
    }

    private func offer(_ batch: [Waiting]) async {
        let number = random.word() >> 1
        let requests = batch.map(\.request)
        do {
            let offers = try await store.change { transaction in
                try requests.map { request in try transaction.attempt { try transaction.offer(request, exchange: Int64(number)) } }
            }
            var entries: [(waiting: Waiting, runs: [KeyRun])] = []
            for (waiting, offer) in zip(batch, offers) {
                switch offer {
                case .success(let runs): entries.append((waiting, runs))
                case .failure(let error): waiting.answer.resume(throwing: error)
                }
            }
            guard !entries.isEmpty else { return }
            exchange = Exchange(number: number, entries: entries)
            let items = entries.flatMap { entry in
                entry.runs.map { KMMessage.ReserveItem(run: $0, master: entry.waiting.request.master, slave: entry.waiting.request.slave) }
            }
            await perform(session.input(.reserve(request: number, items), at: elapsed))
        } catch { batch.forEach { $0.answer.resume(throwing: error) } }
    }

    /// The peer has answered: what it reserved is delivered, durably, then handed out.
    private func deliver(_ number: UInt64, _ statuses: [KMMessage.ReservedStatus]) async {
        guard let exchange, exchange.number == number else { return }
        self.exchange = nil
        var rest = statuses[...]
        let verdicts = exchange.entries.map { entry -> [KMMessage.ReservedStatus] in
            defer { rest = rest.dropFirst(entry.runs.count) }
            return Array(rest.prefix(entry.runs.count))
        }
        let work = zip(exchange.entries, verdicts).map { ($0.runs, $1) }
        do {
            let outcomes = try await store.change { transaction in
                try work.map { runs, verdict in
                    try transaction.attempt { () -> [DeliveredKey]? in
                        for (run, status) in zip(runs, verdict) where status == .notFree { try transaction.spoil(run.ids) }
                        guard verdict.allSatisfy({ $0 == .reserved }) else { return nil }
                        return try transaction.deliver(runs.flatMap(\.ids))
                    }
                }
            }
            for ((entry, verdict), outcome) in zip(zip(exchange.entries, verdicts), outcomes) { answer(entry.waiting, verdict, outcome) }
        } catch { exchange.entries.forEach { $0.waiting.answer.resume(throwing: error) } }
    }

    private func answer(_ waiting: Waiting, _ verdict: [KMMessage.ReservedStatus], _ outcome: Result<[DeliveredKey]?, any Error>) {
        switch outcome {
        case .success(.some(let keys)): waiting.answer.resume(returning: keys)
        case .failure(let error): waiting.answer.resume(throwing: error)
        case .success(.none):
            let worst = verdict.first { $0 != .reserved } ?? .unavailable
            if worst == .notFree {
                journal.raise(
                    .keyMismatch, .major, peer: settings.peer,
                    "\(settings.peer) has given away keys that this end offered; ours were erased")
            }
            waiting.answer.resume(throwing: KeyStoreError.refusedByPeer("\(settings.peer): \(words(worst, waiting.request))"))
        }
    }

    private func words(_ status: KMMessage.ReservedStatus, _ request: KeyRequest) -> String {
        switch status {
        case .reserved: "it agreed"
        case .unknownBlock: "it has not confirmed the block yet, try again"
        case .notFree: "the keys are not free there, try again"
        case .emulated: "keys that come from an emulator are not delivered there"
        case .unknownSAE: "it does not serve \(request.slave)"
        case .unavailable: "it cannot store now"
        }
    }

    private func fail(_ number: UInt64, _ error: any Error) {
        guard let exchange, exchange.number == number else { return }
        self.exchange = nil
        exchange.entries.forEach { $0.waiting.answer.resume(throwing: error) }
    }

    private func failAll(_ error: any Error) {
        let failed = waiting
        waiting = []
        failed.forEach { $0.answer.resume(throwing: error) }
        if let exchange { fail(exchange.number, error) }
    }

    private func unavailable() -> KeyStoreError {
        .peerUnavailable("the KM link to \(settings.peer) is down (\(figures.reason ?? "being set up"))")
    }
}

/// H(content) under the first 16 bytes of pad, xor the last 16.
private func maskedHash(_ content: SecretBytes, _ pad: SecretBytes) -> [UInt8] {
    var hash = RunningHash(key: pad.slice(0..<16))
    hash.update(content)
    return hash.value().withBytes { value in pad.withBytes { pad in (0..<16).map { value[$0] ^ pad[16 + $0] } } }
}

private func brief(_ error: any Error) -> String { String("\(error)".prefix(160)) }
