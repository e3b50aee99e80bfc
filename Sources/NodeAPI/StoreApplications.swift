// Applications in the key store: pairs that have asked for keys or were registered, their limits, their consumption.
//
//   GET    /applications      [StoreApplication]
//   GET    /applications/:id  StoreApplication
//   POST   /applications      StoreApplicationPlan -> StoreApplication    registers a pair, also one that has not asked yet
//   POST   /applications/:id  StoreApplicationChange -> StoreApplication  registers or alters; absent fields stay
//   DELETE /applications/:id  StoreApplication as it was                  if it asks again, it is a provisional one
//
// `:id` is the pair's own `id` or the `appID` that a controller gave it. What changes is durable before the answer.

public import Foundation
public import QKDModel

/// How far an application is known.
public enum StoreApplicationState: String, Codable, Sendable, CaseIterable {
    /// It has asked, nobody has registered it: the store's own policy decides.
    case provisional = "PROVISIONAL"
    case registered = "REGISTERED"
    /// Its requests are refused.
    case disabled = "DISABLED"
}

/// What ETSI GS QKD 015 calls app_qos. Only `maxBandwidth` is enforced; the rest is kept for whoever reads it.
public struct StoreApplicationQoS: Codable, Sendable, Equatable {
    /// bit/s of key at most; nil or 0: no limit.
    public var maxBandwidth: Int?
    /// bit/s.
    public var minBandwidth: Int?
    /// Milliseconds.
    public var jitter: Int?
    /// Seconds.
    public var ttl: Int?
    public var clientsSharedPathEnable: Bool?
    public var clientsSharedKeysRequired: Bool?

    public init(
        maxBandwidth: Int? = nil, minBandwidth: Int? = nil, jitter: Int? = nil, ttl: Int? = nil, clientsSharedPathEnable: Bool? = nil,
        clientsSharedKeysRequired: Bool? = nil
    ) {
        self.maxBandwidth = maxBandwidth
        self.minBandwidth = minBandwidth
        self.jitter = jitter
        self.ttl = ttl
        self.clientsSharedPathEnable = clientsSharedPathEnable
        self.clientsSharedKeysRequired = clientsSharedKeysRequired
    }
}

/// Key that one application took within one accounting interval, at this node.
public struct StoreConsumption: Codable, Sendable, Equatable {
    public var start: Date
    /// The running interval's end lies ahead.
    public var end: Date
    public var bits: Int
    public var keys: Int

    public init(start: Date, end: Date, bits: Int, keys: Int) {
        self.start = start
        self.end = end
        self.bits = bits
        self.keys = keys
    }
}

/// One pair of applications (ETSI GS QKD 014: master and slave SAE), as this node knows it.
public struct StoreApplication: Codable, Sendable, Equatable {
    /// Made of the two names: the same at both ends and after every restart.
    public var id: UUID
    /// What a controller calls it (ETSI GS QKD 015: app_id).
    public var appID: UUID?
    /// The master: it takes new keys (enc_keys).
    public var server: SAEID
    /// The slave: it fetches the same keys by their ids (dec_keys).
    public var client: SAEID
    /// The node at the far end.
    public var peer: NodeID
    /// Whether the server is the one at this node.
    public var servesServer: Bool
    public var state: StoreApplicationState
    public var priority: Int
    public var qos: StoreApplicationQoS
    /// The bit/s that are enforced: of `qos`, or of the store's policy for provisional ones. nil: no limit.
    public var enforcedBandwidth: Int?
    /// From then on its requests are refused.
    public var expires: Date?
    public var created: Date
    public var firstRequest: Date?
    public var lastRequest: Date?
    /// It has asked within the store's idle time.
    public var connected: Bool
    /// Ever delivered to it here.
    public var consumedBits: Int
    public var consumedKeys: Int
    /// Requests that a limit or its state refused, since the service started.
    public var refusedRequests: Int
    /// The newest intervals in which it took key, oldest first, the running one last.
    public var consumption: [StoreConsumption]

    public init(
        id: UUID, appID: UUID? = nil, server: SAEID, client: SAEID, peer: NodeID, servesServer: Bool, state: StoreApplicationState,
        priority: Int = 0, qos: StoreApplicationQoS = .init(), enforcedBandwidth: Int? = nil, expires: Date? = nil, created: Date,
        firstRequest: Date? = nil, lastRequest: Date? = nil, connected: Bool = false, consumedBits: Int = 0, consumedKeys: Int = 0,
        refusedRequests: Int = 0, consumption: [StoreConsumption] = []
    ) {
        self.id = id
        self.appID = appID
        self.server = server
        self.client = client
        self.peer = peer
        self.servesServer = servesServer
        self.state = state
        self.priority = priority
        self.qos = qos
        self.enforcedBandwidth = enforcedBandwidth
        self.expires = expires
        self.created = created
        self.firstRequest = firstRequest
        self.lastRequest = lastRequest
        self.connected = connected
        self.consumedBits = consumedBits
        self.consumedKeys = consumedKeys
        self.refusedRequests = refusedRequests
        self.consumption = consumption
    }
}

/// What a controller or an operator says about an application. Absent fields stay as they are.
public struct StoreApplicationChange: Codable, Sendable, Equatable {
    public var appID: UUID?
    public var priority: Int?
    /// Replaces all of it.
    public var qos: StoreApplicationQoS?
    /// false: its requests are refused; true: registered.
    public var enabled: Bool?
    public var expires: Date?

    public init(
        appID: UUID? = nil, priority: Int? = nil, qos: StoreApplicationQoS? = nil, enabled: Bool? = nil, expires: Date? = nil
    ) {
        self.appID = appID
        self.priority = priority
        self.qos = qos
        self.enabled = enabled
        self.expires = expires
    }
}

/// The body of `POST /applications`: a pair, also one that has not asked yet.
public struct StoreApplicationPlan: Codable, Sendable, Equatable {
    public var server: SAEID
    public var client: SAEID
    public var change: StoreApplicationChange

    public init(server: SAEID, client: SAEID, change: StoreApplicationChange = .init()) {
        self.server = server
        self.client = client
        self.change = change
    }
}
