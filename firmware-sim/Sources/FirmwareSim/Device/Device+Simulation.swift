// Faults: `SIMulate:` commands, the testbed's timeline, and what a fault does at once.

internal import Foundation
internal import QKDModel

extension Device {
    mutating func executeSimulation(_ unit: CommandUnit, _ moment: Moment) throws(SCPIError) -> Outcome? {
        switch unit.command {
        case .simulatedTimeQuery: return .number(Double(moment.time) * 1e-9)
        case .paceQuery: return .text(setting.pace.uppercased())
        case .faultListQuery:
            return .text(
                faults.isEmpty ? "\"\"" : faults.map { "\"\($0.kind.rawValue)\",\(Outcome.formatted($0.value))" }.joined(separator: ","))
        case .faultClear:
            let name = unit.arguments.count > 0 ? try unit.arguments.string(0) : nil
            if let name, FaultKind(rawValue: name) == nil { throw SCPIError(-224, "no fault of this name") }
            faults.removeAll { name == nil || $0.kind.rawValue == name }
            return .done
        case .fault:
            guard let kind = FaultKind(rawValue: try unit.arguments.string(0)), !kind.receiverOnly || role == .receiver,
                !kind.usbOnly || configuration.hasUSB
            else { throw SCPIError(-224, "no such fault on this device") }
            let value = unit.arguments.count > 1 ? try unit.arguments.number(1) : nil
            if value == nil, kind.needsValue { throw SCPIError(-109, kind.values.words) }
            if let value, !kind.values.allow(value) { throw SCPIError(-222, kind.values.words) }
            let seconds = unit.arguments.count > 2 ? try unit.arguments.number(2, in: 0...1e9) : nil
            return Outcome(
                actions: strike(kind, value: value, seconds: seconds, moment), closes: kind == .reboot || kind == .dropConnection)
        default: return nil
        }
    }

    /// The value of a fault that lasts, `nil` when it is absent.
    func fault(_ kind: FaultKind) -> Double? { faults.first { $0.kind == kind }?.value }

    /// Makes a fault happen: some are over at once, the others stay until cleared or for `seconds` of device time.
    mutating func strike(_ kind: FaultKind, value: Double?, seconds: Double?, _ moment: Moment) -> [DeviceAction] {
        let value = value ?? 0
        switch kind {
        case .staleCalibration:
            for key in calibrations.keys { calibrations[key]?.voided = true }
        case .slip: slip &+= Int64(value)
        case .hang: answersAfter = max(answersAfter, moment.wall + UInt64(max(0, value) * 1e9))
        case .dropConnection: return sessions.keys.sorted().map { .close($0) } + [.closeData]
        case .reboot: return restart(moment)
        case .replug: faults.removeAll { $0.kind == .unplug }
        default:
            faults.removeAll { $0.kind == kind }
            faults.append(ActiveFault(kind: kind, value: value, until: seconds.map { moment.time + UInt64($0 * 1e9) }))
        }
        return []
    }

    /// Wall time before which an answer given now may not leave; 0 when it may at once.
    mutating func answerTime(_ moment: Moment) -> UInt64 {
        if let delay = fault(.slowAnswers) {
            answersAfter = max(answersAfter, moment.wall) + UInt64(max(0, delay) * 1e9)
        }
        // For a second after the last delayed answer the next ones queue behind it, so that none overtakes it.
        guard answersAfter > 0, answersAfter + 1_000_000_000 > moment.wall else { return 0 }
        // Answers keep their order.
        answersAfter += 1
        return answersAfter
    }
}
