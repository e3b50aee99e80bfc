// The configuration file of qkd-agentd, as written in YAML.

import Foundation
import NodeRuntime
import QKDModel
import RESTCONF
import SDNAgent

/// The keys of the file; paths are relative to the file's folder.
struct AgentdConfiguration: Decodable, Sendable {
    struct Face: Decodable, Sendable {
        var listen: String
        var certificate: String
        var key: String
        var ca: String
        /// Who may do what: certificate names and roles.
        var rules: String
        /// Where clients reach it, if not where it listens.
        var public_url: String?
        /// For clients that do not quite speak RFC 8040.
        var compatibility: Bool?
    }
    struct Broker: Decodable, Sendable {
        struct TLS: Decodable, Sendable {
            var ca: String
            var certificate: String?
            var key: String?
        }
        var address: String
        var virtual_host: String?
        var user: String?
        /// One line; mode 0600.
        var password_file: String?
        var tls: TLS?
        var exchange: String?
        var outbox_notifications: Int?
        var outbox_bytes: Int?
    }
    struct Thresholds: Decodable, Sendable {
        var performance_change: ThresholdShare?
        var performance_interval: ThresholdSeconds?
        var link_down_hold: ThresholdSeconds?
        var overload_hold: ThresholdSeconds?
        var interface_out_after: ThresholdSeconds?
        var service_away_grace: ThresholdSeconds?
    }

    var node: NodeID
    /// Derived from the node's name if absent.
    var qkdn_id: UUID?
    var location: YANGText?
    var state: String
    /// Folder with the YANG modules.
    var yang: String
    var linkd_socket: String
    var lkmsd_socket: String
    var restconf: Face
    var rabbitmq: Broker?
    var thresholds: Thresholds?

    func settings(version: String) -> NodeSettings {
        var limits = NodeThresholds()
        if let asked = thresholds {
            limits.performanceChange = asked.performance_change?.value ?? limits.performanceChange
            limits.performanceInterval = asked.performance_interval?.value ?? limits.performanceInterval
            limits.downHold = asked.link_down_hold?.value ?? limits.downHold
            limits.overloadHold = asked.overload_hold?.value ?? limits.overloadHold
            limits.outAfter = asked.interface_out_after?.value ?? limits.outAfter
            limits.awayGrace = asked.service_away_grace?.value ?? limits.awayGrace
        }
        return NodeSettings(node: node, id: qkdn_id, version: version, location: location?.value ?? "", thresholds: limits)
    }

    func server(folder: String) throws -> RESTCONFServerConfiguration {
        let (host, port) = try Self.split(restconf.listen, "restconf.listen")
        return RESTCONFServerConfiguration(
            host: host, port: port,
            files: TLSFiles(
                certificate: resolve(restconf.certificate, folder), key: resolve(restconf.key, folder),
                authority: resolve(restconf.ca, folder)),
            access: try AccessList(file: resolve(restconf.rules, folder)), compatibility: restconf.compatibility ?? false,
            publicURL: restconf.public_url)
    }

    func broker(folder: String) throws -> BrokerSettings? {
        guard let rabbitmq else { return nil }
        let (host, port) = try Self.split(rabbitmq.address, "rabbitmq.address")
        let identity: BrokerSettings.Identity
        if let user = rabbitmq.user {
            guard let file = rabbitmq.password_file else { throw AgentdError("rabbitmq: a user needs a password_file") }
            identity = .password(user: user, password: try Self.line(of: resolve(file, folder)))
        } else {
            guard rabbitmq.tls?.certificate != nil else {
                throw AgentdError("rabbitmq: name a user with a password_file, or a tls certificate")
            }
            identity = .certificate
        }
        let tls = rabbitmq.tls.map { tls in
            BrokerSettings.TLS(
                authorities: resolve(tls.ca, folder), certificate: tls.certificate.map { resolve($0, folder) },
                key: tls.key.map { resolve($0, folder) })
        }
        return BrokerSettings(
            host: host, port: port, virtualHost: rabbitmq.virtual_host ?? "/", identity: identity, tls: tls,
            exchange: rabbitmq.exchange ?? BrokerSettings.exchangeName)
    }

    func resolve(_ path: String, _ folder: String) -> String { path.hasPrefix("/") || folder.isEmpty ? path : folder + "/" + path }

    /// `host:port`, an IPv6 host in brackets.
    private static func split(_ address: String, _ key: String) throws -> (String, Int) {
        guard let colon = address.lastIndex(of: ":"), let port = Int(address[address.index(after: colon)...]), (0...65535).contains(port),
            colon != address.startIndex
        else { throw AgentdError("\(key): '\(address)' is no host:port") }
        return (address[..<colon].trimmingCharacters(in: CharacterSet(charactersIn: "[]")), port)
    }

    private static func line(of file: String) throws -> String {
        guard let text = try? String(contentsOfFile: file, encoding: .utf8) else { throw AgentdError("'\(file)' cannot be read") }
        let mode = (try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int) ?? 0
        guard mode & 0o077 == 0 else { throw AgentdError("'\(file)' holds a password and others may read it: chmod 600") }
        return text.trimmingCharacters(in: .whitespacesAndNewlines)
    }
}

struct AgentdError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
