// What is an alarm and what is not: the values that decide.

import Foundation
import PostProcessing
import QKDModel
import QKDTesting
import QuantumLink
import Synchronization
import Testing

/// A health whose steps an expectation can take.
private final class Probe {
    private var health = LinkHealth()
    func generating() -> [LinkHealth.Effect] { health.generating() }
    func slotEnded(frames: Int, reason: String, now: LinkHealth.Instant) -> [LinkHealth.Effect] {
        health.slotEnded(frames: frames, reason: reason, now: now)
    }
    func look(_ facts: LinkHealth.Facts, now: LinkHealth.Instant) -> [LinkHealth.Effect] { health.look(facts, now: now) }
    func connected(now: LinkHealth.Instant) -> [LinkHealth.Effect] { health.connected(now: now) }
    func ended(_ error: any Error, now: LinkHealth.Instant) -> [LinkHealth.Effect] { health.ended(error, now: now) }
    func blockEnded(hasKey: Bool, reason: String) -> [LinkHealth.Effect] { health.blockEnded(hasKey: hasKey, reason: reason) }
    func acknowledge() -> [LinkHealth.Effect] { health.acknowledge() }
}

@Suite("Health of a link")
struct HealthTests {
    private let start = ContinuousClock.now
    private let noLock = "device rx: its pilot did not lock within 60 s"

    private func raised(_ effects: [LinkHealth.Effect]) -> [AlarmKind] {
        effects.compactMap { if case .raise(let kind, _, _) = $0 { kind } else { nil } }
    }

    private func cleared(_ effects: [LinkHealth.Effect]) -> [AlarmKind] {
        effects.compactMap { if case .clear(let kind) = $0 { kind } else { nil } }
    }

    @Test("Slots that fail twice are an alarm and end the state ACTIVE; one that gives frames ends it")
    func slots() {
        let health = Probe()
        #expect(health.generating() == [.show(.active, "generating")])
        #expect(health.slotEnded(frames: 0, reason: noLock, now: start) == [])
        #expect(
            health.slotEnded(frames: 0, reason: noLock, now: start + .seconds(1)) == [
                .raise(.noLight, .major, noLock), .show(.pending, noLock),
            ])
        // Said once.
        #expect(health.slotEnded(frames: 0, reason: noLock, now: start + .seconds(2)) == [])
        // A block that is agreed on meanwhile changes nothing.
        #expect(health.generating() == [.show(.pending, noLock)])
        #expect(health.slotEnded(frames: 12, reason: "", now: start + .seconds(3)) == [.clear(.noLight), .show(.active, "generating")])
        // One failure is none, unless nothing succeeds for ten seconds.
        #expect(health.slotEnded(frames: 3, reason: "alignment was lost", now: start + .seconds(4)) == [])
        #expect(health.look(connected(), now: start + .seconds(13)) == [])
        #expect(raised(health.look(connected(), now: start + .seconds(15))) == [.noCorrelation])
        // What a slot was ended for elsewhere says nothing of it.
        let other = Probe()
        for second in 0..<5 { #expect(other.slotEnded(frames: 0, reason: "the block is over", now: start + .seconds(second)) == []) }
    }

    private func connected() -> LinkHealth.Facts {
        var facts = LinkHealth.Facts()
        (facts.isConnected, facts.hasBlock) = (true, true)
        return facts
    }

    @Test(
        "Reasons of slots have their kinds",
        arguments: [
            ("no correlation between what was sent and what was received", "no-correlation"), ("the receiver lost its lock", "no-light"),
            ("device rx: no answer within 5 s", "device"), ("device rx: another session holds its lock (a capture?)", "device"),
            ("no answer in time: symbols of the receiver", "slots"),
            ("the receiver's shot noise stepped by 1.7 % of the shot noise", "calibration"),
            ("the shot calibration is saturated: 106339 of 262144 samples", "calibration"),
        ])
    func kinds(reason: String, kind: String) { #expect(AlarmKind(slotReason: reason)?.rawValue == kind) }

    @Test("Changed bytes are held until somebody has seen them, or ten minutes; a used pad position has its own alarm; cuts count")
    func connection() {
        let health = Probe()
        _ = health.connected(now: start)
        for error in [
            QuantumLinkError.tagFailed(purpose: "block"), .badMessage("x"), .unexpected(message: "frame", during: "a slot"),
            .messagesLost(sent: 5, received: 4),
        ] {
            let effects = health.ended(error, now: start)
            #expect(raised(effects) == [.tampering] && effects.contains(.countTampering), "\(error)")
        }
        // The next good handshake does not end it.
        #expect(!cleared(health.connected(now: start + .seconds(1))).contains(.tampering))
        #expect(cleared(health.look(connected(), now: start + .seconds(590))) == [])
        #expect(cleared(health.look(connected(), now: start + .seconds(601))) == [.tampering])

        #expect(raised(health.ended(QuantumLinkError.padPosition("used"), now: start + .seconds(700))) == [.tagRefused])
        #expect(health.acknowledge().contains(.clear(.tagRefused)))
        // The end that was refused learns it from the other's last word.
        let told = QuantumLinkError.closed("the far end refused: a tag was refused here: it names a pad position that was used before")
        #expect(raised(health.ended(told, now: start + .seconds(701))) == [.tagRefused])
        // So does the end whose bytes were changed.
        let heard = QuantumLinkError.closed("the far end found changed bytes: the block tag does not match")
        #expect(raised(health.ended(heard, now: start + .seconds(701))) == [.tampering])
        #expect(health.acknowledge() == [.clear(.tagRefused), .clear(.tampering)])
        #expect(raised(health.ended(QuantumLinkError.database("full"), now: start + .seconds(702))) == [.database])
        #expect(cleared(health.connected(now: start + .seconds(703))).contains(.database))

        // The third cut within five minutes.
        var raisedAt: [Int] = []
        for cut in 1...3 {
            _ = health.connected(now: start + .seconds(800 + cut))
            let effects = health.ended(QuantumLinkError.closed("the far end hung up"), now: start + .seconds(800 + cut))
            #expect(effects.contains(.countInterruption))
            if raised(effects) == [.channel] { raisedAt.append(cut) }
        }
        #expect(raisedAt == [3])
        #expect(!cleared(health.connected(now: start + .seconds(805))).contains(.channel))
        #expect(cleared(health.look(connected(), now: start + .seconds(1110))) == [.channel])
    }

    @Test("A far end out of reach, a device that is away, a receiver that is not ready: each after a while, until it is over")
    func conditions() {
        let health = Probe()
        var facts = LinkHealth.Facts()
        #expect(health.look(facts, now: start) == [])
        #expect(raised(health.look(facts, now: start + .seconds(11))) == [.channel])
        #expect(health.look(facts, now: start + .seconds(12)) == [])
        facts = connected()
        #expect(cleared(health.look(facts, now: start + .seconds(13))) == [.channel])
        (facts.device, facts.deviceReason) = (.off, "OFF: no answer")
        _ = health.generating()
        #expect(health.look(facts, now: start + .seconds(14)) == [])
        let away = health.look(facts, now: start + .seconds(25))
        #expect(away == [.raise(.device, .major, "OFF: no answer"), .show(.pending, "OFF: no answer")])
        // Slots that fail of the same have nothing to add; the first words stay.
        let silent = "device rx: no answer within 5 s"
        for second in 0...2 { #expect(health.slotEnded(frames: 0, reason: silent, now: start + .seconds(25 + second)) == []) }
        #expect(health.look(facts, now: start + .seconds(28)) == [])
        #expect(health.slotEnded(frames: 5, reason: "", now: start + .seconds(28)) == [])
        facts.device = .ready
        #expect(health.look(facts, now: start + .seconds(29)) == [.clear(.device), .show(.active, "generating")])
        (facts.receiver, facts.isCalibrating) = ("calibrating: 1 of 2", true)
        #expect(health.look(facts, now: start + .seconds(30)) == [])
        #expect(health.look(facts, now: start + .seconds(50)) == [])
        #expect(raised(health.look(facts, now: start + .seconds(91))) == [.receiver])
        facts.receiver = nil
        #expect(cleared(health.look(facts, now: start + .seconds(92))) == [.receiver])
        // No block for ten seconds: whatever the transmitter's end does, the link generates nothing.
        facts.hasBlock = false
        #expect(health.look(facts, now: start + .seconds(93)) == [])
        guard case .show(.pending, _)? = health.look(facts, now: start + .seconds(104)).first else {
            Issue.record("still ACTIVE")
            return
        }
        // Without authentication key there is another alarm.
        let poor = Probe()
        facts = LinkHealth.Facts()
        facts.hasPad = false
        for second in [0, 20] { #expect(poor.look(facts, now: start + .seconds(second)) == []) }
    }

    @Test("Blocks without key in a row are a major alarm; key ends it")
    func blocks() {
        let health = Probe()
        #expect(health.blockEnded(hasKey: false, reason: "noise") == [] && health.blockEnded(hasKey: false, reason: "noise") == [])
        #expect(raised(health.blockEnded(hasKey: false, reason: "noise")) == [.noKey])
        #expect(health.blockEnded(hasKey: true, reason: "") == [.clear(.noKey)])
        #expect(health.blockEnded(hasKey: false, reason: "noise") == [])
    }

    // MARK: The port

    @Test("Idle connections make room: a newcomer always has a place, whoever has spoken stays longest")
    func door() {
        var door = DoorKeeper()
        var ids: [Int] = []
        for _ in 0..<DoorKeeper.placesPerAddress {
            let (id, evicted) = door.enter(from: "10.0.0.1", isPeer: false)
            #expect(evicted == nil)
            ids.append(id)
        }
        door.spoke(ids[0])
        // The oldest that is silent goes, of the same address.
        let seventh = door.enter(from: "10.0.0.1", isPeer: false)
        #expect(seventh.evicted == ids[1])
        for address in 2..<6 { for _ in 0..<6 { _ = door.enter(from: "10.0.0.\(address)", isPeer: address == 2) } }
        #expect(door.count == 30)
        let others = (0..<2).map { door.enter(from: "10.0.1.\($0)", isPeer: false) }
        #expect(others.allSatisfy { $0.evicted == nil } && door.count == DoorKeeper.places)
        // Full: strangers go before configured peers, silent ones before those that spoke.
        let peer = door.enter(from: "10.9.9.9", isPeer: true)
        #expect(peer.evicted == ids[2] && door.count == DoorKeeper.places)
        door.leave(peer.id)
        let again = door.enter(from: "10.9.9.9", isPeer: true)
        #expect(again.evicted == nil)
    }

    // MARK: Long-term noise

    private func window(_ variance: Double, symbols: Int) -> CalibrationSums {
        // Exact moments: what windows say is as if nature had no statistics.
        let squares = Int64(variance * Double(symbols - 1))
        return CalibrationSums(symbols: symbols, sumX: 0, sumP: 0, sumSquaresX: squares, sumSquaresP: squares)
    }

    @Test("A step of the shot noise stays until it is acknowledged, over a restart too; slow drift is followed")
    func noise() throws {
        let dark = window(1000, symbols: 2_000_000)
        func shot(_ factor: Double) -> CalibrationSums { window(1000 + 20_000 * factor, symbols: 2_000_000) }
        var watch = ShotNoiseWatch()
        let hour: UInt64 = 3_600_000_000_000
        let isFirst = watch.saw(shot: shot(1), dark: dark, time: hour)
        #expect(isFirst)
        // .5 % in each of ten hours.
        for hours in 1...10 { _ = watch.saw(shot: shot(1 + 0.005 * Double(hours)), dark: dark, time: hour * UInt64(1 + hours)) }
        #expect(watch.step == nil)
        // 4 % at once: light behind the shutter.
        let isSeen = watch.saw(shot: shot(1.05 * 1.04), dark: dark, time: hour * 11 + 1_000_000_000)
        #expect(isSeen)
        let text = try #require(watch.step)
        #expect(text.contains("shot noise stepped by"))
        // It goes away by itself: nothing is forgotten.
        _ = watch.saw(shot: shot(1.05), dark: dark, time: hour * 12)
        #expect(watch.step == text)

        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appendingPathComponent("x.sqlite").path
        try LinkDatabase(path: path).keep(watch.reference, of: "RX")
        var again = ShotNoiseWatch(try LinkDatabase(path: path).noiseReference(of: "RX"))
        #expect(again.step == text)
        #expect(try LinkDatabase(path: path).noiseReference(of: "RX2") == nil)
        again.acknowledge()
        _ = again.saw(shot: shot(1.09), dark: dark, time: hour)
        #expect(again.step == nil)
        // Noise that only looks electronic would be trusted too.
        let (lit, dim) = (window(1800 + 20_000 * 1.09, symbols: 2_000_000), window(1800, symbols: 2_000_000))
        _ = again.saw(shot: lit, dark: dim, time: hour + 1)
        #expect(again.step?.contains("electronic") == true)
    }

    // MARK: Silence of devices

    @Test("A wait for frames that were lost ends when the device is done; a device that works and gives nothing is stuck")
    func silence() async throws {
        var patience = SilenceWatch.Patience()
        (patience.every, patience.quiet, patience.most) = (.milliseconds(5), .milliseconds(20), .milliseconds(200))
        for busy in [false, true] {
            let cuts = Mutex(0)
            let watch = SilenceWatch(patience, isBusy: { busy }, cut: { cuts.withLock { $0 += 1 } })
            watch.start()
            let began = ContinuousClock.now
            for _ in 0..<10 {
                watch.saw()
                try await Task.sleep(for: .milliseconds(5))
            }
            while cuts.withLock({ $0 }) == 0, ContinuousClock.now - began < .seconds(10) { try await Task.sleep(for: .milliseconds(5)) }
            #expect(cuts.withLock { $0 } == 1 && watch.isStuck == busy)
            #expect(ContinuousClock.now - began >= (busy ? .milliseconds(200) : .milliseconds(50)))
        }
        // Nobody is cut while frames come, nor after the end.
        let cuts = Mutex(0)
        let watch = SilenceWatch(patience, isBusy: { false }, cut: { cuts.withLock { $0 += 1 } })
        watch.start()
        watch.stop()
        try await Task.sleep(for: .milliseconds(100))
        #expect(cuts.withLock { $0 } == 0)
    }
}
