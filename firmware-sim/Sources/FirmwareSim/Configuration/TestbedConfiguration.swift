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
}

/// Where a device listens.
public enum EndpointConfiguration: Sendable, Equatable {
    /// Ports of control and data; 0 takes any free one.
    case tcp(host: String, port: Int, dataPort: Int)
    /// A pseudo-terminal; `link` is a path that shall point to it.
    case pty(link: String?)
    /// A USB device that a USB/IP server at this address exports; port 0 takes any free one. Devices with the same address share it.
    case usb(host: String, port: Int, speed: USBSpeed)
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
    public var code: String
    public var efficiency: Double
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

    /// The value when none is given.
    var defaultValue: Double {
        switch self {
        case .addedLoss, .classicalSurge: 3
        case .excessNoise: 0.1
        case .calibrationLight: 0.05
        case .slip, .corruptFrame, .overrun: 1
        case .saturation: 16
        case .hang: 5
        case .slowAnswers: 0.5
        default: 0
        }
    }
}
