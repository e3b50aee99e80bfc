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
        return routes
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
                padReceiveBytes: report.padReceiveBytes, connections: report.connections, refusedMessages: report.refusedMessages)
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
                    keys: happening.keys, message: happening.message)
                if let event = try? LocalEvent(name: kind.rawValue, payload: event) { out.yield(event) }
            }
            out.finish()
        }
        out.onTermination = { _ in task.cancel() }
        return stream
    }
}
