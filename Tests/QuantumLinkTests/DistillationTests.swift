// Whole blocks through both ends over a synthetic channel: equal keys, null tests, attacks, tampering, cuts.

import Foundation
import KeyMaterial
import NIOCore
import PostProcessing
import QKDModel
import QuantumLink
import Synchronization
import Testing

@Suite("Distillation", .serialized)
struct DistillationTests {
    /// Both ends' committed blocks agree bit for bit; none has a committed block that the other does not hold.
    private func expectEqual(_ bench: LinkBench, atLeast: Int, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let left = try bench.transmitter.keys()
        let right = try bench.receiver.keys()
        #expect(left.count >= atLeast, sourceLocation: sourceLocation)
        for (a, b) in zip(left, right) {
            #expect(a.block == b.block, sourceLocation: sourceLocation)
            #expect(a.key.matches(b.key), sourceLocation: sourceLocation)
        }
    }

    @Test("Both ends hold the same key, block after block, and the account adds up")
    func equalKeys() async throws {
        let bench = try LinkBench()
        await bench.run { $0.blocksDeposited >= 3 && $1.blocksDeposited >= 3 }
        try expectEqual(bench, atLeast: 3)
        let reports = bench.transmitter.context.monitor.blocks
        for (report, key) in zip(reports, try bench.transmitter.keys()) {
            #expect(report.secretBits == report.depositedBits + report.padBits)
            #expect(8 * key.key.count == report.depositedBits)
            #expect(Double(report.rawBits - report.disclosedBits - report.holevoBits) > Double(report.secretBits))
            #expect(abs(report.transmittance - 0.5) < 0.01)
            #expect(abs(report.excessNoise - 0.002) < 5 * (report.terms["xi_error"] ?? 0))
            #expect(report.provenance == .emulated)
            // Where its time went, and what it cost on the channel: more than a byte and a half per quadrature came in.
            for stage in ["decode", "acquisition", "channel", "verification", "estimation", "amplification", "deposit", "opening"] {
                #expect((report.work.stages.seconds[stage] ?? 0) > 0, "\(stage)")
            }
            #expect(report.work.bytesReceived > 3 * report.symbols && report.work.bytesSent > 10_000)
        }
        let there = try #require(bench.receiver.context.monitor.blocks.first)
        for stage in ["encode", "acquisition", "verification", "amplification", "deposit"] {
            #expect((there.work.stages.seconds[stage] ?? 0) > 0, "\(stage)")
        }
        // What blocks spent came back: both pads stand where they began, and the cursors have moved.
        let account = try #require(try bench.transmitter.database.epochs(of: LinkBench.link).first).account()
        #expect(account.remaining > 32000)
    }

    @Test("Frames that do not decode get more bits in rounds, both ends charge them, and the keys are equal")
    func disclosure() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 51), efficiency: 0.948)
        await bench.run { $0.blocksDeposited >= 1 && $1.blocksDeposited >= 1 }
        try expectEqual(bench, atLeast: 1)
        let ends = [bench.transmitter, bench.receiver].map { $0.context.monitor.blocks }
        let report = try #require(ends[0].first { $0.secretBits > 0 })
        #expect(ends[1].first { $0.block == report.block }?.accounting == report.accounting)
        let rounds = report.framesInRound.enumerated().reduce(0) { $0 + $1.offset * $1.element }
        #expect(rounds > 0 && report.framesInRound.reduce(0, +) == report.framesDecoded)
        let code = try ReconciliationCode.named(report.code)
        #expect(report.disclosureBits == rounds * (code.disclosureBits + 1))
        // What rounds tell is in the balance, and saving frames lost none of them.
        #expect(report.terms["observed"] == Double(8 * report.framesDecoded + 6 * rounds + 128))
        #expect(Double(report.disclosedBits) > Double(report.framesDecoded * code.syndromeBits + report.disclosureBits))
        #expect(report.framesFailed <= 2)
    }

    @Test("Left to themselves the two ends choose a code, its efficiency and the modulation, and get about what they expected")
    func chosen() async throws {
        let bench = try LinkBench(
            SyntheticChannel(transmittance: 0.3, seed: 52), blockSymbols: 12_000_000, slotSymbols: 3_000_000, code: "auto")
        await bench.run { $0.blocksDeposited >= 1 && $1.blocksDeposited >= 1 }
        try expectEqual(bench, atLeast: 1)
        let report = try #require(bench.transmitter.context.monitor.blocks.first { $0.secretBits > 0 })
        #expect(ReconciliationCode.all.contains { report.code.hasPrefix($0.id) })
        let expected = Double(try #require(bench.transmitter.context.monitor.snapshot.expectedBits))
        // The choice keeps a margin for frames that do not decode, and one small block's noise is estimated to a fifth of the key.
        #expect((0.65...1.7).contains(Double(report.secretBits) / expected), "\(report.secretBits) of \(expected)")
        // Configurations that name different codes agree on none.
        let other = try LinkBench(SyntheticChannel(seed: 53), code: "auto")
        other.demand("r05-n204800", "r10-n204800")
        await other.run(limit: .seconds(4)) { sender, _ in sender.reason.contains("different codes") }
        #expect(other.transmitter.context.monitor.snapshot.reason.contains("different codes"))
    }

    @Test("An eavesdropper's noise, a cut fibre, another transmitter: no key and a reason")
    func noKey() async throws {
        let noisy = try LinkBench(SyntheticChannel(excessNoise: 0.3, seed: 3))
        await noisy.run { [$0, $1].allSatisfy { $0.blocksVoid >= 1 && $0.alarms.contains { $0.kind == "no-key" } } }
        #expect(try noisy.transmitter.keys().isEmpty && noisy.receiver.keys().isEmpty)
        #expect(noisy.transmitter.context.monitor.snapshot.blocksDeposited == 0)
        for end in [noisy.transmitter, noisy.receiver] { #expect(end.kinds.contains("no-key"), "\(end.kinds)") }

        for channel in [SyntheticChannel(seed: 4, cut: true), SyntheticChannel(seed: 5, otherSeed: 6)] {
            let bench = try LinkBench(channel)
            await bench.run(limit: .seconds(20)) { $0.slotsFailed >= 2 && $0.state == .pending && $1.state == .pending }
            #expect(bench.transmitter.context.monitor.snapshot.slotsFailed >= 2)
            #expect(bench.transmitter.context.monitor.snapshot.framesDecoded == 0)
            for end in [bench.transmitter, bench.receiver] {
                #expect(end.kinds.contains("no-correlation"), "\(end.kinds)")
                #expect(end.context.monitor.snapshot.reason.contains("no correlation"))
            }
            #expect(try bench.transmitter.keys().isEmpty && bench.receiver.keys().isEmpty)
        }
    }

    @Test("Light during calibration and a saturated converter give no key")
    func calibrationAttacks() async throws {
        // Light behind the shutter makes the eavesdropper's noise look trusted: the calibrated noise is then above what the signal shows.
        let light = try LinkBench(SyntheticChannel(excessNoise: 0.002, seed: 7, calibrationLight: 0.3))
        await light.run { sender, _ in sender.alarms.contains { $0.kind == "no-key" } || sender.blocksDeposited >= 1 }
        #expect(try light.transmitter.keys().isEmpty && light.receiver.keys().isEmpty)
        #expect(light.transmitter.context.monitor.snapshot.alarms.contains { $0.kind == "no-key" })

        let saturated = try LinkBench(SyntheticChannel(seed: 8, gain: 5))
        await saturated.run { sender, _ in !sender.alarms.isEmpty || sender.blocksDeposited >= 1 }
        #expect(try saturated.transmitter.keys().isEmpty && saturated.receiver.keys().isEmpty)
        let blocks = saturated.transmitter.context.monitor.snapshot
        #expect(!blocks.alarms.isEmpty, "\(blocks.reason)")
    }

    @Test("Saturation in a calibration is seen: no slot opens")
    func calibrationSaturated() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 12, calibrationSaturated: 20))
        await bench.run(limit: .seconds(4)) { sender, _ in sender.blocksDeposited >= 1 }
        #expect(bench.transmitter.context.monitor.snapshot.slots == 0)
        #expect(bench.receiver.context.monitor.snapshot.alarms.contains { $0.kind == "calibration" && $0.text.contains("saturated") })
        #expect(try bench.transmitter.keys().isEmpty && bench.receiver.keys().isEmpty)
    }

    @Test("A receiver that restarts under an open block costs that block, not the link")
    func receiverRestarts() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 15), blockSymbols: 8_000_000)
        let line = bench.line
        // One connection only: a session that ended would leave no key.
        await bench.run { sender, receiver in
            if receiver.slots >= 1, line.channel.restarts == 0 { line.change { $0.restarts = 1 } }
            return sender.blocksDeposited >= 1 && receiver.blocksDeposited >= 1 && line.channel.restarts == 1
        }
        #expect(bench.receiver.context.monitor.snapshot.blocksVoid >= 1)
        try expectEqual(bench, atLeast: 1)
    }

    @Test("After emulated blocks the pads authenticate no block of real devices")
    func provenance() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 13))
        await bench.run { $0.blocksDeposited >= 1 && $1.blocksDeposited >= 1 }
        let before = try bench.transmitter.keys().count
        bench.line.change { $0.emulated = false }
        await bench.run(limit: .seconds(10)) { sender, _ in sender.alarms.contains { $0.kind == "provenance" } }
        #expect(bench.transmitter.context.monitor.snapshot.reason.contains("secret install"))
        #expect(try bench.transmitter.keys().count == before)
    }

    @Test("Extreme numbers in a message that anybody could forge end the connection, not the process", arguments: [0x05, 0x15, 0x16, 0x26])
    func extremeNumbers(type: Int) async throws {
        let bench = try LinkBench(SyntheticChannel(seed: UInt64(200 + type)))
        let tamper: MemoryPipe.Tamper = { message in
            guard message.getInteger(at: message.readerIndex + 4, as: UInt8.self) == UInt8(type) else { return [message] }
            let body = message.readerIndex + 5
            var changed = message
            switch type {
            case 0x05: changed.setInteger((1e300).bitPattern, at: message.writerIndex - 16, endianness: .little)
            case 0x15: changed.setInteger(UInt64(1) << 63, at: body + 120, endianness: .little)
            case 0x16: changed.setInteger(UInt64(1) << 63, at: body + 56, endianness: .little)
            default:
                let utc = message.getInteger(at: body + 4, endianness: .little, as: UInt64.self) ?? 0
                changed.setInteger(utc + 10_000_000_000, at: body + 4, endianness: .little)
            }
            return [changed]
        }
        await bench.run(tamperForward: tamper, tamperBackward: tamper, limit: .seconds(8)) { sender, _ in sender.slotsFailed >= 1 }
        #expect(try bench.transmitter.keys().isEmpty && bench.receiver.keys().isEmpty)
    }

    @Test("A wrong expectation of the loss costs one block's start, not its key")
    func retunes() async throws {
        let bench = try LinkBench(SyntheticChannel(transmittance: 0.45, seed: 9), loss: 3.0)
        await bench.run { $0.blocksDeposited >= 1 && $1.blocksDeposited >= 1 }
        try expectEqual(bench, atLeast: 1)
        #expect(bench.transmitter.context.monitor.snapshot.blocksVoid >= 1)
    }

    @Test(
        "A bit flipped, a message dropped, repeated or injected: no key from that block, and the link recovers",
        arguments: ["flip", "drop", "repeat", "inject"])
    func tampering(how: String) async throws {
        let bench = try LinkBench(SyntheticChannel(seed: UInt64(how.utf8.reduce(10) { $0 + UInt64($1) })))
        let count = Atomic<Int>(0)
        let victim = Mutex(ByteBuffer())
        let tamper: MemoryPipe.Tamper = { message in
            // The frames of the first slot are far enough from the handshake, and many.
            guard message.getInteger(at: message.readerIndex + 4, as: UInt8.self) == 0x30,
                count.add(1, ordering: .sequentiallyConsistent).newValue == 9
            else { return [message] }
            victim.withLock { $0 = message }
            switch how {
            case "flip":
                var changed = message
                let place = message.readerIndex + message.readableBytes - 100
                changed.setInteger((message.getInteger(at: place, as: UInt8.self) ?? 0) ^ 4, at: place)
                return [changed]
            case "drop": return []
            case "repeat": return [message, message]
            default:
                var forged = ByteBuffer()
                MessageCodec.write(.blockAbort(BlockID(UUID()), reason: "forged"), to: &forged)
                return [forged, message]
            }
        }
        let ends = await bench.run(tamperBackward: tamper, limit: .seconds(15)) { left, _ in left.blocksDeposited + left.blocksVoid >= 2 }
        #expect(count.load(ordering: .sequentiallyConsistent) >= 9)
        #expect(!ends.isEmpty, "the connection must not survive")
        // Whoever found it told the other.
        #expect(bench.transmitter.kinds.contains("tampering") && bench.receiver.kinds.contains("tampering"))
        #expect(bench.transmitter.context.monitor.snapshot.tamperings + bench.receiver.context.monitor.snapshot.tamperings >= 1)
        #expect(bench.transmitter.context.monitor.snapshot.blocksVoid >= 1)
        #expect(try bench.transmitter.keys().isEmpty && bench.receiver.keys().isEmpty)
        // Reconnected, the same ends with the same pads go on. What was seen is still said.
        await bench.run { $0.blocksDeposited >= 1 && $1.blocksDeposited >= 1 }
        #expect((bench.transmitter.kinds + bench.receiver.kinds).contains("tampering"))
        try expectEqual(bench, atLeast: 1)
    }

    @Test(
        "Cut at any message of a block's end, both ends end up with the block or neither",
        arguments: [0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x03])
    func bothOrNone(type: Int) async throws {
        let bench = try LinkBench(SyntheticChannel(seed: UInt64(100 + type)))
        let seen = Atomic<Int>(0)
        let pipe = Mutex<Bool>(false)
        let cut: MemoryPipe.Tamper = { message in
            let isIt = message.getInteger(at: message.readerIndex + 4, as: UInt8.self) == UInt8(type)
            // Tags: the third of a direction or later, behind the handshake's.
            if isIt, seen.add(1, ordering: .sequentiallyConsistent).newValue >= (type == 3 ? 2 : 1) { pipe.withLock { $0 = true } }
            return pipe.withLock { $0 } ? [] : [message]
        }
        await bench.run(tamperForward: cut, tamperBackward: cut, limit: .seconds(6)) { _, _ in pipe.withLock { $0 } }
        #expect(pipe.withLock { $0 })
        // The next connection settles what was in doubt, and the pads still fit each other.
        await bench.run { $0.blocksDeposited >= 1 && $1.blocksDeposited >= 1 }
        #expect(try bench.receiver.database.blocksInDoubt(on: LinkBench.link).isEmpty)
        let left = Set(try bench.transmitter.keys().map(\.block))
        let right = Set(try bench.receiver.keys().map(\.block))
        #expect(left == right)
        try expectEqual(bench, atLeast: 1)
    }
}
