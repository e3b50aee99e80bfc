// IEEE 488.2's common commands, SCPI's status tree, identity and capabilities.

internal import Foundation
internal import QKDModel
internal import QuantumOptics

extension Device {
    mutating func executeCommon(_ unit: CommandUnit, _ session: SessionID, _ moment: Moment) throws(SCPIError) -> Outcome? {
        switch unit.command {
        case .eventEnable, .serviceEnable, .operationEnable, .questionableEnable: return try Self.enable(unit, &self[statusOf: session])
        case .errorQuery, .errorCountQuery, .operationEventQuery, .operationConditionQuery, .operationEnableQuery, .questionableEventQuery,
            .questionableConditionQuery, .questionableEnableQuery:
            return Self.statusAnswer(unit.command, &self[statusOf: session])
        case .clearStatus:
            self[statusOf: session].clear()
            return .done
        case .eventEnableQuery: return .whole(self[statusOf: session].eventEnable)
        case .eventStatusQuery: return .whole(self[statusOf: session].readEventStatus())
        case .identityQuery: return .text(identity)
        case .operationComplete:
            self[statusOf: session].completionArmed = true
            completeOperations(moment)
            return .done
        case .operationCompleteQuery: return Outcome(waiting: .completeQuery)
        case .reset:
            resetSettings()
            return .done
        case .serviceEnableQuery: return .whole(self[statusOf: session].serviceEnable)
        case .statusByteQuery:
            return .whole(self[statusOf: session].statusByte(messageAvailable: !(sessions[session]?.answer.isEmpty ?? true)))
        case .selfTestQuery: return .whole(0)
        case .wait: return Outcome(waiting: .wait)
        case .versionQuery: return .text("1999.0")
        case .statusPreset:
            self[statusOf: session].preset()
            return .done
        default: return nil
        }
    }

    var identity: String {
        [configuration.maker, configuration.model, configuration.serial.rawValue, configuration.firmware].joined(separator: ",")
    }

    private static func enable(_ unit: CommandUnit, _ status: inout StatusModel) throws(SCPIError) -> Outcome {
        switch unit.command {
        case .eventEnable: status.eventEnable = UInt8(try unit.arguments.number(0, in: 0...255))
        case .serviceEnable: status.serviceEnable = UInt8(try unit.arguments.number(0, in: 0...255)) & 0xBF
        case .operationEnable: status.operation.enable = UInt16(try unit.arguments.number(0, in: 0...65535)) & 0x7FFF
        default: status.questionable.enable = UInt16(try unit.arguments.number(0, in: 0...65535)) & 0x7FFF
        }
        return .done
    }

    private static func statusAnswer(_ command: Command, _ status: inout StatusModel) -> Outcome {
        switch command {
        case .errorQuery: .text(status.errors.next().answer)
        case .errorCountQuery: .whole(status.errors.count)
        case .operationEventQuery: .whole(status.operation.readEvent())
        case .operationConditionQuery: .whole(status.operation.condition)
        case .operationEnableQuery: .whole(status.operation.enable)
        case .questionableEventQuery: .whole(status.questionable.readEvent())
        case .questionableConditionQuery: .whole(status.questionable.condition)
        default: .whole(status.questionable.enable)
        }
    }

    // MARK: - Lock, identity, capabilities

    mutating func executeSystem(_ unit: CommandUnit, _ session: SessionID, _ moment: Moment) throws(SCPIError) -> Outcome? {
        switch unit.command {
        case .lockRequestQuery:
            if lockOwner == nil { lockOwner = session }
            return .bool(lockOwner == session)
        case .lockRelease:
            if lockOwner == session { lockOwner = nil }
            return .done
        case .lockOwnerQuery: return .string(lockOwner == nil ? "NONE" : lockOwner == session ? "SELF" : "OTHER")
        case .roleQuery: return .text(role.rawValue)
        case .emulatedQuery: return .bool(true)
        case .stateQuery: return .text(state(moment).rawValue)
        case .timeQuery: return .whole(deviceTime(moment.time))
        case .reboot: return Outcome(actions: restart(moment), closes: true)
        case .symbolRatesQuery: return .text(configuration.symbolRatesHz.map(String.init).joined(separator: ","))
        case .modulationsQuery: return .text("GAUSSIAN")
        case .wavelengthsQuery: return .text("1528,1568")
        case .pathsQuery:
            return role == .receiver ? .string("INPUT") : .text(setting.paths.map { "\"\($0.name)\"" }.joined(separator: ","))
        case .calibrationsQuery: return .text(calibrationCapabilities)
        case .blockQuery: return .text("\(configuration.frameSymbols),\(configuration.ringFrames)")
        case .temperatureQuery: return .numbers([temperature(moment.time), temperature(moment.time) + 9.5])
        case .phaseVarianceQuery: return .number(role == .receiver && input.lock.isLocked ? configuration.receiver.phaseVarianceRad2 : 0)
        case .opticalPowerQuery: return .number(opticalPowerDBm(moment))
        case .spectrumQuery: return try spectrum(unit.arguments, moment)
        case .reflectometryQuery: return reflectometry()
        default: return nil
        }
    }

    /// Per kind: default symbols, seconds, validity.
    private var calibrationCapabilities: String {
        CalibrationKind.allCases.compactMap { kind -> String? in
            guard kind.role == role, let entry = configuration.calibrations[kind] else { return nil }
            let seconds = kind.hasFrames ? Double(entry.symbols) / Double(symbolRateHz) : entry.durationS
            return "\(kind.rawValue),\(entry.symbols),\(Outcome.formatted(seconds)),\(Outcome.formatted(entry.validityS))"
        }.joined(separator: ",")
    }
}
