// What the store says on its local socket, in NodeAPI's words.

import Foundation
import KeyStore
import NodeAPI
import NodeRuntime
import QKDModel

/// The routes of docs/architecture.md for the key store.
struct LocalFace: Sendable {
    let service: KeyStoreService
    let started = ContinuousClock.now

    func routes() -> LocalRoutes {
        var routes = LocalRoutes()
        routes.get(StoreRoutes.status) { _ in try await status() }
        routes.get(StoreRoutes.link) { request in
            let id = try request.require("id")
            guard let link = try await links().first(where: { $0.link.rawValue == id }) else {
                throw LocalProblem.notFound("link \(id) has never had a key here")
            }
            return link
        }
        routes.post(StoreRoutes.zeroise) { (body: ZeroiseRequest, request: LocalRequest) in
            guard try request.require("id") == body.confirm.rawValue else {
                throw LocalProblem.badRequest("'confirm' has to repeat the link's id")
            }
            let report = try await service.zeroise(body.confirm)
            return ZeroiseReport(link: body.confirm, blocks: report.blocks, bits: report.bits, keys: report.keys)
        }
        routes.events(StoreRoutes.events) { _ in events() }
        addPeers(&routes)
        addApplications(&routes)
        return routes
    }

    private func addPeers(_ routes: inout LocalRoutes) {
        routes.get(StoreRoutes.peers) { _ in await peers() }
        routes.post(StoreRoutes.peers) { (plan: StorePeerPlan, _: LocalRequest) in
            try await refusing {
                try await service.add(
                    PeerPlan(
                        node: plan.node, address: try HostPort(plan.km), certificateName: plan.certificateName, secret: plan.secret,
                        applications: plan.applications))
            }
            return try await peer(plan.node.rawValue)
        }
        routes.delete(StoreRoutes.peer) { request in
            let before = try await peer(try request.require("id"))
            try await refusing { try await service.removePeer(before.peer) }
            return before
        }
    }

    private func addApplications(_ routes: inout LocalRoutes) {
        routes.get(StoreRoutes.applications) { _ in try await service.applicationReports().map(StoreApplication.init) }
        routes.get(StoreRoutes.application) { request in
            let id = try uuid(request)
            return StoreApplication(try await refusing { try await service.applicationReport(id) })
        }
        routes.post(StoreRoutes.applications) { (plan: StoreApplicationPlan, _: LocalRequest) in
            let change = try ApplicationChange(plan.change)
            return StoreApplication(
                try await refusing { try await service.register(server: plan.server, client: plan.client, change) })
        }
        routes.post(StoreRoutes.application) { (body: StoreApplicationChange, request: LocalRequest) in
            let (id, change) = (try uuid(request), try ApplicationChange(body))
            return StoreApplication(try await refusing { try await service.alterApplication(id, change) })
        }
        routes.delete(StoreRoutes.application) { request in
            let id = try uuid(request)
            return StoreApplication(try await refusing { try await service.forgetApplication(id) })
        }
    }

    private func uuid(_ request: LocalRequest) throws -> UUID {
        let text = try request.require("id")
        guard let id = UUID(uuidString: text) else { throw LocalProblem.badRequest("'\(text.prefix(60))' is no UUID") }
        return id
    }

    private func peer(_ id: String) async throws -> StorePeerStatus {
        guard let peer = await peers().first(where: { $0.peer.rawValue == id }) else {
            throw LocalProblem.notFound("node \(id) is no peer of this store")
        }
        return peer
    }

    /// The store's refusals are the asker's mistakes.
    private func refusing<T>(_ body: () async throws -> T) async throws -> T {
        do { return try await body() } catch let error as KeyStoreError {
            switch error {
            case .noSuchApplication, .unknownPeer: throw LocalProblem.notFound("\(error)")
            case .configuration, .secret: throw LocalProblem.conflict("\(error)")
            default: throw error
            }
        }
    }

    private func status() async throws -> StoreStatus {
        let configuration = service.configuration
        let alarms = service.journal.alarms.map {
            StoreAlarm(
                kind: $0.kind.rawValue, severity: $0.severity, peer: $0.peer, link: $0.link, message: $0.message, since: $0.since)
        }
        return StoreStatus(
            node: configuration.node, uptimeSeconds: (ContinuousClock.now - started) / .seconds(1),
            deliversEmulated: configuration.deliverEmulated, keySizeBits: configuration.keySizeBits, links: try await links(),
            peers: await peers(), applications: configuration.applications.filter { $0.value == configuration.node }.keys.sorted(),
            alarms: alarms)
    }

    private func links() async throws -> [StoreLinkStatus] {
        try await service.linkReports().map { report in
            var link = StoreLinkStatus(link: report.link, peer: report.peer)
            link.storedBits = report.storedBits
            link.deliverableBits = report.deliverableBits
            link.heldBits = report.heldBits
            link.reservedBits = report.reservedBits
            link.depositedBits = report.depositedBits
            link.confirmedBits = report.confirmedBits
            link.deliveredBits = report.deliveredBits
            link.padBits = report.padBits
            link.blocks = report.blocks
            link.inRate = report.inRate
            link.outRate = report.outRate
            link.storedKeys = report.storedKeys
            link.emulatedBits = report.emulatedBits
            link.lastDeposit = report.lastDeposit
            return link
        }
    }

    private func peers() async -> [StorePeerStatus] {
        await service.peerReports().map { report in
            let state: StorePeerState =
                switch report.state {
                case .down: .down
                case .connecting: .connecting
                case .up: .up
                }
            return StorePeerStatus(
                peer: report.peer, state: state, reason: report.reason, padSendBytes: report.padSendBytes,
                padReceiveBytes: report.padReceiveBytes, connections: report.connections, refusedMessages: report.refusedMessages,
                km: report.address.description, certificateName: report.certificateName, addedAtRunTime: report.addedAtRunTime,
                applications: report.applications, storedBits: report.storedBits, inRate: report.inRate, outRate: report.outRate)
        }
    }

    private func events() -> AsyncStream<LocalEvent> {
        let happenings = service.journal.listen()
        let (stream, out) = AsyncStream.makeStream(of: LocalEvent.self)
        let task = Task {
            for await happening in happenings {
                guard let kind = StoreEvent.Kind(rawValue: happening.kind.rawValue) else { continue }
                let event = StoreEvent(
                    kind: kind, time: Date(), link: happening.link, peer: happening.peer, block: happening.block, bits: happening.bits,
                    keys: happening.keys, message: happening.message, application: await application(happening.application),
                    consumption: happening.consumption.map(StoreConsumption.init))
                if let event = try? LocalEvent(name: kind.rawValue, payload: event) { out.yield(event) }
            }
            out.finish()
        }
        out.onTermination = { _ in task.cancel() }
        return stream
    }

    /// As it is now; as it was noted where it is gone.
    private func application(_ record: ApplicationRecord?) async -> StoreApplication? {
        guard let record else { return nil }
        if let report = try? await service.applicationReport(record.id) { return StoreApplication(report) }
        return StoreApplication(
            ApplicationReport(record: record, enforcedBandwidth: nil, connected: false, refused: 0, consumption: []))
    }
}

extension StoreApplication {
    init(_ report: ApplicationReport) {
        let record = report.record
        self.init(
            id: record.id, appID: record.appID, server: record.server, client: record.client, peer: record.peer,
            servesServer: record.servesServer, state: StoreApplicationState(record.state), priority: record.priority,
            qos: StoreApplicationQoS(record.qos), enforcedBandwidth: report.enforcedBandwidth, expires: record.expires,
            created: record.created, firstRequest: record.firstRequest, lastRequest: record.lastRequest, connected: report.connected,
            consumedBits: record.bits, consumedKeys: record.keys, refusedRequests: report.refused,
            consumption: report.consumption.map(StoreConsumption.init))
    }
}

extension StoreApplicationState {
    init(_ state: ApplicationState) {
        self =
            switch state {
            case .provisional: .provisional
            case .registered: .registered
            case .disabled: .disabled
            }
    }
}

extension StoreApplicationQoS {
    init(_ qos: ApplicationQoS) {
        self.init(
            maxBandwidth: qos.maxBandwidth, minBandwidth: qos.minBandwidth, jitter: qos.jitter, ttl: qos.ttl,
            clientsSharedPathEnable: qos.clientsSharedPathEnable, clientsSharedKeysRequired: qos.clientsSharedKeysRequired)
    }
}

extension StoreConsumption {
    init(_ consumption: Consumption) {
        self.init(start: consumption.start, end: consumption.end, bits: consumption.bits, keys: consumption.keys)
    }
}

extension ApplicationChange {
    /// - Throws: `LocalProblem` 400 where a number is out of range.
    init(_ change: StoreApplicationChange) throws {
        self.init()
        for (name, number) in [
            ("priority", change.priority), ("maxBandwidth", change.qos?.maxBandwidth), ("minBandwidth", change.qos?.minBandwidth),
            ("jitter", change.qos?.jitter), ("ttl", change.qos?.ttl),
        ] {
            guard (0...Int(UInt32.max)).contains(number ?? 0) else {
                throw LocalProblem.badRequest("\(name) is not from 0 to \(UInt32.max)")
            }
        }
        (appID, priority, enabled, expires) = (change.appID, change.priority, change.enabled, change.expires)
        qos = change.qos.map { wish in
            var qos = ApplicationQoS()
            (qos.maxBandwidth, qos.minBandwidth, qos.jitter, qos.ttl) = (wish.maxBandwidth, wish.minBandwidth, wish.jitter, wish.ttl)
            (qos.clientsSharedPathEnable, qos.clientsSharedKeysRequired) = (wish.clientsSharedPathEnable, wish.clientsSharedKeysRequired)
            return qos
        }
    }
}
