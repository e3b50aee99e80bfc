// What the link service says and takes on its local socket, in NodeAPI's words.

import Foundation
import NodeAPI
import NodeRuntime
import QKDModel
import QuantumLink

struct LocalFace: Sendable {
    let service: LinkService
    let file: LinkdConfiguration

    func routes() -> LocalRoutes {
        var routes = LocalRoutes()
        routes.get(LinkRoutes.status) { _ in await status() }
        routes.get(LinkRoutes.link) { request in try await link(try id(request)) }
        routes.get(LinkRoutes.blocks) { request in
            let id = try id(request)
            guard let blocks = await service.blocks(of: id) else { throw LocalProblem.notFound("there is no link \(id)") }
            return blocks.map(LinkBlock.init)
        }
        routes.post(LinkRoutes.prepare) { (plan: LinkPlan, request: LocalRequest) in
            let id = try id(request)
            try await refusing { try await service.prepare(file.link(id, plan)) }
            return LinkStatus(link: id, peer: plan.peer, role: plan.role, device: plan.device, state: .off, reason: "prepared")
        }
        routes.post(LinkRoutes.commit) { (_: LocalNothing, request: LocalRequest) in
            let id = try id(request)
            try await refusing { try await service.commit(id) }
            return try await link(id)
        }
        routes.post(LinkRoutes.remove) { (_: LocalNothing, request: LocalRequest) in
            let id = try id(request)
            let before = try? await link(id)
            try await refusing { try await service.remove(id) }
            return before ?? LinkStatus(link: id, peer: file.node, role: .receiver, device: "", state: .off, reason: "was only prepared")
        }
        addSwitches(&routes)
        routes.events(LinkRoutes.events) { _ in await events() }
        return routes
    }

    private func addSwitches(_ routes: inout LocalRoutes) {
        routes.post(LinkRoutes.enable) { (_: LocalNothing, request: LocalRequest) in try await enable(true, request) }
        routes.post(LinkRoutes.disable) { (_: LocalNothing, request: LocalRequest) in try await enable(false, request) }
        routes.post(LinkRoutes.secret) { (body: LinkSecretRequest, request: LocalRequest) in
            let id = try id(request)
            try await refusing { try await service.installSecret(path: body.path, on: id) }
            return try await link(id)
        }
    }

    private func enable(_ isEnabled: Bool, _ request: LocalRequest) async throws -> LinkStatus {
        let id = try id(request)
        try await refusing { try await service.setEnabled(isEnabled, id) }
        return try await link(id)
    }

    private func id(_ request: LocalRequest) throws -> LinkID {
        do { return try LinkID(try request.require("id")) } catch let error as QKDModelError {
            throw LocalProblem.badRequest(error.description)
        }
    }

    /// The link service's refusals are the asker's mistakes.
    private func refusing(_ body: () async throws -> Void) async throws {
        do { try await body() } catch let error as QuantumLinkError { throw LocalProblem.conflict(error.description) }
    }

    // MARK: Answers

    private func link(_ id: LinkID) async throws -> LinkStatus {
        guard let (snapshot, device) = await service.snapshot(of: id) else { throw LocalProblem.notFound("there is no link \(id)") }
        return LinkStatus(snapshot, device: device)
    }

    private func status() async -> LinkServiceStatus {
        LinkServiceStatus(
            node: file.node, uptimeSeconds: await service.uptime / .seconds(1),
            devices: await service.devices().map {
                LinkDevice(name: $0.device.name, uri: $0.device.uri, role: $0.role, state: $0.state, reason: $0.reason)
            },
            links: await service.snapshots().map { LinkStatus($0.snapshot, device: $0.device) },
            sharing: await service.sharing().map { LinkSharing(device: $0.device, $0.report) })
    }

    private func events() async -> AsyncStream<LocalEvent> {
        let events = await service.events()
        let (stream, continuation) = AsyncStream.makeStream(of: LocalEvent.self, bufferingPolicy: .bufferingNewest(1024))
        let task = Task {
            for await event in events {
                let payload = LinkServiceEvent(
                    time: event.time, link: event.link, kind: event.kind, text: event.text, block: event.block.map(LinkBlock.init))
                if let local = try? LocalEvent(name: event.kind, payload: payload) { continuation.yield(local) }
            }
            continuation.finish()
        }
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }
}

extension LinkStatus {
    init(_ snapshot: LinkSnapshot, device: String) {
        self.init(
            link: snapshot.link, peer: snapshot.peer, role: snapshot.role, device: device, state: snapshot.state, reason: snapshot.reason)
        (enabled, connected, code) = (snapshot.enabled, snapshot.connected, snapshot.code)
        (slot, slotOpen, slots, slotsFailed) = (snapshot.slot, snapshot.slotOpen, snapshot.slots, snapshot.slotsFailed)
        (block, stage, progress) = (snapshot.block, snapshot.stage?.rawValue, snapshot.progress)
        (framesDecoded, framesFailed) = (snapshot.framesDecoded, snapshot.framesFailed)
        (modulationVariance, snr, alignmentSignificance) = (snapshot.modulationVariance, snapshot.snr, snapshot.alignmentSignificance)
        (receiverReady, receiverReason) = (snapshot.receiverReady, snapshot.receiverReason)
        (calibrationSymbols, darkAge, shotAge) = (snapshot.calibrationSymbols, snapshot.darkAge, snapshot.shotAge)
        (shotNoise, electronicNoise) = (snapshot.shotNoise, snapshot.electronicNoise)
        last = snapshot.last.map(LinkBlock.init)
        (blocksDeposited, blocksVoid, bitsDeposited) = (snapshot.blocksDeposited, snapshot.blocksVoid, snapshot.bitsDeposited)
        pendingDeposits = snapshot.pendingDeposits
        (keyRate, wallRate, deviceSeconds) = (snapshot.keyRate, snapshot.wallRate, snapshot.deviceSeconds)
        (padForward, padBackward) = (snapshot.padForward, snapshot.padBackward)
        alarms = snapshot.alarms.map { LinkAlarmStatus(kind: $0.kind, severity: $0.severity, text: $0.text, since: $0.since) }
    }
}

extension LinkBlock {
    init(_ report: BlockReport) {
        self.init(
            block: report.block, began: report.began, ended: report.ended, symbols: report.symbols, framesDecoded: report.framesDecoded,
            framesFailed: report.framesFailed, frameErrorRate: report.frameErrorRate, slots: report.slots,
            modulationVariance: report.modulationVariance, snr: report.snr, transmittance: report.transmittance,
            transmittanceWorst: report.transmittanceWorst, excessNoise: report.excessNoise, excessNoiseWorst: report.excessNoiseWorst,
            electronicNoise: report.electronicNoise, efficiency: report.efficiency,
            reconciliationEfficiency: report.reconciliationEfficiency, calibrationSymbols: report.calibrationSymbols,
            epsilon: report.epsilon,
            rawBits: report.rawBits, disclosedBits: report.disclosedBits, holevoBits: report.holevoBits, secretBits: report.secretBits,
            padBits: report.padBits, tagBitsSpent: report.tagBitsSpent, depositedBits: report.depositedBits, limitedBy: report.limitedBy,
            terms: report.terms, provenance: report.provenance, deviceSeconds: report.deviceSeconds)
    }
}

extension LinkSharing {
    init(device: String, _ report: SharingReport) {
        self.init(
            device: device,
            links: report.links.map {
                .init(
                    link: $0.link, slots: $0.slots, refusals: $0.refusals, share: $0.share, sharedRate: $0.sharedRate,
                    dedicatedRate: $0.dedicatedRate, sharingPenalty: $0.sharingPenalty)
            }, scheduleEfficiency: report.scheduleEfficiency)
    }
}
