// What `qkd-lkmsd` says on its local socket: counts, states and alarms of the key store. Never key bits.
//
//   GET    /status             StoreStatus
//   GET    /links/:id          StoreLinkStatus
//   POST   /links/:id/zeroise  ZeroiseRequest -> ZeroiseReport     erases every key of one link at both ends
//   GET    /events             server-sent events, each a StoreEvent under its own name
//   GET    /peers              [StorePeerStatus]
//   POST   /peers              StorePeerPlan -> StorePeerStatus    a peer that the configuration file does not have
//   DELETE /peers/:id          StorePeerStatus as it was; a peer of the configuration file stays
//
// Applications have a file of their own.

public import Foundation
public import QKDModel

/// Routes of the store's local socket.
public enum StoreRoutes {
    public static let status = "/status"
    public static let link = "/links/:id"
    public static let zeroise = "/links/:id/zeroise"
    public static let events = "/events"
    public static let peers = "/peers"
    public static let peer = "/peers/:id"
    public static let applications = "/applications"
    public static let application = "/applications/:id"
}

/// The whole store at one moment.
public struct StoreStatus: Codable, Sendable, Equatable {
    public var node: NodeID
    /// Seconds since the service started.
    public var uptimeSeconds: Double
    /// Whether keys that come from an emulator are delivered to applications.
    public var deliversEmulated: Bool
    /// Size of a key where the application names none, in bits.
    public var keySizeBits: Int
    public var links: [StoreLinkStatus]
    public var peers: [StorePeerStatus]
    /// Applications that this node serves.
    public var applications: [SAEID]
    public var alarms: [StoreAlarm]

    public init(
        node: NodeID, uptimeSeconds: Double, deliversEmulated: Bool, keySizeBits: Int, links: [StoreLinkStatus],
        peers: [StorePeerStatus], applications: [SAEID], alarms: [StoreAlarm]
    ) {
        self.node = node
        self.uptimeSeconds = uptimeSeconds
        self.deliversEmulated = deliversEmulated
        self.keySizeBits = keySizeBits
        self.links = links
        self.peers = peers
        self.applications = applications
        self.alarms = alarms
    }
}

/// One link's keys. All counts in bits.
public struct StoreLinkStatus: Codable, Sendable, Equatable {
    public var link: LinkID
    public var peer: NodeID
    /// Confirmed by both ends and not given away yet: `deliverableBits` of both ends together.
    public var storedBits: Int
    /// The part of it that this end hands out as master.
    public var deliverableBits: Int
    /// Here, but the far end has not confirmed that it holds the same.
    public var heldBits: Int
    /// Set aside for an application of this node that has not fetched it yet.
    public var reservedBits: Int
    /// Ever deposited by the link service, and ever confirmed by both ends.
    public var depositedBits: Int
    public var confirmedBits: Int
    /// Ever delivered to applications of this node.
    public var deliveredBits: Int
    /// Ever moved to the pads that authenticate the KM link.
    public var padBits: Int
    public var blocks: Int
    /// Confirmed and delivered bits per second over the last minutes.
    public var inRate: Double
    public var outRate: Double
    /// Keys of the default size that `enc_keys` could give now.
    public var storedKeys: Int
    /// Bits in store that come from an emulator.
    public var emulatedBits: Int
    /// When the link service deposited last.
    public var lastDeposit: Date?

    public init(link: LinkID, peer: NodeID) {
        self.link = link
        self.peer = peer
        (storedBits, deliverableBits, heldBits, reservedBits) = (0, 0, 0, 0)
        (depositedBits, confirmedBits, deliveredBits, padBits) = (0, 0, 0, 0)
        (blocks, inRate, outRate, storedKeys, emulatedBits) = (0, 0, 0, 0, 0)
    }
}

/// Whether the KM link to a peer works.
public enum StorePeerState: String, Codable, Sendable, CaseIterable {
    /// No connection; it is tried again with back-off.
    case down = "DOWN"
    /// TLS is up, the first messages are being exchanged.
    case connecting = "CONNECTING"
    case up = "UP"
}

/// The KM link to one peer.
public struct StorePeerStatus: Codable, Sendable, Equatable {
    public var peer: NodeID
    public var state: StorePeerState
    /// Why it is down; nil while it is up.
    public var reason: String?
    /// One-time pad left for tags of messages to and from the peer, in bytes.
    public var padSendBytes: Int
    public var padReceiveBytes: Int
    /// How often the link came up since the service started.
    public var connections: Int
    /// Messages whose tag was wrong since the service started.
    public var refusedMessages: Int
    /// Where its KM link listens (`host:port`), and the name that its certificate has to carry.
    public var km: String
    public var certificateName: String
    /// Added by `POST /peers`; false where the configuration file has it.
    public var addedAtRunTime: Bool
    /// Applications that the peer serves.
    public var applications: [SAEID]
    /// The pool that is shared with this peer, all links together: bits confirmed by both ends and not given away yet,
    /// and confirmed and delivered bits per second over the last minutes.
    public var storedBits: Int
    public var inRate: Double
    public var outRate: Double

    public init(
        peer: NodeID, state: StorePeerState, reason: String? = nil, padSendBytes: Int = 0, padReceiveBytes: Int = 0,
        connections: Int = 0, refusedMessages: Int = 0, km: String = "", certificateName: String = "", addedAtRunTime: Bool = false,
        applications: [SAEID] = [], storedBits: Int = 0, inRate: Double = 0, outRate: Double = 0
    ) {
        self.peer = peer
        self.state = state
        self.reason = reason
        self.padSendBytes = padSendBytes
        self.padReceiveBytes = padReceiveBytes
        self.connections = connections
        self.refusedMessages = refusedMessages
        self.km = km
        self.certificateName = certificateName
        self.addedAtRunTime = addedAtRunTime
        self.applications = applications
        self.storedBits = storedBits
        self.inRate = inRate
        self.outRate = outRate
    }
}

/// The body of `POST /peers`. Kept over restarts. The same again changes nothing; other values replace those of an earlier one.
public struct StorePeerPlan: Codable, Sendable, Equatable {
    public var node: NodeID
    /// Where its KM link listens: `host:port`.
    public var km: String
    /// Common name or DNS name that its certificate has to carry.
    public var certificateName: String
    /// Name of a file in the folder that the configuration names as `secrets`; never the secret itself, never a path.
    public var secret: String
    /// Applications that the peer serves.
    public var applications: [SAEID]

    public init(node: NodeID, km: String, certificateName: String, secret: String, applications: [SAEID] = []) {
        self.node = node
        self.km = km
        self.certificateName = certificateName
        self.secret = secret
        self.applications = applications
    }
}

/// Something that a person should know of, as long as it lasts.
public struct StoreAlarm: Codable, Sendable, Equatable {
    /// A word per kind: `peer-unreachable`, `tag-refused`, `pad-low`, `key-mismatch`, `store-full`, `database`.
    public var kind: String
    public var severity: Severity
    public var peer: NodeID?
    public var link: LinkID?
    public var message: String
    public var since: Date

    public init(kind: String, severity: Severity, peer: NodeID? = nil, link: LinkID? = nil, message: String, since: Date) {
        self.kind = kind
        self.severity = severity
        self.peer = peer
        self.link = link
        self.message = message
        self.since = since
    }
}

/// One entry of `GET /events`.
public struct StoreEvent: Codable, Sendable, Equatable {
    /// The event's name on the stream.
    public enum Kind: String, Codable, Sendable, CaseIterable {
        case peer, deposited, confirmed, delivered, voided, zeroised, alarm, cleared
        /// A pair of applications asked for the first time; was registered, altered or forgotten; has not asked for a while.
        case applicationNew, applicationChanged, applicationDisconnected
        /// An accounting interval in which an application consumed key is over.
        case consumption
        /// A peer was added or removed at run time.
        case peerAdded, peerRemoved
    }
    public var kind: Kind
    public var time: Date
    public var link: LinkID?
    public var peer: NodeID?
    public var block: BlockID?
    public var bits: Int?
    public var keys: Int?
    public var message: String
    /// With the `application` kinds and `consumption`.
    public var application: StoreApplication?
    /// With `consumption`.
    public var consumption: StoreConsumption?

    public init(
        kind: Kind, time: Date, link: LinkID? = nil, peer: NodeID? = nil, block: BlockID? = nil, bits: Int? = nil,
        keys: Int? = nil, message: String, application: StoreApplication? = nil, consumption: StoreConsumption? = nil
    ) {
        self.kind = kind
        self.time = time
        self.link = link
        self.peer = peer
        self.block = block
        self.bits = bits
        self.keys = keys
        self.message = message
        self.application = application
        self.consumption = consumption
    }
}

/// The body of `POST /links/:id/zeroise`.
public struct ZeroiseRequest: Codable, Sendable, Equatable {
    /// Must repeat the link's id: a guard against slips.
    public var confirm: LinkID
    public init(confirm: LinkID) { self.confirm = confirm }
}

/// What was erased at this end; the far end is told and erases its own.
public struct ZeroiseReport: Codable, Sendable, Equatable {
    public var link: LinkID
    public var blocks: Int
    public var bits: Int
    public var keys: Int
    public init(link: LinkID, blocks: Int, bits: Int, keys: Int) {
        self.link = link
        self.blocks = blocks
        self.bits = bits
        self.keys = keys
    }
}
