// The values that decide: schedule, life of a block, handshake, transcript, tuning.

import Foundation
import KeyMaterial
import PostProcessing
import QKDModel
import QKDTesting
import QuantumLink
import Testing

@Suite("State machines of a link")
struct MachineTests {
    private let norte = LinkID(unchecked: "norte")
    private let concepcion = LinkID(unchecked: "concepcion")

    @Test("Shares follow the weights, nobody starves, and one link uses the transmitter at a time")
    func schedule() {
        var schedule = SlotSchedule()
        schedule.enter(norte, weight: 35)
        schedule.enter(concepcion, weight: 65)
        var counts: [LinkID: Int] = [:]
        var since: [LinkID: Int] = [:]
        for turn in 0..<2000 {
            for link in [norte, concepcion] { schedule.update(link, ready: true, wanted: 1000, slotFrames: 10) }
            guard let grant = schedule.next() else { Issue.record("no grant"); return }
            #expect(schedule.next() == nil)
            #expect(grant.frames == 10)
            counts[grant.link, default: 0] += 1
            since[grant.link] = turn
            for link in [norte, concepcion] { #expect(turn - (since[link] ?? 0) <= 3) }
            schedule.finished(grant.link, symbols: 10, seconds: 2, refused: false)
        }
        #expect(abs(Double(counts[norte] ?? 0) / 2000 - 0.35) < 0.01)
    }

    @Test("A link that is not ready, wants nothing or has left gets no turn; a block's last slot is no crumb")
    func scheduleEdges() {
        var schedule = SlotSchedule()
        #expect(schedule.next() == nil)
        schedule.enter(norte, weight: 1)
        #expect(schedule.next() == nil)
        schedule.update(norte, ready: true, wanted: 0)
        #expect(schedule.next() == nil)
        schedule.update(norte, ready: false, wanted: 5)
        #expect(schedule.next() == nil)
        schedule.update(norte, ready: true, wanted: 11, slotFrames: 10)
        #expect(schedule.next()?.frames == 11)
        schedule.leave(norte)
        #expect(schedule.next() == nil)
        // Any number of links with random readiness: a grant is always for one that is ready and wants frames.
        let random = SeededRandom(7)
        let links = (0..<6).map { LinkID(unchecked: "l\($0)") }
        for link in links { schedule.enter(link, weight: Double(random.word() % 50) + 1) }
        for _ in 0..<5000 {
            let able = links.filter { link in
                let (ready, wanted) = (random.word() % 3 > 0, Int(random.word() % 4) * 5)
                schedule.update(link, ready: ready, wanted: wanted, slotFrames: 8)
                return ready && wanted > 0
            }
            let grant = schedule.next()
            #expect(grant == nil ? able.isEmpty : able.contains(grant?.link ?? norte))
            if let grant { schedule.finished(grant.link, symbols: 1, seconds: 1, refused: random.word() % 5 == 0) }
        }
    }

    @Test(
        "Shares are of time, whatever the slots' lengths; who was away catches up a little, and the next turn comes before the device is free"
    )
    func scheduleInTime() {
        var schedule = SlotSchedule()
        schedule.enter(norte, weight: 20)
        schedule.enter(concepcion, weight: 80)
        var seconds: [LinkID: Double] = [:]
        for turn in 0..<4000 {
            schedule.update(norte, ready: true, wanted: 1000, slotFrames: 10)
            // Away for a while now and then.
            schedule.update(concepcion, ready: turn % 50 > 1, wanted: 1000, slotFrames: 10)
            guard let grant = schedule.next() else { Issue.record("no grant"); return }
            let length = grant.link == norte ? 7.0 : 3.0
            seconds[grant.link, default: 0] += length
            schedule.finished(grant.link, symbols: 1, seconds: length, refused: false)
        }
        #expect(abs((seconds[norte] ?? 0) / seconds.values.reduce(0, +) - 0.2) < 0.02)

        schedule.update(norte, ready: true, wanted: 10)
        schedule.update(concepcion, ready: true, wanted: 10)
        guard let first = schedule.next() else { Issue.record("no grant"); return }
        let other = first.link == norte ? concepcion : norte
        #expect(schedule.next() == nil)
        schedule.ending(other)
        #expect(schedule.next() == nil)
        schedule.ending(first.link)
        #expect(schedule.next()?.link == other && schedule.holder == first.link && schedule.isNext(other))
        #expect(schedule.next() == nil)
        schedule.finished(first.link, symbols: 1, seconds: 1, refused: false)
        #expect(schedule.holder == other && !schedule.isNext(other))
        schedule.leave(other)
        #expect(schedule.holder == nil)
    }

    @Test("What is chosen gives the longest key of all that could be: code, efficiency and modulation, or what of them is free")
    func chooser() throws {
        func settings(_ change: (inout LinkSettings) -> Void = { _ in }) -> LinkSettings {
            var settings = LinkSettings(
                identity: LinkIdentity(node: NodeID(unchecked: "a"), peer: NodeID(unchecked: "b"), link: norte, role: .transmitter),
                path: "N", loss: Decibels(6), blockSymbols: 100_000_000, slotSymbols: 20_000_000)
            change(&settings)
            return settings
        }
        var channel = ModulationTuner(designSNR: 0.1, transmittance: 0.25)
        channel.learned(xx: 1.6, xy: 1.6 * (0.1).squareRoot(), yy: 0.16 + 1.051)
        let free = try BlockChooser(settings()).choose(channel, efficiencyError: 0.001)
        #expect(free.expectedBits > 1_000_000)
        for code in ["r05-n1024000", "r10-n1024000", "r10-n204800", "r15-n1024000+20"] {
            for efficiency in [0.90, 0.93, 0.95] {
                let fixed = try BlockChooser(settings { ($0.code, $0.efficiency) = (code, efficiency) }).choose(
                    channel, efficiencyError: 0.001)
                #expect(fixed.code.id == code && fixed.efficiency == efficiency)
                #expect(fixed.expectedBits <= 1.002 * free.expectedBits, "\(code) at \(efficiency)")
            }
        }
        // A modulation that cannot be changed: the code follows the SNR.
        for variance in [1.0, 2.5] {
            let fixed = try BlockChooser(settings { $0.variance = variance }).choose(channel, efficiencyError: 0.001)
            #expect(fixed.variance == variance && (0.88...0.96).contains(fixed.efficiency), "\(fixed)")
            #expect(abs(fixed.efficiency - fixed.code.efficiency(snr: channel.snr(variance: variance))) < 1e-9)
        }
        // What runs is kept unless another gives markedly more; the far end's code is taken, two different ones are refused.
        let near = BlockChoice(code: free.code, efficiency: free.efficiency - 0.001, variance: free.variance, expectedBits: 0)
        #expect(try BlockChooser(settings()).choose(channel, efficiencyError: 0.001, incumbent: near).efficiency == near.efficiency)
        #expect(try BlockChooser(settings()).choose(channel, efficiencyError: 0, asked: "r05-n204800").code.id == "r05-n204800")
        let named = try BlockChooser(settings { $0.code = "r10-n204800" })
        #expect(throws: QuantumLinkError.self) { try named.choose(channel, efficiencyError: 0, asked: "r05-n204800") }
    }

    @Test("The model of a code's waterfall falls with efficiency's distance, and follows what frames do")
    func frameModel() throws {
        var model = FrameModel()
        let code = try ReconciliationCode.named("r10-n204800")
        // The table of docs/reconciliation.md: .0007 at .90, .0053 at .92, .161 at .94.
        #expect(model.expectation(code, efficiency: 0.90).first < 0.002)
        #expect((0.002...0.03).contains(model.expectation(code, efficiency: 0.92).first))
        #expect((0.06...0.35).contains(model.expectation(code, efficiency: 0.94).first))
        let before = model.expectation(code, efficiency: 0.92).first
        for _ in 0..<6 { model.learned(code, efficiency: 0.92, decodedAtOnce: 800, frames: 1000) }
        #expect(model.expectation(code, efficiency: 0.92).first > 3 * before)
        let worse = model.shift
        for _ in 0..<20 { model.learned(code, efficiency: 0.92, decodedAtOnce: 1000, frames: 1000) }
        #expect(model.shift > worse)
        model.learned(code, efficiency: 0.92, decodedAtOnce: 3, frames: 5)
        #expect(abs(model.shift) <= 0.015)
    }

    @Test("A link that comes back goes on with its account; time without a session does not count against it")
    func scheduleReturns() {
        var schedule = SlotSchedule()
        schedule.enter(norte, weight: 1)
        schedule.update(norte, ready: true, wanted: 100)
        _ = schedule.next()
        schedule.elapsed(10)
        schedule.finished(norte, symbols: 45_000_000, seconds: 9, refused: false)
        #expect(abs(schedule.report().scheduleEfficiency - 0.9) < 1e-12)
        schedule.leave(norte)
        schedule.elapsed(1000)
        #expect(schedule.next() == nil)
        schedule.enter(norte, weight: 1)
        #expect(abs(schedule.report().scheduleEfficiency - 0.9) < 1e-12)
        #expect(schedule.report().links.first?.slots == 1)
        schedule.update(norte, ready: true, wanted: 100)
        #expect(schedule.next()?.link == norte)
        schedule.elapsed(1010)
        schedule.finished(norte, symbols: 45_000_000, seconds: 9, refused: false)
        #expect(abs(schedule.report().scheduleEfficiency - 0.9) < 1e-12)
    }

    @Test("A device's clock adds up over its restarts")
    func runningClock() {
        var clock = RunningClock()
        #expect(clock.seconds == 0)
        for time: UInt64 in [5, 6, 9] { clock.saw(time * 1_000_000_000) }
        // A little out of turn is no restart.
        clock.saw(8_500_000_000)
        #expect(clock.seconds == 4)
        for time: UInt64 in [1, 3] { clock.saw(time * 1_000_000_000) }
        #expect(clock.seconds == 6)
    }

    @Test("The phase is followed through noise and a steady turn, and a frame that comes late changes nothing")
    func phaseTrack() {
        let track = PhaseTrack()
        #expect(track.expected(at: 5) == 0)
        let random = SeededRandom(3)
        for index in 0..<200 as Range<UInt32> {
            let noise = (Double(random.word() >> 11) * 0x1p-53 - 0.5) * 0.02
            track.saw(0.02 * Double(index) + noise, at: index)
        }
        #expect(abs(track.expected(at: 205) - 0.02 * 205) < 0.03)
        let before = track.expected(at: 210)
        track.saw(9, at: 100)
        track.saw(.nan, at: 300)
        #expect(track.expected(at: 210) == before)
    }

    @Test("Numbers that no block can work with are refused at once, with the key's name")
    func settings() {
        let good = LinkSettings(
            identity: LinkIdentity(node: NodeID(unchecked: "a"), peer: NodeID(unchecked: "b"), link: norte, role: .transmitter), path: "N",
            loss: Decibels(6), code: "r10-n204800", blockSymbols: 50_000_000, slotSymbols: 10_000_000)
        #expect(LinkService.trouble(with: good) == nil)
        func refused(_ name: String, _ change: (inout LinkSettings) -> Void) {
            var settings = good
            change(&settings)
            #expect(LinkService.trouble(with: settings)?.contains(name) == true, "\(name)")
        }
        refused("code") { $0.code = "r99" }
        refused("variance") { $0.variance = 40 }
        refused("slot_symbols") { $0.slotSymbols = 1000 }
        refused("block_symbols") { $0.blockSymbols = 102_399 }
        refused("epsilon") { $0.epsilon = 1e-20 }
        refused("epsilon") { $0.epsilon = 0.5 }
        refused("epsilon") { $0.epsilon = .nan }
        // What a hash of 64 bits can promise over a large block, and what one message can carry.
        refused("epsilon") { ($0.epsilon, $0.blockSymbols) = (1e-14, 100_000_000) }
        refused("seed") { ($0.epsilon, $0.blockSymbols) = (1e-6, 4_000_000_000) }
        refused("calibration_ratio") { $0.calibrationRatio = 0 }
        refused("efficiency") { $0.efficiency = 1.2 }
    }

    @Test("A block goes through its stages in order only")
    func blockLife() throws {
        var life = BlockLife(block: BlockID(UUID()), frames: 5)
        #expect(throws: QuantumLinkError.self) { try life.take(.closed) }
        #expect(throws: QuantumLinkError.self) { try life.take(.frame(decoded: true)) }
        try life.take(.accepted)
        #expect(throws: QuantumLinkError.self) { try life.take(.slotBegan(slot: 1, frames: 6)) }
        try life.take(.slotBegan(slot: 1, frames: 3))
        for decoded in [true, false, false] { try life.take(.frame(decoded: decoded)) }
        #expect(throws: QuantumLinkError.self) { try life.take(.frame(decoded: true)) }
        #expect(!life.lostAlignment)
        try life.take(.slotEnded)
        #expect(throws: QuantumLinkError.self) { try life.take(.slotBegan(slot: 1, frames: 1)) }
        #expect(throws: QuantumLinkError.self) { try life.take(.closed) }
        try life.take(.slotBegan(slot: 2, frames: 2))
        for _ in 0..<2 { try life.take(.frame(decoded: true)) }
        try life.take(.slotEnded)
        try life.take(.closed)
        #expect((life.decoded, life.failed, life.wanted, life.slots) == (3, 2, 0, 2))
        try life.take(.rawKeysEqual)
        try life.take(.estimate(secretBits: 80, limitedBy: "length"))
        #expect(throws: QuantumLinkError.self) { try life.take(.tagged) }
        for step: BlockLife.Step in [.amplified, .tagged, .deposited] { try life.take(step) }
        try life.take(.gaveUp(reason: "too late"))
        #expect(life.stage == .deposited)
    }

    @Test("Three failures in a row lose the alignment; no key voids the block")
    func blockLifeEnds() throws {
        var life = BlockLife(block: BlockID(UUID()), frames: 4)
        try life.take(.accepted)
        try life.take(.slotBegan(slot: 1, frames: 4))
        for decoded in [false, true, false, false] { try life.take(.frame(decoded: decoded)) }
        #expect(!life.lostAlignment)
        try life.take(.slotEnded)
        try life.take(.closed)
        try life.take(.rawKeysEqual)
        try life.take(.estimate(secretBits: 0, limitedBy: "excess noise"))
        #expect(life.stage == .void && life.reason == "excess noise")
    }

    @Test("The modulation reaches the design SNR from the expected loss, and corrects itself once")
    func tuner() {
        var tuner = ModulationTuner(designSNR: 0.163, transmittance: 0.25)
        #expect(abs(tuner.snr(variance: tuner.variance) - 0.163) < 1e-12)
        let before = tuner.variance
        // The fibre lets through a tenth less.
        let gain = 0.8 * 0.225 / 2
        tuner.learned(xx: before, xy: before * gain.squareRoot(), yy: gain * before + 1.05)
        #expect(abs(tuner.variance - 0.163 * 1.05 / gain) < 1e-9)
        let learned = tuner.variance
        // A cut fibre teaches nothing.
        tuner.learned(xx: before, xy: 0.0001, yy: 1.05)
        #expect(tuner.variance == learned)
    }

    @Test("Both ends agree on the newest secret in common; answers are for what was asked")
    func handshake() throws {
        let (old, new, other) = (
            Epoch(Array(repeating: 1, count: 16)), Epoch(Array(repeating: 2, count: 16)), Epoch(Array(repeating: 3, count: 16))
        )
        let doubt = BlockID(UUID())
        func hello(_ role: DeviceRole, _ epochs: [Epoch], _ inDoubt: [BlockID] = [], taken: UInt64 = 64) -> Hello {
            Hello(
                node: role == .transmitter ? "a" : "b", peer: role == .transmitter ? "b" : "a", link: "a-b", role: role,
                nonce: Array(repeating: role == .transmitter ? 1 : 2, count: 32), epochs: epochs,
                taken: epochs.map { _ in taken }, inDoubt: inDoubt)
        }
        var left = Handshake(own: hello(.transmitter, [other, new, old]), next: { _ in 64 }, committed: { $0 == doubt })
        var right = Handshake(own: hello(.receiver, [new, old], [doubt]), next: { _ in 64 }, committed: { _ in false })
        #expect(right.start().isEmpty)
        guard case .send(let first) = try #require(left.start().first) else { return }
        guard case .send(let second) = try #require(try right.input(first).first) else { return }
        let answer = try left.input(second)
        guard answer.count == 3, case .begin(new, _, _) = answer[0], case .send(let resolve) = answer[1], case .sendTag = answer[2] else {
            Issue.record("\(answer)")
            return
        }
        #expect(resolve == .resolve(Resolve(epoch: new, answers: [.init(block: doubt, committed: true)])))
        // Before the tag has verified the receiver's end sends nothing of its own pad and believes nothing.
        #expect(try right.input(resolve).count == 1)
        let done = try right.tagVerified(.handshake)
        #expect(done.contains(.resolve([.init(block: doubt, committed: true)])))
        #expect(done.contains(.established(new)))
        // Wrong peers and lies are refused.
        var stranger = Handshake(own: hello(.receiver, [old]), next: { _ in 64 }, committed: { _ in false })
        #expect(throws: QuantumLinkError.self) { try stranger.input(.hello(hello(.receiver, [old]))) }
        var liar = Handshake(own: hello(.transmitter, [old]), next: { _ in 64 }, committed: { _ in false })
        _ = liar.start()
        #expect(throws: QuantumLinkError.self) { try liar.input(.hello(hello(.receiver, [new]))) }
        func isPosition(_ error: any Error) -> Bool { if case QuantumLinkError.padPosition = error { true } else { false } }
        // An end whose state was brought back from a copy tags nothing: its pad was used there. Whose word counts is known first.
        var copied = Handshake(own: hello(.transmitter, [old]), next: { _ in 48 }, committed: { _ in false })
        _ = copied.start()
        #expect { try copied.input(.hello(hello(.receiver, [old]))) } throws: { isPosition($0) }
        var far = Handshake(own: hello(.receiver, [old]), next: { _ in 48 }, committed: { _ in false })
        #expect(try far.input(.hello(hello(.transmitter, [old]))).count == 1)
        #expect(try far.input(.resolve(Resolve(epoch: old, answers: []))).count == 1)
        #expect { try far.tagVerified(.handshake) } throws: { isPosition($0) }
    }

    @Test("Noise that stands still shows no drift; noise or an offset that moves between calibration windows does")
    func drift() {
        let count = 1_000_000
        func window(variance: Double, mean: Int64 = 0) -> CalibrationSums {
            let squares = Int64(variance * Double(count)) + mean * mean * Int64(count)
            let sum = mean * Int64(count)
            return CalibrationSums(symbols: count, sumX: sum, sumP: sum, sumSquaresX: squares, sumSquaresP: squares)
        }
        // 1e-3 is the standard error of such a window.
        let still = (0..<16).map { window(variance: 22500 * (1 + 0.001 * ($0 % 2 == 0 ? 1 : -1))) }
        #expect(CalibrationLog.drift(still) == 0)
        #expect(CalibrationLog.drift([]) == 0 && CalibrationLog.drift([window(variance: 22500)]) == 0)
        let jump = (0..<16).map { window(variance: 22500 * ($0 < 8 ? 0.99 : 1.01)) }
        #expect(abs(CalibrationLog.drift(jump) - 0.0084) < 0.0003)
        let slow = (0..<16).map { window(variance: 22500 * (1 + 0.002 * Double($0 - 8) / 8)) }
        #expect(CalibrationLog.drift(slow) < 0.001)
        let offset = (0..<16).map { window(variance: 22500, mean: $0 == 3 ? 40 : 0) }
        #expect(CalibrationLog.drift(offset) > 0.05)
    }

    @Test("A transcript's tags fit only what was said, once")
    func transcript() throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let content = try InstalledSecret.make(bytes: 65536, random: SeededRandom(1))
        let path = folder.appendingPathComponent("s").path
        _ = FileManager.default.createFile(
            atPath: path, contents: content.withBytes { Data($0) }, attributes: [.posixPermissions: 0o600])
        let link = LinkID(unchecked: "a-b")
        func end(_ role: DeviceRole, nonce: UInt8 = 2) throws -> ChannelTranscript {
            let database = try LinkDatabase(path: folder.appendingPathComponent("\(role)-\(UUID())").path)
            try database.install(try InstalledSecret(path: path), on: link)
            var transcript = ChannelTranscript()
            try transcript.begin(
                try #require(try database.epochs(of: link).first), role: role, transmitterNonce: Array(repeating: 1, count: 32),
                receiverNonce: Array(repeating: nonce, count: 32))
            return transcript
        }
        func say(_ text: String, _ left: inout ChannelTranscript, _ right: inout ChannelTranscript, heard: String? = nil) {
            Array(text.utf8).withUnsafeBytes { left.sent($0) }
            Array((heard ?? text).utf8).withUnsafeBytes { right.received($0) }
        }
        var (left, right) = (try end(.transmitter), try end(.receiver))
        say("hello", &left, &right)
        let tag = try left.tag(.block)
        var replayed = right
        try right.check(tag)
        // The same tag again, for the same words: the stretch's number and the pad's cursor stand against it.
        Array("hello".utf8).withUnsafeBytes { right.received($0) }
        #expect(throws: QuantumLinkError.self) { try right.check(tag) }
        // Another purpose or other words: no.
        #expect(throws: QuantumLinkError.self) { try replayed.check(TagMessage(purpose: .commit, padOffset: tag.padOffset, tag: tag.tag)) }
        var (left2, right2) = (try end(.transmitter), try end(.receiver))
        say("hello", &left2, &right2, heard: "hellp")
        #expect(throws: QuantumLinkError.tagFailed(purpose: "block")) { try right2.check(try left2.tag(.block)) }
        // Another connection's nonces: no splicing.
        var (left3, right3) = (try end(.transmitter), try end(.receiver, nonce: 9))
        say("hello", &left3, &right3)
        #expect(throws: QuantumLinkError.self) { try right3.check(try left3.tag(.block)) }
    }
}
