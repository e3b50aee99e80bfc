// What `qkd-linkd` says on its local socket: devices, links, blocks, schedule. Never key bits, never symbols.
//
//   GET  /status              LinkServiceStatus
//   GET  /links/:id           LinkStatus
//   GET  /links/:id/plan      LinkPlan                   what the link was asked to be
//   GET  /links/:id/blocks    [LinkBlock], newest last; ?limit=N the newest N
//   POST /links/:id/check     LinkPlan -> LinkPlan       whether such a link could be prepared, also in place of the one that runs
//   POST /links/:id/prepare   LinkPlan -> LinkStatus     a link that the configuration file does not have; checked, not running
//   POST /links/:id/commit    LinkStatus                 a prepared link starts
//   POST /links/:id/enable    LinkStatus
//   POST /links/:id/disable   LinkStatus                 the running block ends first
//   POST /links/:id/remove    LinkStatus                 as it was before
//   POST /links/:id/acknowledge LinkStatus               alarms that last until somebody has seen them are over
//   POST /links/:id/secret    LinkSecretRequest -> LinkStatus     installs a secret file of this machine
//   GET  /devices             [LinkDevice]
//   GET  /peers, POST /peers, DELETE /peers/:id          LinkPeers.swift
//   GET  /events              server-sent events, each a LinkServiceEvent under its own kind
//
// Links and peers that were prepared, committed, switched or removed here stay so over restarts of the service.

public import Foundation
public import QKDModel

/// Routes of the link service's local socket.
public enum LinkRoutes {
    public static let status = "/status"
    public static let devices = "/devices"
    public static let peers = "/peers"
    public static let peer = "/peers/:id"
    public static let link = "/links/:id"
    public static let plan = "/links/:id/plan"
    public static let blocks = "/links/:id/blocks"
    public static let check = "/links/:id/check"
    public static let prepare = "/links/:id/prepare"
    public static let commit = "/links/:id/commit"
    public static let enable = "/links/:id/enable"
    public static let disable = "/links/:id/disable"
    public static let remove = "/links/:id/remove"
    public static let secret = "/links/:id/secret"
    public static let acknowledge = "/links/:id/acknowledge"
    public static let events = "/events"
}

/// The whole link service at one moment.
public struct LinkServiceStatus: Codable, Sendable, Equatable {
    public var node: NodeID
    public var uptimeSeconds: Double
    public var devices: [LinkDevice]
    public var links: [LinkStatus]
    /// One for each transmitter here.
    public var sharing: [LinkSharing]
    /// Those of the configuration file and those added at run time.
    public var peers: [LinkPeer]

    public init(
        node: NodeID, uptimeSeconds: Double, devices: [LinkDevice], links: [LinkStatus], sharing: [LinkSharing], peers: [LinkPeer] = []
    ) {
        self.node = node
        self.uptimeSeconds = uptimeSeconds
        self.devices = devices
        self.links = links
        self.sharing = sharing
        self.peers = peers
    }
}

/// One device of the node.
public struct LinkDevice: Codable, Sendable, Equatable {
    public var name: String
    public var uri: String
    public var role: DeviceRole
    public var state: DeviceState
    public var reason: String
    /// What it says of itself; absent while it was never open. A device that is gone keeps what it said last.
    public var maker: String?
    public var model: String?
    public var serial: String?
    public var firmware: String?
    public var emulated: Bool?
    public var symbolRateHz: Double?
    /// Transmitters: the names of its optical paths.
    public var paths: [String] = []
    /// Shortest and longest wavelength of its carrier, nm.
    public var wavelengths: [Double]?
    /// What its optical spectrum analyser saw last; absent where it has none.
    public var spectrum: LinkSpectrum?
    /// Links that use it.
    public var links: [LinkID] = []

    public init(
        name: String, uri: String, role: DeviceRole, state: DeviceState, reason: String, serial: String? = nil, emulated: Bool? = nil
    ) {
        self.name = name
        self.uri = uri
        self.role = role
        self.state = state
        self.reason = reason
        self.serial = serial
        self.emulated = emulated
    }
}

/// An optical spectrum in a few figures.
public struct LinkSpectrum: Codable, Sendable, Equatable {
    public struct Peak: Codable, Sendable, Equatable {
        /// Number of the grid channel (ITU-T G.694.1, 100 GHz).
        public var channel: Int
        /// dBm, over the channel.
        public var power: Double

        public init(channel: Int, power: Double) {
            self.channel = channel
            self.power = power
        }
    }

    public var measured: Date
    /// dBm, over the whole span.
    public var totalPower: Double
    /// dBm per resolution bandwidth (.1 nm), where no channel is occupied.
    public var noiseFloor: Double
    /// Occupied channels.
    public var peaks: [Peak]

    public init(measured: Date, totalPower: Double, noiseFloor: Double, peaks: [Peak]) {
        self.measured = measured
        self.totalPower = totalPower
        self.noiseFloor = noiseFloor
        self.peaks = peaks
    }
}

/// One link at this end.
public struct LinkStatus: Codable, Sendable, Equatable {
    public var link: LinkID
    public var peer: NodeID
    public var role: DeviceRole
    public var device: String
    public var state: LinkState
    /// Why the state is what it is, and why there is no key where there is none.
    public var reason: String
    public var enabled = true
    public var origin = LinkOrigin.file
    /// Checked and kept, but not committed: it does not run.
    public var prepared = false
    /// The classical channel is up and authenticated.
    public var connected = false
    public var code = ""
    /// Number of the running or last slot.
    public var slot: UInt32?
    public var slotOpen = false
    public var slots = 0
    public var slotsFailed = 0
    public var block: BlockID?
    /// `committed`, `generating`, `waiting`, `reconciled`, `verified`, `estimated`, `amplified`, `tagged`, `deposited`, `void`.
    public var stage: String?
    /// Of the running block: 0 to 1 of its frames, decoded and failed ones.
    public var progress = 0.0
    public var framesDecoded = 0
    public var framesFailed = 0
    /// SNU per quadrature at the fibre input.
    public var modulationVariance: Double?
    /// Per quadrature.
    public var snr: Double?
    public var alignmentSignificance: Double?
    public var receiverReady = false
    public var receiverReason = ""
    /// Shot-noise symbols that the running block can count on; seconds of device time since the newest windows.
    public var calibrationSymbols: UInt64 = 0
    public var darkAge: Double?
    public var shotAge: Double?
    /// LSB^2 and SNU.
    public var shotNoise: Double?
    public var electronicNoise: Double?
    /// The last block that was estimated.
    public var last: LinkBlock?
    public var blocksDeposited = 0
    public var blocksVoid = 0
    /// Blocks that were given up because a machine was too slow, and why the last one was; slots that lost symbols.
    public var blocksSkipped = 0
    public var skipReason = ""
    public var slotsOverrun = 0
    /// Of the running block: seconds by stage so far (`LinkBlock.stages`), and the bits it is expected to give.
    public var stages: [String: Double] = [:]
    public var expectedBits: Int?
    public var bitsDeposited = 0
    /// Committed blocks that the key store has not taken yet.
    public var pendingDeposits = 0
    /// Bits per second of device time since the first slot, and of wall time since the service started.
    public var keyRate = 0.0
    public var wallRate = 0.0
    public var deviceSeconds = 0.0
    /// Authentication key left per direction, bytes.
    public var padForward: Int?
    public var padBackward: Int?
    /// Connections that ended because bytes were changed, lost or injected; connections that were cut.
    public var tamperings = 0
    public var interruptions = 0
    public var alarms: [LinkAlarmStatus] = []
    public var performance = LinkPerformance()

    public init(link: LinkID, peer: NodeID, role: DeviceRole, device: String, state: LinkState, reason: String) {
        self.link = link
        self.peer = peer
        self.role = role
        self.device = device
        self.state = state
        self.reason = reason
    }
}

/// What a link does, over its last blocks with an estimate (ten at most). What was not measured yet is absent.
public struct LinkPerformance: Codable, Sendable, Equatable {
    public var blocks = 0
    /// Bits per second that reached the key store: of device time, and of wall time.
    public var secretKeyRate: Double?
    public var wallKeyRate: Double?
    /// Of the newest block: per quadrature; of the channel; SNU at the fibre's input.
    public var snr: Double?
    public var transmittance: Double?
    public var excessNoise: Double?
    /// Over all these blocks.
    public var frameErrorRate: Double?
    /// Of the generating time of all links of the transmitter; only at the transmitter's end.
    public var slotShare: Double?
    /// Authentication key left per direction, bytes.
    public var padForward: Int?
    public var padBackward: Int?
    public var updated: Date?

    public init() {}
}

public struct LinkAlarmStatus: Codable, Sendable, Equatable {
    /// One of the table in docs/operating.md.
    public var kind: String
    public var severity: Severity
    public var text: String
    public var since: Date

    public init(kind: String, severity: Severity, text: String, since: Date) {
        self.kind = kind
        self.severity = severity
        self.text = text
        self.since = since
    }
}

/// The public account of one block.
public struct LinkBlock: Codable, Sendable, Equatable {
    public var block: BlockID
    public var began: Date
    public var ended: Date
    public var symbols: UInt64
    public var framesDecoded: Int
    public var framesFailed: Int
    public var frameErrorRate: Double
    public var slots: Int
    public var modulationVariance: Double
    public var snr: Double
    /// Estimates and their worst case within confidence.
    public var transmittance: Double
    public var transmittanceWorst: Double
    public var excessNoise: Double
    public var excessNoiseWorst: Double
    public var electronicNoise: Double
    public var efficiency: Double
    public var reconciliationEfficiency: Double
    public var calibrationSymbols: UInt64
    public var epsilon: Double
    /// Key balance, bits: raw - disclosed - Holevo - finite-size terms = secret; secret - pads = deposited.
    public var rawBits: Int
    public var disclosedBits: Int
    public var holevoBits: Int
    public var secretBits: Int
    public var padBits: Int
    public var tagBitsSpent: Int
    public var depositedBits: Int
    public var limitedBy: String
    public var terms: [String: Double]
    public var provenance: KeyProvenance
    /// Device time from the first slot to the end of this block.
    public var deviceSeconds: Double
    /// JSON text of the block's accounting record (docs/security-accounting.md), for `scripts/recompute-key-length`. Only in the
    /// answer of `GET /links/:id/blocks`.
    public var accounting: String?
    public var code = ""
    /// Decoded frames by the rounds of disclosure they took: at once, after one, ...; `framesFailed` were disclosed whole.
    public var framesInRound: [Int] = []
    /// What these rounds are charged with, a part of `disclosedBits`.
    public var disclosureBits = 0
    /// `secretBits` by the other frame-error convention, in which failed frames' share of the Holevo bound is given back; printed, never used.
    public var secretBitsSelecting = 0
    /// Seconds of work and waiting at this end by stage: `turn`, `opening`, `acquisition`, `alignment`, `encode`, `decode`, `channel`,
    /// `verification`, `estimation`, `amplification`, `deposit`. They run side by side.
    public var stages: [String: Double] = [:]
    /// On the classical channel, this end's view.
    public var bytesSent: UInt64 = 0
    public var bytesReceived: UInt64 = 0
    /// Bits on the classical channel, both ways, per secret bit; absent where there is no key.
    public var trafficPerSecretBit: Double?

    public init(
        block: BlockID, began: Date, ended: Date, symbols: UInt64, framesDecoded: Int, framesFailed: Int, frameErrorRate: Double,
        slots: Int,
        modulationVariance: Double, snr: Double, transmittance: Double, transmittanceWorst: Double, excessNoise: Double,
        excessNoiseWorst: Double, electronicNoise: Double, efficiency: Double, reconciliationEfficiency: Double, calibrationSymbols: UInt64,
        epsilon: Double, rawBits: Int, disclosedBits: Int, holevoBits: Int, secretBits: Int, padBits: Int, tagBitsSpent: Int,
        depositedBits: Int, limitedBy: String, terms: [String: Double], provenance: KeyProvenance, deviceSeconds: Double
    ) {
        self.block = block
        self.began = began
        self.ended = ended
        self.symbols = symbols
        self.framesDecoded = framesDecoded
        self.framesFailed = framesFailed
        self.frameErrorRate = frameErrorRate
        self.slots = slots
        self.modulationVariance = modulationVariance
        self.snr = snr
        self.transmittance = transmittance
        self.transmittanceWorst = transmittanceWorst
        self.excessNoise = excessNoise
        self.excessNoiseWorst = excessNoiseWorst
        self.electronicNoise = electronicNoise
        self.efficiency = efficiency
        self.reconciliationEfficiency = reconciliationEfficiency
        self.calibrationSymbols = calibrationSymbols
        self.epsilon = epsilon
        self.rawBits = rawBits
        self.disclosedBits = disclosedBits
        self.holevoBits = holevoBits
        self.secretBits = secretBits
        self.padBits = padBits
        self.tagBitsSpent = tagBitsSpent
        self.depositedBits = depositedBits
        self.limitedBy = limitedBy
        self.terms = terms
        self.provenance = provenance
        self.deviceSeconds = deviceSeconds
    }
}

/// How one transmitter is shared.
public struct LinkSharing: Codable, Sendable, Equatable {
    public struct Share: Codable, Sendable, Equatable {
        public var link: LinkID
        public var slots: Int
        public var refusals: Int
        /// Of the generating time of all links.
        public var share: Double
        /// Bits per second of device time here, and on a transmitter of its own with as much calibration.
        public var sharedRate: Double
        public var dedicatedRate: Double
        /// 1 - shared / dedicated
        public var sharingPenalty: Double

        public init(
            link: LinkID, slots: Int, refusals: Int, share: Double, sharedRate: Double, dedicatedRate: Double, sharingPenalty: Double
        ) {
            self.link = link
            self.slots = slots
            self.refusals = refusals
            self.share = share
            self.sharedRate = sharedRate
            self.dedicatedRate = dedicatedRate
            self.sharingPenalty = sharingPenalty
        }
    }

    public var device: String
    public var links: [Share]
    /// Against sharing without switching, locking and waiting.
    public var scheduleEfficiency: Double

    public init(device: String, links: [Share], scheduleEfficiency: Double) {
        self.device = device
        self.links = links
        self.scheduleEfficiency = scheduleEfficiency
    }
}

/// A link as somebody wants it. Addresses and secrets of peers stand in the configuration file, never here.
public struct LinkPlan: Codable, Sendable, Equatable {
    public var peer: NodeID
    public var role: DeviceRole
    public var device: String
    public var path: String?
    /// Number of the grid channel of the quantum signal; absent: as the device is set.
    public var gridChannel: Int?
    public var lossDB: Double?
    /// A reconciliation code's name, or `auto`: the two ends choose.
    public var code: String
    /// Absent: chosen.
    public var efficiency: Double?
    /// Modulation variance, SNU per quadrature; absent: chosen.
    public var variance: Double?
    public var blockSymbols: Int
    public var slotSymbols: Int
    public var weight: Double?
    public var epsilon: Double?
    public var calibrationRatio: Double?
    public var driftAllowance: Double?

    public init(
        peer: NodeID, role: DeviceRole, device: String, path: String? = nil, lossDB: Double? = nil, code: String, efficiency: Double? = nil,
        blockSymbols: Int, slotSymbols: Int, weight: Double? = nil, epsilon: Double? = nil
    ) {
        self.peer = peer
        self.role = role
        self.device = device
        self.path = path
        self.lossDB = lossDB
        self.code = code
        self.efficiency = efficiency
        self.blockSymbols = blockSymbols
        self.slotSymbols = slotSymbols
        self.weight = weight
        self.epsilon = epsilon
    }
}

/// The secret itself stays in its file.
public struct LinkSecretRequest: Codable, Sendable, Equatable {
    /// On the service's machine, mode 0600.
    public var path: String
    public init(path: String) { self.path = path }
}

/// What happened.
public struct LinkServiceEvent: Codable, Sendable, Equatable {
    public var time: Date
    /// nil: the event is a device's.
    public var link: LinkID?
    public var device: String?
    /// `state`, `slot`, `block`, `alarm`, `channel`, `device`, `link`, `peer`.
    public var kind: String
    public var text: String
    public var block: LinkBlock?
    /// With `device`, `link` and `peer`: what became of it.
    public var change: LinkChange?
    /// With `device`: the device as it is now. With `link` and `block`: the link as it is now (as it was, when removed).
    public var deviceStatus: LinkDevice?
    public var linkStatus: LinkStatus?
    public var peer: LinkPeer?

    public init(time: Date, link: LinkID?, device: String? = nil, kind: String, text: String, block: LinkBlock? = nil) {
        self.time = time
        self.link = link
        self.device = device
        self.kind = kind
        self.text = text
        self.block = block
    }
}
