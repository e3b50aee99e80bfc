// Counts of the store, as the status shows them.

import Foundation
import GRDB
package import QKDModel

/// One link's counts, in bits where a name does not say otherwise.
package struct LinkFigures: Equatable, Sendable {
    package var link: LinkID
    package var peer: NodeID
    package var deliverable = 0
    package var peerFree = 0
    package var held = 0
    package var offered = 0
    package var reserved = 0
    package var blocks = 0
    package var emulated = 0
    package var lastDeposit: Double?
    /// Ever: deposited, confirmed, delivered, pad, voided.
    package var tallies: [String: Int] = [:]
}

extension StoreTransaction {
    package func figures() throws -> [LinkFigures] {
        var links: [LinkID: LinkFigures] = [:]
        let blocks = try Row.fetchCursor(
            database,
            sql: """
                SELECT link, peer, MAX(created) AS last,
                    SUM(CASE state WHEN 'held' THEN bytes ELSE 0 END) AS held, SUM(own_free) AS own, SUM(peer_free) AS peer_free,
                    SUM(state IN ('held', 'confirmed')) AS blocks,
                    SUM(CASE WHEN emulated THEN (CASE state WHEN 'held' THEN bytes ELSE own_free + peer_free END) ELSE 0 END) AS emulated
                FROM block GROUP BY link, peer ORDER BY link
                """)
        while let row = try blocks.next() {
            var figures = LinkFigures(link: LinkID(unchecked: row["link"]), peer: NodeID(unchecked: row["peer"]))
            figures.held = (row["held"] as Int) * 8
            figures.deliverable = (row["own"] as Int) * 8
            figures.peerFree = (row["peer_free"] as Int) * 8
            figures.blocks = row["blocks"]
            figures.emulated = (row["emulated"] as Int) * 8
            figures.lastDeposit = row["last"]
            links[figures.link] = figures
        }
        let keys = try Row.fetchCursor(
            database, sql: "SELECT link, state, SUM(bytes) AS bytes FROM key WHERE sealed IS NOT NULL GROUP BY link, state")
        while let row = try keys.next() {
            let link = LinkID(unchecked: row["link"])
            let bits = (row["bytes"] as Int) * 8
            if row["state"] as String == KeyState.offered.rawValue { links[link]?.offered = bits } else { links[link]?.reserved = bits }
        }
        let tallies = try Row.fetchCursor(database, sql: "SELECT link, name, bits FROM tally")
        while let row = try tallies.next() { links[LinkID(unchecked: row["link"])]?.tallies[row["name"]] = row["bits"] }
        return links.values.sorted { $0.link < $1.link }
    }

    /// How many keys of one size `enc_keys` could give towards a peer, left-over offers included; and how many more
    /// there were if keys of an emulator were delivered.
    package func storedKeys(peer: NodeID, keyBytes: Int) throws -> (deliverable: Int, withheld: Int) {
        func count(_ emulated: Bool) throws -> Int {
            let fresh = try Int.fetchOne(
                database, sql: "SELECT COALESCE(SUM(own_free / ?), 0) FROM block WHERE peer = ? AND state = 'confirmed' AND emulated = ?",
                arguments: [keyBytes, peer.rawValue, emulated])
            let left = try Int.fetchOne(
                database, sql: "SELECT COUNT(*) FROM key WHERE state = 'offered' AND peer = ? AND bytes = ? AND emulated = ?",
                arguments: [peer.rawValue, keyBytes, emulated])
            return (fresh ?? 0) + (left ?? 0)
        }
        let (hardware, emulated) = (try count(false), try count(true))
        return rules.deliverEmulated ? (hardware + emulated, 0) : (hardware, emulated)
    }
}
