// What a device says of itself: capabilities, condition, calibrations, traces.

public import QKDModel

/// Calibrations of the instrument protocol, 1.7.
public enum CalibrationKind: String, Sendable, Codable, CaseIterable {
    case dark = "DARK"
    case shot = "SHOT"
    case lock = "LOCK"
    case bias = "BIAS"

    /// The kind of frames that it emits.
    public var frames: SymbolFrame.Kind? {
        switch self {
        case .dark: .dark
        case .shot: .shot
        case .lock, .bias: nil
        }
    }
}

/// What a device can do; constant while it is open.
public struct ModuleCapabilities: Sendable, Equatable, Codable {
    public struct Calibration: Sendable, Equatable, Codable {
        public var kind: CalibrationKind
        public var symbols: Int
        /// Seconds of device time.
        public var duration: Double
        public var validity: Double

        public init(kind: CalibrationKind, symbols: Int, duration: Double, validity: Double) {
            self.kind = kind
            self.symbols = symbols
            self.duration = duration
            self.validity = validity
        }
    }

    /// Hz.
    public var symbolRates: [Double]
    public var modulations: [String]
    /// Shortest and longest wavelength, nm.
    public var wavelengths: [Double]
    public var paths: [String]
    public var calibrations: [Calibration]
    public var symbolsPerFrame: Int
    public var framesInRing: Int

    public init(
        symbolRates: [Double], modulations: [String], wavelengths: [Double], paths: [String], calibrations: [Calibration],
        symbolsPerFrame: Int, framesInRing: Int
    ) {
        self.symbolRates = symbolRates
        self.modulations = modulations
        self.wavelengths = wavelengths
        self.paths = paths
        self.calibrations = calibrations
        self.symbolsPerFrame = symbolsPerFrame
        self.framesInRing = framesInRing
    }
}

/// How the device is, read in one go.
public struct ModuleStatus: Sendable, Equatable, Codable {
    /// The device's own word.
    public enum Phase: String, Sendable, Codable, CaseIterable {
        case boot = "BOOT"
        case warmUp = "WARMUP"
        case idle = "IDLE"
        case calibrating = "CALIBRATING"
        case settling = "SETTLING"
        case acquiring = "ACQUIRING"
        case fault = "FAULT"
    }

    /// Bits of STATus:OPERation:CONDition.
    public struct Operation: OptionSet, Sendable, Codable, Hashable {
        public let rawValue: Int
        public init(rawValue: Int) { self.rawValue = rawValue }
        public static let calibrating = Operation(rawValue: 1 << 0)
        public static let settling = Operation(rawValue: 1 << 1)
        public static let measuring = Operation(rawValue: 1 << 4)
    }

    /// Bits of STATus:QUEStionable:CONDition.
    public struct Questionable: OptionSet, Sendable, Codable, Hashable, CustomStringConvertible {
        public let rawValue: Int
        public init(rawValue: Int) { self.rawValue = rawValue }
        public static let power = Questionable(rawValue: 1 << 3)
        public static let temperature = Questionable(rawValue: 1 << 4)
        public static let phase = Questionable(rawValue: 1 << 6)
        public static let calibration = Questionable(rawValue: 1 << 8)
        public static let overrun = Questionable(rawValue: 1 << 9)
        public static let saturation = Questionable(rawValue: 1 << 10)

        private static let words: [(Questionable, String)] = [
            (.power, "power out of range"), (.temperature, "temperature out of range"), (.phase, "pilot not locked"),
            (.calibration, "calibration missing or stale"), (.overrun, "overrun"), (.saturation, "saturation"),
        ]

        /// What is questionable, in words.
        public var reasons: [String] { Self.words.filter { contains($0.0) }.map(\.1) }
        public var description: String { reasons.isEmpty ? "none" : reasons.joined(separator: ", ") }
    }

    public var phase: Phase
    public var operation: Operation
    public var questionable: Questionable
    /// ns since power-on.
    public var deviceTime: UInt64
    /// Frames lost since power-on because the ring was full.
    public var overruns: UInt64

    public init(phase: Phase, operation: Operation, questionable: Questionable, deviceTime: UInt64, overruns: UInt64) {
        self.phase = phase
        self.operation = operation
        self.questionable = questionable
        self.deviceTime = deviceTime
        self.overruns = overruns
    }

    /// The same in the link service's words.
    public var state: DeviceState {
        switch phase {
        case .boot, .warmUp: .initialising
        case .idle, .settling: .ready
        case .calibrating: .calibrating
        case .acquiring: .generating
        case .fault: .fault
        }
    }
}

/// One kind of calibration as the device remembers it.
public struct CalibrationRecord: Sendable, Equatable, Codable {
    public enum Result: String, Sendable, Codable, CaseIterable {
        case none = "NONE"
        case pass = "PASS"
        case fail = "FAIL"
    }

    public var kind: CalibrationKind
    public var result: Result
    /// Seconds of device time since it ended; `nil`: never made.
    public var age: Double?
    public var isValid: Bool
    /// Seconds of device time that it is good for.
    public var validity: Double

    public init(kind: CalibrationKind, result: Result, age: Double?, isValid: Bool, validity: Double) {
        self.kind = kind
        self.result = result
        self.age = age
        self.isValid = isValid
        self.validity = validity
    }
}

/// Optical power against wavelength.
public struct Spectrum: Sendable, Equatable, Codable {
    /// nm.
    public var start: Double
    public var stop: Double
    /// dBm in .1 nm, evenly spaced.
    public var powers: [Float]

    public init(start: Double, stop: Double, powers: [Float]) {
        self.start = start
        self.stop = stop
        self.powers = powers
    }

    public func wavelength(_ index: Int) -> Double {
        powers.count < 2 ? start : start + (stop - start) * Double(index) / Double(powers.count - 1)
    }
}

/// An OTDR trace.
public struct Reflectometry: Sendable, Equatable, Codable {
    public struct Point: Sendable, Equatable, Codable {
        /// km.
        public var distance: Float
        /// dB.
        public var level: Float

        public init(distance: Float, level: Float) {
            self.distance = distance
            self.level = level
        }
    }

    public var points: [Point]

    public init(points: [Point]) { self.points = points }
}
