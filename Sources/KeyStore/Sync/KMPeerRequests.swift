// Applications' requests at the master's end: gathered while one exchange is with the peer, offered together, answered
// once the peer has reserved its copies.

import KeyMaterial
import QKDModel

extension KMPeer {
    // MARK: Reservation, master's end

    /// Sends what has gathered while the last exchange was with the peer.
    func pump() async {
        guard session.phase == .up, !session.isReserving, !waiting.isEmpty else { return }
        let left = min((try? sending.remaining) ?? 0, (try? receiving.remaining) ?? 0)
        guard left >= Self.padFloor else { return failAll(KeyStoreError.padExhausted(settings.peer)) }
        if left < Self.padSparing, waiting.count < Self.largestBatch.requests, gathering != .over { return gather() }
        gathering = .no
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

    func offer(_ batch: [Waiting]) async {
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
    func deliver(_ number: UInt64, _ statuses: [KMMessage.ReservedStatus]) async {
        guard let exchange, exchange.number == number else { return }
        self.exchange = nil
        var rest = statuses[...]
        let verdicts = exchange.entries.map { entry -> [KMMessage.ReservedStatus] in
            defer { rest = rest.dropFirst(entry.runs.count) }
            return Array(rest.prefix(entry.runs.count))
        }
        let work = zip(exchange.entries, verdicts).map { ($0.runs, $1) }
        let requests = exchange.entries.map(\.waiting.request)
        do {
            let outcomes = try await store.change { [applications] transaction in
                try zip(work, requests).map { work, request in
                    let (runs, verdict) = work
                    return try transaction.attempt { () -> [DeliveredKey]? in
                        for (run, status) in zip(runs, verdict) where status == .notFree { try transaction.spoil(run.ids) }
                        guard verdict.allSatisfy({ $0 == .reserved }) else { return nil }
                        let keys = try transaction.deliver(runs.flatMap(\.ids))
                        try applications.account(keys, server: request.master, client: request.slave, in: transaction)
                        return keys
                    }
                }
            }
            for ((entry, verdict), outcome) in zip(zip(exchange.entries, verdicts), outcomes) { answer(entry.waiting, verdict, outcome) }
            await giveUp(doubt(work))
        } catch { exchange.entries.forEach { $0.waiting.answer.resume(throwing: error) } }
    }

    /// Counts what the peer does not know; a block that is confirmed here and stays unknown there is lost to both.
    func doubt(_ work: [([KeyRun], [KMMessage.ReservedStatus])]) -> [BlockID] {
        var lost: [BlockID] = []
        for (runs, verdict) in work {
            for (run, status) in zip(runs, verdict) {
                guard status == .unknownBlock else {
                    unknown[run.block] = nil
                    continue
                }
                let (times, since) = unknown[run.block] ?? (0, elapsed)
                unknown[run.block] = (times + 1, since)
                if times + 1 >= 3, elapsed - since >= .seconds(2), !lost.contains(run.block) { lost.append(run.block) }
            }
        }
        return lost
    }

    /// Erases blocks that the peer has lost, so that keys come out of others.
    func giveUp(_ blocks: [BlockID]) async {
        guard !blocks.isEmpty else { return }
        let erased: [BlockID]
        do {
            erased = try await store.change { transaction in try blocks.filter { try transaction.void($0, tell: true) != nil } }
        } catch { return journal.raise(.database, .major, "\(error)") }
        for id in blocks { unknown[id] = nil }
        journal.raise(
            .keyMismatch, .major, peer: settings.peer, "\(settings.peer) does not know blocks that were confirmed: they were erased")
        for id in erased { noteVoid(id, nil, "the peer does not know it") }
        await perform(session.input(.void(erased, .differs), at: elapsed))
    }

    func answer(_ waiting: Waiting, _ verdict: [KMMessage.ReservedStatus], _ outcome: Result<[DeliveredKey]?, any Error>) {
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

    func words(_ status: KMMessage.ReservedStatus, _ request: KeyRequest) -> String {
        switch status {
        case .reserved: "it agreed"
        case .unknownBlock: "it has not confirmed the block yet, try again"
        case .notFree: "the keys are not free there, try again"
        case .emulated: "keys that come from an emulator are not delivered there"
        case .unknownSAE: "it does not serve \(request.slave), or does not know \(request.master) as an application of this node"
        case .unavailable: "it cannot store now"
        case .refused: "the application is disabled there, or not registered yet"
        }
    }

    func fail(_ number: UInt64, _ error: any Error) {
        guard let exchange, exchange.number == number else { return }
        self.exchange = nil
        exchange.entries.forEach { $0.waiting.answer.resume(throwing: error) }
    }

    func failAll(_ error: any Error) {
        let failed = waiting
        waiting = []
        failed.forEach { $0.answer.resume(throwing: error) }
        if let exchange { fail(exchange.number, error) }
    }

    func unavailable() -> KeyStoreError {
        .peerUnavailable("the KM link to \(settings.peer) is down (\(figures.reason ?? "being set up"))")
    }
}
