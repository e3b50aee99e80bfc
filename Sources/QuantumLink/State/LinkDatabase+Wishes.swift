// What was asked for at run time and must survive a restart: peers, links, switches. Nothing secret.

internal import Foundation
internal import GRDB
public import QKDModel

/// A link as somebody wanted it at run time. One of the configuration file has a wish only when it was switched or removed.
public struct LinkWish: Codable, Sendable, Equatable {
    public enum State: String, Codable, Sendable {
        /// Checked and kept, not running.
        case prepared
        case committed
        /// Also for a link that the file still lists: it stays away until it is prepared again.
        case removed
    }

    /// nil: what the file says.
    public var link: LinkServiceConfiguration.Link?
    public var state: State
    public var enabled: Bool

    init(link: LinkServiceConfiguration.Link?, state: State, enabled: Bool) {
        self.link = link
        self.state = state
        self.enabled = enabled
    }
}

extension LinkDatabase {
    func peers() throws -> [LinkServiceConfiguration.Peer] { try all("SELECT content FROM peer ORDER BY node").map(\.1) }

    func keep(_ peer: LinkServiceConfiguration.Peer) throws {
        try put("INSERT OR REPLACE INTO peer (node, content) VALUES (?, ?)", peer.node.rawValue, peer)
    }

    func forget(peer: NodeID) throws { try run("DELETE FROM peer WHERE node = ?", peer.rawValue) }

    public func wishes() throws -> [LinkID: LinkWish] {
        let rows: [(String, LinkWish)] = try all("SELECT content, id FROM link")
        return rows.reduce(into: [:]) { wishes, row in LinkID(rawValue: row.0).map { wishes[$0] = row.1 } }
    }

    func keep(_ wish: LinkWish, for link: LinkID) throws {
        try put("INSERT OR REPLACE INTO link (id, content) VALUES (?, ?)", link.rawValue, wish)
    }

    func forget(wish link: LinkID) throws { try run("DELETE FROM link WHERE id = ?", link.rawValue) }

    private func run(_ sql: String, _ name: String) throws {
        try wrapDatabase { try queue.write { try $0.execute(sql: sql, arguments: [name]) } }
    }

    private func put(_ sql: String, _ name: String, _ content: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let data = try encoder.encode(content)
        try wrapDatabase { try queue.write { try $0.execute(sql: sql, arguments: [name, data]) } }
    }

    /// - Throws: `database` for a row that this version cannot read: better no start than a link that is silently missing.
    private func all<T: Decodable>(_ sql: String) throws -> [(String, T)] {
        try wrapDatabase {
            try queue.read { database in
                try Row.fetchAll(database, sql: sql).map { row in
                    let (data, name): (Data, String) = (row[0], row.count > 1 ? row[1] : "")
                    do { return (name, try JSONDecoder().decode(T.self, from: data)) } catch {
                        throw QuantumLinkError.database("what was asked for at run time cannot be read: \(error)")
                    }
                }
            }
        }
    }
}
