// From two configurations and what the services have to the steps that lead from one to the other. A value, no I/O.
//
// Steps say what shall be, not what to toggle: carried out twice they do no harm, so that a change that broke off is
// mended by carrying out its reverse.

import Foundation
import NodeAPI
import QKDModel
import RESTCONF

enum ConfigurationStep: Sendable, Equatable {
    case addLinkPeer(LinkPeerRequest)
    case removeLinkPeer(NodeID)
    case addStorePeer(StorePeerPlan)
    case removeStorePeer(NodeID)
    /// Of a link that runs: before anything of it is touched.
    case checkLink(LinkID, LinkPlan)
    case prepareLink(LinkID, LinkPlan)
    case commitLink(LinkID)
    case switchLink(LinkID, Bool)
    case removeLink(LinkID)
    case register(StoreApplicationPlan)
    case forget(UUID)

    var isLinkService: Bool {
        switch self {
        case .addLinkPeer, .removeLinkPeer, .checkLink, .prepareLink, .commitLink, .switchLink, .removeLink: true
        case .addStorePeer, .removeStorePeer, .register, .forget: false
        }
    }
}

/// What stands where, for error messages.
struct PlacedStep: Sendable, Equatable {
    var step: ConfigurationStep
    var path: String
}

struct ConfigurationPlan: Sendable, Equatable {
    /// What the services have; nil where one is away.
    struct Ground: Sendable {
        var node: NodeID
        var nodeID: UUID
        var links: LinkServiceStatus?
        /// Terms of the links that the change touches.
        var plans: [LinkID: LinkPlan] = [:]
        var store: StoreStatus?
        /// All peers of the configuration that is to be, also those that the change does not name.
        var peers: [UUID: DesiredConfiguration.Peer] = [:]
        /// Device names by interface.
        var devices: [UInt32: String] = [:]
    }

    /// Can be taken back.
    var prepare: [PlacedStep] = []
    var commit: [PlacedStep] = []

    /// - Throws: what the services could not even be asked for.
    init(before: DesiredConfiguration, after: DesiredConfiguration, ground: Ground) throws(RESTCONFError) {
        try planPeers(before, after, ground)
        try planLinks(before, after, ground)
        for (id, application) in after.applications.sorted(by: { $0.key.uuidString < $1.key.uuidString })
        where before.applications[id] != application {
            if let old = before.applications[id], (old.server, old.client) != (application.server, application.client) {
                commit.append(.init(step: .forget(id), path: DesiredConfiguration.place(application: text(id))))
            }
            let plan = StoreApplicationPlan(server: application.server, client: application.client, change: application.change)
            commit.append(.init(step: .register(plan), path: DesiredConfiguration.place(application: text(id))))
        }
        for id in before.applications.keys where after.applications[id] == nil {
            commit.append(.init(step: .forget(id), path: DesiredConfiguration.place(application: text(id))))
        }
        // Last: a peer goes when nothing needs it any more.
        for (id, peer) in before.peers where after.peers[id] == nil && !after.peers.values.contains(where: { $0.node == peer.node }) {
            let path = DesiredConfiguration.place(peer: text(id))
            if peer.linkAddress != nil { commit.append(.init(step: .removeLinkPeer(peer.node), path: path)) }
            if peer.kmAddress != nil { commit.append(.init(step: .removeStorePeer(peer.node), path: path)) }
        }
    }

    private func text(_ id: UUID) -> String { id.uuidString.lowercased() }

    private mutating func planPeers(
        _ before: DesiredConfiguration, _ after: DesiredConfiguration, _ ground: Ground
    ) throws(RESTCONFError) {
        for (id, peer) in after.peers.sorted(by: { $0.key.uuidString < $1.key.uuidString }) {
            let path = DesiredConfiguration.place(peer: text(id))
            let isTwice = ground.peers.contains { $0.key != id && $0.value.node == peer.node }
            if isTwice || peer.node == ground.node || id == ground.nodeID {
                throw RESTCONFError(.application, .invalidValue, "node '\(peer.node)' stands for two", path: path)
            }
            guard before.peers[id] != peer else { continue }
            if let address = peer.linkAddress {
                let known = ground.links?.peers.first { $0.node == peer.node }
                let secret = peer.linkSecret ?? peer.node.rawValue
                if known == nil || known?.channel != address || known?.origin == .request && known?.secretName != secret {
                    prepare.append(
                        .init(
                            step: .addLinkPeer(.init(node: peer.node, channel: address, secretName: secret)), path: path + "/link-address"))
                }
            }
            if let address = peer.kmAddress {
                let known = ground.store?.peers.first { $0.peer == peer.node }
                let name = peer.kmCertificate ?? peer.node.rawValue
                let applications = peer.applications.isEmpty ? known?.applications.sorted() ?? [] : peer.applications
                if known == nil || known?.km != address || known?.certificateName != name || known?.applications.sorted() != applications {
                    let plan = StorePeerPlan(
                        node: peer.node, km: address, certificateName: name, secret: peer.kmSecret ?? peer.node.rawValue,
                        applications: applications)
                    prepare.append(.init(step: .addStorePeer(plan), path: path + "/key-management-address"))
                }
            }
        }
    }

    private mutating func planLinks(
        _ before: DesiredConfiguration, _ after: DesiredConfiguration, _ ground: Ground
    ) throws(RESTCONFError) {
        for link in before.links.values where after.links[link.id]?.name != link.name && !link.isVirtual {
            let isThere = ground.links.map { $0.links.contains { $0.link == link.name } } ?? true
            if isThere { commit.append(.init(step: .removeLink(link.name), path: DesiredConfiguration.place(link: text(link.id)))) }
        }
        for (id, link) in after.links.sorted(by: { $0.key.uuidString < $1.key.uuidString })
        where before.links[id] != link && !link.isVirtual {
            try planLink(link, after, ground, DesiredConfiguration.place(link: text(id)))
        }
    }

    private mutating func planLink(
        _ link: DesiredConfiguration.Link, _ after: DesiredConfiguration, _ ground: Ground, _ path: String
    ) throws(RESTCONFError) {
        var plan = try terms(link, after, ground, path)
        func place(_ step: ConfigurationStep) -> PlacedStep { PlacedStep(step: step, path: path) }
        let present = ground.links?.links.first { $0.link == link.name }
        if let present, !present.prepared {
            guard let current = ground.plans[link.name], link.hasTerms(of: current), current.device == plan.device,
                current.peer == plan.peer
            else {
                // What the tree cannot say stays as it is.
                plan.calibrationRatio = ground.plans[link.name]?.calibrationRatio
                plan.driftAllowance = ground.plans[link.name]?.driftAllowance
                plan.variance = ground.plans[link.name]?.variance
                prepare.append(place(.checkLink(link.name, plan)))
                commit += [place(.removeLink(link.name)), place(.prepareLink(link.name, plan)), place(.commitLink(link.name))]
                if !link.enabled { commit.append(place(.switchLink(link.name, false))) }
                return
            }
            if present.enabled != link.enabled { commit.append(place(.switchLink(link.name, link.enabled))) }
            return
        }
        if present != nil { prepare.append(place(.removeLink(link.name))) }
        prepare.append(place(.prepareLink(link.name, plan)))
        commit.append(place(.commitLink(link.name)))
        if !link.enabled { commit.append(place(.switchLink(link.name, false))) }
    }

    private func terms(
        _ link: DesiredConfiguration.Link, _ after: DesiredConfiguration, _ ground: Ground, _ path: String
    ) throws(RESTCONFError) -> LinkPlan {
        func refuse(_ leaf: String, _ message: String) -> RESTCONFError {
            RESTCONFError(.application, .invalidValue, message, path: path + leaf)
        }
        if let local = link.localNode, local != ground.nodeID { throw refuse("/qkdl_local/qkdn_id", "this node is \(text(ground.nodeID))") }
        guard let remote = link.remoteNode else { throw refuse("/qkdl_remote/qkdn_id", "a physical link needs its far node") }
        guard let peer = ground.peers[remote]?.node else {
            throw refuse("/qkdl_remote/qkdn_id", "there is no peer \(text(remote)): create it under sdqkd-cv-qkd:peers first")
        }
        guard let role = link.role else { throw refuse("/phys_qkd_role", "a physical link needs a role, TRANSMITTER or RECEIVER") }
        guard let device = link.device ?? link.localInterface.flatMap({ ground.devices[$0] }) else {
            throw refuse("/qkdl_local/qkdi_id", "a physical link needs an interface of this node")
        }
        var plan = LinkPlan(
            peer: peer, role: role, device: device, path: link.path, lossDB: link.attenuation, code: link.code, efficiency: link.efficiency,
            blockSymbols: link.blockSymbols, slotSymbols: link.slotSymbols, weight: link.weight, epsilon: link.epsilon)
        plan.gridChannel = link.gridChannel
        return plan
    }
}
