// What a link shows of itself: one snapshot that is always there, and events as they happen. No key, no symbols.

public import Foundation
public import QKDModel
internal import Synchronization

/// One link as operators see it.
public struct LinkSnapshot: Sendable, Codable, Equatable {
    public var link: LinkID
    public var peer: NodeID
    public var role: DeviceRole
    public var state: LinkState = .off
    /// Why the state is what it is.
    public var reason = ""
    public var enabled = true
    public var connected = false
    public var code = ""
    public var slot: UInt32?
    public var slotOpen = false
    public var block: BlockID?
    public var stage: BlockStage?
    /// 0 to 1 of the running block's frames.
    public var progress = 0.0
    public var framesDecoded = 0
    public var framesFailed = 0
    public var slots = 0
    public var slotsFailed = 0
    /// SNU
    public var modulationVariance: Double?
    /// Per quadrature, of the running block.
    public var snr: Double?
    public var alignmentSignificance: Double?
    public var calibrationSymbols: UInt64 = 0
    /// Seconds of device time since the newest windows.
    public var darkAge: Double?
    public var shotAge: Double?
    public var receiverReady = false
    public var receiverReason = ""
    /// LSB^2 and SNU.
    public var shotNoise: Double?
    public var electronicNoise: Double?
    /// Of the last block that was estimated.
    public var last: BlockReport?
    public var blocksDeposited = 0
    public var blocksVoid = 0
    /// Blocks that were given up because a machine was too slow, and why the last one was; slots that lost symbols.
    public var blocksSkipped = 0
    public var skipReason = ""
    public var slotsOverrun = 0
    /// Of the running block: seconds by stage so far; what it is expected to give.
    public var stages: [String: Double] = [:]
    public var expectedBits: Int?
    public var bitsDeposited = 0
    /// Bits per second of device time over whole blocks since the start, and of wall time.
    public var keyRate = 0.0
    public var wallRate = 0.0
    /// Device time from the first slot, seconds.
    public var deviceSeconds = 0.0
    public var padForward: Int?
    public var padBackward: Int?
    public var pendingDeposits = 0
    /// Connections that ended because bytes were changed, lost or injected; connections that were cut.
    public var tamperings = 0
    public var interruptions = 0
    public var alarms: [LinkAlarm] = []

    public init(link: LinkID, peer: NodeID, role: DeviceRole) {
        self.link = link
        self.peer = peer
        self.role = role
    }
}

public struct LinkAlarm: Sendable, Codable, Equatable {
    public var kind: String
    public var severity: Severity
    public var text: String
    public var since: Date
}

/// The public account of one block: what came in, what was given away, what is left.
public struct BlockReport: Sendable, Codable, Equatable {
    public var block: BlockID
    public var link: LinkID
    public var began: Date
    public var ended: Date
    public var symbols: UInt64
    public var framesDecoded: Int
    public var framesFailed: Int
    public var slots: Int
    public var modulationVariance: Double
    public var snr: Double
    public var transmittance: Double
    public var transmittanceWorst: Double
    public var excessNoise: Double
    public var excessNoiseWorst: Double
    public var electronicNoise: Double
    public var efficiency: Double
    public var reconciliationEfficiency: Double
    public var calibrationSymbols: UInt64
    public var epsilon: Double
    /// Key balance, bits.
    public var rawBits: Int
    public var disclosedBits: Int
    public var holevoBits: Int
    public var secretBits: Int
    public var padBits: Int
    public var tagBitsSpent: Int
    public var depositedBits: Int
    public var limitedBy: String
    /// Every line of the key-length computation, for the table that people check.
    public var terms: [String: Double]
    public var provenance: KeyProvenance
    public var deviceSeconds: Double
    /// JSON text of the block's `AccountingRecord`.
    public var accounting: String?
    public var code = ""
    /// Decoded frames by the rounds of disclosure they took: at once, after one, ...; failed ones were disclosed whole.
    public var framesInRound: [Int] = []
    /// What those rounds are charged with, part of `disclosedBits`.
    public var disclosureBits = 0
    /// `secretBits` if the failed frames' share of the Holevo bound were given back; never used.
    public var secretBitsSelecting = 0
    public var work = BlockWork()

    /// Failed frames of all decided ones.
    public var frameErrorRate: Double {
        let all = framesDecoded + framesFailed
        return all > 0 ? Double(framesFailed) / Double(all) : 0
    }
}

/// What a block cost besides symbols: time by stage, and bytes on the classical channel.
public struct BlockWork: Sendable, Codable, Equatable {
    public var stages = StageTimes()
    public var bytesSent: UInt64 = 0
    public var bytesReceived: UInt64 = 0

    public init() {}

    init(_ stages: StageTimes, _ now: (sent: UInt64, received: UInt64), since: (sent: UInt64, received: UInt64)) {
        self.stages = stages
        (bytesSent, bytesReceived) = (now.sent &- since.sent, now.received &- since.received)
    }
}

/// What happened on a link.
public struct LinkEvent: Sendable, Codable {
    public var time: Date
    public var link: LinkID
    /// `state`, `slot`, `block`, `alarm`, `channel`, `calibration`.
    public var kind: String
    public var text: String
    public var block: BlockReport?
}

/// Keeps the snapshot and hands out events.
public final class LinkMonitor: Sendable {
    private struct State {
        var snapshot: LinkSnapshot
        var blocks: [BlockReport] = []
        var began = Date()
        var listeners: [UUID: AsyncStream<LinkEvent>.Continuation] = [:]
    }

    /// Blocks whose account is kept.
    public static let keptBlocks = 200

    private let state: Mutex<State>
    /// Decides what is an alarm (LinkMonitor+Health).
    let health = Mutex(LinkHealth())

    public init(link: LinkID, peer: NodeID, role: DeviceRole) {
        state = Mutex(State(snapshot: LinkSnapshot(link: link, peer: peer, role: role)))
    }

    public var snapshot: LinkSnapshot { state.withLock { $0.snapshot } }
    /// Newest last.
    public var blocks: [BlockReport] { state.withLock { $0.blocks } }

    public func update(_ change: (inout LinkSnapshot) -> Void) { state.withLock { change(&$0.snapshot) } }

    public func say(_ kind: String, _ text: String, block: BlockReport? = nil) {
        state.withLock { state in
            let event = LinkEvent(time: Date(), link: state.snapshot.link, kind: kind, text: text, block: block)
            for listener in state.listeners.values { listener.yield(event) }
        }
    }

    public func setState(_ new: LinkState, _ reason: String) {
        health.withLock { $0.wasSet(new) }
        show(new, reason)
    }

    func show(_ new: LinkState, _ reason: String) {
        let changed = state.withLock { state in
            defer { (state.snapshot.state, state.snapshot.reason) = (new, reason) }
            return state.snapshot.state != new || state.snapshot.reason != reason
        }
        if changed { say("state", "\(new.rawValue): \(reason)") }
    }

    public func raise(_ kind: String, _ severity: Severity, _ text: String) {
        let isNews = state.withLock { state in
            let old = state.snapshot.alarms.first { $0.kind == kind }
            let new = LinkAlarm(kind: kind, severity: severity, text: text, since: old?.since ?? Date())
            state.snapshot.alarms.removeAll { $0.kind == kind }
            state.snapshot.alarms.append(new)
            return new != old
        }
        if isNews { say("alarm", "\(severity.rawValue) \(kind): \(text)") }
    }

    public func clear(_ kind: String) {
        let had = state.withLock { state in
            defer { state.snapshot.alarms.removeAll { $0.kind == kind } }
            return state.snapshot.alarms.contains { $0.kind == kind }
        }
        if had { say("alarm", "cleared \(kind)") }
    }

    /// A block has come to its end, with key or without.
    public func closed(_ report: BlockReport) {
        state.withLock { state in
            state.blocks.append(report)
            if state.blocks.count > Self.keptBlocks { state.blocks.removeFirst() }
            state.snapshot.last = report
            if report.secretBits > 0 {
                state.snapshot.blocksDeposited += 1
                state.snapshot.bitsDeposited += report.depositedBits
            } else {
                state.snapshot.blocksVoid += 1
            }
            state.snapshot.deviceSeconds = max(state.snapshot.deviceSeconds, report.deviceSeconds)
            if state.snapshot.deviceSeconds > 0 {
                state.snapshot.keyRate = Double(state.snapshot.bitsDeposited) / state.snapshot.deviceSeconds
            }
            let wall = Date().timeIntervalSince(state.began)
            if wall > 0 { state.snapshot.wallRate = Double(state.snapshot.bitsDeposited) / wall }
        }
        blockEnded(hasKey: report.secretBits > 0, reason: report.limitedBy)
        say("block", report.secretBits > 0 ? "\(report.depositedBits) bits deposited" : "no key: \(report.limitedBy)", block: report)
    }

    /// The key store has taken a block's key after so long a wait.
    func deposited(_ block: BlockID, after time: Duration) {
        state.withLock { state in
            if let place = state.blocks.lastIndex(where: { $0.block == block }) { state.blocks[place].work.stages.add(.deposit, time) }
            if state.snapshot.last?.block == block { state.snapshot.last?.work.stages.add(.deposit, time) }
        }
    }

    /// Events from now on; a listener that does not read loses the oldest.
    public func events() -> AsyncStream<LinkEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: LinkEvent.self, bufferingPolicy: .bufferingNewest(256))
        let id = UUID()
        state.withLock { $0.listeners[id] = continuation }
        continuation.onTermination = { [weak self] _ in self?.state.withLock { $0.listeners[id] = nil } }
        return stream
    }
}
