// The running configuration in the words of the services.

public import Foundation
public import NodeAPI
public import QKDModel

/// What a controller (or this node, by adoption) wants: peers, links and applications by their ids.
public struct DesiredConfiguration: Sendable, Equatable {
    public struct Peer: Sendable, Equatable {
        public var id: UUID
        public var node: NodeID
        public var linkAddress: String?
        public var linkSecret: String?
        public var kmAddress: String?
        public var kmCertificate: String?
        public var kmSecret: String?
        /// That its key store serves; empty: as the store here knows.
        public var applications: [SAEID] = []
    }

    public struct Link: Sendable, Equatable {
        public var id: UUID
        public var isVirtual: Bool
        public var enabled: Bool
        public var localInterface: UInt32?
        public var localNode: UUID?
        public var remoteNode: UUID?
        public var remoteInterface: UInt32?
        public var applications: [UUID]
        public var role: DeviceRole?
        public var attenuation: Double?
        /// `phys_wavelength`.
        public var gridChannel: Int?
        public var virtualBandwidth: Int?
        public var name: LinkID
        public var device: String?
        public var path: String?
        public var code: String
        /// nil: the two ends choose.
        public var efficiency: Double?
        public var blockSymbols: Int
        public var slotSymbols: Int
        public var weight: Double
        public var epsilon: Double
    }

    public struct Application: Sendable, Equatable {
        public var id: UUID
        public var server: SAEID
        public var client: SAEID
        public var change: StoreApplicationChange
    }

    /// One fibre of the WDM coexistence plan.
    public struct Fibre: Sendable, Equatable {
        public struct Channel: Sendable, Equatable {
            public var number: Int
            public var direction: String
            public var use: String
            public var link: UUID?
        }
        public var name: String
        public var channels: [Channel]
    }

    public var nodeID: UUID?
    public var version: String?
    public var nodeName: String?
    public var peers: [UUID: Peer] = [:]
    public var links: [UUID: Link] = [:]
    public var applications: [UUID: Application] = [:]
    /// By name.
    public var fibres: [String: Fibre] = [:]
    /// The list entries as they are, by qkdi_id; nobody but the node itself writes them.
    public var interfaces: [UInt32: JSON] = [:]

    public init() {}
}

extension DesiredConfiguration.Link {
    /// Whether `plan` is what this link asks for, as far as the tree can say it.
    func hasTerms(of plan: LinkPlan) -> Bool {
        func near(_ left: Double, _ right: Double) -> Bool { abs(left - right) <= 1e-6 * max(abs(left), abs(right)) }
        return code == plan.code && blockSymbols == plan.blockSymbols && slotSymbols == plan.slotSymbols
            && (path ?? "") == (plan.path ?? "") && gridChannel == plan.gridChannel && near(efficiency ?? 0, plan.efficiency ?? 0)
            && near(weight, plan.weight ?? 1)
            && near(epsilon, plan.epsilon ?? 1e-10) && near(attenuation ?? 6, plan.lossDB ?? 6) && role == plan.role
    }
}

/// What is wrong with a configuration, and where.
public struct ConfigurationProblem: Error, Equatable, Sendable {
    /// Instance identifier.
    public var path: String
    public var message: String
}

extension DesiredConfiguration {
    private static let root = "/\(YANGNames.node)"

    /// Reads a configuration that the schema has accepted.
    /// - Throws: `ConfigurationProblem` for what the schema cannot say.
    public init(parsing text: String) throws(ConfigurationProblem) {
        let node = JSON(parsing: text)[YANGNames.node]
        nodeID = node["qkdn_id"].string.flatMap(UUID.init(uuidString:))
        version = node["qkdn_version"].string
        nodeName = node[YANGNames.cv + "node-name"].string
        for entry in node[YANGNames.cv + "peers"]["peer"].array {
            let peer = try Self.peer(entry)
            peers[peer.id] = peer
        }
        for entry in node["qkd_interfaces"]["qkd_interface"].array {
            if let number = entry["qkdi_id"].int { interfaces[UInt32(clamping: number)] = entry }
        }
        for entry in node["qkd_links"]["qkd_link"].array {
            let link = try Self.link(entry)
            links[link.id] = link
        }
        for entry in node["qkd_applications"]["qkd_app"].array {
            let application = try Self.application(entry)
            applications[application.id] = application
        }
        for entry in node[YANGNames.cv + "wdm-plan"]["fibre"].array {
            let fibre = Self.fibre(entry)
            fibres[fibre.name] = fibre
        }
    }

    static func place(fibre: String) -> String { "\(root)/\(YANGNames.cv)wdm-plan/fibre[name='\(fibre)']" }

    static func place(peer: String) -> String { "\(root)/\(YANGNames.cv)peers/peer[qkdn_id='\(peer)']" }
    static func place(link: String) -> String { "\(root)/qkd_links/qkd_link[qkdl_id='\(link)']" }
    static func place(application: String) -> String { "\(root)/qkd_applications/qkd_app[app_id='\(application)']" }

    private static func peer(_ entry: JSON) throws(ConfigurationProblem) -> Peer {
        let (id, path) = try id(entry, "qkdn_id") { place(peer: $0) }
        let name = entry["node-name"].string ?? ""
        guard let node = NodeID(rawValue: name) else { throw .init(path: path + "/node-name", message: "'\(name)' is no node name") }
        return Peer(
            id: id, node: node, linkAddress: entry["link-address"].string, linkSecret: entry["link-secret-file"].string,
            kmAddress: entry["key-management-address"].string, kmCertificate: entry["key-management-certificate"].string,
            kmSecret: entry["key-management-secret-file"].string,
            applications: entry["application"].array.compactMap { $0.string.flatMap(ApplicationURI.name) }.sorted())
    }

    private static func link(_ entry: JSON) throws(ConfigurationProblem) -> Link {
        let (id, path) = try id(entry, "qkdl_id") { place(link: $0) }
        let cv = entry[YANGNames.cv + "cv-qkd"]
        let name = cv["link-name"].string ?? id.uuidString.lowercased()
        guard let link = LinkID(rawValue: name) else { throw .init(path: path, message: "'\(name)' is no link name") }
        func uuid(_ value: JSON) -> UUID? { value.string.flatMap(UUID.init(uuidString:)) }
        return Link(
            id: id, isVirtual: YANGNames.word(entry["qkdl_type"]) == "VIRT", enabled: entry["qkdl_enable"].bool ?? true,
            localInterface: entry["qkdl_local"]["qkdi_id"].int.map { UInt32(clamping: $0) },
            localNode: uuid(entry["qkdl_local"]["qkdn_id"]),
            remoteNode: uuid(entry["qkdl_remote"]["qkdn_id"]),
            remoteInterface: entry["qkdl_remote"]["qkdi_id"].int.map { UInt32(clamping: $0) },
            applications: entry["qkdl_applications"].array.compactMap(uuid),
            role: YANGNames.word(entry["phys_qkd_role"]).flatMap(DeviceRole.init(rawValue:)), attenuation: entry["phys_channel_att"].double,
            gridChannel: entry["phys_wavelength"].string.flatMap { Int($0) }, virtualBandwidth: entry["virt_bandwidth"].int, name: link,
            device: cv["device"].string, path: cv["optical-path"].string, code: cv["code"].string ?? "r10-n204800",
            efficiency: cv["reconciliation-efficiency"].double, blockSymbols: cv["block-symbols"].int ?? 50_000_000,
            slotSymbols: cv["slot-symbols"].int ?? 10_000_000, weight: cv["slot-weight"].double ?? 1, epsilon: cv["epsilon"].double ?? 1e-10
        )
    }

    private static func fibre(_ entry: JSON) -> Fibre {
        Fibre(
            name: entry["name"].string ?? "",
            channels: entry["channel"].array.map { channel in
                Fibre.Channel(
                    number: channel["number"].string.flatMap { Int($0) } ?? 0, direction: channel["direction"].string ?? "",
                    use: channel["use"].string ?? "", link: channel["qkdl_id"].string.flatMap(UUID.init(uuidString:)))
            })
    }

    private static func application(_ entry: JSON) throws(ConfigurationProblem) -> Application {
        let (id, path) = try id(entry, "app_id") { place(application: $0) }
        let clients = entry["client_app_id"].array.compactMap(\.string)
        guard let server = entry["server_app_id"].string.flatMap(ApplicationURI.name) else {
            throw .init(path: path + "/server_app_id", message: "an application needs a server_app_id, a SAE name or 'sae:' and one")
        }
        guard clients.count == 1, let client = clients.first.flatMap(ApplicationURI.name) else {
            throw .init(
                path: path + "/client_app_id", message: "an application needs exactly one client_app_id: key for groups is not served")
        }
        let qos = entry["app_qos"]
        return Application(
            id: id, server: server, client: client,
            change: StoreApplicationChange(
                appID: id, priority: entry["app_priority"].int ?? 0,
                qos: StoreApplicationQoS(
                    maxBandwidth: qos["max_bandwidth"].int, minBandwidth: qos["min_bandwidth"].int, jitter: qos["jitter"].int,
                    ttl: qos["ttl"].int, clientsSharedPathEnable: qos["clients_shared_path_enable"].bool,
                    clientsSharedKeysRequired: qos["clients_shared_keys_required"].bool),
                enabled: entry[YANGNames.cv + "enabled"].bool ?? true, expires: YANGNames.date(entry["expiration_time"])))
    }

    private static func id(_ entry: JSON, _ key: String, _ path: (String) -> String) throws(ConfigurationProblem) -> (UUID, String) {
        let text = entry[key].string ?? ""
        guard let id = UUID(uuidString: text) else { throw .init(path: path(text), message: "'\(text)' is no UUID") }
        return (id, path(text))
    }
}

/// Applications are URIs in the model and names in certificates: `sae:` and the name. A bare name is understood, too.
enum ApplicationURI {
    static func text(_ name: SAEID) -> String { "sae:\(name)" }

    static func name(_ uri: String) -> SAEID? { SAEID(rawValue: uri.hasPrefix("sae:") ? String(uri.dropFirst(4)) : uri) }
}
