// One instrument as a value. Everything that a device knows is here; what it does with a command stands in the
// extensions next to this file, what it produces per step in Testbed/.

internal import QKDModel
internal import QuantumOptics

/// The light that reaches a receiver during a step, as the testbed works it out.
struct Light: Equatable {
    /// Transmitter and path, for frames and phases; `nil` when no path leads here.
    var transmitter: String?
    /// Modulated light is on this fibre and the path has settled.
    var signal = false
    /// Power of the pilot tone above shot noise at the detector, dB; `nil` when there is none.
    var pilotDB: Double?
    /// The transmitter's switch is still moving towards this receiver.
    var settling = false
    var modulation = SymbolStream(seed: 0, stream: 0)
    /// Variance that is really launched, SNU.
    var variance = 0.0
    /// Noise of the transmitter, SNU at the fibre's input.
    var transmitterNoise = 0.0
    var symbolRateHz = 0
}

/// One optical path as a device sees it.
struct PathOptics {
    var name: String
    var spans: [FibreSpan]
    /// The classical channels beside it with their launch power; `nil` without any.
    var plan: WDMPlan?
    var receiver: String
}

/// What does not change while the testbed runs.
struct DeviceSetting {
    var configuration: DeviceConfiguration
    var seed: UInt64
    var baseRateHz: Int
    var utcStart: UInt64
    /// A transmitter's paths, or the one path that leads to a receiver.
    var paths: [PathOptics]
    var plan: WDMPlan
    var pace: String
}

struct Device {
    let setting: DeviceSetting
    var configuration: DeviceConfiguration { setting.configuration }
    var role: DeviceRole { setting.configuration.role }
    let streams: DeviceStreams

    // Firmware
    var conditions = Conditions()
    var sessions: [SessionID: Session] = [:]
    var lockOwner: SessionID?
    var poweredOn: UInt64 = 0
    var powerCycle: UInt64 = 0
    var tokens: [String: SessionID] = [:]
    var tokenCount: UInt64 = 0
    var dataPort = 0

    // Settings and optics
    var source = SourceState()
    var input = InputState()
    var light = Light()
    var symbolRateHz: Int
    var faults: [ActiveFault] = []
    var slip: Int64 = 0
    var answersAfter: UInt64 = 0

    // Work
    var calibrations: [CalibrationKind: CalibrationRecord] = [:]
    var calibration: RunningCalibration?
    var acquisition: Acquisition?
    var producer: Producer?
    /// Counts starts, so that a job planned before a stop is not mistaken for one of the next start.
    var epoch: UInt64 = 0
    var ring: FrameRing
    var data: DataSession?
    var fullSince: UInt64?
    var stalled = false
    var fibreNoise: (surge: Double, value: Double)?

    init(setting: DeviceSetting) {
        self.setting = setting
        streams = DeviceStreams(seed: setting.seed, serial: setting.configuration.serial.rawValue)
        symbolRateHz = setting.configuration.symbolRatesHz.first ?? setting.baseRateHz
        ring = FrameRing(capacity: setting.configuration.ringFrames)
        source = SourceState(setting: setting)
    }

    // MARK: Times

    /// ns since power-on.
    func deviceTime(_ time: UInt64) -> UInt64 { time - min(poweredOn, time) }
    func seconds(_ time: UInt64) -> Double { Double(deviceTime(time)) * 1e-9 }
    func utc(_ time: UInt64) -> UInt64 { setting.utcStart &+ time &+ UInt64(bitPattern: streams.utcSkew) }

    // MARK: State

    enum State: String {
        case boot = "BOOT"
        case warmup = "WARMUP"
        case idle = "IDLE"
        case calibrating = "CALIBRATING"
        case settling = "SETTLING"
        case acquiring = "ACQUIRING"
        case fault = "FAULT"
    }

    func state(_ moment: Moment) -> State {
        let age = seconds(moment.time)
        if age < configuration.bootS { return .boot }
        if age < configuration.bootS + configuration.warmupS { return .warmup }
        if !configuration.temperature.range.contains(temperature(moment.time)) { return .fault }
        if calibration != nil { return .calibrating }
        if acquisition != nil { return .acquiring }
        return isSettling(moment) ? .settling : .idle
    }

    func isSettling(_ moment: Moment) -> Bool {
        switch role {
        case .transmitter: moment.time < source.settledAt
        case .receiver: input.lock.isSearching
        }
    }

    /// Whether an overlapped command is still at work (`*OPC`, `*WAI`).
    func isBusy(_ moment: Moment) -> Bool {
        calibration != nil || acquisition?.framesLeft != nil || (role == .transmitter && moment.time < source.settledAt)
            || (input.relockWanted && input.lock.isSearching)
    }

    func temperature(_ time: UInt64) -> Double {
        configuration.temperature.value(atS: Double(time) * 1e-9, phase: streams.temperaturePhase)
    }

    // MARK: Power

    /// Switches off and on: settings, calibrations, frames, counters and sessions are lost.
    mutating func restart(_ moment: Moment) -> [DeviceAction] {
        let open = sessions.keys.sorted()
        var fresh = Device(setting: setting)
        fresh.poweredOn = moment.time
        fresh.powerCycle = powerCycle + 1
        fresh.epoch = epoch + 1
        fresh.dataPort = dataPort
        fresh.tokenCount = tokenCount
        fresh.faults = faults
        fresh.fibreNoise = fibreNoise
        fresh.light = light
        self = fresh
        return open.map { .close($0) } + [.closeData]
    }

    /// `*RST`: settings to their defaults, work stopped; status and calibrations stay.
    mutating func resetSettings() {
        stopWork()
        let settled = source.settledAt
        source = SourceState(setting: setting)
        source.settledAt = settled
        let lock = input.lock
        input = InputState()
        input.lock = lock
        symbolRateHz = configuration.symbolRatesHz.first ?? setting.baseRateHz
    }

    mutating func stopWork() {
        calibration = nil
        acquisition = nil
        stopProducing()
    }

    /// Brings conditions up to date; called on every step.
    mutating func tick(_ moment: Moment) -> [DeviceAction] {
        faults.removeAll { $0.until.map { $0 <= moment.time } ?? false }
        finishTimedCalibration(moment)
        if role == .receiver { followLight(moment) }
        updateConditions(moment)
        completeOperations(moment)
        return sessions.contains { $0.value.waiting != nil } ? sessions.keys.sorted().flatMap { run($0, moment) } : []
    }

    /// `*OPC` of every session that waits.
    mutating func completeOperations(_ moment: Moment) {
        guard sessions.contains(where: { $0.value.status.completionArmed }), !isBusy(moment) else { return }
        forEachSession { status in
            guard status.completionArmed else { return }
            status.completionArmed = false
            status.eventStatus |= EventStatus.operationComplete
        }
    }

    /// Registers and errors of a session; those of one that has ended are thrown away.
    subscript(statusOf session: SessionID) -> StatusModel {
        get { sessions[session]?.status ?? StatusModel(conditions) }
        set { sessions[session]?.status = newValue }
    }

    /// What happens to the device itself is told to all.
    mutating func forEachSession(_ body: (inout StatusModel) -> Void) {
        for session in sessions.keys { body(&self[statusOf: session]) }
    }

    mutating func updateConditions(_ moment: Moment) {
        var operation: UInt16 = 0
        if calibration != nil { operation |= Operation.calibrating }
        if acquisition != nil { operation |= Operation.measuring }
        let warm = seconds(moment.time) >= configuration.bootS + configuration.warmupS
        if !warm || isSettling(moment) { operation |= Operation.settling }
        var questionable: UInt16 = 0
        if !configuration.temperature.range.contains(temperature(moment.time)) { questionable |= Questionable.temperature }
        if CalibrationKind.allCases.contains(where: { $0.role == role && !isValid($0, moment) }) {
            questionable |= Questionable.calibration
        }
        if role == .receiver {
            if input.oscillator, !input.shutter, !input.lock.isLocked { questionable |= Questionable.phase }
            if input.oscillator, abs(oscillatorPower(moment.time) - 1) > 0.1 { questionable |= Questionable.power }
        }
        if lastFrameSaturated { questionable |= Questionable.saturation }
        conditions = Conditions(operation: operation, questionable: questionable)
        for session in sessions.keys { self[statusOf: session].set(conditions) }
    }

    var lastFrameSaturated: Bool {
        guard let last = ring.frames.last else { return false }
        return Double(last.saturated) > 1e-5 * 2 * Double(last.count)
    }
}
