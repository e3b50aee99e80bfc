// The node as a state machine: what the services say and what the controller wants go in, notifications and entries of
// the node's own go out; `state(at:)` is the rest of the tree. No I/O, no clock: every input carries its time.
//
//     NodeModel            this file: inputs, outputs, service presence
//     NodeInterfaces       devices -> interfaces that appear, fail, vanish
//     NodeLinks            link status with damping, performance with thresholds, overload
//     NodeApplications     pairs of applications, registered or provisional
//     NodeAlarms           alarms of both services, each told once
//     NodeTree             state data and entries as YANG JSON
//     NodeNotifications    the eleven notifications of ETSI GS QKD 015

public import Foundation
public import NodeAPI
public import QKDModel

/// What is known of this node before anything runs.
public struct NodeSettings: Sendable, Equatable {
    public var node: NodeID
    public var id: UUID
    public var version: String
    public var location: String
    public var thresholds: NodeThresholds

    /// - Parameter id: derived from the node's name where nil.
    public init(node: NodeID, id: UUID? = nil, version: String, location: String = "", thresholds: NodeThresholds = .init()) {
        self.node = node
        self.id = id ?? DerivedID.node(node)
        self.version = version
        self.location = location
        self.thresholds = thresholds
    }
}

/// When something is worth a notification. Times in seconds.
public struct NodeThresholds: Sendable, Equatable, Codable {
    /// A link's figures are told again when one of them has moved by this share of what was told last,
    public var performanceChange = 0.1
    /// and at most this often for one link.
    public var performanceInterval = 5.0
    /// A link is down when it has not been ACTIVE for so long. Up is told at once.
    public var downHold = 2.0
    /// Consumption above the key rate for so long is an overload; over when it is below nine tenths of it.
    public var overloadHold = 10.0
    /// A device that cannot be reached for so long is out: its interface leaves the tree.
    public var outAfter = 60.0
    /// A service that does not answer for so long is away; until then it may be starting again.
    public var awayGrace = 5.0

    public init() {}
}

public enum NodeInput: Sendable {
    case linkService(LinkServiceStatus)
    /// One device or link, ahead of the next whole status.
    case device(LinkDevice)
    case link(LinkStatus)
    case linkRemoved(LinkID)
    case plan(LinkID, LinkPlan)
    case linkServiceAway(String)
    case store(StoreStatus, [StoreApplication])
    case storeAway(String)
    /// Told by the store as it happens, so that nothing between two snapshots is missed.
    case application(StoreApplication, StoreEvent.Kind)
    /// One pair with all accounting intervals that the store gives.
    case account(StoreApplication)
    case configuration(DesiredConfiguration)
    /// Notifications that an outbox had to drop, ever.
    case notificationsLost(UInt64)
    /// The file of access rules was read again; what is wrong with it, if anything.
    case accessRules(problem: String?)
    /// The kept configuration could not be used, wholly or in part; what it is called now.
    case configurationLost(files: [String], reason: String, isWhole: Bool)
    /// Time passes.
    case tick
}

public enum NodeOutput: Sendable, Equatable {
    case notify(NodeNotification)
    /// Entries of the running configuration that are the node's own doing: merge them.
    case merge(JSON)
    /// The interface left the tree.
    case removeInterface(UInt32)
    /// Interface numbers by serial, to be kept for ever.
    case keepNumbers([String: UInt32])
}

/// A notification before it is validated and encoded.
public struct NodeNotification: Sendable, Equatable {
    /// Without the module.
    public var name: String
    public var object: String
    public var weight: NotificationWeight
    /// What stands inside.
    public var contents: JSON
}

public struct NodeModel: Sendable {
    /// What is known of one of the two services.
    struct Presence: Sendable {
        /// nil: it has never answered.
        var isHere: Bool?
        var reason = "has not answered yet"
        /// Since when it does not answer.
        var silentSince: Date?

        /// Whether what it said last is of now.
        var isAnswering: Bool { isHere == true && silentSince == nil }
    }

    public let settings: NodeSettings
    var linkService = Presence()
    var storeService = Presence()
    var desired = DesiredConfiguration()
    var numbers: InterfaceNumbers
    var interfaces: [UInt32: NodeInterface] = [:]
    /// Entries of the tree without a device, and since when.
    var strays: [UInt32: Date] = [:]
    var links: [UUID: NodeLink] = [:]
    /// Terms of links as the link service knows them.
    var plans: [LinkID: LinkPlan] = [:]
    var peers: [NodeID: LinkPeer] = [:]
    var sharing: [LinkSharing] = []
    var store: StoreStatus?
    var applications: [UUID: NodeApplication] = [:]
    var alarms: [NodeAlarm.Key: NodeAlarm] = [:]
    var lost: UInt64 = 0
    /// What was merged last, so that the tree is touched only where something is new.
    var merged: [String: JSON] = [:]
    /// Whether the next input may bring entries that the tree does not have.
    var mayAdopt = true
    /// Configured links by the name that the link service knows.
    var linkIDs: [LinkID: UUID] = [:]

    /// - Parameter numbers: as kept by an earlier run.
    public init(_ settings: NodeSettings, numbers: [String: UInt32] = [:]) {
        self.settings = settings
        self.numbers = InterfaceNumbers(numbers)
    }

    public mutating func input(_ input: NodeInput, at now: Date) -> [NodeOutput] {
        var out: [NodeOutput] = []
        switch input {
        case .linkService(let status): take(status, now, &out)
        case .device(let device): take(device, now, &out)
        case .link(let link): take(link, now, &out)
        case .linkRemoved(let link): remove(link, now, &out)
        case .plan(let link, let plan): take(plan, of: link, &out)
        case .linkServiceAway(let reason): note(away: reason, \.linkService, now)
        case .store(let status, let applications): take(status, applications, now, &out)
        case .storeAway(let reason): note(away: reason, \.storeService, now)
        case .application(let application, let kind): take(application, kind, now, &out)
        case .account(let application): take(accountOf: application)
        case .configuration(let configuration): take(configuration, now, &out)
        case .notificationsLost(let count): take(lost: count, now, &out)
        case .accessRules(let problem): take(accessRules: problem, &out)
        case .configurationLost(let files, let reason, let isWhole): take(lost: files, reason, isWhole: isWhole, &out)
        case .tick: break
        }
        settle(now, &out)
        return out
    }

    private mutating func take(_ status: LinkServiceStatus, _ now: Date, _ out: inout [NodeOutput]) {
        linkService = Presence(isHere: true, reason: "")
        peers = Dictionary(status.peers.map { ($0.node, $0) }) { first, _ in first }
        sharing = status.sharing
        takeDevices(status.devices, now, &out)
        takeLinks(status.links, now, &out)
        // The store is asked after this: what it said in the last round may be of a peer that has been deleted since.
        if storeService.isHere == false { mergePeers(&out) }
    }

    private mutating func take(
        _ status: StoreStatus, _ applications: [StoreApplication], _ now: Date, _ out: inout [NodeOutput]
    ) {
        storeService = Presence(isHere: true, reason: "")
        store = status
        takeApplications(applications, now, &out)
        takeStoreAlarms(status.alarms, now, &out)
        mergePeers(&out)
    }

    private mutating func take(_ configuration: DesiredConfiguration, _ now: Date, _ out: inout [NodeOutput]) {
        desired = configuration
        merged.removeAll(keepingCapacity: true)
        linkIDs = Dictionary(configuration.links.values.map { ($0.name, $0.id) }) { first, _ in first }
        configureLinks(now, &out)
        mergeNode(&out)
    }

    private mutating func note(away reason: String, _ service: WritableKeyPath<NodeModel, Presence>, _ now: Date) {
        self[keyPath: service].reason = reason
        if self[keyPath: service].silentSince == nil { self[keyPath: service].silentSince = now }
    }

    /// What only time decides.
    private mutating func settle(_ now: Date, _ out: inout [NodeOutput]) {
        if isOver(linkService, now) {
            linkService.isHere = false
            loseLinkService(now, &out)
        }
        if isOver(storeService, now) { storeService.isHere = false }
        settleInterfaces(now, &out)
        settleLinks(now, &out)
    }

    private func isOver(_ presence: Presence, _ now: Date) -> Bool {
        guard presence.isHere != false, let since = presence.silentSince else { return false }
        return now.timeIntervalSince(since) >= settings.thresholds.awayGrace
    }

    /// ETSI GS QKD 015 `qkdn_status`.
    var status: String {
        switch (linkService.isHere, storeService.isHere) {
        case (true, true): "OPERATING"
        case (nil, _), (_, nil): "NEW"
        case (false, false): "DOWN"
        default: "FAILURE"
        }
    }

    /// What was merged last did not come into the tree.
    mutating func forgetMerges() { merged.removeAll(keepingCapacity: true) }

    // MARK: Names

    func nodeID(of peer: NodeID) -> UUID {
        desired.peers.values.first { $0.node == peer }?.id ?? (peer == settings.node ? settings.id : DerivedID.node(peer))
    }

    func linkUUID(_ link: LinkID) -> UUID { linkIDs[link] ?? DerivedID.link(link) }
}

/// Numbers of interfaces: given once to a serial, never given again.
public struct InterfaceNumbers: Sendable, Equatable {
    public private(set) var bySerial: [String: UInt32]

    public init(_ bySerial: [String: UInt32] = [:]) { self.bySerial = bySerial }

    /// - Returns: the serial's number, and whether it is new.
    mutating func number(of serial: String) -> (number: UInt32, isNew: Bool) {
        if let known = bySerial[serial] { return (known, false) }
        let number = (bySerial.values.max() ?? 0) + 1
        bySerial[serial] = number
        return (number, true)
    }
}
