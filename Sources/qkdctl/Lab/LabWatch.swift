// Asks the services how they are, twice a second, and keeps what the table and the result need.

import Foundation
import NodeAPI
import NodeRuntime
import QKDModel
import Synchronization

/// What the lab knows of its links. A service that does not answer leaves what was known before.
final class LabWatch: Sendable {
    private let lab: Lab
    private let started: ContinuousClock.Instant
    private let state = Mutex(State())
    private let stores: [String: LocalClient]
    private let services: [String: LocalClient]

    private struct State {
        /// By site.
        var stores: [String: StoreStatus] = [:]
        var services: [String: LinkServiceStatus] = [:]
        /// Seconds after the start at which a link's first key stood in both stores.
        var firstKey: [String: Double] = [:]
        /// By link.
        var paces: [String: LabPace] = [:]
        /// By site: what its agent says, and when it was asked last.
        var agents: [String: String] = [:]
        var agentsAsked: Double?
    }

    init(lab: Lab, started: ContinuousClock.Instant) {
        self.lab = lab
        self.started = started
        stores = Self.clients(lab, "lkmsd")
        services = Self.clients(lab, "linkd")
    }

    private static func clients(_ lab: Lab, _ service: String) -> [String: LocalClient] {
        Dictionary(
            lab.plan.sites.map { ($0.name, LocalClient(socketPath: "\($0.name)/run/\(service).sock", timeout: .seconds(5))) }
        ) { first, _ in first }
    }

    /// Since the services were started.
    var seconds: Double { (ContinuousClock.now - started) / .seconds(1) }

    /// One round of questions.
    func poll() async {
        await withTaskGroup(of: Void.self) { group in
            for (site, client) in stores {
                group.addTask {
                    guard let status: StoreStatus = try? await client.get(StoreRoutes.status) else { return }
                    self.state.withLock { $0.stores[site] = status }
                }
            }
            for (site, client) in services {
                group.addTask {
                    guard let status: LinkServiceStatus = try? await client.get(LinkRoutes.status) else { return }
                    self.state.withLock { $0.services[site] = status }
                }
            }
        }
        await pollAgents()
        for link in lab.plan.links { notePace(link) }
        for link in lab.plan.links where storedBits(link) > 0 { noteFirstKey(link) }
    }

    /// Seldom: each question is a TLS handshake.
    private func pollAgents() async {
        let now = seconds
        let isDue = state.withLock { state in
            if let last = state.agentsAsked, now - last < 4 { return false }
            state.agentsAsked = now
            return true
        }
        guard isDue else { return }
        await withTaskGroup(of: Void.self) { group in
            for site in lab.plan.sites {
                group.addTask { [self] in
                    let agent = LabAgent(
                        site: site.name, url: "https://127.0.0.1:\(site.restconfPort)", pki: lab.folder.path + "/pki")
                    let text = await agent.describe() ?? "does not answer"
                    state.withLock { $0.agents[site.name] = text }
                }
            }
        }
    }

    private func notePace(_ link: LabLink) {
        let (near, now) = (status(link, at: link.transmitterSite), seconds)
        let slotSeen = near.map { $0.slotOpen || $0.slots > 0 || $0.last != nil } ?? false
        state.withLock {
            $0.paces[link.name, default: LabPace()].look(slotSeen: slotSeen, deviceSeconds: near?.last?.deviceSeconds, at: now)
        }
    }

    private func noteFirstKey(_ link: LabLink) {
        let now = seconds
        let isFirst = state.withLock { state in
            guard state.firstKey[link.name] == nil else { return false }
            state.firstKey[link.name] = now
            return true
        }
        if isFirst { lab.say("\(link.name): first key stored at both ends after \(Int(now)) s") }
    }

    // MARK: - What is known

    /// Ever confirmed bits, the lesser of both ends.
    func storedBits(_ link: LabLink) -> Int {
        min(confirmedBits(link, at: link.transmitterSite), confirmedBits(link, at: link.receiverSite))
    }

    private func confirmedBits(_ link: LabLink, at site: String) -> Int {
        state.withLock { $0.stores[site]?.links.first { $0.link.rawValue == link.name }?.confirmedBits ?? 0 }
    }

    func hasKey(_ link: LabLink) -> Bool { storedBits(link) > 0 }
    /// What the lab is for: key, or a whole block in the recordings of both ends.
    var everyLinkIsDone: Bool { lab.plan.links.allSatisfy(lab.plan.records ? hasBlock : hasKey) }

    private func hasBlock(_ link: LabLink) -> Bool {
        [link.transmitterSite, link.receiverSite].allSatisfy { status(link, at: $0)?.last != nil }
    }

    private func status(_ link: LabLink, at site: String) -> LinkStatus? {
        state.withLock { $0.services[site]?.links.first { $0.link.rawValue == link.name } }
    }

    private func device(_ link: LabLink, at site: String) -> LinkDevice? {
        let name = status(link, at: site)?.device
        return state.withLock { $0.services[site]?.devices.first { $0.name == name } }
    }

    // MARK: - The table

    func table(width: Int) -> [String] {
        let agents = state.withLock { $0.agents }
        let lines = lab.plan.sites.compactMap { site in agents[site.name].map { "agent of \(site.name): \($0)" } }
        return LabTable.lines(lab.plan.links.map(row), agents: lines, seconds: seconds, width: width)
    }

    private func row(_ link: LabLink) -> LabRow {
        let (near, far) = (status(link, at: link.transmitterSite), status(link, at: link.receiverSite))
        let last = near?.last
        return LabRow(
            link: link.name, state: near?.state.rawValue ?? "-",
            transmitter: device(link, at: link.transmitterSite)?.state.rawValue ?? "-",
            receiver: device(link, at: link.receiverSite)?.state.rawValue ?? "-", activity: activity(near),
            calibration: calibration(far), progress: near?.progress, snr: near?.snr ?? last?.snr, transmittance: last?.transmittance,
            excessNoise: last?.excessNoise, frameErrors: frameErrors(near), keyRate: near.flatMap { $0.keyRate > 0 ? $0.keyRate : nil },
            storedBits: storedBits(link), blocks: near?.blocksDeposited ?? 0, reason: remark(near, link))
    }

    private func activity(_ status: LinkStatus?) -> String {
        guard let status else { return "starting" }
        if status.slotOpen, let slot = status.slot { return "slot \(slot)" }
        return status.receiverReady ? status.stage ?? "waiting" : "calibrating"
    }

    /// Shot-noise symbols of the running block, and how old the newest are.
    private func calibration(_ status: LinkStatus?) -> String {
        guard let status, status.calibrationSymbols > 0 else { return "-" }
        let age = status.shotAge.map { String(format: ", %.0f s", $0) } ?? ""
        return String(format: "%.0f M", Double(status.calibrationSymbols) / 1e6) + age
    }

    private func frameErrors(_ status: LinkStatus?) -> Double? {
        guard let status, status.framesDecoded + status.framesFailed > 0 else { return status?.last?.frameErrorRate }
        return Double(status.framesFailed) / Double(status.framesDecoded + status.framesFailed)
    }

    /// Alarms, and the reason of a link that does not run.
    private func remark(_ status: LinkStatus?, _ link: LabLink) -> String? {
        guard let status else { return "the link service at \(link.transmitterSite) does not answer yet" }
        let alarms = status.alarms.map { "\($0.severity.rawValue) \($0.kind): \($0.text)" }
        if !alarms.isEmpty { return alarms.joined(separator: "; ") }
        return status.state == .active || status.reason.isEmpty ? nil : status.reason
    }

    // MARK: - The result

    /// What keeps the result from being a success, in words.
    func missing(in result: LabResult) -> [String] {
        if lab.plan.records { return missingRecordings(in: result) }
        return result.links.compactMap { link in
            if link.secretBitsStored == 0 { return "\(link.name) stored no key (\(link.limitedBy))" }
            return link.keysEqual ? nil : "\(link.name): \(link.keys ?? LabResult.notFetched)"
        }
    }

    private func missingRecordings(in result: LabResult) -> [String] {
        zip(lab.plan.links, result.links).compactMap { link, found in
            if found.secretBitsStored > 0 { return "\(found.name) stored key although it was recorded" }
            return hasBlock(link) ? nil : "\(found.name) closed no block (\(found.limitedBy))"
        }
    }

    /// - Parameter fetches: by link, what the applications found.
    func result(fetches: [String: KeyComparison]) async -> LabResult {
        let seconds = seconds
        var links: [LabResult.Link] = []
        for link in lab.plan.links {
            let (blocks, far) = (await blocks(link, at: link.transmitterSite), await blocks(link, at: link.receiverSite))
            let figures = LabFigures(
                blocks, far: far, skipped: status(link, at: link.transmitterSite)?.blocksSkipped ?? 0, share: share(link))
            links.append(entry(link, blocks, figures, seconds: seconds, fetch: fetches[link.name] ?? .notFetched(emptyStores(link))))
        }
        let longest = state.withLock { $0.paces.values.max { $0.deviceSeconds < $1.deviceSeconds } }
        return LabResult(links: links, sharing: sharing, realTimeFactor: longest?.factor ?? 0, seconds: seconds)
    }

    /// Which end has no key yet, in words.
    private func emptyStores(_ link: LabLink) -> String {
        let empty = [link.transmitterSite, link.receiverSite].filter { confirmedBits(link, at: $0) == 0 }
        return "the store is still empty at \(empty.joined(separator: " and "))"
    }

    private func share(_ link: LabLink) -> LinkSharing.Share? {
        state.withLock { $0.services[link.transmitterSite]?.sharing.lazy.flatMap(\.links).first { $0.link.rawValue == link.name } }
    }

    private var sharing: [LabSharing] {
        lab.plan.sites.flatMap { site in
            (state.withLock { $0.services[site.name]?.sharing } ?? []).map {
                LabSharing(site: site.name, device: $0.device, scheduleEfficiency: $0.scheduleEfficiency)
            }
        }
    }

    private func blocks(_ link: LabLink, at site: String) async -> [LinkBlock] {
        guard let client = services[site] else { return [] }
        return (try? await client.get(LinkRoutes.blocks.replacing(":id", with: link.name))) ?? []
    }

    private func entry(
        _ link: LabLink, _ blocks: [LinkBlock], _ figures: LabFigures, seconds: Double, fetch: KeyComparison
    ) -> LabResult.Link {
        let status = status(link, at: link.transmitterSite)
        let best = blocks.last { $0.secretBits > 0 } ?? blocks.last ?? status?.last
        let (decoded, failed) = (blocks.reduce(0) { $0 + $1.framesDecoded }, blocks.reduce(0) { $0 + $1.framesFailed })
        let stored = storedBits(link)
        let deviceSeconds = blocks.last?.deviceSeconds ?? 0
        return LabResult.Link(
            name: link.name, lossDB: link.bed.lossDB, symbols: Int(blocks.reduce(0) { $0 + $1.symbols }),
            transmittance: best?.transmittance ?? 0, excessNoiseSNU: best?.excessNoise ?? 0, snrPerQuadrature: best?.snr ?? 0,
            frameErrorRate: decoded + failed > 0 ? Double(failed) / Double(decoded + failed) : 0,
            reconciliationEfficiency: best?.reconciliationEfficiency ?? 0, epsilon: best?.epsilon ?? 0, secretBitsStored: stored,
            keyRateBps: deviceSeconds > 0 ? Double(blocks.reduce(0) { $0 + $1.depositedBits }) / deviceSeconds : 0,
            wallRateBps: Double(stored) / max(seconds, 0.001), keysEqual: fetch == .equal,
            referenceKeyRateBps: link.bed.referenceKeyRateBps,
            limitedBy: best?.limitedBy ?? status?.reason ?? "its link service never answered", keys: fetch.description, figures: figures)
    }
}
