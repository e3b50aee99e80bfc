// The peers of a store: those of the configuration file and those that were added at run time, which the database keeps.

import Foundation
import GRDB
public import QKDModel
import Synchronization

/// One peer as an operator or a controller names it.
public struct PeerPlan: Sendable, Equatable {
    public var node: NodeID
    public var address: HostPort
    public var certificateName: String
    /// Name of a file in the configured folder of secrets.
    public var secret: String
    public var applications: [SAEID]

    public init(node: NodeID, address: HostPort, certificateName: String, secret: String, applications: [SAEID]) {
        self.node = node
        self.address = address
        self.certificateName = certificateName
        self.secret = secret
        self.applications = applications
    }
}

extension StoreTransaction {
    package func addedPeers() throws -> [PeerPlan] {
        try Row.fetchAll(database, sql: "SELECT * FROM peer ORDER BY node").map { row in
            PeerPlan(
                node: NodeID(unchecked: row["node"]), address: try HostPort(row["address"]), certificateName: row["certificate_name"],
                secret: row["secret"],
                applications: (row["applications"] as String).split(separator: " ").map { SAEID(unchecked: String($0)) })
        }
    }

    package func save(_ peer: PeerPlan) throws {
        try database.execute(
            sql: "INSERT OR REPLACE INTO peer VALUES (?, ?, ?, ?, ?)",
            arguments: [
                peer.node.rawValue, peer.address.description, peer.certificateName, peer.secret,
                peer.applications.map(\.rawValue).joined(separator: " "),
            ])
    }

    package func forgetPeer(_ node: NodeID) throws {
        try database.execute(sql: "DELETE FROM peer WHERE node = ?", arguments: [node.rawValue])
    }
}

/// The links to all peers, as they are now; links that begin are handed to whoever serves them.
final class PeerBook: Sendable {
    struct Entry: Sendable {
        var link: KMPeer
        /// nil: the configuration file has it.
        var added: PeerPlan?
    }
    private let entries = Mutex<[NodeID: Entry]>([:])
    let arrivals: AsyncStream<KMPeer>
    private let arrive: AsyncStream<KMPeer>.Continuation

    init() { (arrivals, arrive) = AsyncStream.makeStream(of: KMPeer.self) }

    var all: [NodeID: Entry] { entries.withLock { $0 } }
    subscript(node: NodeID) -> Entry? { entries.withLock { $0[node] } }

    /// Whose certificate carries one of these names.
    func peer(named names: [String]) -> KMPeer? {
        entries.withLock { entries in entries.values.first { names.contains($0.link.settings.certificateName) }?.link }
    }

    func put(_ entry: Entry) {
        entries.withLock { $0[entry.link.settings.peer] = entry }
        arrive.yield(entry.link)
    }

    func remove(_ node: NodeID) -> Entry? { entries.withLock { $0.removeValue(forKey: node) } }

    /// Serves every link, those of today and those to come, until cancelled.
    func serve() async {
        await withDiscardingTaskGroup { group in
            for await link in arrivals { group.addTask { await link.run() } }
            group.cancelAll()
        }
    }
}
