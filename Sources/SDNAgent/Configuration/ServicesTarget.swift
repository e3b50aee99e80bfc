// The two services as what a RESTCONF configuration is applied to.

import Foundation
import Logging
import NodeAPI
import QKDModel
public import RESTCONF
import Synchronization

/// Applies changes in two phases: what can be taken back in the first, the rest in the second.
///
/// A change that needs a service that is away is refused; what a service refuses becomes a RESTCONF error with its words and the place
/// of the datum. Entries that are the node's own (interfaces, its id and name) are refused to clients.
public actor ServicesTarget: ConfigurationTarget {
    private let settings: NodeSettings
    private let links: any LinkServicePort
    private let store: any StoreServicePort
    private let logger: Logger
    private var plan: ConfigurationPlan?
    private var undo: [ConfigurationStep] = []
    private var devices: [UInt32: String] = [:]
    /// All peers of the configuration: a change names only what it touches.
    private var peers: [UUID: DesiredConfiguration.Peer] = [:]
    private var peersToBe: [UUID: DesiredConfiguration.Peer] = [:]
    /// Links, applications and fibres as they are, for what has to agree between them.
    private var coexistence = CoexistenceGround()
    /// Of the change that is under way.
    private var edges: (before: DesiredConfiguration, after: DesiredConfiguration)?
    private var changed: (@Sendable () -> Void)?
    /// Odd while a change is being carried out: what the services say then may belong to it.
    private let changes = Mutex<UInt64>(0)

    init(settings: NodeSettings, links: any LinkServicePort, store: any StoreServicePort, logger: Logger) {
        (self.settings, self.links, self.store, self.logger) = (settings, links, store, logger)
    }

    /// Called after every change that was committed.
    func onChange(_ body: @escaping @Sendable () -> Void) { changed = body }
    func note(devices: [UInt32: String]) { self.devices = devices }
    /// Peers that came into the tree without a change, at the start or by adoption. Those that are known stay as they are.
    func note(peers: [UUID: DesiredConfiguration.Peer]) { self.peers.merge(peers) { known, _ in known } }

    func note(running configuration: DesiredConfiguration) { coexistence.read(configuration) }

    /// Differs between two moments if a change was under way at one of them or in between; nil while one is.
    nonisolated var quiet: UInt64? { changes.withLock { $0.isMultiple(of: 2) ? $0 : nil } }
    private func begin() { changes.withLock { $0 |= 1 } }
    private func end() { changes.withLock { $0 += $0 & 1 } }

    public func prepare(_ change: ConfigurationChange) async throws(RESTCONFError) {
        begin()
        do { try await prepareSteps(change) } catch {
            end()
            throw error
        }
    }

    private func prepareSteps(_ change: ConfigurationChange) async throws(RESTCONFError) {
        let (before, after) = (try read(change.before), try read(change.after))
        if let problem = CanonicalUUID.problem(in: change.after) { throw Self.refusal(problem) }
        try refuseOwn(change, before, after)
        try refuseClashes(before, after)
        peersToBe = peers.filter { before.peers[$0.key] == nil }.merging(after.peers) { $1 }
        let plan = try await plan(before, after)
        self.plan = plan
        undo = []
        for placed in plan.prepare {
            do { try await carry(placed.step) } catch {
                await abort()
                throw explain(error, placed)
            }
            if let reverse = reverse(placed.step, before) { undo.append(reverse) }
        }
    }

    public func commit() async throws(RESTCONFError) {
        defer { end() }
        guard let plan else { return }
        self.plan = nil
        undo = []
        // Also where it breaks off: what follows then is the reverse of this change.
        peers = peersToBe
        if let edges { coexistence.change(edges.before, edges.after) }
        for placed in plan.commit {
            do { try await carry(placed.step) } catch {
                logger.warning("a change broke off: \(error)", metadata: ["place": "\(placed.path)"])
                throw explain(error, placed.path)
            }
        }
        changed?()
    }

    public func abort() async {
        for step in undo.reversed() { try? await carry(step) }
        (plan, undo) = (nil, [])
        end()
    }

    /// Makes the services have what `configuration` says, as far as they are here. What goes wrong is logged and tried again next time.
    /// - Parameter quiet: stops as soon as `quiet` is another: somebody changes the configuration.
    func reconcile(_ configuration: DesiredConfiguration, linkService: Bool, since quiet: UInt64? = nil) async {
        var before = DesiredConfiguration()
        // Links of the service's own file are its own business unless they were switched.
        guard let ground = try? await ground(configuration, all: true) else { return }
        for link in configuration.links.values where ground.links?.links.first(where: { $0.link == link.name })?.origin == .file {
            if ground.links?.links.first(where: { $0.link == link.name })?.enabled == link.enabled { before.links[link.id] = link }
        }
        for peer in configuration.peers.values {
            let isFile =
                linkService
                ? ground.links?.peers.first { $0.node == peer.node }?.origin == .file
                : ground.store?.peers.first { $0.peer == peer.node }?.addedAtRunTime == false
            if isFile { before.peers[peer.id] = peer }
        }
        do {
            let plan = try ConfigurationPlan(before: before, after: configuration, ground: ground)
            var broken = Set<String>()
            for placed in plan.prepare + plan.commit where placed.step.isLinkService == linkService && !broken.contains(placed.path) {
                if let quiet, quiet != self.quiet { return }
                do { try await carry(placed.step) } catch {
                    broken.insert(placed.path)
                    logger.warning("configuration is not in force: \(error)", metadata: ["place": "\(placed.path)"])
                }
            }
        } catch {
            logger.warning("configuration is not in force: \(error)")
        }
    }

    // MARK: Planning

    private func read(_ text: String) throws(RESTCONFError) -> DesiredConfiguration {
        do { return try DesiredConfiguration(parsing: text) } catch {
            throw Self.refusal(error)
        }
    }

    private static func refusal(_ problem: ConfigurationProblem) -> RESTCONFError {
        RESTCONFError(.application, .invalidValue, problem.message, path: problem.path)
    }

    private func refuseOwn(
        _ change: ConfigurationChange, _ before: DesiredConfiguration, _ after: DesiredConfiguration
    ) throws(RESTCONFError) {
        let root = "/\(YANGNames.node)"
        func refuse(_ path: String, _ what: String) -> RESTCONFError {
            RESTCONFError(.application, .operationNotSupported, "\(what) is the node's own to say", path: root + path, status: 405)
        }
        if before.nodeID != nil, after.nodeID != before.nodeID { throw refuse("/qkdn_id", "its id") }
        if before.nodeName != nil, after.nodeName != before.nodeName { throw refuse("/\(YANGNames.cv)node-name", "its name") }
        if after.version != before.version { throw refuse("/qkdn_version", "its version") }
        if after.interfaces != before.interfaces { throw refuse("/qkd_interfaces", "which interfaces it has") }
    }

    /// Of entries for one thing, of a plan of fibres and what links ask for; a change names only what it touches.
    private func refuseClashes(_ before: DesiredConfiguration, _ after: DesiredConfiguration) throws(RESTCONFError) {
        edges = (before, after)
        var ground = coexistence
        ground.change(before, after)
        let all = ground.configuration
        var touched = DesiredConfiguration()
        touched.links = after.links.filter { before.links[$0.key] != $0.value }
        touched.fibres = after.fibres.filter { before.fibres[$0.key] != $0.value }
        touched.applications = after.applications.filter { before.applications[$0.key] != $0.value }
        guard let problem = all.duplicate(touching: touched) ?? all.coexistenceProblem(touching: touched) else { return }
        throw Self.refusal(problem)
    }

    private func plan(_ before: DesiredConfiguration, _ after: DesiredConfiguration) async throws(RESTCONFError) -> ConfigurationPlan {
        let isTouched = before.peers != after.peers || before.links != after.links || before.applications != after.applications
        guard isTouched else {
            return try ConfigurationPlan(before: before, after: after, ground: .init(node: settings.node, nodeID: settings.id))
        }
        var difference = after
        difference.links = after.links.filter { before.links[$0.key] != $0.value }
        let ground: ConfigurationPlan.Ground
        do { ground = try await self.ground(difference, all: false) } catch { throw explain(error, "/\(YANGNames.node)") }
        difference.applications = after.applications.filter { before.applications[$0.key] != $0.value }
        if let store = ground.store, let problem = difference.homeProblem(store, peers: peersToBe.values) { throw Self.refusal(problem) }
        let plan = try ConfigurationPlan(before: before, after: after, ground: ground)
        let steps = plan.prepare + plan.commit
        if ground.links == nil, let placed = steps.first(where: { $0.step.isLinkService }) {
            throw RESTCONFError(
                .application, .resourceDenied, "the link service is away: try again when it is back", path: placed.path, status: 503)
        }
        if ground.store == nil, let placed = steps.first(where: { !$0.step.isLinkService }) {
            throw RESTCONFError(
                .application, .resourceDenied, "the key store is away: try again when it is back", path: placed.path, status: 503)
        }
        return plan
    }

    private func ground(_ configuration: DesiredConfiguration, all: Bool) async throws(ServiceProblem) -> ConfigurationPlan.Ground {
        var ground = ConfigurationPlan.Ground(node: settings.node, nodeID: settings.id, devices: devices)
        ground.peers = all ? configuration.peers : peersToBe
        ground.links = try? await links.status()
        ground.store = try? await store.status()
        for link in configuration.links.values where !link.isVirtual {
            guard ground.links?.links.contains(where: { $0.link == link.name }) ?? false else { continue }
            ground.plans[link.name] = try? await links.plan(of: link.name)
        }
        return ground
    }

    // MARK: Carrying out

    private func carry(_ step: ConfigurationStep) async throws(ServiceProblem) {
        switch step {
        case .addLinkPeer(let peer): try await links.add(peer)
        case .removeLinkPeer(let node):
            guard let status = try? await links.status(), status.peers.contains(where: { $0.node == node }) else { return }
            try await links.remove(peer: node)
        case .addStorePeer(let plan): try await store.add(plan)
        case .removeStorePeer(let node):
            guard let status = try? await store.status(), status.peers.contains(where: { $0.peer == node }) else { return }
            try await store.remove(peer: node)
        case .checkLink(let link, let plan): try await links.check(link, plan)
        case .prepareLink(let link, let plan): try await links.prepare(link, plan)
        case .commitLink(let link): try await links.commit(link)
        case .switchLink(let link, let isOn): try await links.setEnabled(isOn, link)
        case .removeLink(let link):
            guard let status = try? await links.status(), status.links.contains(where: { $0.link == link }) else { return }
            try await links.remove(link)
        case .register(let plan): try await store.register(plan)
        case .forget(let id):
            guard let known = try? await store.applications(), known.contains(where: { $0.appID == id || $0.id == id }) else { return }
            try await store.forget(id)
        }
    }

    /// - Returns: what takes `step` back.
    private func reverse(_ step: ConfigurationStep, _ before: DesiredConfiguration) -> ConfigurationStep? {
        switch step {
        case .addLinkPeer(let peer):
            guard let old = before.peers.values.first(where: { $0.node == peer.node }), let address = old.linkAddress else {
                return .removeLinkPeer(peer.node)
            }
            return .addLinkPeer(.init(node: old.node, channel: address, secretName: old.linkSecret ?? old.node.rawValue))
        case .addStorePeer(let plan):
            guard let old = before.peers.values.first(where: { $0.node == plan.node }), let address = old.kmAddress else {
                return .removeStorePeer(plan.node)
            }
            return .addStorePeer(
                .init(
                    node: old.node, km: address, certificateName: old.kmCertificate ?? old.node.rawValue,
                    secret: old.kmSecret ?? old.node.rawValue, applications: plan.applications))
        case .prepareLink(let link, _): return .removeLink(link)
        default: return nil
        }
    }

    /// In the first phase a refusal of a link's or a peer's terms is the asker's mistake, and says which datum.
    private func explain(_ problem: ServiceProblem, _ placed: PlacedStep) -> RESTCONFError {
        guard case .refused(let reason) = problem else { return explain(problem, placed.path) }
        switch placed.step {
        case .checkLink, .prepareLink:
            return RESTCONFError(.application, .invalidValue, reason, path: placed.path + LinkTerm.leaf(in: reason))
        case .addLinkPeer, .addStorePeer:
            return RESTCONFError(.application, .invalidValue, reason, path: PeerTerm.path(placed.step, placed.path, reason))
        default: return explain(problem, placed.path)
        }
    }

    private func explain(_ problem: ServiceProblem, _ path: String) -> RESTCONFError {
        switch problem {
        case .away(let reason):
            RESTCONFError(.application, .resourceDenied, "a service of the node is away: \(reason)", path: path, status: 503)
        case .refused(let reason), .failed(let reason): RESTCONFError(.application, .operationFailed, reason, path: path)
        }
    }
}
