// What a client's change is refused for before any service is asked to carry it out: things that the schema cannot say.

import Foundation
import NodeAPI
import QKDModel

extension DesiredConfiguration {
    /// Links go by their names and applications by their pairs at the services: two entries for one would take turns with it.
    /// - Returns: nil where every entry that `change` touches stands alone.
    func duplicate(touching change: DesiredConfiguration) -> ConfigurationProblem? {
        func low(_ id: UUID) -> String { id.uuidString.lowercased() }
        for link in change.links.values.sorted(by: { $0.id.uuidString > $1.id.uuidString }) {
            guard let other = links.values.first(where: { $0.id != link.id && $0.name == link.name }) else { continue }
            return .init(
                path: Self.place(link: low(link.id)) + "/\(YANGNames.cv)cv-qkd/link-name",
                message: "'\(link.name)' is the name of link \(low(other.id)) already")
        }
        for application in change.applications.values.sorted(by: { $0.id.uuidString > $1.id.uuidString }) {
            let other = applications.values.first {
                $0.id != application.id && ($0.server, $0.client) == (application.server, application.client)
            }
            guard let other else { continue }
            return .init(
                path: Self.place(application: low(application.id)),
                message: "the pair of \(application.server) and \(application.client) is application \(low(other.id)) already")
        }
        return nil
    }

    /// Of two applications one is served here and the other by a peer.
    /// - Parameter peers: of the configuration that is to be, beside those of the store's own file.
    func homeProblem(_ store: StoreStatus, peers: some Sequence<Peer>) -> ConfigurationProblem? {
        let own = Set(store.applications)
        let far = Set(store.peers.flatMap(\.applications) + peers.flatMap(\.applications))
        for application in applications.values.sorted(by: { $0.id.uuidString < $1.id.uuidString }) {
            let (server, client) = (application.server, application.client)
            let path = Self.place(application: application.id.uuidString.lowercased())
            if server == client { return .init(path: path + "/client_app_id", message: "'\(client)' is server and client in one") }
            for (name, leaf) in [(server, "server_app_id"), (client, "client_app_id")] where !own.contains(name) && !far.contains(name) {
                return .init(path: "\(path)/\(leaf)", message: "neither this node nor a peer of it serves an application '\(name)'")
            }
            guard own.contains(server) != own.contains(client) else {
                return .init(
                    path: path + "/client_app_id",
                    message: "one of '\(server)' and '\(client)' has to be served by this node, the other by a peer")
            }
        }
        return nil
    }
}

/// RFC 6991: the canonical form of `uuid` is lower case. Keys are compared as they are written, so that another form would be another entry.
enum CanonicalUUID {
    private static let leafs: Set = [
        "qkdn_id", "qkdl_id", "app_id", "qkdl_applications", "backing_qkdl_id", "local_qkdn_id", "remote_qkdn_id", "virt_prev_hop",
        "virt_next_hop",
    ]
    private static let keys: [String: [String]] = [
        "peer": ["qkdn_id"], "qkd_link": ["qkdl_id"], "qkd_app": ["app_id"], "qkd_interface": ["qkdi_id"], "fibre": ["name"],
        "channel": ["number", "direction"],
    ]

    /// - Returns: the first one in a configuration that is written otherwise.
    static func problem(in text: String) -> ConfigurationProblem? {
        problem(in: JSON(parsing: text)[YANGNames.node], "/\(YANGNames.node)")
    }

    private static func problem(in value: JSON, _ path: String) -> ConfigurationProblem? {
        guard case .object(let members) = value else { return nil }
        for (name, member) in members.sorted(by: { $0.key < $1.key }) {
            let here = "\(path)/\(name)"
            switch member {
            case .object: if let problem = problem(in: member, here) { return problem }
            case .array(let entries):
                for entry in entries {
                    if let problem = problem(in: entry, here + key(of: entry, name)) { return problem }
                    if let problem = problem(of: entry, name, "\(here)[.='\(entry.string ?? "")']") { return problem }
                }
            default: if let problem = problem(of: member, name, here) { return problem }
            }
        }
        return nil
    }

    private static func problem(of value: JSON, _ name: String, _ path: String) -> ConfigurationProblem? {
        guard leafs.contains(name), let text = value.string, text != text.lowercased() else { return nil }
        return .init(path: path, message: "the UUID '\(text)' has capitals: write it in lower case (RFC 6991)")
    }

    private static func key(of entry: JSON, _ list: String) -> String {
        (keys[list] ?? []).map { key in "[\(key)='\(entry[key].string ?? entry[key].int.map { "\($0)" } ?? "")']" }.joined()
    }
}

/// Where below a peer's entry the datum stands that a service has refused in its own words.
enum PeerTerm {
    static func path(_ step: ConfigurationStep, _ path: String, _ reason: String) -> String {
        let entry = path.split(separator: "/").dropLast().map { "/\($0)" }.joined()
        switch step {
        case .addStorePeer where reason.contains("certificate name"): return entry + "/key-management-certificate"
        case .addStorePeer where reason.contains("secret"): return entry + "/key-management-secret-file"
        case .addStorePeer where reason.contains("SAE"): return entry + "/application"
        case .addLinkPeer where reason.contains("secret"): return entry + "/link-secret-file"
        default: return path
        }
    }
}
