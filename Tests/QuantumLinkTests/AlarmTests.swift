// Faults that come and go on a whole link: no key, an alarm at once, and key again without anybody's help.

import Foundation
import NIOCore
import QKDModel
import QuantumLink
import Synchronization
import Testing

extension End {
    var kinds: [String] { context.monitor.snapshot.alarms.map(\.kind) }
}

@Suite("Alarms of a link", .serialized)
struct AlarmTests {
    @Test("Saturation comes and goes: its windows never count, the block is given up, and the link makes key again by itself")
    func saturation() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 61), blockSymbols: 8_000_000)
        let line = bench.line
        let stage = Mutex(0)
        await bench.run { sender, receiver in
            switch stage.withLock({ $0 }) {
            case 0 where sender.slots >= 1:
                line.change { $0.calibrationSaturated = 20 }
                stage.withLock { $0 = 1 }
            case 1
            where receiver.alarms.contains { $0.kind == "calibration" && $0.text.contains("saturated") }
                && receiver.state == .pending && sender.blocksVoid >= 1:
                line.change { $0.calibrationSaturated = 0 }
                stage.withLock { $0 = 2 }
            default: break
            }
            return stage.withLock { $0 } == 2 && sender.blocksDeposited >= 1 && receiver.blocksDeposited >= 1
                && receiver.alarms.isEmpty
        }
        #expect(stage.withLock { $0 } == 2)
        #expect(bench.receiver.kinds.isEmpty && bench.receiver.context.monitor.snapshot.state == .active)
        let keys = (try bench.transmitter.keys(), try bench.receiver.keys())
        #expect(!keys.0.isEmpty && keys.0.map(\.block) == keys.1.map(\.block))
    }

    @Test("A calibration whose symbols stop coming fails with an alarm and is made again")
    func calibrationSilent() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 62), blockSymbols: 8_000_000, calibrationPatience: .milliseconds(300))
        let line = bench.line
        line.change { $0.calibrationSilent = true }
        let seen = Mutex(false)
        await bench.run { sender, receiver in
            if receiver.alarms.contains(where: { $0.kind == "calibration" && $0.text.contains("calibrations fail") }) {
                seen.withLock { $0 = true }
                line.change { $0.calibrationSilent = false }
            }
            return sender.blocksDeposited >= 1 && receiver.alarms.isEmpty
        }
        #expect(seen.withLock { $0 })
        #expect(try !bench.transmitter.keys().isEmpty)
    }

    @Test("A fibre that is cut ends the state ACTIVE at both ends with an alarm; light brings it back")
    func fibreCut() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 63), blockSymbols: 12_000_000)
        let line = bench.line
        let seen = Mutex(false)
        await bench.run { sender, receiver in
            if sender.slots == 1, !line.channel.cut { line.change { $0.cut = true } }
            if sender.state == .pending, receiver.state == .pending,
                [sender, receiver].allSatisfy({ $0.alarms.contains { $0.kind == "no-correlation" && $0.severity == .major } })
            {
                seen.withLock { $0 = $0 || sender.snr == nil }
                line.change { $0.cut = false }
            }
            return seen.withLock { $0 } && sender.state == .active && receiver.state == .active && sender.blocksDeposited >= 1
        }
        #expect(seen.withLock { $0 })
        #expect(bench.transmitter.kinds.isEmpty && bench.receiver.kinds.isEmpty)
    }

    @Test("A step of the shot noise stays after the light is gone, until somebody acknowledges it")
    func step() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 64))
        let line = bench.line
        await bench.run { sender, receiver in
            if sender.blocksDeposited >= 1 { line.change { $0.calibrationGain = 1.04 } }
            return receiver.alarms.contains { $0.kind == "calibration" && $0.text.contains("long-term") }
        }
        #expect(bench.receiver.kinds.contains("calibration"))
        let before = bench.transmitter.context.monitor.snapshot.blocksDeposited
        // Neither time nor a new connection ends it.
        line.change { $0.calibrationGain = 1 }
        await bench.run(limit: .seconds(3)) { _, _ in false }
        #expect(bench.receiver.kinds.contains("calibration"))
        #expect(bench.transmitter.context.monitor.snapshot.reason.contains("long-term"))
        #expect(bench.transmitter.context.monitor.snapshot.blocksDeposited == before)
        await bench.receiverStation.acknowledge()
        let ended = await bench.run { $0.blocksDeposited > before && !$1.alarms.contains { $0.kind == "calibration" } }
        #expect(ended.isEmpty, "\(ended)")
        #expect(bench.transmitter.context.monitor.snapshot.blocksDeposited > before)
    }

    @Test("One message that vanishes is noticed with the next sign of life, whatever it was", arguments: [0x11, 0x15, 0x20, 0x23, 0x31])
    func vanished(type: Int) async throws {
        var patience = LinkSettings.Patience()
        patience.aliveEvery = .milliseconds(500)
        let bench = try LinkBench(SyntheticChannel(seed: UInt64(600 + type)), patience: patience)
        let isGone = Mutex(false)
        let tamper: MemoryPipe.Tamper = { message in
            guard message.getInteger(at: message.readerIndex + 4, as: UInt8.self) == UInt8(type) else { return [message] }
            return isGone.withLock { gone in
                defer { gone = true }
                return gone ? [message] : []
            }
        }
        let began = ContinuousClock.now
        let ended = await bench.run(tamperForward: tamper, tamperBackward: tamper, limit: .seconds(20)) { _, _ in false }
        #expect(isGone.withLock { $0 } && !ended.isEmpty, "\(ended)")
        #expect(ContinuousClock.now - began < .seconds(15))
        #expect((bench.transmitter.kinds + bench.receiver.kinds).contains("tampering"))
        #expect(try bench.transmitter.keys().isEmpty)
    }
}
