// The SDN agents of a lab: their files, what a controller is told of the network, and what the agents say.

import ArgumentParser
import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1
import QuantumLink

extension LabPlan {
    /// `qkd-agentd`'s file for one site.
    /// - Parameter yang: the folder of the YANG modules.
    func agentConfiguration(_ site: LabSite, yang: String) -> String {
        """
        # Written by qkdctl lab for testbed '\(name)'. Paths are relative to this folder.
        node: \(site.name)
        location: "\(name), \(site.name)"
        state: state/agentd
        yang: "\(yang)"
        linkd_socket: run/linkd.sock
        lkmsd_socket: run/lkmsd.sock
        restconf:
          listen: "127.0.0.1:\(site.restconfPort)"
          certificate: pki/\(site.agent).crt
          key: pki/\(site.agent).key
          ca: pki/ca.crt
          rules: rules.yaml
        thresholds: { interface_out_after: 60 }

        """
    }

    /// Who may do what at every agent.
    static let agentRules = """
        # Names in client certificates, and what they may do.
        clients:
          controller: controller
          operator: operator

        """

    /// What the network's owner tells a controller: where agents are, what each node's services listen on, which fibres there are.
    var inventory: ControllerInventory {
        ControllerInventory(
            nodes: sites.map { site in
                .init(
                    node: site.name, agent: "https://127.0.0.1:\(site.restconfPort)", link: "127.0.0.1:\(site.channelPort)",
                    km: "127.0.0.1:\(site.kmPort)", kmCertificate: site.kme, linkSecret: site.name, kmSecret: "km-\(site.name)",
                    applications: [site.application])
            },
            links: links.map { link in
                .init(
                    name: link.name, transmitter: .init(node: link.transmitterSite, serial: link.bed.transmitter),
                    receiver: .init(node: link.receiverSite, serial: link.bed.receiver), path: link.bed.path, lossDB: link.bed.lossDB,
                    code: link.bed.code ?? LinkSettings.automatic, efficiency: link.bed.efficiency, blockSymbols: link.bed.blockSymbols,
                    slotSymbols: link.bed.slotSymbols, weight: link.bed.weight)
            })
    }
}

/// `controller.json`, which `scripts/sdn-link` reads. Secrets are file names at the nodes that link to this one.
struct ControllerInventory: Encodable {
    struct Node: Encodable {
        var node: String
        var agent: String
        var link: String
        var km: String
        var kmCertificate: String
        var linkSecret: String
        var kmSecret: String
        var applications: [String]
    }
    struct Link: Encodable {
        struct End: Encodable {
            var node: String
            var serial: String
        }
        var name: String
        var transmitter: End
        var receiver: End
        var path: String
        var lossDB: Double
        var code: String
        /// Absent: chosen.
        var efficiency: Double?
        var blockSymbols: Int
        var slotSymbols: Int
        var weight: Double
    }
    /// Relative to the file.
    var certificate = "pki/controller.crt"
    var key = "pki/controller.key"
    var ca = "pki/ca.crt"
    var nodes: [Node]
    var links: [Link]
}

extension Lab {
    func writeAgentConfigurations() throws {
        let yang = try Self.yangFolder(from: programs)
        for site in plan.sites {
            try folder.write(plan.agentConfiguration(site, yang: yang), to: folder.site(site.name) + "/agentd.yaml")
            try folder.write(LabPlan.agentRules, to: folder.site(site.name) + "/rules.yaml")
        }
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        let text = String(decoding: try encoder.encode(plan.inventory), as: UTF8.self)
        try folder.write(text + "\n", to: folder.path + "/controller.json")
    }

    /// The modules as installed, or those of the source tree that the programs were built in.
    /// - Throws: `LabError.missingProgram` naming the place of an installed system.
    static func yangFolder(from programs: String) throws -> String {
        var folder = programs
        while folder != "/" && !folder.isEmpty {
            folder = (folder as NSString).deletingLastPathComponent
            for place in ["yang", "share/sdqkd/yang"] {
                let candidate = (folder as NSString).appendingPathComponent(place)
                if FileManager.default.fileExists(atPath: candidate + "/etsi-qkd-sdn-node.yang") { return candidate }
            }
        }
        throw LabError.missingProgram(path: "/usr/share/sdqkd/yang")
    }

    /// What a person needs to speak to the agents.
    var agentLines: [String] {
        let places = plan.sites.map { "\($0.name) https://127.0.0.1:\($0.restconfPort)" }.joined(separator: ", ")
        var lines = ["RESTCONF: \(places); certificates controller and operator in \(folder.path)/pki"]
        if plan.bare {
            lines.append("no node has a peer or link yet: scripts/sdn-link \(folder.path)/controller.json create \(plan.links[0].name)")
        }
        return lines
    }
}

/// One agent as an operator sees it.
struct LabAgent: Sendable {
    let site: String
    let url: String
    /// Folder with `operator.crt`, `operator.key` and `ca.crt`.
    let pki: String

    private struct Answer: Decodable {
        struct Node: Decodable {
            var qkdn_status: String?
            var qkd_interfaces: Interfaces?
            var qkd_links: Links?
        }
        struct Interfaces: Decodable {
            struct Interface: Decodable { var qkdi_status: String? }
            var qkd_interface: [Interface]?
        }
        struct Links: Decodable {
            struct Link: Decodable { var qkdl_status: String? }
            var qkd_link: [Link]?
        }
        var node: Node
        enum CodingKeys: String, CodingKey { case node = "etsi-qkd-sdn-node:qkd_node" }
    }

    /// - Returns: its node in a few words; nil where it does not answer.
    func describe() async -> String? {
        guard let text = try? await ask(), let node = try? JSONDecoder().decode(Answer.self, from: text).node else { return nil }
        func word(_ identity: String?) -> String { identity?.split(separator: ":").last.map(String.init) ?? "-" }
        let interfaces = node.qkd_interfaces?.qkd_interface ?? []
        let links = node.qkd_links?.qkd_link ?? []
        let enabled = interfaces.count { word($0.qkdi_status) == "ENABLED" }
        let active = links.count { word($0.qkdl_status) == "ACTIVE" }
        return "\(word(node.qkdn_status)), \(enabled) of \(interfaces.count) interfaces enabled, \(active) of \(links.count) links active"
    }

    private func ask() async throws -> Data {
        let face = try KeyFace.parse([
            "--kme", url, "--cert", "\(pki)/operator.crt", "--key", "\(pki)/operator.key", "--ca", "\(pki)/ca.crt", "--peer", site,
        ])
        let client = HTTPClient(
            eventLoopGroupProvider: .singleton, configuration: .init(tlsConfiguration: try face.tls(), timeout: .init(connect: .seconds(2)))
        )
        let result = await Result { try await exchange(client) }
        try? await client.shutdown()
        return try result.get()
    }

    private func exchange(_ client: HTTPClient) async throws -> Data {
        let fields = "qkdn_status;qkd_interfaces/qkd_interface/qkdi_status;qkd_links/qkd_link/qkdl_status"
        var request = HTTPClientRequest(url: "\(url)/restconf/data/etsi-qkd-sdn-node:qkd_node?fields=\(fields)")
        request.headers.add(name: "accept", value: "application/yang-data+json")
        let response = try await client.execute(request, timeout: .seconds(3))
        return Data(try await response.body.collect(upTo: 1 << 20).readableBytesView)
    }
}

extension Result where Failure == any Error {
    fileprivate init(_ body: () async throws -> Success) async {
        do { self = .success(try await body()) } catch { self = .failure(error) }
    }
}
