// Links: what the link service says, what is told of it, and when.

import Foundation
import NodeAPI
import QKDModel

struct NodeLink: Sendable {
    var id: UUID
    /// The link service's view; nil for virtual links and for those it does not have.
    var status: LinkStatus?
    /// As told: `OFF`, `PENDING`, `ACTIVE`, `PASSIVE`.
    var told = LinkState.off
    var reason = ""
    /// ACTIVE was lost then, and is not given up yet.
    var lostSince: Date?
    var performance = NodePerformance()
    /// What was told last, and when.
    var toldPerformance: NodePerformance?
    var toldAt: Date?
    var overloadSince: Date?
    var isOverloaded = false
}

/// The figures of ETSI GS QKD 015 `qkdl_performance`, in bit/s and plain ratios.
struct NodePerformance: Sendable, Equatable {
    /// Secret key that the link makes, and what is left of it after its own authentication: what reaches the key store.
    var skr: Double?
    var eskr: Double?
    var expectedConsumption: Double?
    var snr: Double?
    var transmittance: Double?
    var excessNoise: Double?

    /// Whether any figure differs from `other`'s by more than a share of it.
    func differs(from other: NodePerformance, by share: Double) -> Bool {
        func moved(_ new: Double?, _ old: Double?) -> Bool {
            guard let new, let old else { return (new == nil) != (old == nil) }
            return abs(new - old) > share * max(abs(old), 1e-9)
        }
        return moved(skr, other.skr) || moved(eskr, other.eskr) || moved(expectedConsumption, other.expectedConsumption)
            || moved(snr, other.snr)
    }
}

extension NodeModel {
    mutating func takeLinks(_ statuses: [LinkStatus], _ now: Date, _ out: inout [NodeOutput]) {
        for status in statuses { take(status, now, &out) }
        let listed = Set(statuses.map(\.link))
        for link in links.values.compactMap(\.status) where !listed.contains(link.link) { remove(link.link, now, &out) }
    }

    mutating func take(_ status: LinkStatus, _ now: Date, _ out: inout [NodeOutput]) {
        let id = linkUUID(status.link)
        // What is only prepared belongs to a change that is not in force yet.
        if desired.links[id] == nil, status.prepared || links[id] == nil && !mayAdopt { return }
        var link = links[id] ?? NodeLink(id: id)
        link.status = status
        link.performance = performance(of: status)
        links[id] = link
        takeAlarms(of: status, id, now, &out)
        observe(id, now, &out)
        mergeLink(id, &out)
    }

    mutating func remove(_ name: LinkID, _ now: Date, _ out: inout [NodeOutput]) {
        let id = linkUUID(name)
        guard var link = links[id] else { return }
        link.status = nil
        link.performance = NodePerformance()
        links[id] = link
        clearAlarms(ofLink: id, now, &out)
        if desired.links[id] == nil {
            if link.told == .active { out.append(.notify(.linkDown(id, "the link was removed"))) }
            links[id] = nil
            merged["link/\(id)"] = nil
            return
        }
        observe(id, now, &out)
        mergeLink(id, &out)
    }

    /// Links that only the configuration has: virtual ones, and physical ones on their way.
    mutating func configureLinks(_ now: Date, _ out: inout [NodeOutput]) {
        for link in desired.links.values where links[link.id] == nil { links[link.id] = NodeLink(id: link.id) }
        for (id, link) in links where desired.links[id] == nil && link.status == nil {
            if link.told == .active { out.append(.notify(.linkDown(id, "the link was removed"))) }
            links[id] = nil
            merged["link/\(id)"] = nil
        }
        for id in links.keys.sorted(by: { $0.uuidString < $1.uuidString }) {
            observe(id, now, &out)
            mergeLink(id, &out)
        }
    }

    mutating func loseLinkService(_ now: Date, _ out: inout [NodeOutput]) {
        loseInterfaces(now, &out)
        for id in links.keys.sorted(by: { $0.uuidString < $1.uuidString }) { observe(id, now, &out) }
    }

    /// What the link is in truth, and why.
    private func truth(of link: NodeLink) -> (LinkState, String) {
        if let wanted = desired.links[link.id], !wanted.enabled { return (.off, "disabled by configuration") }
        if desired.links[link.id]?.isVirtual == true {
            return (.pending, "virtual links wait for key relay, which this node does not have yet")
        }
        if linkService.isHere == false { return (.pending, "the link service is away: \(linkService.reason)") }
        guard let status = link.status else { return (.pending, "the link service does not have it yet") }
        return (status.state, status.reason)
    }

    /// Compares truth and what was told; down only after a hold, unless somebody wanted it.
    private mutating func observe(_ id: UUID, _ now: Date, _ out: inout [NodeOutput]) {
        guard var link = links[id] else { return }
        let (state, reason) = truth(of: link)
        link.reason = reason
        if state == .active || link.told != .active {
            link.lostSince = nil
            if state == .active, link.told != .active { out.append(.notify(.linkEvent(id, .active, "the link makes key"))) }
            link.told = state
        } else {
            link.lostSince = link.lostSince ?? now
            let isWanted = desired.links[id]?.enabled == false || link.status?.enabled == false
            if isWanted || now.timeIntervalSince(link.lostSince ?? now) >= settings.thresholds.downHold {
                (link.told, link.lostSince) = (state, nil)
                out.append(.notify(.linkDown(id, reason)))
            }
        }
        links[id] = link
    }

    mutating func settleLinks(_ now: Date, _ out: inout [NodeOutput]) {
        let consumption = expectedConsumption()
        for (id, link) in links {
            if link.lostSince != nil {
                observe(id, now, &out)
                mergeLink(id, &out)
            }
            guard let status = link.status else { continue }
            let expected = consumption[status.peer]
            if links[id]?.performance.expectedConsumption != expected { links[id]?.performance.expectedConsumption = expected }
            report(id, now, &out)
            watchLoad(id, now, &out)
        }
    }

    private mutating func report(_ id: UUID, _ now: Date, _ out: inout [NodeOutput]) {
        guard let link = links[id], link.performance.skr != nil else { return }
        let old = link.toldPerformance ?? NodePerformance()
        guard link.performance.differs(from: old, by: settings.thresholds.performanceChange) else { return }
        if let at = link.toldAt, now.timeIntervalSince(at) < settings.thresholds.performanceInterval { return }
        links[id]?.toldPerformance = link.performance
        links[id]?.toldAt = now
        out.append(.notify(.linkPerformance(id, link.performance, link.status?.last)))
    }

    private mutating func watchLoad(_ id: UUID, _ now: Date, _ out: inout [NodeOutput]) {
        guard let link = links[id] else { return }
        guard let expected = link.performance.expectedConsumption, let eskr = link.performance.eskr, eskr > 0 else {
            if link.overloadSince != nil { links[id]?.overloadSince = nil }
            return
        }
        if expected > eskr {
            let since = link.overloadSince ?? now
            links[id]?.overloadSince = since
            if !link.isOverloaded, now.timeIntervalSince(since) >= settings.thresholds.overloadHold {
                links[id]?.isOverloaded = true
                out.append(.notify(.linkOverloaded(id, link.performance)))
            }
        } else if expected < 0.9 * eskr {
            links[id]?.overloadSince = nil
            if link.isOverloaded {
                links[id]?.isOverloaded = false
                out.append(.notify(.linkEvent(id, link.told, "the link is no longer overloaded")))
            }
        }
    }

    // MARK: Figures

    private func performance(of status: LinkStatus) -> NodePerformance {
        let measured = status.performance
        var performance = NodePerformance()
        performance.eskr = measured.secretKeyRate
        // What the newest block kept for authentication never reached the key store.
        if let rate = measured.secretKeyRate, let last = status.last, last.depositedBits > 0 {
            performance.skr = rate * Double(last.secretBits) / Double(last.depositedBits)
        } else {
            performance.skr = measured.secretKeyRate
        }
        performance.snr = measured.snr
        performance.transmittance = measured.transmittance
        performance.excessNoise = measured.excessNoise
        performance.expectedConsumption = links[linkUUID(status.link)]?.performance.expectedConsumption
        return performance
    }

    /// By peer, in bit/s: what applications were promised or, where nothing was, what they take; split evenly over the links to that peer.
    private func expectedConsumption() -> [NodeID: Double] {
        guard let store else { return [:] }
        var sums: [NodeID: Double] = [:]
        for application in applications.values.map(\.status) where application.state != .disabled {
            guard let promised = application.qos.minBandwidth ?? application.qos.maxBandwidth else { continue }
            sums[application.peer, default: 0] += Double(promised)
        }
        for peer in store.peers { sums[peer.peer] = max(sums[peer.peer] ?? 0, peer.outRate) }
        let counts = links.values.compactMap(\.status?.peer).reduce(into: [NodeID: Int]()) { $0[$1, default: 0] += 1 }
        return Dictionary(uniqueKeysWithValues: sums.map { ($0.key, $0.value / Double(max(1, counts[$0.key] ?? 1))) })
    }
}
