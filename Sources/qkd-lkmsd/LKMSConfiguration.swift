// The configuration file of qkd-lkmsd, as written in YAML.

import Foundation
import KeyStore
import NodeRuntime
import QKDModel

/// The keys of the file; paths are relative to the file's folder.
struct LKMSConfiguration: Decodable {
    struct Face: Decodable {
        var listen: String
        var certificate: String
        var key: String
        var ca: String
    }
    struct Peer: Decodable {
        var node: NodeID
        var km: String
        var certificate_name: String
        var secret: String
    }
    struct Application: Decodable {
        var sae: SAEID
        var node: NodeID
    }
    /// What applications get that nobody has registered, and how all are accounted.
    struct Policy: Decodable {
        enum Provisional: String, Decodable, CaseIterable { case serve, refuse }
        var provisional: Provisional?
        /// bit/s of key that a provisional application may have.
        var provisional_max_bandwidth: Int?
        var accounting_seconds: Int?
        var idle_seconds: Int?
    }

    var node: NodeID
    var socket: String
    var deposit: String
    var database: String
    var master_key: String
    var api014: Face
    var km: Face
    var peers: [Peer]
    var applications: [Application]
    var deliver_emulated: Bool?
    var key_size: Int?
    /// Each link's limit in store, in bits.
    var capacity_bits: Int?
    /// Folder with the secrets of peers that are added at run time.
    var secrets: String?
    var policy: Policy?
    /// User ids that may deposit; by default the service's own.
    var deposit_users: [UInt32]?

    /// What the key store needs, with paths resolved from `folder` ("" = as they are).
    func keyStore(folder: String) throws -> KeyStoreConfiguration {
        func path(_ path: String) -> String { resolve(path, folder) }
        func address(_ text: String, _ key: String) throws -> HostPort {
            do { return try HostPort(text) } catch { throw KeyStoreError.configuration("\(key): '\(text)' is no address: write host:port") }
        }
        func face(_ face: Face, _ name: String) throws -> KeyStoreConfiguration.Face {
            .init(
                listen: try address(face.listen, "\(name).listen"),
                files: TLSFiles(certificate: path(face.certificate), key: path(face.key), ca: path(face.ca)))
        }
        var homes: [SAEID: NodeID] = [:]
        for application in applications where homes.updateValue(application.node, forKey: application.sae) != nil {
            throw KeyStoreError.configuration("application \(application.sae) is listed twice")
        }
        var made = KeyStoreConfiguration(
            node: node, database: path(database), masterKey: path(master_key), api: try face(api014, "api014"), km: try face(km, "km"),
            peers: try peers.map {
                .init(
                    node: $0.node, address: try address($0.km, "km of peer \($0.node)"), certificateName: $0.certificate_name,
                    secret: path($0.secret))
            }, applications: homes)
        made.deliverEmulated = deliver_emulated ?? false
        if let key_size { made.keySizeBits = key_size }
        if let capacity_bits { made.capacityBits = capacity_bits }
        made.secrets = secrets.map(path)
        if let policy {
            made.policy.provisional = policy.provisional == .refuse ? .refuse : .serve
            made.policy.provisionalBandwidth = policy.provisional_max_bandwidth
            if let seconds = policy.accounting_seconds { made.policy.accountingSeconds = seconds }
            if let seconds = policy.idle_seconds { made.policy.idleSeconds = seconds }
        }
        return made
    }

    func resolve(_ path: String, _ folder: String) -> String { path.hasPrefix("/") || folder.isEmpty ? path : folder + "/" + path }
}
