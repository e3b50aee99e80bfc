// Calibration and acquisition: starting, ending, frames and their ring.

internal import Foundation
internal import QKDModel

extension Device {
    mutating func executeWork(_ unit: CommandUnit, _ session: SessionID, _ moment: Moment) throws(SCPIError) -> Outcome? {
        let arguments = unit.arguments
        switch unit.command {
        case .calibrate:
            try startCalibration(kind(arguments), symbols: arguments.count > 1 ? Int(arguments.number(1, in: 1...1e12)) : nil, moment)
        case .calibrationAbort:
            if calibration != nil { stopWork() }
        case .calibrationStateQuery: return .text(calibration?.kind.rawValue ?? "IDLE")
        case .calibrationProgressQuery: return .number(calibrationProgress(moment))
        case .calibrationResultQuery: return .text(calibrations[try kind(arguments)].map { $0.passed ? "PASS" : "FAIL" } ?? "NONE")
        case .calibrationAgeQuery:
            let record = calibrations[try kind(arguments)]
            return .number(record.map { Double(moment.time - min($0.finished, moment.time)) * 1e-9 } ?? -1)
        case .calibrationValidQuery: return .bool(isValid(try kind(arguments), moment))
        case .calibrationValidityQuery: return .number(configuration.calibrations[try kind(arguments)]?.validityS ?? 0)
        case .symbolRate: try setRate(arguments)
        case .symbolRateQuery: return .whole(symbolRateHz)
        case .acquire:
            try startAcquisition(frames: arguments.count > 0 ? Int(arguments.number(0, in: 1...1e12)) : nil, moment)
        case .acquireStop:
            if acquisition != nil { stopWork() }
        case .acquireStateQuery: return .text(acquisition == nil ? "IDLE" : "RUNNING")
        case .availableQuery: return .text("\(ring.available.lowerBound),\(ring.available.upperBound)")
        case .release:
            ring.release(through: try arguments.whole(0, in: 0 ... .max))
        case .overrunQuery: return .whole(ring.lost)
        case .fetchQuery: return try fetch(arguments)
        case .dataPortQuery: return .whole(dataPort)
        case .dataTokenQuery: return .text(newToken(session))
        default: return nil
        }
        return .done
    }

    private func kind(_ arguments: Arguments) throws(SCPIError) -> CalibrationKind {
        guard let kind = CalibrationKind(rawValue: try arguments.word(0)), kind.role == role, configuration.calibrations[kind] != nil else {
            throw SCPIError(-224, "no such calibration on this device")
        }
        return kind
    }

    private func checkReady(_ moment: Moment) throws(SCPIError) {
        switch state(moment) {
        case .boot, .warmup: throw SCPIError(-221, "still warming up")
        case .fault: throw SCPIError(-240)
        default: break
        }
        if calibration != nil { throw SCPIError(-221, "a calibration runs") }
        if acquisition != nil { throw SCPIError(-213, "an acquisition runs") }
    }

    // MARK: - Calibration

    private mutating func startCalibration(_ kind: CalibrationKind, symbols: Int?, _ moment: Moment) throws(SCPIError) {
        try checkReady(moment)
        guard let standard = configuration.calibrations[kind] else { throw SCPIError(-224) }
        var running = RunningCalibration(kind: kind, started: moment.time)
        if kind.hasFrames {
            let size = configuration.frameSymbols
            running.frames = max(1, ((symbols ?? standard.symbols) + size - 1) / size)
            running.framesLeft = running.frames
            startProducing(kind == .dark ? .dark : .shot, frames: running.frames)
        } else {
            running.until = moment.time + UInt64(standard.durationS * 1e9)
            if kind == .lock { input.lock = .none }
        }
        calibration = running
        if role == .receiver { followLight(moment) }
    }

    private func calibrationProgress(_ moment: Moment) -> Double {
        guard let running = calibration else { return 1 }
        if running.frames > 0 { return 1 - Double(running.framesLeft) / Double(running.frames) }
        let whole = Double(running.until - running.started)
        return whole > 0 ? min(1, Double(moment.time - running.started) / whole) : 1
    }

    /// LOCK and BIAS end by the clock.
    mutating func finishTimedCalibration(_ moment: Moment) {
        guard let running = calibration, running.frames == 0, moment.time >= running.until else { return }
        let passed = running.kind == .bias || seesPilot
        calibration = nil
        calibrations[running.kind] = CalibrationRecord(finished: moment.time, passed: passed)
        if !passed { forEachSession { $0.queue(SCPIError(-340, "no pilot found")) } }
        if running.kind == .lock, passed {
            input.lock = .locked(since: moment.time)
            input.locks += 1
        }
    }

    func isValid(_ kind: CalibrationKind, _ moment: Moment) -> Bool {
        guard let record = calibrations[kind], record.passed, !record.voided, let entry = configuration.calibrations[kind] else {
            return false
        }
        return Double(moment.time - min(record.finished, moment.time)) * 1e-9 <= entry.validityS
    }

    // MARK: - Acquisition

    private mutating func setRate(_ arguments: Arguments) throws(SCPIError) {
        let rate = try arguments.number(0, units: ["HZ": 1, "KHZ": 1e3, "MHZ": 1e6])
        guard configuration.symbolRatesHz.contains(where: { Double($0) == rate }) else {
            throw SCPIError(-224, "see SYSTem:CAPability:SRATe?")
        }
        guard acquisition == nil, calibration == nil else { throw SCPIError(-221, "stop first") }
        symbolRateHz = Int(rate)
    }

    private mutating func startAcquisition(frames: Int?, _ moment: Moment) throws(SCPIError) {
        try checkReady(moment)
        if role == .receiver, !input.oscillator { throw SCPIError(-221, "local oscillator is off") }
        if role == .transmitter { source.activeVariance = source.variance }
        acquisition = Acquisition(framesLeft: frames)
        startProducing(.signal, frames: frames)
    }

    private mutating func startProducing(_ kind: FrameKind, frames: Int?) {
        epoch += 1
        // A start falls anywhere within a step, so that the frames of two devices are not aligned.
        producer = Producer(kind: kind, skip: streams.startDelay(epoch), framesLeft: frames)
    }

    /// A frame that is begun but not complete is discarded.
    mutating func stopProducing() {
        producer = nil
        epoch += 1
    }

    // MARK: - Frames

    static let largestAnswer = 4 << 20

    private mutating func fetch(_ arguments: Arguments) throws(SCPIError) -> Outcome {
        let first = try arguments.whole(0, in: 0...(.max / 2))
        let count = try arguments.whole(1, in: 1...1_000_000)
        let size = FrameBuffer.headerLength + 4 * configuration.frameSymbols
        guard Int(count) * size <= Self.largestAnswer else { throw SCPIError(-223, "at most \(Self.largestAnswer / size) frames") }
        guard let frames = ring.frames(first..<first + count) else { throw SCPIError(-222, "not in the ring") }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(count) * size)
        for frame in frames { bytes += outgoing(frame) }
        return .block(bytes)
    }

    /// The bytes of a frame as they leave the device: `corrupt-frame` hits here, so that a second try helps.
    mutating func outgoing(_ frame: FrameBuffer) -> [UInt8] {
        var bytes = [UInt8](frame.bytes)
        if let index = faults.firstIndex(where: { $0.kind == .corruptFrame }) {
            bytes[FrameBuffer.headerLength + bytes.count / 2] ^= 0x10
            faults[index].value -= 1
            if faults[index].value < 1 { faults.remove(at: index) }
        }
        return bytes
    }

    private mutating func newToken(_ session: SessionID) -> String {
        tokenCount += 1
        let token = streams.token(tokenCount)
        tokens[token] = session
        return token
    }
}
