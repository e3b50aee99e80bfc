// Long-term noise of receivers, by serial number: what a step is measured against, also after a restart.

internal import Foundation
internal import GRDB

extension LinkDatabase {
    static let referenceTable = "CREATE TABLE noise_reference (serial TEXT PRIMARY KEY, content BLOB NOT NULL);"

    package func noiseReference(of serial: String) throws -> NoiseReference? {
        try wrapDatabase {
            let sql = "SELECT content FROM noise_reference WHERE serial = ?"
            let data = try queue.read { try Data.fetchOne($0, sql: sql, arguments: [serial]) }
            // One that cannot be read is not taken for none: no calibration then.
            return try data.map { data in
                do { return try JSONDecoder().decode(NoiseReference.self, from: data) } catch {
                    throw QuantumLinkError.database("the long-term noise of receiver \(serial) cannot be read: \(error)")
                }
            }
        }
    }

    /// - Parameter reference: nil: forgotten.
    package func keep(_ reference: NoiseReference?, of serial: String) throws {
        let data = try reference.map { try JSONEncoder().encode($0) }
        try wrapDatabase {
            try queue.write { database in
                guard let data else {
                    return try database.execute(sql: "DELETE FROM noise_reference WHERE serial = ?", arguments: [serial])
                }
                try database.execute(
                    sql: "INSERT OR REPLACE INTO noise_reference (serial, content) VALUES (?, ?)", arguments: [serial, data])
            }
        }
    }
}
