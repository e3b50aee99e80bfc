// What link services and people use of a device, whoever made it.

public import QKDModel

/// A transmitter or receiver of a CV-QKD link, opened and identified.
///
/// Calls may be made from any task; they queue on the device's session. Errors: `TransportError` for the line,
/// `InstrumentError` for what the device says.
public protocol QKDModule: AnyObject, Sendable {
    var identity: ModuleIdentity { get }
    var role: DeviceRole { get }
    /// Its symbols derive from a seed: keys from them are no secrets.
    var isEmulated: Bool { get }
    var capabilities: ModuleCapabilities { get }
    /// The address it was opened at.
    var address: String { get }

    func status() async throws -> ModuleStatus

    /// Takes the device's lock for this session. - Returns: whether this session holds it now.
    func claim() async throws -> Bool
    func giveBack() async throws

    /// The symbol rate in Hz, one of `capabilities.symbolRates`.
    func symbolRate() async throws -> Double
    /// - Throws: `InstrumentError.outOfRange`, or `.lineTooSlow` where the line cannot carry the rate.
    func setSymbolRate(_ hertz: Double) async throws

    /// Starts a calibration; DARK and SHOT emit frames of their kind into the stream.
    /// - Parameter symbols: rounded up to whole frames; `nil`: the device's own number.
    func startCalibration(_ kind: CalibrationKind, symbols: Int?) async throws
    func abortCalibration() async throws
    /// What runs now, and how far it is (0 to 1).
    func calibrationProgress() async throws -> (running: CalibrationKind?, progress: Double)
    func calibration(_ kind: CalibrationKind) async throws -> CalibrationRecord

    /// - Throws: `InstrumentError.lineTooSlow` where the line cannot carry the symbol rate as it is set.
    func checkThroughput() async throws
    /// Opens the symbol stream; a device has one at a time.
    func openStream() async throws -> any SymbolSource
    /// - Parameter frames: `nil`: until stopped.
    func startAcquisition(frames: Int?) async throws
    /// Stops after the current frame; the open stream then ends (`next` returns `nil`) behind the last frame.
    func stopAcquisition() async throws

    /// Optical power against wavelength (.1 nm resolution), `points` of them from `start` to `stop` nm.
    func spectrum(from start: Double, to stop: Double, points: Int) async throws -> Spectrum
    func reflectometry() async throws -> Reflectometry
    /// Degrees Celsius, one for each sensor.
    func temperatures() async throws -> [Double]
    /// Residual phase variance, rad^2.
    func phaseVariance() async throws -> Double
    /// dBm.
    func opticalPower() async throws -> Double

    /// The typed session, for a console and for what this protocol does not name.
    var scpi: SCPISession { get }

    /// Ends all waiting calls and gives the line back.
    func close()
}

/// The end that sends.
public protocol QuantumTransmitter: QKDModule {
    /// Optical path, one of `capabilities.paths`; settling is seen by `pathSettled`.
    func setPath(_ name: String) async throws
    func path() async throws -> String
    func pathSettled() async throws -> Bool
    /// Modulation variance per quadrature at the fibre input, SNU, 0 to 20; takes effect at the next start.
    func setModulationVariance(_ variance: Double) async throws
    func modulationVariance() async throws -> Double
    func setOutput(_ isOn: Bool) async throws
    func setPilot(_ isOn: Bool, ratio decibels: Double?) async throws
    /// Optical carrier in Hz.
    func setFrequency(_ hertz: Double) async throws
    func frequency() async throws -> Double
}

/// The end that detects.
public protocol QuantumReceiver: QKDModule {
    func setLocalOscillator(_ isOn: Bool) async throws
    /// The signal shutter.
    func setShutter(closed: Bool) async throws
    func pilotLocked() async throws -> Bool
    /// Starts a new lock; the device settles.
    func relock() async throws
    /// Detector efficiency and its standard uncertainty, from the factory.
    func efficiency() async throws -> (eta: Double, sigma: Double)
    /// Samples at or beyond plus or minus this many LSB are saturated.
    func fullScale() async throws -> Int
}

extension QKDModule {
    public func checkThroughput() async throws {}
    public func startCalibration(_ kind: CalibrationKind) async throws { try await startCalibration(kind, symbols: nil) }
    public func startAcquisition() async throws { try await startAcquisition(frames: nil) }
}

/// What `*IDN?` says.
public struct ModuleIdentity: Sendable, Equatable, Codable, CustomStringConvertible {
    public var maker: String
    public var model: String
    public var serial: DeviceSerial
    public var firmware: String

    public var description: String { "\(maker) \(model) \(serial), firmware \(firmware)" }

    public init(maker: String, model: String, serial: DeviceSerial, firmware: String) {
        self.maker = maker
        self.model = model
        self.serial = serial
        self.firmware = firmware
    }

    /// - Parameter answer: four fields, the third an identifier.
    init(answer: String) throws {
        let fields = answer.split(separator: ",", omittingEmptySubsequences: false).map {
            $0.drop { $0 == " " }
        }
        guard fields.count == 4, let serial = DeviceSerial(rawValue: String(fields[2])) else {
            throw InstrumentError.unexpectedAnswer(
                query: "*IDN?", answer: String(answer.prefix(72)), wanted: "<maker>,<model>,<serial>,<firmware>")
        }
        maker = String(fields[0])
        model = String(fields[1])
        self.serial = serial
        firmware = String(fields[3])
    }
}
