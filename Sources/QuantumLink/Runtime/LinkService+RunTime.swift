// What operators and the agent change while the service runs. Every change is durable before it counts.

internal import Foundation
internal import Logging
public import QKDModel

extension LinkService {
    // MARK: Links

    public func setEnabled(_ isEnabled: Bool, _ link: LinkID) throws {
        guard let running = links[link] else { throw QuantumLinkError.configuration("there is no running link '\(link)'") }
        try database.keep(
            LinkWish(link: running.origin == .file ? nil : running.link, state: .committed, enabled: isEnabled), for: link)
        running.context.monitor.update { $0.enabled = isEnabled }
        tell(isEnabled ? .enabled : .disabled, link)
    }

    /// Checks and keeps a link that does not run yet. A prepared one may be prepared anew with other numbers.
    public func prepare(_ link: LinkServiceConfiguration.Link) throws {
        let id = link.settings.identity.link
        guard links[id] == nil else { throw QuantumLinkError.configuration("link \(id) is running already") }
        try check(link)
        try database.keep(LinkWish(link: link, state: .prepared, enabled: true), for: id)
        prepared[id] = (link, "prepared")
        tell(.prepared, id)
    }

    /// Whether `link` could be prepared, also in place of one of the same name that runs. Changes nothing.
    public func tryOut(_ link: LinkServiceConfiguration.Link) throws { try check(link) }

    public func commit(_ link: LinkID) async throws {
        guard isRunning, let plan = prepared[link]?.link else { throw QuantumLinkError.configuration("link \(link) is not prepared") }
        try check(plan)
        try Self.install(plan, peers[plan.settings.identity.peer]?.peer, configuration, database)
        try database.keep(LinkWish(link: plan, state: .committed, enabled: true), for: link)
        prepared[link] = nil
        try start(plan, origin: .request)
        tell(.committed, link)
    }

    public func remove(_ link: LinkID) async throws {
        guard let before = view(of: link) else { throw QuantumLinkError.configuration("there is no link '\(link)'") }
        if configuration.links.contains(where: { $0.settings.identity.link == link }) {
            try database.keep(LinkWish(link: nil, state: .removed, enabled: false), for: link)
        } else {
            try database.forget(wish: link)
        }
        prepared[link] = nil
        await stop(link)
        links[link] = nil
        tell(.removed, link, before: before)
    }

    private func tell(_ change: ServiceChange, _ link: LinkID, before: LinkView? = nil) {
        guard let view = before ?? view(of: link) else { return }
        logger.info("\(change.rawValue)", metadata: ["link": "\(link)", "kind": "link"])
        hub.send(
            ServiceEvent(
                kind: "link", text: change.rawValue, link: link, device: view.link.device, peer: view.snapshot.peer, change: change,
                snapshot: view.snapshot))
    }

    // MARK: Peers

    /// A peer that the file does not have, or another address or secret for one that was added before.
    public func add(_ peer: LinkServiceConfiguration.Peer) async throws {
        guard peers[peer.node]?.origin != .file else {
            throw QuantumLinkError.configuration("peer \(peer.node) stands in the configuration file: change it there")
        }
        guard peer.node != configuration.node else { throw QuantumLinkError.configuration("\(peer.node) is this node") }
        guard (1...65535).contains(peer.channel.port) else {
            throw QuantumLinkError.configuration("\(peer.channel) has no port to connect to")
        }
        if let name = peer.secret { try checkSecret(named: name) }
        let before = peers[peer.node]?.peer
        try database.keep(peer)
        peers[peer.node] = (peer, .request)
        let text = before == nil ? "added" : "changed"
        logger.info("\(text)", metadata: ["peer": "\(peer.node)", "kind": "peer"])
        hub.send(ServiceEvent(kind: "peer", text: text, peer: peer.node, change: before == nil ? .added : .changed))
        for (link, running) in links where running.link.settings.identity.peer == peer.node && before != peer {
            try Self.install(running.link, peer, configuration, database)
            await restart(link)
        }
    }

    /// A name, never a path: who may talk to the local socket names files of the secrets folder only.
    private func checkSecret(named name: String) throws {
        let allowed = name.utf8.allSatisfy {
            UInt8(ascii: "a")...UInt8(ascii: "z") ~= $0 | 0x20 || UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 || "-_.".utf8.contains($0)
        }
        guard (1...128).contains(name.utf8.count), allowed, !name.hasPrefix(".") else {
            throw QuantumLinkError.badSecret("'\(name.prefix(64))' is no name of a secret's file: letters, digits, '-', '_' and '.'")
        }
        guard configuration.secrets != nil else {
            throw QuantumLinkError.configuration("no secrets folder is configured: set 'secrets:' in the configuration file")
        }
        let path = Self.secretPath(name, configuration)
        if FileManager.default.fileExists(atPath: path) { _ = try InstalledSecret(path: path) }
    }

    /// - Returns: the peer as it was.
    public func removePeer(_ node: NodeID) throws -> PeerView {
        guard let view = peerViews().first(where: { $0.peer.node == node }) else {
            throw QuantumLinkError.configuration("there is no peer '\(node)'")
        }
        guard view.origin == .request else {
            throw QuantumLinkError.configuration("peer \(node) stands in the configuration file: remove it there")
        }
        guard view.links.isEmpty else {
            throw QuantumLinkError.configuration("peer \(node) has links: \(view.links.map(\.rawValue).joined(separator: ", "))")
        }
        try database.forget(peer: node)
        peers[node] = nil
        logger.info("removed", metadata: ["peer": "\(node)", "kind": "peer"])
        hub.send(ServiceEvent(kind: "peer", text: "removed", peer: node, change: .removed))
        return view
    }

    // MARK: Secrets

    /// A fresh epoch for a link. The connection begins anew: the newest secret that both ends have is used then.
    public func installSecret(path: String, on link: LinkID) async throws {
        guard let running = links[link] else { throw QuantumLinkError.configuration("there is no running link '\(link)'") }
        guard try database.install(try InstalledSecret(path: path), on: link) else {
            throw QuantumLinkError.badSecret("\(path) is installed already: make a new one")
        }
        try InstalledSecret.consume(path: path)
        running.context.monitor.clear("pad")
        running.context.monitor.say("channel", "a new secret is installed")
        await restart(link)
    }
}
