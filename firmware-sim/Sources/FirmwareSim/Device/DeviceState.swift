// The parts of a device's state.

internal import Foundation
internal import QuantumOptics

/// Everything of a device that the seed decides.
struct DeviceStreams {
    let noise: GaussianStream
    let modulation: UInt64
    private let words: GaussianStream

    init(seed: UInt64, serial: String) {
        // FNV-1a of the serial number keeps a device's symbols the same when others join the testbed.
        let name = serial.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
        noise = GaussianStream(seed: seed, stream: name &+ 1)
        modulation = name &+ 2
        words = GaussianStream(seed: seed, stream: name &+ 3)
    }

    /// Where the symbol counter starts after this power-on.
    func counterOffset(_ powerCycle: UInt64) -> UInt64 { words.word(powerCycle << 8) }
    /// Symbols between a command to start and the first symbol of the first frame.
    func startDelay(_ epoch: UInt64) -> Int { Int(words.word(epoch << 8 | 1) % 65_536) }
    /// Phase in rad between pilot and signal after the given lock.
    func phase(_ lock: UInt64) -> Double { uniform(lock << 8 | 2) * 2 * .pi }
    func token(_ count: UInt64) -> String {
        String(format: "%016llx%016llx", words.word(count << 8 | 3), words.word(count << 8 | 4))
    }
    /// ns by which the device's UTC is wrong: within 2 ms.
    var utcSkew: Int64 { Int64((uniform(5) - 0.5) * 4e6) }
    var temperaturePhase: Double { uniform(6) * 2 * .pi }
    /// Noise of traces: the deviate with this index.
    func traceNoise(_ index: UInt64) -> Double { words.value(1 << 40 | index) }

    private func uniform(_ index: UInt64) -> Double { Double(words.word(index) >> 11) * 0x1p-53 }
}

extension TemperatureConfiguration {
    func value(atS time: Double, phase: Double) -> Double { meanC + swingK * sin(2 * .pi * time / periodS + phase) }
}

/// Settings of a transmitter.
struct SourceState {
    var frequencyHz = 0.0
    /// As set, and as launched since the last `ACQuire:STARt`.
    var variance = 1.0
    var activeVariance = 0.0
    var pilot = true
    var pilotDB = 30.0
    var path = 0
    var output = false
    /// Testbed time at which the switch has moved.
    var settledAt: UInt64 = 0

    init() {}

    init(setting: DeviceSetting) {
        frequencyHz = setting.plan.quantumHz
        pilotDB = setting.configuration.transmitter.pilotDB
    }
}

/// Settings of a receiver.
struct InputState {
    var oscillator = false
    var shutter = true
    var lock = LockState.none
    /// A re-lock was commanded.
    var relockWanted = false

    enum LockState: Equatable {
        case none
        /// Found at testbed time `until` if the light stays.
        case searching(until: UInt64)
        case locked(since: UInt64)

        var isLocked: Bool { if case .locked = self { true } else { false } }
        var isSearching: Bool { if case .searching = self { true } else { false } }
    }

    /// Counts locks; each has a phase of its own.
    var locks: UInt64 = 0
}

/// What is known of the last calibration of one kind.
struct CalibrationRecord {
    var finished: UInt64
    var passed: Bool
    /// The `stale-calibration` fault ended its validity.
    var voided = false
}

struct RunningCalibration {
    var kind: CalibrationKind
    var started: UInt64
    /// Frames still to come, and all; 0 for kinds without frames.
    var framesLeft = 0
    var frames = 0
    /// Testbed time of the end for kinds without frames.
    var until: UInt64 = 0
}

struct Acquisition {
    /// `nil`: until stopped.
    var framesLeft: Int?
}

/// What turns steps into frames while an acquisition or calibration runs.
struct Producer {
    var kind: FrameKind
    /// Symbols to skip before the first frame.
    var skip: Int
    var frame: FrameBuffer?
    var filled = 0
    var header: FrameHeader?
    /// Frames that may still be begun; `nil` for no end.
    var framesLeft: Int?
}

struct DataSession {
    var connection: Int
    var credits: UInt64 = 0
    var next: UInt64 = 0
}

struct ActiveFault {
    var kind: FaultKind
    var value: Double
    /// Testbed time of its end.
    var until: UInt64?
}
