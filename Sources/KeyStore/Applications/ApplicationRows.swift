// Applications in the database.

package import Foundation
import GRDB
package import QKDModel

extension StoreTransaction {
    package func applications() throws -> [ApplicationRecord] {
        try Row.fetchAll(database, sql: "SELECT * FROM application ORDER BY created, id").map(ApplicationRecord.init)
    }

    package func application(_ id: UUID) throws -> ApplicationRecord? {
        try Row.fetchOne(database, sql: "SELECT * FROM application WHERE id = ?", arguments: [data(id)]).map(ApplicationRecord.init)
    }

    /// Writes an application; its account is left alone where there is one already.
    ///
    /// - Throws: `KeyStoreError.configuration` where its `appID` is another's.
    package func save(_ record: ApplicationRecord) throws {
        if let appID = record.appID {
            let other = try Data.fetchOne(
                database, sql: "SELECT id FROM application WHERE app_id = ? AND id != ?", arguments: [data(appID), data(record.id)])
            if let other { throw KeyStoreError.configuration("app_id \(appID) belongs to application \(try uuid(other)) already") }
        }
        let qos = String(decoding: try JSONEncoder().encode(record.qos), as: UTF8.self)
        try database.execute(
            sql: """
                INSERT INTO application (id, server, client, peer, serves_server, app_id, state, priority, qos, expires, created,
                    first_request, last_request)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (id) DO UPDATE SET peer = excluded.peer, serves_server = excluded.serves_server, app_id = excluded.app_id,
                    state = excluded.state, priority = excluded.priority, qos = excluded.qos, expires = excluded.expires,
                    first_request = excluded.first_request, last_request = excluded.last_request
                """,
            arguments: [
                data(record.id), record.server.rawValue, record.client.rawValue, record.peer.rawValue, record.servesServer,
                record.appID.map(data), record.state.rawValue, record.priority, qos, record.expires?.timeIntervalSince1970,
                record.created.timeIntervalSince1970, record.firstRequest?.timeIntervalSince1970,
                record.lastRequest?.timeIntervalSince1970,
            ])
    }

    package func forgetApplication(_ id: UUID) throws {
        try database.execute(sql: "DELETE FROM application WHERE id = ?", arguments: [data(id)])
    }

    /// Writes key down as consumed; to be called in the transaction that marks it delivered, so that no account is ever
    /// ahead of or behind the keys. What nobody has an account for is not counted.
    package func consume(server: SAEID, client: SAEID, bits: Int, keys: Int, intervalSeconds: Int) throws {
        let id = data(ApplicationRecord.id(server: server, client: client))
        try database.execute(
            sql: "UPDATE application SET bits = bits + ?, keys = keys + ?, last_request = ? WHERE id = ?",
            arguments: [bits, keys, seconds, id])
        guard database.changesCount > 0 else { return }
        let length = Double(intervalSeconds)
        let start = (seconds / length).rounded(.down) * length
        try database.execute(
            sql: """
                INSERT INTO consumption VALUES (?, ?, ?, ?, ?, 0)
                ON CONFLICT (application, start) DO UPDATE SET bits = bits + excluded.bits, keys = keys + excluded.keys, told = 0
                """, arguments: [id, start, start + length, bits, keys])
    }

    /// The newest intervals of an application in which it took key, oldest first.
    package func consumption(_ id: UUID, newest count: Int) throws -> [Consumption] {
        try Row.fetchAll(
            database, sql: "SELECT * FROM consumption WHERE application = ? ORDER BY start DESC LIMIT ?", arguments: [data(id), count]
        ).reversed().map(Consumption.init)
    }

    package func accountsAreSettled() throws -> Bool {
        try Bool.fetchOne(
            database, sql: "SELECT NOT EXISTS (SELECT 1 FROM consumption WHERE told = 0 AND \"end\" <= ?)", arguments: [seconds]) ?? true
    }

    /// When an application asked, also where it got nothing.
    package func noteRequests(_ record: ApplicationRecord) throws {
        try database.execute(
            sql: """
                UPDATE application SET first_request = COALESCE(first_request, ?), last_request = MAX(COALESCE(last_request, 0), ?)
                WHERE id = ?
                """,
            arguments: [
                record.firstRequest?.timeIntervalSince1970, record.lastRequest?.timeIntervalSince1970 ?? 0, data(record.id),
            ])
    }

    /// Intervals that are over and that nobody has been told of; marks them told and drops what is older than is kept.
    package func settleAccounts(intervalSeconds: Int, kept: Int) throws -> [(application: UUID, consumption: Consumption)] {
        let rows = try Row.fetchAll(
            database, sql: "SELECT * FROM consumption WHERE told = 0 AND \"end\" <= ? ORDER BY start", arguments: [seconds])
        let found = try rows.map { (try uuid($0["application"]), Consumption($0)) }
        guard !rows.isEmpty else { return [] }
        try database.execute(sql: "UPDATE consumption SET told = 1 WHERE told = 0 AND \"end\" <= ?", arguments: [seconds])
        try database.execute(
            sql: "DELETE FROM consumption WHERE \"end\" < ?", arguments: [seconds - Double(intervalSeconds) * Double(kept)])
        return found
    }
}

extension ApplicationRecord {
    fileprivate init(_ row: Row) throws {
        func date(_ column: String) -> Date? { (row[column] as Double?).map(Date.init(timeIntervalSince1970:)) }
        guard let state = ApplicationState(rawValue: row["state"]) else { throw KeyStoreError.database("unknown state of an application") }
        let qos = try JSONDecoder().decode(ApplicationQoS.self, from: Data((row["qos"] as String).utf8))
        self.init(
            id: try uuid(row["id"]), appID: try (row["app_id"] as Data?).map { try uuid($0) }, server: SAEID(unchecked: row["server"]),
            client: SAEID(unchecked: row["client"]), peer: NodeID(unchecked: row["peer"]), servesServer: row["serves_server"],
            state: state, priority: row["priority"], qos: qos, expires: date("expires"),
            created: Date(timeIntervalSince1970: row["created"]), firstRequest: date("first_request"),
            lastRequest: date("last_request"), bits: row["bits"], keys: row["keys"])
    }
}

extension Consumption {
    fileprivate init(_ row: Row) {
        self.init(
            start: Date(timeIntervalSince1970: row["start"]), end: Date(timeIntervalSince1970: row["end"]), bits: row["bits"],
            keys: row["keys"])
    }
}
