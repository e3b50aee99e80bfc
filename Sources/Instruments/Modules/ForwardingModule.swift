// Devices that keep to a protocol that is known already, but for a few commands: what a driver does not write anew is the base's.

public import QKDModel

/// A module that hands everything to another one, but for what it defines itself.
public protocol ForwardingModule: QKDModule {
    var common: any QKDModule { get }
}

extension ForwardingModule {
    public var identity: ModuleIdentity { common.identity }
    public var role: DeviceRole { common.role }
    public var isEmulated: Bool { common.isEmulated }
    public var capabilities: ModuleCapabilities { common.capabilities }
    public var address: String { common.address }
    public var scpi: SCPISession { common.scpi }

    public func status() async throws -> ModuleStatus { try await common.status() }
    public func claim() async throws -> Bool { try await common.claim() }
    public func giveBack() async throws { try await common.giveBack() }
    public func symbolRate() async throws -> Double { try await common.symbolRate() }
    public func setSymbolRate(_ hertz: Double) async throws { try await common.setSymbolRate(hertz) }
    public func startCalibration(_ kind: CalibrationKind, symbols: Int?) async throws {
        try await common.startCalibration(kind, symbols: symbols)
    }
    public func abortCalibration() async throws { try await common.abortCalibration() }
    public func calibrationProgress() async throws -> (running: CalibrationKind?, progress: Double) {
        try await common.calibrationProgress()
    }
    public func calibration(_ kind: CalibrationKind) async throws -> CalibrationRecord { try await common.calibration(kind) }
    public func checkThroughput() async throws { try await common.checkThroughput() }
    public func openStream() async throws -> any SymbolSource { try await common.openStream() }
    public func startAcquisition(frames: Int?) async throws { try await common.startAcquisition(frames: frames) }
    public func stopAcquisition() async throws { try await common.stopAcquisition() }
    public func spectrum(from start: Double, to stop: Double, points: Int) async throws -> Spectrum {
        try await common.spectrum(from: start, to: stop, points: points)
    }
    public func reflectometry() async throws -> Reflectometry { try await common.reflectometry() }
    public func temperatures() async throws -> [Double] { try await common.temperatures() }
    public func phaseVariance() async throws -> Double { try await common.phaseVariance() }
    public func opticalPower() async throws -> Double { try await common.opticalPower() }
    public func close() { common.close() }
}

/// The receiver of which most is somebody else's.
public protocol ForwardingReceiver: ForwardingModule, QuantumReceiver {
    var base: any QuantumReceiver { get }
}

extension ForwardingReceiver {
    public var common: any QKDModule { base }
    public func setLocalOscillator(_ isOn: Bool) async throws { try await base.setLocalOscillator(isOn) }
    public func setShutter(closed: Bool) async throws { try await base.setShutter(closed: closed) }
    public func pilotLocked() async throws -> Bool { try await base.pilotLocked() }
    public func relock() async throws { try await base.relock() }
    public func efficiency() async throws -> (eta: Double, sigma: Double) { try await base.efficiency() }
    public func fullScale() async throws -> Int { try await base.fullScale() }
}

/// The transmitter of which most is somebody else's.
public protocol ForwardingTransmitter: ForwardingModule, QuantumTransmitter {
    var base: any QuantumTransmitter { get }
}

extension ForwardingTransmitter {
    public var common: any QKDModule { base }
    public func setPath(_ name: String) async throws { try await base.setPath(name) }
    public func path() async throws -> String { try await base.path() }
    public func pathSettled() async throws -> Bool { try await base.pathSettled() }
    public func setModulationVariance(_ variance: Double) async throws { try await base.setModulationVariance(variance) }
    public func modulationVariance() async throws -> Double { try await base.modulationVariance() }
    public func setOutput(_ isOn: Bool) async throws { try await base.setOutput(isOn) }
    public func setPilot(_ isOn: Bool, ratio decibels: Double?) async throws { try await base.setPilot(isOn, ratio: decibels) }
    public func setFrequency(_ hertz: Double) async throws { try await base.setFrequency(hertz) }
    public func frequency() async throws -> Double { try await base.frequency() }
}
