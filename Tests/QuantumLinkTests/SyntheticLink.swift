// A synthetic quantum channel for the link's tests: what the receiver reports is what the transmitter sent, through
// loss, excess noise, detection and a converter. Symbols are functions of (seed, index), so neither device computes for the other.

import Foundation
import QKDModel
import QuantumLink
import QuantumOptics
import Synchronization

/// The truth that a test knows.
struct SyntheticChannel: Sendable {
    var transmittance = 0.5
    /// SNU at the input
    var excessNoise = 0.002
    var efficiency = 0.8
    var electronicNoise = 0.05
    /// LSB per sqrt(SNU)
    var unit = 150.0
    var symbolRate = 5e6
    /// The receiver's UTC against the transmitter's.
    var clockSkew = 0.0021
    var seed: UInt64 = 1
    /// Nothing of the signal arrives.
    var cut = false
    /// The receiver sees another transmitter's symbols.
    var otherSeed: UInt64?
    /// Factor on everything that the receiver's converter sees.
    var gain = 1.0
    /// SNU of light that leaks in behind the shutter during SHOT.
    var calibrationLight = 0.0
    /// Samples per batch that the converter marks as saturated during calibrations.
    var calibrationSaturated = 0
    /// What the two devices say of themselves.
    var emulated = true
    /// The receiver was switched off and on: its clock began anew.
    var restarts = 0
    /// rad per batch of the receiver within an acquisition, behind what alignment sees.
    var phaseRate = 0.0
    /// Factor on the calibrations' noise, of windows from now on.
    var calibrationGain = 1.0
    /// The receiver's device stops giving symbols, without a word.
    var receiverSilent = false
    /// Milliseconds that each of the first batches of an acquisition comes late at the receiver.
    var receiverLate = 0
    /// The transmitter sends as many symbols as it was asked for, and no more.
    var transmitterCounts = false
    /// A calibration gives no symbols, without a word.
    var calibrationSilent = false
}

final class SyntheticLine: Sendable {
    struct State {
        var channel: SyntheticChannel
        var variance = 1.0
        var transmitterAt = 0
        var receiverAt = 0
        var receiverRuns = false
        var slots = 0
    }

    static let batch = 65536
    static let ahead = 4 << 20
    let state: Mutex<State>

    init(_ channel: SyntheticChannel) { state = Mutex(State(channel: channel)) }

    var channel: SyntheticChannel {
        get { state.withLock { $0.channel } }
    }

    func change(_ change: (inout SyntheticChannel) -> Void) { state.withLock { change(&$0.channel) } }

    fileprivate func time(_ index: Int, skew: Double = 0) -> UInt64 {
        1_700_000_000_000_000_000 + UInt64((Double(index) / 5e6 + skew) * 1e9)
    }
}

final class SyntheticTransmitter: SlotTransmitter {
    let line: SyntheticLine
    init(_ line: SyntheticLine) { self.line = line }

    func facts() async throws -> DeviceFacts {
        DeviceFacts(serial: "TX", emulated: line.channel.emulated, symbolRate: line.channel.symbolRate)
    }
    func condition() async -> (state: DeviceState, reason: String) { (.ready, "") }
    func light(path: String, variance: Double) async throws { line.state.withLock { $0.variance = variance } }

    func start(symbols: Int?) async throws -> any SymbolFeed {
        line.state.withLock { state in
            state.transmitterAt = max(state.transmitterAt, state.receiverAt) + 100_003
        }
        return Feed(line, symbols: line.channel.transmitterCounts ? symbols ?? .max : .max)
    }

    func stop() async throws { stopped.withLock { $0 += 1 } }
    private let stopped = Mutex(0)

    final class Feed: SymbolFeed {
        let line: SyntheticLine
        let begun: Int
        let left: Mutex<Int>
        init(_ line: SyntheticLine, symbols: Int) {
            self.line = line
            left = Mutex(symbols)
            begun = line.state.withLock { $0.transmitterAt }
        }

        func next() async throws -> SymbolBatch? {
            // A device makes its reader wait; without that, two feeds would hold both threads of a small machine.
            await Task.yield()
            // As a device does: whole batches, and no more than were asked for.
            let goesOn = left.withLock { left in
                defer { left -= min(left, SyntheticLine.batch) }
                return left > 0
            }
            guard goesOn else { return nil }
            var waited = 0
            while line.state.withLock({ $0.transmitterAt > ($0.receiverRuns ? $0.receiverAt : begun) + SyntheticLine.ahead }) {
                try await Task.sleep(for: .milliseconds(1))
                waited += 1
                // The receiver has stopped: so does this end.
                if waited > 200 { return nil }
            }
            let (first, channel, variance) = line.state.withLock { state in
                defer { state.transmitterAt += SyntheticLine.batch }
                return (state.transmitterAt, state.channel, state.variance)
            }
            let stream = SymbolStream(seed: channel.seed, stream: 1)
            let samples = [Int16](unsafeUninitializedCapacity: 2 * SyntheticLine.batch) { buffer, count in
                stream.fill(UnsafeMutableBufferPointer(rebasing: buffer[0..<2 * SyntheticLine.batch]), first: UInt64(first))
                count = 2 * SyntheticLine.batch
            }
            return SymbolBatch(
                kind: .signal, count: SyntheticLine.batch, deviceTime: line.time(first) - 1_600_000_000_000_000_000, utc: line.time(first),
                scale: stream.scale(modulationVariance: variance), storage: samples)
        }
    }
}

final class SyntheticReceiver: SlotReceiver {
    let line: SyntheticLine
    init(_ line: SyntheticLine) { self.line = line }

    func facts() async throws -> DeviceFacts {
        let channel = line.channel
        return DeviceFacts(
            serial: "RX", emulated: channel.emulated, symbolRate: channel.symbolRate, efficiency: channel.efficiency,
            efficiencyError: 0.0005,
            darkValidity: 1e6, shotValidity: 1e6)
    }
    func condition() async -> (state: DeviceState, reason: String) { (.ready, "") }
    func lock() async throws { line.state.withLock { $0.slots += 1 } }

    func calibrate(_ kind: NoiseKind, symbols: Int) async throws -> any SymbolFeed {
        let channel = line.channel
        let variance = kind == .dark ? channel.electronicNoise : 1 + channel.electronicNoise + channel.calibrationLight
        let batches = (symbols + SyntheticLine.batch - 1) / SyntheticLine.batch
        return Feed(
            line, kind: kind == .dark ? .dark : .shot, sigma: channel.unit * (channel.calibrationGain * variance).squareRoot(), gain: 0,
            batches: batches, stream: 7)
    }

    func start(symbols: Int?) async throws -> any SymbolFeed {
        let channel = line.state.withLock { state in
            // Its clock never goes back.
            state.receiverAt = max(state.receiverAt, state.transmitterAt) + 12_345
            state.receiverRuns = true
            return state.channel
        }
        isRunning.withLock { $0 = true }
        let gain = channel.efficiency * channel.transmittance / 2
        let noise = 1 + channel.electronicNoise + gain * channel.excessNoise
        return Feed(
            line, kind: .signal, sigma: channel.unit * channel.gain * noise.squareRoot(),
            gain: channel.cut ? 0 : channel.unit * channel.gain * gain.squareRoot(), batches: .max, stream: 8, running: isRunning)
    }

    func stop() async throws { isRunning.withLock { $0 = false } }
    private let isRunning = Running(false)
    typealias Running = MutexBox

    final class MutexBox: Sendable {
        private let value: Mutex<Bool>
        init(_ value: Bool) { self.value = Mutex(value) }
        func withLock<R>(_ body: (inout sending Bool) -> sending R) -> R { value.withLock(body) }
    }

    final class Feed: SymbolFeed {
        let line: SyntheticLine
        let kind: SymbolBatch.Kind
        let sigma: Double
        let gain: Double
        let stream: UInt64
        let left: Mutex<Int>
        let given = Mutex(0)
        let running: MutexBox?

        init(
            _ line: SyntheticLine, kind: SymbolBatch.Kind, sigma: Double, gain: Double, batches: Int, stream: UInt64,
            running: MutexBox? = nil
        ) {
            self.line = line
            self.kind = kind
            self.sigma = sigma
            self.gain = gain
            self.stream = stream
            left = Mutex(batches)
            self.running = running
        }

        func next() async throws -> SymbolBatch? {
            // A device makes its reader wait; without that, two feeds would hold both threads of a small machine.
            await Task.yield()
            if let running, !running.withLock({ $0 }) { return nil }
            while kind != .signal, line.channel.calibrationSilent { try await Task.sleep(for: .milliseconds(5)) }
            while kind == .signal, line.channel.receiverSilent, running?.withLock({ $0 }) == true {
                try await Task.sleep(for: .milliseconds(5))
            }
            let count = given.withLock { given in
                defer { given += 1 }
                return given
            }
            if kind == .signal, count < 4, line.channel.receiverLate > 0 {
                try await Task.sleep(for: .milliseconds(line.channel.receiverLate))
            }
            let goesOn = left.withLock { left in
                defer { left -= 1 }
                return left > 0
            }
            guard goesOn else { return nil }
            let (first, channel, variance, slots) = line.state.withLock { state in
                defer { state.receiverAt += SyntheticLine.batch }
                return (state.receiverAt, state.channel, state.variance, state.slots)
            }
            let modulation = SymbolStream(seed: channel.otherSeed ?? channel.seed, stream: 1)
            let reception = Reception(
                modulation: modulation, signalGain: gain * Double(modulation.scale(modulationVariance: variance)), delay: 0,
                noise: GaussianStream(seed: channel.seed, stream: stream), noiseSigmaLSB: sigma,
                phase: 0.7 + Double(slots) + channel.phaseRate * Double(count), phaseSigma: 0)
            var saturated = 0
            let samples = [Int16](unsafeUninitializedCapacity: 2 * SyntheticLine.batch) { buffer, count in
                saturated = reception.fill(UnsafeMutableBufferPointer(rebasing: buffer[0..<2 * SyntheticLine.batch]), first: UInt64(first))
                count = 2 * SyntheticLine.batch
            }
            if kind != .signal { saturated += channel.calibrationSaturated }
            let boot = 1_650_000_000_000_000_000 + UInt64(channel.restarts) * 10_000_000_000_000_000
            return SymbolBatch(
                kind: kind, count: SyntheticLine.batch, deviceTime: line.time(first) - boot,
                utc: line.time(first, skew: channel.clockSkew), scale: 1, saturated: saturated, storage: samples)
        }
    }
}
