// Entries of the running configuration that are the node's own doing: itself, its interfaces, the truth about its links,
// and what its services had before any controller came.

import Foundation
import NodeAPI
public import QKDModel

extension NodeModel {
    /// One document per output; the agent merges them together.
    private mutating func merge(_ key: String, _ members: [String: JSON], _ out: inout [NodeOutput]) {
        let document = JSON.object([YANGNames.node: .object(members)])
        guard merged[key] != document else { return }
        merged[key] = document
        out.append(.merge(document))
    }

    mutating func mergeNode(_ out: inout [NodeOutput]) {
        var members: [String: JSON] = [:]
        if desired.nodeID != settings.id { members["qkdn_id"] = .uuid(settings.id) }
        if desired.version != settings.version { members["qkdn_version"] = .string(settings.version) }
        if desired.nodeName != settings.node.rawValue { members[YANGNames.cv + "node-name"] = .string(settings.node.rawValue) }
        if desired.version == nil {
            members["qkdn_location_id"] = .string(settings.location)
            members["qkdn_capabilities"] = .object([
                "link_stats_support": .bool(true), "application_stats_support": .bool(true), "key_relay_mode_enable": .bool(false),
            ])
        }
        if !members.isEmpty { merge("node", members, &out) }
        mergePeers(&out)
    }

    // MARK: Peers of the services' own files

    mutating func mergePeers(_ out: inout [NodeOutput]) {
        guard desired.nodeID != nil, mayAdopt else { return }
        let known = Set(desired.peers.values.map(\.node))
        var found: [NodeID: [String: JSON?]] = [:]
        for peer in linkService.isAnswering ? Array(peers.values) : [] where !known.contains(peer.node) {
            found[peer.node, default: [:]]["link-address"] = .string(peer.channel)
        }
        for peer in storeService.isAnswering ? store?.peers ?? [] : [] where !known.contains(peer.peer) {
            if !peer.km.isEmpty { found[peer.peer, default: [:]]["key-management-address"] = .string(peer.km) }
            if !peer.certificateName.isEmpty {
                found[peer.peer, default: [:]]["key-management-certificate"] = .string(peer.certificateName)
            }
            if !peer.applications.isEmpty {
                found[peer.peer, default: [:]]["application"] = .array(peer.applications.sorted().map { .string(ApplicationURI.text($0)) })
            }
        }
        for (node, members) in found.sorted(by: { $0.key < $1.key }) {
            var entry = members
            entry["qkdn_id"] = .uuid(nodeID(of: node))
            entry["node-name"] = .string(node.rawValue)
            merge("peer/\(node)", [YANGNames.cv + "peers": .object(["peer": .array([.made(entry)])])], &out)
        }
    }

    // MARK: Interfaces

    func entry(_ interface: NodeInterface) -> JSON {
        let device = interface.device
        let model = [device.maker, device.model].compactMap { $0 }.joined(separator: " ")
        return .made([
            "qkdi_id": .number(Int(interface.number)), "qkdi_model": model.isEmpty ? nil : .string(model),
            "qkdi_type": YANGNames.identity("CV-QKD"), "qkdi_att_point": .object(["device": .string(device.name)]),
            "qkdi_capabilities": .made([
                "role_support": YANGNames.identity(device.role.rawValue), "wavelength_range": .text(Self.channels(of: device)),
            ]),
        ])
    }

    /// `12-61`: numbers of the grid's channels that the carrier reaches.
    private static func channels(of device: LinkDevice) -> String? {
        guard let range = device.wavelengths, range.count == 2,
            let numbers = GridChannel.numbers(between: range[0], and: range[1])
        else { return nil }
        return numbers.count == 1 ? "\(numbers.lowerBound)" : "\(numbers.lowerBound)-\(min(numbers.upperBound, 9999))"
    }

    mutating func mergeInterface(_ interface: NodeInterface, _ out: inout [NodeOutput]) {
        let entry = entry(interface)
        guard desired.interfaces[interface.number] != entry else { return }
        merge("interface/\(interface.number)", ["qkd_interfaces": .object(["qkd_interface": .array([entry])])], &out)
    }

    // MARK: Links

    /// Links that the service has and the tree has not, or that stand in the service's own file with other terms.
    mutating func mergeLink(_ id: UUID, _ out: inout [NodeOutput]) {
        guard mayAdopt, let status = links[id]?.status, let plan = plans[status.link] else { return }
        if let wanted = desired.links[id], status.origin != .file || wanted.hasTerms(of: plan) { return }
        var entry = adopted(status, plan)
        entry["qkdl_id"] = .uuid(id)
        merge("link/\(id)", ["qkd_links": .object(["qkd_link": .array([.made(entry)])])], &out)
    }

    /// What the agent has to ask the link service for: terms of links that are not in the tree.
    public var linksWithoutPlan: [LinkID] {
        links.values.compactMap(\.status).filter {
            plans[$0.link] == nil && (desired.links[linkUUID($0.link)] == nil || $0.origin == .file)
        }.map(\.link)
    }

    mutating func take(_ plan: LinkPlan, of link: LinkID, _ out: inout [NodeOutput]) {
        plans[link] = plan
        mergeLink(linkUUID(link), &out)
    }

    /// A link that the service had before the tree did.
    private func adopted(_ status: LinkStatus, _ plan: LinkPlan) -> [String: JSON?] {
        let interface = interfaces.values.first { $0.device.name == status.device }?.number
        return [
            "qkdl_enable": .bool(status.enabled), "qkdl_type": YANGNames.identity("PHYS"),
            "qkdl_local": .made(["qkdn_id": .uuid(settings.id), "qkdi_id": interface.map { .number(Int($0)) }]),
            "qkdl_remote": .made(["qkdn_id": .uuid(nodeID(of: status.peer))]),
            "phys_qkd_role": YANGNames.identity(status.role.rawValue), "phys_channel_att": .decimal(plan.lossDB ?? 6, 3),
            "phys_wavelength": plan.gridChannel.map { .string("\($0)") },
            YANGNames.cv + "cv-qkd": .made([
                "link-name": .string(status.link.rawValue), "device": .string(status.device),
                "optical-path": plan.path.flatMap { $0.isEmpty ? nil : .string($0) }, "code": .string(plan.code),
                "reconciliation-efficiency": .decimal(plan.efficiency, 6), "block-symbols": .count64(plan.blockSymbols),
                "slot-symbols": .count64(plan.slotSymbols), "slot-weight": .decimal(plan.weight ?? 1, 3),
                "epsilon": .decimal(plan.epsilon ?? 1e-10, 15),
            ]),
        ]
    }
}
