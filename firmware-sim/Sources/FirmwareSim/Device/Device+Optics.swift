// Settings of transmitter and receiver, the pilot loop, and the slow drifts.

internal import Foundation
internal import QKDModel
internal import QuantumOptics

extension Device {
    // MARK: - Transmitter

    mutating func executeTransmitter(_ unit: CommandUnit, _ moment: Moment) throws(SCPIError) -> Outcome {
        switch unit.command {
        case .frequencyQuery: return .number(source.frequencyHz)
        case .varianceQuery: return .number(source.variance)
        case .pilotQuery: return .bool(source.pilot)
        case .pilotRatioQuery: return .number(source.pilotDB)
        case .pathQuery: return .string(setting.paths[source.path].name)
        case .settledQuery: return .bool(moment.time >= source.settledAt)
        case .outputQuery: return .bool(source.output)
        default: break
        }
        switch unit.command {
        case .frequency:
            source.frequencyHz = try unit.arguments.number(0, in: 191.2e12...196.2e12, units: ["HZ": 1, "GHZ": 1e9, "THZ": 1e12])
        case .variance: source.variance = try unit.arguments.number(0, in: 0...20, units: ["SNU": 1])
        case .pilot: source.pilot = try unit.arguments.bool(0)
        case .pilotRatio: source.pilotDB = try unit.arguments.number(0, in: 0...40, units: ["DB": 1])
        case .path: try select(unit.arguments.string(0), moment)
        case .output: source.output = try unit.arguments.bool(0)
        default: throw SCPIError(-113)
        }
        return .done
    }

    private mutating func select(_ name: String, _ moment: Moment) throws(SCPIError) {
        guard let index = setting.paths.firstIndex(where: { $0.name.caseInsensitiveCompare(name) == .orderedSame }) else {
            throw SCPIError(-224, "no path of this name")
        }
        guard index != source.path else { return }
        source.path = index
        source.settledAt = moment.time + UInt64(configuration.transmitter.switchS * 1e9)
    }

    /// The light that this transmitter sends down one of its paths.
    func launched(path index: Int, _ moment: Moment) -> Light {
        var light = Light(transmitter: configuration.serial.rawValue)
        light.symbolRateHz = symbolRateHz
        guard source.path == index else { return light }
        guard moment.time >= source.settledAt else {
            light.settling = true
            return light
        }
        light.signal = source.output && abs(source.frequencyHz - setting.plan.quantumHz) < 5e9
        light.pilotDB = light.signal && source.pilot ? source.pilotDB : nil
        light.modulation = modulation
        light.variance = source.activeVariance * biasFactor(moment.time)
        light.transmitterNoise = configuration.transmitter.excessNoiseSNU
        return light
    }

    var modulation: SymbolStream {
        SymbolStream(
            seed: setting.seed, stream: streams.modulation, sigmaLSB: Float(configuration.transmitter.sigmaLSB),
            limitLSB: Int32(configuration.transmitter.limitLSB))
    }

    /// The launched variance runs off since the last BIAS calibration (or power-on).
    private func biasFactor(_ time: UInt64) -> Double {
        let since = calibrations[.bias]?.finished ?? poweredOn
        return 1 + configuration.transmitter.biasDriftPerHour * Double(time - min(since, time)) / 3.6e12
    }

    // MARK: - Receiver

    mutating func executeReceiver(_ unit: CommandUnit, _ moment: Moment) throws(SCPIError) -> Outcome {
        switch unit.command {
        case .oscillatorQuery: return .bool(input.oscillator)
        case .shutterQuery: return .bool(input.shutter)
        case .pilotLockQuery: return .bool(input.lock.isLocked)
        case .efficiencyQuery: return .numbers([configuration.receiver.efficiency, configuration.receiver.efficiencySigma])
        case .rangeQuery: return .whole(fullScale)
        case .relock:
            input.lock = .none
            input.relockWanted = true
            followLight(moment)
            return .done
        default: break
        }
        switch unit.command {
        case .oscillator: input.oscillator = try unit.arguments.bool(0)
        case .shutter: input.shutter = try unit.arguments.bool(0)
        default: throw SCPIError(-113)
        }
        followLight(moment)
        return .done
    }

    var fullScale: Int { 1 << (configuration.receiver.adcBits - 1) - 1 }

    /// The pilot tone is there and strong enough, the path to it open.
    var seesPilot: Bool {
        guard input.oscillator, !isShuttered, let pilot = light.pilotDB else { return false }
        return pilot - pathLossDB + 13 > configuration.receiver.lockThresholdDB
    }

    /// DARK and SHOT calibrations close the shutter whatever the setting.
    var isShuttered: Bool { input.shutter || calibration?.kind.hasFrames ?? false }

    /// Loss from the transmitter to this receiver, faults included.
    var pathLossDB: Double {
        if fault(.fibreCut) != nil { return 200 }
        return (setting.paths.first?.spans.loss.value ?? 200) + (fault(.addedLoss) ?? 0)
    }

    /// Moves the pilot loop: lost without light, found some time after light has come.
    mutating func followLight(_ moment: Moment) {
        guard seesPilot else {
            input.lock = .none
            return
        }
        switch input.lock {
        case .none:
            let wait = isValid(.lock, moment) ? configuration.receiver.relockS : configuration.calibrations[.lock]?.durationS ?? 0
            input.lock = .searching(until: moment.time + UInt64(wait * 1e9))
        case .searching(let until):
            guard moment.time >= until else { return }
            input.lock = .locked(since: moment.time)
            input.locks += 1
            input.relockWanted = false
        case .locked: break
        }
    }

    // MARK: - Drift

    /// Power of the local oscillator relative to its power at switch-on.
    func oscillatorPower(_ time: UInt64) -> Double {
        // A sine of four hours whose steepest slope, at switch-on, is the configured drift.
        let hours = Double(deviceTime(time)) / 3.6e12
        let wander = configuration.receiver.loPowerPerHour * sin(.pi / 2 * hours) / (.pi / 2)
        return 1 + wander + configuration.receiver.loPowerPerKelvin * temperatureOffset(time)
    }

    /// Gain of the receiver's amplifiers, faults included.
    func gain(_ time: UInt64) -> Double {
        (1 + configuration.receiver.gainPerKelvin * temperatureOffset(time)) * (fault(.saturation) ?? 1)
    }

    private func temperatureOffset(_ time: UInt64) -> Double { temperature(time) - configuration.temperature.meanC }

    /// Share of the light in the oscillator's polarisation: all of it right after a lock.
    func polarisationMatch(_ time: UInt64) -> Double {
        guard case .locked(let since) = input.lock else { return 1 }
        return pow(cos(configuration.receiver.polarisationRadPerS * Double(time - min(since, time)) * 1e-9), 2)
    }
}
