// A recording run once more: the same inputs into the same state machines, every decision compared bit for bit.

internal import Foundation
internal import KeyMaterial
internal import PostProcessing
public import QKDModel
internal import Synchronization

/// What a replay found.
public struct LinkReplay: Sendable, Codable {
    public var link: LinkID
    public var role: DeviceRole
    public var records = 0
    /// What was decided anew and compared: plans, alignments, frame messages, verdicts, disclosures, sums, lengths.
    public var decisions = 0
    public var frames = 0
    public var blocks = 0
    /// In words, where this run decides otherwise; empty: bit for bit the same.
    public var differences: [String] = []

    public var agrees: Bool { differences.isEmpty && decisions > 0 }

    private static let mostDifferences = 20

    /// - Parameter anyway: also a file that is cut short or altered, as far as it makes sense.
    /// - Throws: `QuantumLinkError.recording` for a file that is absent, no recording, of another version, cut short or altered; other errors for entries
    ///   that make no sense in their order.
    public static func run(path: String, anyway: Bool = false) async throws -> LinkReplay {
        if !anyway { try LinkRecordingReader.check(path: path) }
        var reader = try LinkRecordingReader(path: path, anyway: anyway)
        let settings = reader.head.settings
        var replay = LinkReplay(link: settings.identity.link, role: settings.identity.role)
        var transmitter = try TransmitterReplay(settings)
        var receiver = ReceiverReplay(settings)
        while let record = try reader.next() {
            replay.records += 1
            if record == .session { (transmitter, receiver) = (try TransmitterReplay(settings), ReceiverReplay(settings)) }
            let compared =
                switch replay.role {
                case .transmitter: try await transmitter.take(record)
                case .receiver: try receiver.take(record)
                }
            replay.count(record)
            for decision in compared { replay.note(decision) }
        }
        return replay
    }

    private init(link: LinkID, role: DeviceRole) { (self.link, self.role) = (link, role) }

    private mutating func count(_ record: LinkRecord) {
        switch record {
        case .frame: frames += 1
        case .account: blocks += 1
        default: break
        }
    }

    private mutating func note(_ decision: ReplayedDecision) {
        decisions += 1
        guard !decision.agrees, differences.count < Self.mostDifferences else { return }
        differences.append("entry \(records): \(decision.what) is another one now")
    }
}

struct ReplayedDecision {
    var what: String
    var agrees: Bool
}

/// Gives the recorded draws again.
final class ReplayedRandom: RandomSource {
    private let draws = Mutex<[[UInt8]]>([])

    func add(_ draw: [UInt8]) { draws.withLock { $0.append(draw) } }
    func clear() { draws.withLock { $0 = [] } }
    var last: [UInt8]? { draws.withLock { $0.last } }

    /// Zeros where another draw was made than is asked for: the difference then shows.
    func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        let draw = draws.withLock { $0.isEmpty ? [] : $0.removeFirst() }
        for place in buffer.indices { buffer[place] = draw.count == buffer.count ? draw[place] : 0 }
    }
}

/// The transmitter's end.
struct TransmitterReplay {
    private let settings: LinkSettings
    private let seat = DecodingSeat()
    private let random = ReplayedRandom()
    private var planner: BlockPlanner
    /// What the planner made of the first slot; the old one counts where the block was skipped for another reason.
    private var plannerAfter: BlockPlanner?
    private var misfit: String?
    private var plan: BlockPlan?
    private var block: TransmitterBlock?
    private var unit: Double?
    private var reference: SlotFrameOfReference?
    private var phase = PhaseTrack()
    private var bodies: [UInt32: FrameBody] = [:]
    private var steps: [UInt32: FrameStep] = [:]
    private var pads: PadAccount?
    private var sums: BlockSums?
    private var account = ""

    init(_ settings: LinkSettings) throws {
        self.settings = settings
        planner = try BlockPlanner(settings)
    }

    mutating func take(_ record: LinkRecord) async throws -> [ReplayedDecision] {
        switch record {
        case .heard(let message): return try await heard(message)
        case .said(let message): return try said(message)
        case .random(let draw): random.add(draw)
        case .transmitter(let serial, let emulated, let receiverEmulated):
            guard let plan else { throw misplaced("a device") }
            let facts = DeviceFacts(serial: serial, emulated: emulated, symbolRate: 1)
            block = try TransmitterBlock(plan: plan, variance: planner.choice.variance, facts: facts, receiverEmulated: receiverEmulated)
            try block?.life.take(.accepted)
            (unit, sums) = (nil, nil)
        case .slotBegan(let slot, let frames):
            try block?.life.take(.slotBegan(slot: slot, frames: Int(frames)))
            (phase, bodies, steps) = (PhaseTrack(), [:], [:])
            unit = unit ?? reference?.unit
        case .frame(let index, let scale, let samples): try await attempt(index, scale, samples)
        case .slotEnded:
            try block?.endSlot()
            guard let block, !block.life.isOver else { return [] }
            var after = planner
            misfit = try after.misfit(of: block)
            plannerAfter = after
        case .pads(let account): pads = account
        case .account(let text): return [ReplayedDecision(what: "the block's account", agrees: text == account)]
        default: break
        }
        return []
    }

    private mutating func attempt(_ index: UInt32, _ scale: Float, _ samples: [Int16]) async throws {
        guard let body = bodies[index], let block else { throw misplaced("a frame") }
        let turned = phase.expected(at: index)
        let step = try await seat.attempt(
            body, code: block.code, sent: samples, scale: scale, phase: turned, snr: planner.snr(of: block),
            maximumPasses: settings.maximumPasses)
        if case .decided(let frame) = step, frame.core != nil {
            phase.saw(turned + frame.residualPhase, at: index)
        } else {
            phase.saw(nil, at: index)
        }
        steps[index] = step
    }

    private mutating func heard(_ message: ChannelMessage) async throws -> [ReplayedDecision] {
        switch message {
        case .readiness(let readiness): planner.heard(readiness)
        case .slotAligned(let new): reference = new
        case .frame(let body): bodies[body.index] = body
        case .frameDisclosed(let disclosed):
            for part in disclosed.frames {
                guard case .unfinished(let open) = steps[part.index] else { throw misplaced("a disclosure") }
                steps[part.index] = try await seat.resume(open, with: part.disclosure)
            }
        case .frameValues(let values):
            guard let reference else { throw misplaced("values") }
            try block?.disclosed(values, reference)
        case .blockSums(let new):
            guard let block else { throw misplaced("sums") }
            sums = new
            random.clear()
            let hash = try ReceiverBlock.verificationHash(block.raw, key: new.verificationKey)
            return [ReplayedDecision(what: "the hash of the raw key", agrees: hash == new.verificationHash)]
        case .blockAbort(let id, let reason):
            if id == block?.plan.block { try block?.life.take(.gaveUp(reason: reason)) }
        default: break
        }
        return []
    }

    private mutating func said(_ message: ChannelMessage) throws -> [ReplayedDecision] {
        let isSkipped = if case .blockAbort(_, let reason) = message { reason != misfit } else { false }
        if let plannerAfter, !isSkipped { planner = plannerAfter }
        plannerAfter = nil
        switch message {
        case .blockPrepare(let plan):
            self.plan = plan
            let id = random.last.map { freshBlockID(GivenRandom(bytes: $0)) }
            random.clear()
            let again = try planner.plan(block: id ?? plan.block, emulated: plan.emulated)
            return [ReplayedDecision(what: "the plan of block \(plan.block)", agrees: again == plan)]
        case .slotOffer(_, _, let variance):
            return [ReplayedDecision(what: "the modulation variance", agrees: variance == planner.choice.variance)]
        case .verdict(let verdict): return [try decided(verdict)]
        case .frameMore(let more):
            let agrees = more.frames.allSatisfy { request in
                if case .unfinished(let open) = steps[request.index] { open.frame.rounds + 1 == Int(request.round) } else { false }
            }
            return [ReplayedDecision(what: "a request for more bits", agrees: agrees)]
        case .blockClose: try block?.life.take(.closed)
        case .blockAbort(_, let reason):
            let decision = misfit.map { ReplayedDecision(what: "the reason of a block's end", agrees: $0 == reason) }
            try block?.life.take(.gaveUp(reason: reason))
            misfit = nil
            return decision.map { [$0] } ?? []
        case .blockResult(let result): return [try settled(result)]
        default: break
        }
        return []
    }

    private mutating func decided(_ verdict: Verdict) throws -> ReplayedDecision {
        let what = "the verdict on frame \(verdict.index)"
        switch steps[verdict.index] {
        case .decided(let frame):
            try block?.decide(verdict.index, frame)
            return ReplayedDecision(what: what, agrees: (frame.core != nil) == verdict.decoded)
        case .unfinished(let open):
            // Given up with the slot's alignment.
            let frame = DecidedFrame(core: nil, passes: open.frame.passes, rounds: open.frame.rounds, sent: open.sent)
            try block?.decide(verdict.index, frame)
            return ReplayedDecision(what: what, agrees: !verdict.decoded)
        case nil: throw misplaced("a verdict")
        }
    }

    private mutating func settled(_ result: BlockResult) throws -> ReplayedDecision {
        guard let block, let sums, let unit, let pads, let readiness = planner.readiness else { throw misplaced("a result") }
        let numbers = try block.numbers(sums, readiness, unit: unit, driftAllowance: settings.driftAllowance)
        let rawBits = 8 * block.raw.reduce(0) { $0 + $1.count }
        let settled = BlockSettlement(numbers, pads: pads, rawBits: rawBits, withheld: BlockSettlement.recorded, random: random)
        account = settled.account.json ?? ""
        planner.learn(from: block)
        return ReplayedDecision(what: "the result of block \(result.block)", agrees: settled.result == result)
    }

    private func misplaced(_ what: String) -> QuantumLinkError { .unexpected(message: what, during: "a replay") }
}

private struct GivenRandom: RandomSource {
    let bytes: [UInt8]
    func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        for place in buffer.indices { buffer[place] = place < bytes.count ? bytes[place] : 0 }
    }
}

/// The receiver's end.
struct ReceiverReplay {
    private let settings: LinkSettings
    private let random = ReplayedRandom()
    private var block: ReceiverBlock?
    private var disclosure: Disclosure?
    private var reference: SlotFrameOfReference?
    private var samples: (index: UInt32, samples: [Int16])?
    private var values: [FrameValues] = []
    private var disclosed: [FrameDisclosed] = []
    private var calibration: (dark: CalibrationSums, shot: CalibrationSums, drift: Double)?
    private var efficiency = (value: 1.0, error: 0.0)
    private var sums: BlockSums?
    private var result: BlockResult?

    init(_ settings: LinkSettings) { self.settings = settings }

    mutating func take(_ record: LinkRecord) throws -> [ReplayedDecision] {
        switch record {
        case .heard(let message): try heard(message)
        case .said(let message): return try said(message)
        case .random(let draw): random.add(draw)
        case .begins(let plan, let dark, let shot, let emulated):
            let noise = try NoiseCalibration(dark: dark, shot: shot)
            block = try ReceiverBlock(
                plan: plan, calibrationSince: 0, generation: 0, emulated: emulated, unit: noise.shotNoiseVariance.squareRoot(),
                meanX: noise.shot.meanX, meanP: noise.shot.meanP, random: random)
            try block?.life.take(.accepted)
        case .opening(let start, let samples, let expected, let margin):
            guard let block, let disclosure else { throw misplaced("an opening") }
            let store = SymbolStore(start: start, samples: samples)
            reference = SlotOpening.reference(disclosure, store: store, expected: expected, margin: margin, block: block).reference
        case .slotBegan(let slot, let frames): try block?.life.take(.slotBegan(slot: slot, frames: Int(frames)))
        case .frame(let index, _, let samples):
            self.samples = (index, samples)
            random.clear()
        case .saturated(let count): block?.saturated += count
        case .slotEnded(let frames): try block?.endSlot(frames: frames)
        case .calibration(let dark, let shot, let drift):
            try block?.life.take(.closed)
            calibration = (dark, shot, drift)
            random.clear()
        case .efficiency(let value, let error): efficiency = (value, error)
        case .account(let text):
            guard let block, let sums, let result else { throw misplaced("an account") }
            let judged = block.judge(result, sums, efficiency: efficiency.value, efficiencyError: efficiency.error)
            return [ReplayedDecision(what: "the block's account", agrees: judged.account.json == text)]
        default: break
        }
        return []
    }

    private mutating func heard(_ message: ChannelMessage) throws {
        switch message {
        case .slotDisclose(let new): disclosure = new
        case .verdict(let verdict):
            guard block?.life.stage != .void, let samples = try block?.decide(verdict) else { return }
            values.append(FrameValues(slot: verdict.slot, index: verdict.index, samples: samples))
        case .frameMore(let more):
            if block?.life.stage != .void, let parts = try block?.disclose(more) { disclosed.append(parts) }
        case .blockResult(let new): result = new
        case .blockAbort(let id, let reason):
            if id == block?.plan.block { try block?.life.take(.gaveUp(reason: reason)) }
        default: break
        }
    }

    private mutating func said(_ message: ChannelMessage) throws -> [ReplayedDecision] {
        switch message {
        case .slotAligned(let said): return [ReplayedDecision(what: "an alignment", agrees: said == reference)]
        case .frame(let said):
            guard let reference, let samples, samples.index == said.index else { throw misplaced("a frame") }
            let again = try block?.encode(samples.samples, reference, index: samples.index, hashKey: random.word())
            return [ReplayedDecision(what: "the message of frame \(said.index)", agrees: again == said)]
        case .frameValues(let said):
            return [ReplayedDecision(what: "the values of frame \(said.index)", agrees: values.contains(said))]
        case .frameDisclosed(let said):
            return [ReplayedDecision(what: "disclosed bits", agrees: disclosed.contains(said))]
        case .blockSums(let said):
            guard let block, let calibration else { throw misplaced("sums") }
            let key = random.bytes(16)
            sums = block.sums(
                dark: calibration.dark, shot: calibration.shot, drift: calibration.drift, key: key,
                hash: try ReceiverBlock.verificationHash(block.raw, key: key))
            return [ReplayedDecision(what: "the block's sums", agrees: sums == said)]
        case .blockAbort(let id, let reason):
            if id == block?.plan.block { try block?.life.take(.gaveUp(reason: reason)) }
        default: break
        }
        return []
    }

    private func misplaced(_ what: String) -> QuantumLinkError { .unexpected(message: what, during: "a replay") }
}
