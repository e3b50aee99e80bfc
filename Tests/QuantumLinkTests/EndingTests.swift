// How sessions end: cut anywhere, gone silent, void blocks. Nothing may wait for ever.

import Foundation
import KeyMaterial
import NIOCore
import NIOPosix
import QKDModel
import QuantumLink
import Synchronization
import Testing

@Suite("Ends of sessions", .serialized)
struct EndingTests {
    /// Whether `body` ended in time. It goes on by itself where it did not: a test must say so, not stand still.
    private func ends(within limit: Duration, _ body: @escaping @Sendable () async -> Void) async -> Bool {
        let isOver = Atomic(false)
        let over = Box(isOver)
        Task {
            await body()
            over.value.store(true, ordering: .sequentiallyConsistent)
        }
        let deadline = ContinuousClock.now + limit
        while !over.value.load(ordering: .sequentiallyConsistent), ContinuousClock.now < deadline {
            try? await Task.sleep(for: .milliseconds(5))
        }
        return over.value.load(ordering: .sequentiallyConsistent)
    }

    private final class Box: Sendable {
        let value: Atomic<Bool>
        init(_ value: consuming Atomic<Bool>) { self.value = value }
    }

    @Test("A session that is stopped in the middle of its frames ends, wherever it was")
    func stopped() async throws {
        for round in 0..<12 {
            let bench = UncheckedBench(try LinkBench(SyntheticChannel(seed: UInt64(300 + round))))
            let frames = round % 8
            let ended = await ends(within: .seconds(30)) {
                await bench.bench.run(limit: .seconds(20)) { sender, _ in sender.slotOpen && sender.framesDecoded >= frames }
            }
            #expect(ended, "round \(round)")
            guard ended else { return }
        }
    }

    @Test("A far end that goes silent on a connection that stands: the session ends, and the next one makes key", arguments: [2, 9, 0x16])
    func silent(after: Int) async throws {
        var patience = LinkSettings.Patience()
        (patience.aliveEvery, patience.silence, patience.progress) = (.milliseconds(100), .seconds(1), .seconds(2))
        let bench = try LinkBench(SyntheticChannel(seed: UInt64(400 + after)), patience: patience)
        let sockets = try await Sockets()
        // A relay between two real connections that stops to pass anything on, without closing them.
        let relay = try await sockets.relay { frame in
            guard after >= 0x10 else { return frame.type == 0x30 && frame.count >= after }
            return frame.type == UInt8(after)
        }
        let began = ContinuousClock.now
        let ended = await bench.run(over: relay.pipes, limit: .seconds(30)) { _, _ in false }
        #expect(relay.isSilent)
        #expect(ended.contains { $0.contains("no answer in time") }, "\(ended)")
        #expect(ContinuousClock.now - began < .seconds(25))
        #expect(try bench.transmitter.keys().isEmpty)
        await bench.run(over: try await sockets.pair()) { $0.blocksDeposited >= 1 && $1.blocksDeposited >= 1 }
        #expect(try !bench.transmitter.keys().isEmpty)
        #expect(try bench.receiver.database.blocksInDoubt(on: LinkBench.link).isEmpty)
        await sockets.close()
    }

    @Test("A receiver whose symbols stop coming costs a slot, not the link")
    func silentDevice() async throws {
        var patience = LinkSettings.Patience()
        (patience.progress, patience.symbols) = (.seconds(10), .milliseconds(500))
        let bench = try LinkBench(SyntheticChannel(seed: 31), patience: patience)
        let line = bench.line
        let told = Atomic(false)
        let box = Box(told)
        await bench.run { sender, receiver in
            if receiver.slotOpen, sender.framesDecoded >= 2, !box.value.exchange(true, ordering: .sequentiallyConsistent) {
                line.change { $0.receiverSilent = true }
            }
            if sender.slotsFailed >= 1 { line.change { $0.receiverSilent = false } }
            return sender.slotsFailed >= 1 && sender.blocksDeposited >= 1 && receiver.blocksDeposited >= 1
        }
        #expect(bench.transmitter.context.monitor.snapshot.slotsFailed >= 1)
        #expect(try !bench.transmitter.keys().isEmpty)
    }

    @Test("A receiver's noise that moves between calibrations voids the block at both ends, and the link ends in order")
    func calibrationDrift() async throws {
        let bench = UncheckedBench(try LinkBench(SyntheticChannel(seed: 32), blockSymbols: 8_000_000))
        let line = bench.bench.line
        let ended = await ends(within: .seconds(60)) {
            await bench.bench.run(limit: .seconds(40)) { sender, receiver in
                // Between the first and the last window of the block.
                if sender.slots >= 1 { line.change { $0.calibrationGain = 1.03 } }
                return receiver.alarms.contains { $0.kind == "calibration" } && sender.blocksVoid >= 1
            }
        }
        #expect(ended)
        #expect(bench.bench.receiver.context.monitor.snapshot.alarms.contains { $0.kind == "calibration" })
        #expect(try bench.bench.transmitter.keys().isEmpty && bench.bench.receiver.keys().isEmpty)
    }

    @Test("A device that turns from real to emulated within a block voids it: no key of it is called real")
    func provenanceChanges() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 33, emulated: false), blockSymbols: 8_000_000)
        let line = bench.line
        let first = Mutex<BlockID?>(nil)
        await bench.run { sender, receiver in
            if sender.slots >= 1, line.channel.emulated == false {
                first.withLock { $0 = sender.block }
                line.change { $0.emulated = true }
            }
            return sender.blocksDeposited >= 1 && receiver.blocksDeposited >= 1
        }
        #expect(bench.transmitter.context.monitor.snapshot.blocksVoid >= 1)
        for end in [bench.transmitter, bench.receiver] {
            let deposits = try end.database.pendingDeposits()
            #expect(!deposits.isEmpty && deposits.allSatisfy { $0.provenance == .emulated })
            #expect(!deposits.contains { $0.block == first.withLock { $0 } })
        }
    }

    @Test("A receiver whose first symbols are late loses no slot: the transmitter has sent all by then")
    func lateReceiver() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 38))
        bench.line.change { ($0.receiverLate, $0.transmitterCounts) = (250, true) }
        let reasons = Mutex(Set<String>())
        await bench.run { sender, receiver in
            reasons.withLock { $0.formUnion(sender.alarms.map(\.text)) }
            return sender.blocksDeposited >= 1 && receiver.blocksDeposited >= 1
        }
        #expect(bench.transmitter.context.monitor.snapshot.slotsFailed == 0, "\(reasons.withLock { $0 })")
        #expect(try !bench.transmitter.keys().isEmpty)
    }

    @Test("A receiver that turns slowly within a slot is followed")
    func phase() async throws {
        // .37 rad within a slot: without following it the last frames would be below what the code can bear, and T would look 5 % smaller.
        let bench = try LinkBench(SyntheticChannel(seed: 34, phaseRate: 0.012))
        await bench.run(limit: .seconds(30)) { $0.blocksDeposited >= 1 && $1.blocksDeposited >= 1 }
        let block = try #require(bench.transmitter.context.monitor.blocks.last)
        #expect(block.framesFailed <= 1)
        #expect(abs(block.transmittance - 0.5) < 0.01)
    }

    @Test("Ends that are killed at any moment and started anew never use a stretch of pad twice, and go on making key")
    func pads() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 35))
        let seen = Mutex<[Set<UInt64>]>([[], []])
        let twice = Mutex<[UInt64]>([])
        for round in 0..<6 {
            let count = Mutex(0)
            // Later in each round; the tags of handshakes, of blocks and of commits are all among what was said by then.
            let last = [3, 5, 9, 60, 64, 70][round]
            let cut: @Sendable (Int) -> MemoryPipe.Tamper = { direction in
                { message in
                    if message.getInteger(at: message.readerIndex + 4, as: UInt8.self) == 0x03,
                        let offset = message.getInteger(at: message.readerIndex + 6, endianness: .little, as: UInt64.self),
                        !seen.withLock({ $0[direction].insert(offset).inserted })
                    {
                        twice.withLock { $0.append(offset) }
                    }
                    let isDead = count.withLock { count in
                        count += 1
                        return count > last
                    }
                    return isDead ? [] : [message]
                }
            }
            await bench.run(tamperForward: cut(0), tamperBackward: cut(1), limit: .seconds(10)) { _, _ in count.withLock { $0 > last } }
            try bench.restart()
        }
        #expect(seen.withLock { $0.allSatisfy { $0.count >= 4 } })
        #expect(twice.withLock { $0 } == [])
        await bench.run { $0.blocksDeposited >= 1 && $1.blocksDeposited >= 1 }
        let (left, right) = (try bench.transmitter.keys(), try bench.receiver.keys())
        #expect(!left.isEmpty && left.map(\.block) == right.map(\.block))
        for (a, b) in zip(left, right) { #expect(a.key.matches(b.key)) }
    }

    @Test("Real connections: messages come whole and in order, too long ones and closed ends are noticed, the kernel watches")
    func networkPipe() async throws {
        let sockets = try await Sockets()
        let (left, right) = try await sockets.pair()
        for end in [left, right] {
            #expect(try await end.option(Int32(IPPROTO_TCP), TCP_USER_TIMEOUT) == 30_000)
            #expect(try await end.option(Int32(IPPROTO_TCP), TCP_KEEPIDLE) == 5)
            #expect(try await end.option(SOL_SOCKET, SO_KEEPALIVE) == 1)
            end.setLimit(MessageCodec.limit)
        }
        // More than the reader's high water and the sockets' buffers hold: the reader pauses and catches up.
        let sizes = (0..<60).map { $0 % 7 == 3 ? 3_000_000 : 1 + $0 * 977 }
        for (index, size) in sizes.enumerated() { left.send(Self.message(UInt8(index), size)) }
        try await Task.sleep(for: .milliseconds(200))
        for (index, size) in sizes.enumerated() {
            let message = try #require(try await right.receive())
            #expect(message.readableBytes == size)
            #expect(message.readableBytesView.allSatisfy { $0 == UInt8(index) })
        }
        left.close()
        #expect(try await right.receive() == nil)

        // Before the handshake nobody may send more than 64 KiB.
        let (third, fourth) = try await sockets.pair()
        third.send(Self.message(7, 20))
        third.send(Self.message(1, MessageCodec.handshakeLimit + 1))
        #expect(try await fourth.receive()?.readableBytes == 20)
        // What came before is still handed on; then the reason, which is an alarm.
        await #expect(throws: QuantumLinkError.badMessage("one of \(MessageCodec.handshakeLimit + 1) bytes is announced")) {
            try await fourth.receive()
        }
        fourth.close()
        #expect(try await third.receive() == nil)
        await sockets.close()
    }

    private static func message(_ byte: UInt8, _ size: Int) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(UInt32(size), endianness: .little)
        buffer.writeRepeatingByte(byte, count: size)
        return buffer
    }
}

/// Lends a bench to a task that may outlive the test.
private struct UncheckedBench: @unchecked Sendable {
    let bench: LinkBench
    init(_ bench: LinkBench) { self.bench = bench }
}

/// Connections of the classical channel over loopback.
private final class Sockets: Sendable {
    private let group = MultiThreadedEventLoopGroup.singleton
    private let listener: any Channel
    private let accepted: MessageQueue<NetworkPipe>

    init() async throws {
        let accepted = MessageQueue<NetworkPipe>()
        self.accepted = accepted
        listener = try await NetworkPipe.listen(host: "127.0.0.1", port: 0, group: MultiThreadedEventLoopGroup.singleton) {
            accepted.put($0)
        }
    }

    func pair() async throws -> (NetworkPipe, NetworkPipe) {
        let port = try #require(listener.localAddress?.port)
        let left = try await NetworkPipe.connect(host: "127.0.0.1", port: port, group: group)
        return (left, try #require(await accepted.next()))
    }

    /// Two connections with a relay between them. When `stop` says so it passes on nothing more, in no direction, and closes nothing.
    func relay(_ stop: @escaping @Sendable (_ frame: (type: UInt8, count: Int)) -> Bool) async throws -> Relay {
        let ((left, near), (right, far)) = (try await pair(), try await pair())
        return Relay(pipes: (left, right), near, far, stop)
    }

    func close() async { try? await listener.close() }
}

private final class Relay: Sendable {
    let pipes: (NetworkPipe, NetworkPipe)
    private let silent = Mutex(false)
    var isSilent: Bool { silent.withLock { $0 } }

    init(
        pipes: (NetworkPipe, NetworkPipe), _ near: NetworkPipe, _ far: NetworkPipe,
        _ stop: @escaping @Sendable ((type: UInt8, count: Int)) -> Bool
    ) {
        self.pipes = pipes
        for (from, to) in [(near, far), (far, near)] {
            from.setLimit(MessageCodec.limit)
            Task {
                var counts: [UInt8: Int] = [:]
                while let message = try await from.receive() {
                    let type = message.getInteger(at: message.readerIndex, as: UInt8.self) ?? 0
                    counts[type, default: 0] += 1
                    if stop((type, counts[type] ?? 0)) { self.silent.withLock { $0 = true } }
                    // Read and thrown away, so that the kernel sees nothing amiss.
                    if self.isSilent { continue }
                    var buffer = ByteBuffer()
                    buffer.writeInteger(UInt32(message.readableBytes), endianness: .little)
                    buffer.writeImmutableBuffer(message)
                    to.send(buffer)
                }
                if !self.isSilent { to.close() }
            }
        }
    }
}
