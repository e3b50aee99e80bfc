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
        routes.get(LinkRoutes.plan) { request in LinkPlan(try await view(try id(request)).link) }
        routes.get(LinkRoutes.blocks) { request in
            let (id, limit) = (try id(request), try limit(request))
            guard let blocks = await service.blocks(of: id) else { throw LocalProblem.notFound("there is no link \(id)") }
            return blocks.suffix(limit ?? blocks.count).map { LinkBlock($0, withAccounting: true) }
        }
        routes.get(LinkRoutes.devices) { _ in await devices() }
        routes.post(LinkRoutes.check) { (plan: LinkPlan, request: LocalRequest) in
            let id = try id(request)
            try await refusing { try await service.tryOut(file.link(id, plan)) }
            return plan
        }
        routes.post(LinkRoutes.prepare) { (plan: LinkPlan, request: LocalRequest) in
            let id = try id(request)
            try await refusing { try await service.prepare(file.link(id, plan)) }
            return try await link(id)
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
        addPeers(&routes)
        routes.events(LinkRoutes.events) { _ in await events() }
        return routes
    }

    private func addSwitches(_ routes: inout LocalRoutes) {
        routes.post(LinkRoutes.enable) { (_: LocalNothing, request: LocalRequest) in try await enable(true, request) }
        routes.post(LinkRoutes.disable) { (_: LocalNothing, request: LocalRequest) in try await enable(false, request) }
        routes.post(LinkRoutes.acknowledge) { (_: LocalNothing, request: LocalRequest) in
            let id = try id(request)
            try await refusing { try await service.acknowledge(id) }
            return try await link(id)
        }
        routes.post(LinkRoutes.secret) { (body: LinkSecretRequest, request: LocalRequest) in
            let id = try id(request)
            try await refusing { try await service.installSecret(path: body.path, on: id) }
            return try await link(id)
        }
    }

    private func addPeers(_ routes: inout LocalRoutes) {
        routes.get(LinkRoutes.peers) { _ in await service.peerViews().map(LinkPeer.init) }
        routes.post(LinkRoutes.peers) { (body: LinkPeerRequest, _: LocalRequest) in
            let peer: LinkServiceConfiguration.Peer
            do { peer = .init(node: body.node, channel: try .init(body.channel), secret: body.secretName) } catch {
                throw LocalProblem.badRequest("\(error)")
            }
            try await refusing { try await service.add(peer) }
            guard let view = await service.peerViews().first(where: { $0.peer.node == body.node }) else {
                throw LocalProblem.conflict("peer \(body.node) was removed meanwhile")
            }
            return LinkPeer(view)
        }
        routes.delete(LinkRoutes.peer) { request in
            let text = try request.require("id")
            guard let node = NodeID(rawValue: text) else { throw LocalProblem.badRequest("'\(text)' is no node's id") }
            guard await service.peerViews().contains(where: { $0.peer.node == node }) else {
                throw LocalProblem.notFound("there is no peer \(node)")
            }
            return LinkPeer(try await refusing { try await service.removePeer(node) })
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

    /// - Returns: nil where the query has none.
    private func limit(_ request: LocalRequest) throws -> Int? {
        guard let text = request.query("limit") else { return nil }
        guard let limit = Int(text), limit >= 1 else { throw LocalProblem.badRequest("limit is '\(text.prefix(32))': 1 or more is meant") }
        return limit
    }

    /// The link service's refusals are the asker's mistakes.
    private func refusing<R>(_ body: () async throws -> R) async throws -> R {
        do { return try await body() } catch let error as QuantumLinkError { throw LocalProblem.conflict(error.description) }
    }

    // MARK: Answers

    private func view(_ id: LinkID) async throws -> LinkView {
        guard let view = await service.view(of: id) else { throw LocalProblem.notFound("there is no link \(id)") }
        return view
    }

    private func link(_ id: LinkID) async throws -> LinkStatus { await status(of: try await view(id), await service.sharing()) }

    private func status(of view: LinkView, _ sharing: [(device: String, report: SharingReport)]) async -> LinkStatus {
        var status = LinkStatus(view.snapshot, device: view.link.device)
        status.origin = view.origin == .file ? .file : .request
        status.prepared = view.isPrepared
        let share = sharing.lazy.flatMap(\.report.links).first { $0.link == status.link }?.share
        status.performance = LinkPerformance(view.snapshot, await service.blocks(of: status.link) ?? [], share: share)
        return status
    }

    private func devices() async -> [LinkDevice] {
        var devices: [LinkDevice] = []
        for view in await service.devices() { devices.append(LinkDevice(view, links: await service.links(of: view.name))) }
        return devices
    }

    private func status() async -> LinkServiceStatus {
        let sharing = await service.sharing()
        var links: [LinkStatus] = []
        for view in await service.views() { links.append(await status(of: view, sharing)) }
        return LinkServiceStatus(
            node: file.node, uptimeSeconds: await service.uptime / .seconds(1), devices: await devices(), links: links,
            sharing: sharing.map { LinkSharing(device: $0.device, $0.report) }, peers: await service.peerViews().map(LinkPeer.init))
    }

    private func events() async -> AsyncStream<LocalEvent> {
        let events = service.events()
        let (stream, continuation) = AsyncStream.makeStream(of: LocalEvent.self, bufferingPolicy: .bufferingNewest(1024))
        let task = Task {
            for await event in events {
                if let local = try? LocalEvent(name: event.kind, payload: await payload(event)) { continuation.yield(local) }
            }
            continuation.finish()
        }
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }

    private func payload(_ event: ServiceEvent) async -> LinkServiceEvent {
        var payload = LinkServiceEvent(
            time: event.time, link: event.link, device: event.device, kind: event.kind, text: event.text,
            block: event.block.map { LinkBlock($0) })
        payload.change = event.change.flatMap { LinkChange(rawValue: $0.rawValue) }
        if event.kind == "device" { payload.deviceStatus = await devices().first { $0.name == event.device } }
        if event.kind == "link" || event.kind == "block", let link = event.link {
            payload.linkStatus = (try? await self.link(link)) ?? event.snapshot.map { LinkStatus($0, device: event.device ?? "") }
        }
        if event.kind == "peer" { payload.peer = await service.peerViews().first { $0.peer.node == event.peer }.map(LinkPeer.init) }
        return payload
    }
}

extension LinkPeer {
    init(_ view: PeerView) {
        let secret = view.peer.secret.map { ($0 as NSString).lastPathComponent }
        self.init(
            node: view.peer.node, channel: "\(view.peer.channel)", secretName: secret, origin: view.origin == .file ? .file : .request,
            links: view.links)
    }
}

extension LinkDevice {
    init(_ view: DeviceView, links: [LinkID]) {
        self.init(
            name: view.name, uri: view.uri, role: view.role ?? .receiver, state: view.state, reason: view.reason, serial: view.serial,
            emulated: view.emulated)
        (maker, model, firmware) = (view.maker, view.model, view.firmware)
        (symbolRateHz, paths, self.links) = (view.symbolRate, view.paths, links)
        wavelengths = view.wavelengths
        spectrum = view.spectrum.map { spectrum in
            LinkSpectrum(
                measured: spectrum.measured, totalPower: spectrum.totalPower, noiseFloor: spectrum.noiseFloor,
                peaks: spectrum.peaks.map { .init(channel: $0.channel.number, power: $0.power) })
        }
    }
}

extension LinkPlan {
    init(_ link: LinkServiceConfiguration.Link) {
        let settings = link.settings
        self.init(
            peer: settings.identity.peer, role: settings.identity.role, device: link.device,
            path: settings.path.isEmpty ? nil : settings.path,
            lossDB: settings.loss.value, code: settings.code, efficiency: settings.efficiency, blockSymbols: settings.blockSymbols,
            slotSymbols: settings.slotSymbols, weight: settings.weight, epsilon: settings.epsilon)
        (variance, gridChannel) = (settings.variance, settings.gridChannel)
        (calibrationRatio, driftAllowance) = (settings.calibrationRatio, settings.driftAllowance)
    }
}

extension LinkPerformance {
    private static let blocksCounted = 10

    /// Over the last blocks with an estimate, blocks without key among them.
    init(_ snapshot: LinkSnapshot, _ all: [BlockReport], share: Double?) {
        self.init()
        (padForward, padBackward, slotShare) = (snapshot.padForward, snapshot.padBackward, share)
        let estimated = all.filter { $0.snr > 0 }
        let counted = estimated.suffix(Self.blocksCounted)
        guard let first = counted.first, let last = counted.last else { return }
        blocks = counted.count
        (snr, transmittance, excessNoise, updated) = (last.snr, last.transmittance, last.excessNoise, last.ended)
        let (failed, decoded) = (counted.reduce(0) { $0 + $1.framesFailed }, counted.reduce(0) { $0 + $1.framesDecoded })
        frameErrorRate = failed + decoded > 0 ? Double(failed) / Double(failed + decoded) : nil
        // From the end of the block before them, or from the first slot.
        let before = all.last { $0.ended <= first.began }
        let bits = Double(counted.reduce(0) { $0 + $1.depositedBits })
        let device = last.deviceSeconds - (before?.deviceSeconds ?? 0)
        let wall = last.ended.timeIntervalSince(before?.ended ?? first.began)
        secretKeyRate = device > 0 ? bits / device : nil
        wallKeyRate = wall > 0 ? bits / wall : nil
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
        last = snapshot.last.map { LinkBlock($0) }
        (blocksSkipped, skipReason, slotsOverrun) = (snapshot.blocksSkipped, snapshot.skipReason, snapshot.slotsOverrun)
        (stages, expectedBits) = (snapshot.stages, snapshot.expectedBits)
        (blocksDeposited, blocksVoid, bitsDeposited) = (snapshot.blocksDeposited, snapshot.blocksVoid, snapshot.bitsDeposited)
        pendingDeposits = snapshot.pendingDeposits
        (tamperings, interruptions) = (snapshot.tamperings, snapshot.interruptions)
        (keyRate, wallRate, deviceSeconds) = (snapshot.keyRate, snapshot.wallRate, snapshot.deviceSeconds)
        (padForward, padBackward) = (snapshot.padForward, snapshot.padBackward)
        alarms = snapshot.alarms.map { LinkAlarmStatus(kind: $0.kind, severity: $0.severity, text: $0.text, since: $0.since) }
    }
}

extension LinkBlock {
    init(_ report: BlockReport, withAccounting: Bool = false) {
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
        (code, framesInRound, disclosureBits) = (report.code, report.framesInRound, report.disclosureBits)
        secretBitsSelecting = report.secretBitsSelecting
        (stages, bytesSent, bytesReceived) = (report.work.stages.seconds, report.work.bytesSent, report.work.bytesReceived)
        if secretBits > 0 { trafficPerSecretBit = 8 * Double(bytesSent + bytesReceived) / Double(secretBits) }
        if withAccounting { accounting = report.accounting }
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
