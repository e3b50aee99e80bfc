// Who asks for keys: pairs of applications, what they may have, what they have had.

import Crypto
public import Foundation
public import QKDModel

/// What ETSI GS QKD 015 calls app_qos. Only `maxBandwidth` is enforced.
public struct ApplicationQoS: Codable, Sendable, Equatable {
    /// bit/s of key; nil or 0: no limit.
    public var maxBandwidth: Int?
    public var minBandwidth: Int?
    /// Milliseconds.
    public var jitter: Int?
    /// Seconds.
    public var ttl: Int?
    public var clientsSharedPathEnable: Bool?
    public var clientsSharedKeysRequired: Bool?
    public init() {}
}

/// How far an application is known.
public enum ApplicationState: String, Sendable, CaseIterable { case provisional, registered, disabled }

/// What a store does about applications that nobody has registered, and how it keeps account of all of them.
public struct ApplicationPolicy: Sendable, Equatable {
    public enum Provisional: String, Sendable, CaseIterable { case serve, refuse }
    public var provisional = Provisional.serve
    /// bit/s that a provisional application may have; nil: no limit.
    public var provisionalBandwidth: Int?
    /// Length of an accounting interval; intervals begin at its multiples since 1970.
    public var accountingSeconds = 900
    /// After so long without a request an application counts as disconnected.
    public var idleSeconds = 300
    /// Accounting intervals that are kept.
    public var intervalsKept = 2880
    public init() {}

    func check() throws(KeyStoreError) {
        guard (1...86_400).contains(accountingSeconds) else {
            throw .configuration("accounting_seconds \(accountingSeconds) is not from 1 to 86400")
        }
        guard idleSeconds > 0 else { throw .configuration("idle_seconds \(idleSeconds) is not above 0") }
        guard provisionalBandwidth ?? 1 > 0 else { throw .configuration("max_bandwidth of provisional applications is not above 0") }
    }
}

/// Key that one application took here within one accounting interval.
public struct Consumption: Sendable, Equatable {
    public var start: Date
    public var end: Date
    public var bits: Int
    public var keys: Int
}

/// One pair of applications as the database has it.
public struct ApplicationRecord: Sendable, Equatable {
    public var id: UUID
    public var appID: UUID?
    /// The master SAE, which takes new keys.
    public var server: SAEID
    /// The slave SAE, which fetches the same keys by their ids.
    public var client: SAEID
    /// The node at the far end.
    public var peer: NodeID
    /// Whether the server is the one at this node.
    public var servesServer: Bool
    public var state: ApplicationState
    public var priority = 0
    public var qos = ApplicationQoS()
    public var expires: Date?
    public var created: Date
    public var firstRequest: Date?
    public var lastRequest: Date?
    public var bits = 0
    public var keys = 0

    /// The id of a pair: the same at both ends, and for ever.
    public static func id(server: SAEID, client: SAEID) -> UUID {
        var hash = SHA256()
        for text in ["sdqkd application 1", server.rawValue, client.rawValue] {
            hash.update(data: [UInt8(text.utf8.count)])
            hash.update(data: Array(text.utf8))
        }
        var bytes = Array(hash.finalize().prefix(16))
        bytes[6] = bytes[6] & 0x0F | 0x80
        bytes[8] = bytes[8] & 0x3F | 0x80
        return bytes.withUnsafeBytes { UUID(uuid: $0.loadUnaligned(as: uuid_t.self)) }
    }
}

/// What changes of an application; nil stays as it is.
public struct ApplicationChange: Sendable, Equatable {
    public var appID: UUID?
    public var priority: Int?
    public var qos: ApplicationQoS?
    public var enabled: Bool?
    public var expires: Date?
    public init() {}
}

/// One application as the status shows it.
public struct ApplicationReport: Sendable {
    public var record: ApplicationRecord
    /// bit/s that are enforced now; nil: no limit.
    public var enforcedBandwidth: Int?
    public var connected: Bool
    public var refused: Int
    /// Oldest first.
    public var consumption: [Consumption]

    public init(record: ApplicationRecord, enforcedBandwidth: Int?, connected: Bool, refused: Int, consumption: [Consumption]) {
        self.record = record
        self.enforcedBandwidth = enforcedBandwidth
        self.connected = connected
        self.refused = refused
        self.consumption = consumption
    }
}

/// A bandwidth as a bucket of bits. What is taken beyond its content is owed: in the long run no more than the rate
/// flows, however large single requests are.
struct Bucket: Equatable {
    /// Seconds of its rate that it holds: an application may ask in bursts.
    static let depth = 10.0
    var rate: Double
    private(set) var level: Double
    private var filled: Duration

    init(rate: Double, at time: Duration) {
        (self.rate, filled) = (rate, time)
        level = rate * Self.depth
    }

    /// - Returns: seconds to wait where `bits` are too many now; nil where they were taken.
    mutating func take(_ bits: Int, at time: Duration) -> Double? {
        level = min(rate * Self.depth, level + rate * max(0, (time - filled) / .seconds(1)))
        filled = time
        let needed = min(Double(bits), rate * Self.depth)
        guard level >= needed else { return (needed - level) / rate }
        level -= Double(bits)
        return nil
    }

    mutating func giveBack(_ bits: Int) { level += Double(bits) }
}
