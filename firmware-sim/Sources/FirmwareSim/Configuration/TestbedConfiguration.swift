// The testbed file as values. `TestbedReader` makes them from YAML and checks them.

public import QKDModel
public import QuantumOptics

/// Everything that the emulator needs to know of a testbed. Units are in the names.
public struct TestbedConfiguration: Sendable {
    public var name = ""
    public var seed: UInt64 = 1
    /// Highest symbol rate of its devices; every rate that a device offers divides it.
    public var symbolRateHz = 5_000_000
    /// UTC at device time 0 for every pace but `real`, in s since 1970.
    public var utcStartS: UInt64 = 1_528_185_600
    public var sites: [String] = []
    public var fibres: [FibreConfiguration] = []
    public var plan: WDMPlan
    public var devices: [DeviceConfiguration] = []
    public var links: [LinkConfiguration] = []
    public var timeline: [TimelineEntry] = []

    public func fibre(_ name: String) -> FibreConfiguration? { fibres.first { $0.name == name } }
    public func device(_ serial: String) -> DeviceConfiguration? { devices.first { $0.serial.rawValue == serial } }

    /// What works and may still not be meant.
    public var warnings: [String] {
        devices.flatMap { device in
            device.endpoints.compactMap { endpoint -> String? in
                guard let host = endpoint.host, !EndpointConfiguration.isLoopback(host) else { return nil }
                return "device \(device.serial) listens on \(host), beyond loopback: symbols that leave this machine are as good as key"
            }
        }
    }

    /// Two devices, or control and data of one, that want the same TCP port; `nil` where all can listen.
    public var portConflict: String? {
        var taken: [(host: String, port: Int, who: String, sharesUSB: Bool)] = []
        for device in devices {
            for endpoint in device.endpoints {
                for (name, port) in endpoint.ports where port != 0 {
                    let host = endpoint.host ?? ""
                    let isUSB = name == "usb"
                    let other = taken.first {
                        $0.port == port && EndpointConfiguration.overlap($0.host, host) && !($0.sharesUSB && isUSB && $0.host == host)
                    }
                    let who = "\(name) of \(device.serial)"
                    if let other { return "port \(port) is wanted by \(other.who) and by \(who)" }
                    taken.append((host, port, who, isUSB))
                }
            }
        }
        return nil
    }
}

/// One fibre between two sites, with the spools that hang on its end.
public struct FibreConfiguration: Sendable {
    public var name: String
    public var from: String
    public var to: String
    /// The fibre itself first, then spools.
    public var spans: [FibreSpan]
    /// Power of each classical channel at the fibre's input in dBm; `nil` when it carries none.
    public var classicalPowerDBm: Double?
    /// Whether the fibre can carry a quantum channel.
    public var quantum: Bool
}

/// One device: what it is, where it stands, how it is reached, what it can do.
public struct DeviceConfiguration: Sendable {
    public var serial: DeviceSerial
    public var role: DeviceRole
    public var site: String
    public var maker = "SDQKD"
    public var model = ""
    public var firmware = "1.0.0"
    public var endpoints: [EndpointConfiguration] = []
    public var bootS = 2.0
    public var warmupS = 20.0
    public var frameSymbols = 65_536
    public var ringFrames = 64
    /// Symbol rates in Hz that it offers, the default first.
    public var symbolRatesHz: [Int] = []
    public var calibrations: [CalibrationKind: CalibrationConfiguration] = [:]
    public var transmitter = TransmitterConfiguration()
    public var receiver = ReceiverConfiguration()
    public var temperature = TemperatureConfiguration()

    var hasUSB: Bool { endpoints.contains { if case .usb = $0 { true } else { false } } }
}

/// Where a device listens.
public enum EndpointConfiguration: Sendable, Equatable {
    /// Ports of control and data; 0 takes any free one.
    case tcp(host: String, port: Int, dataPort: Int)
    /// A pseudo-terminal; `link` is a path that shall point to it.
    case pty(link: String?)
    /// A USB device that a USB/IP server at this address exports; port 0 takes any free one. Devices with the same address share it.
    case usb(host: String, port: Int, speed: USBSpeed)

    var host: String? {
        switch self {
        case .tcp(let host, _, _), .usb(let host, _, _): host
        case .pty: nil
        }
    }

    /// TCP ports by name; 0 is any free one.
    var ports: [(name: String, port: Int)] {
        switch self {
        case .tcp(_, let control, let data): [("control", control), ("data", data)]
        case .usb(_, let port, _): [("usb", port)]
        case .pty: []
        }
    }

    static func isLoopback(_ host: String) -> Bool { host.hasPrefix("127.") || host == "::1" || host == "localhost" }

    /// Whether two hosts may be the same address: equal, or one of them is all.
    static func overlap(_ one: String, _ other: String) -> Bool {
        let all = ["0.0.0.0", "::"]
        return one == other || all.contains(one) || all.contains(other) || [one, other].sorted() == ["127.0.0.1", "localhost"]
    }
}

/// What a device can calibrate.
public enum CalibrationKind: String, Sendable, CaseIterable {
    case dark = "DARK"
    case shot = "SHOT"
    case lock = "LOCK"
    case bias = "BIAS"

    public var role: DeviceRole { self == .bias ? .transmitter : .receiver }
    /// Whether the host evaluates frames of it.
    public var hasFrames: Bool { self == .dark || self == .shot }
}

/// How long a calibration takes and holds.
public struct CalibrationConfiguration: Sendable, Equatable {
    /// Default length in symbols for kinds with frames, 0 for the others.
    public var symbols: Int
    /// s of device time for kinds without frames.
    public var durationS: Double
    /// s of device time after which it is stale.
    public var validityS: Double
}

public struct TransmitterConfiguration: Sendable {
    /// Standard deviation of a quadrature in steps of the converter, and its largest step.
    public var sigmaLSB = 400.0
    public var limitLSB = 2047
    /// Noise that the transmitter adds, SNU at the fibre's input.
    public var excessNoiseSNU = 0.001
    public var switchS = 0.02
    /// Share per hour by which the launched variance runs off after a BIAS calibration.
    public var biasDriftPerHour = 0.002
    public var pilotDB = 30.0
    public var paths: [PathConfiguration] = []
}

/// One optical path of a transmitter: fibres in a row, and the receiver at their end.
public struct PathConfiguration: Sendable {
    public var name: String
    public var fibres: [String]
    public var receiver: String
}

public struct ReceiverConfiguration: Sendable {
    public var efficiency = 0.8
    public var efficiencySigma = 0.001
    public var electronicNoiseSNU = 0.05
    public var shotNoiseSigmaLSB = 150.0
    public var adcBits = 12
    /// V per step, for the frames' scale.
    public var voltsPerLSB = 0.000_25
    public var phaseVarianceRad2 = 0.0005
    /// s of a re-lock while the LOCK calibration is valid.
    public var relockS = 0.15
    /// Least pilot power above shot noise at the detector in dB.
    public var lockThresholdDB = 6.0
    public var gainPerKelvin = 0.000_02
    public var loPowerPerHour = 0.003
    public var loPowerPerKelvin = 0.000_1
    /// rad/s by which polarisation runs off its setting after a re-lock, tracking included.
    public var polarisationRadPerS = 0.000_1
}

/// A slow sine around a mean.
public struct TemperatureConfiguration: Sendable {
    public var meanC = 27.0
    public var swingK = 0.5
    public var periodS = 1800.0
    /// Working range in degrees Celsius.
    public var range = 5.0...45.0
}

/// What a lab would put on top of the testbed: one quantum link and its distillation.
public struct LinkConfiguration: Sendable {
    public var name: String
    public var transmitter: String
    public var receiver: String
    public var path: String
    public var lossDB: Double
    /// nil or `auto`: its ends choose.
    public var code: String?
    /// nil: its ends choose.
    public var efficiency: Double?
    public var blockSymbols: Int
    public var slotSymbols: Int
    public var weight: Double
    public var referenceKeyRateBps: Double?
}

/// A fault that happens by itself.
public struct TimelineEntry: Sendable {
    /// s of testbed time.
    public var atS: Double
    public var device: String
    public var fault: FaultKind
    public var value: Double?
    public var forS: Double?
}

/// What can be made to go wrong (`SIMulate:FAULt`).
public enum FaultKind: String, Sendable, CaseIterable {
    case fibreCut = "fibre-cut"
    case addedLoss = "added-loss"
    case excessNoise = "excess-noise"
    case classicalSurge = "classical-surge"
    case calibrationLight = "calibration-light"
    case staleCalibration = "stale-calibration"
    case slip
    case saturation
    case hang
    case slowAnswers = "slow-answers"
    case corruptFrame = "corrupt-frame"
    case dropConnection = "drop-connection"
    case overrun
    case reboot
    /// The USB cable is out until the fault ends, or until `replug`.
    case unplug
    case replug

    /// Faults of the light only make sense where light arrives.
    public var receiverOnly: Bool {
        switch self {
        case .fibreCut, .addedLoss, .excessNoise, .classicalSurge, .calibrationLight, .saturation: true
        default: false
        }
    }

    /// A cable is needed to pull it.
    public var usbOnly: Bool { self == .unplug || self == .replug }

    /// Which values a fault may have.
    public enum Values: Sendable, Equatable {
        case none
        case real(ClosedRange<Double>, unit: String)
        case whole(ClosedRange<Double>, unit: String)

        public func allow(_ value: Double) -> Bool {
            switch self {
            // Where seconds follow, something must stand before them.
            case .none: value == 0 || value == 1
            case .real(let range, _): range.contains(value)
            case .whole(let range, _): range.contains(value) && value == value.rounded()
            }
        }

        public var words: String {
            switch self {
            case .none: "no value, or 0 or 1"
            case .real(let range, let unit): "from \(Outcome.formatted(range.lowerBound)) to \(Outcome.formatted(range.upperBound)) \(unit)"
            case .whole(let range, let unit):
                "a whole number of \(unit) from \(Outcome.formatted(range.lowerBound)) to \(Outcome.formatted(range.upperBound))"
            }
        }
    }

    public var values: Values {
        switch self {
        case .addedLoss: .real(0...100, unit: "dB")
        case .classicalSurge: .real(0...60, unit: "dB")
        case .excessNoise, .calibrationLight: .real(0...100, unit: "SNU")
        case .saturation: .real(0.01...10_000, unit: "of gain")
        case .hang, .slowAnswers: .real(0...86_400, unit: "s")
        case .slip: .whole(-1e9...1e9, unit: "symbols")
        case .corruptFrame, .overrun: .whole(1...1e9, unit: "frames")
        case .fibreCut, .staleCalibration, .dropConnection, .reboot, .unplug, .replug: .none
        }
    }

    public var needsValue: Bool { values != .none }
}
