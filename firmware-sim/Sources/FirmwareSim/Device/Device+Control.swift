// Control sessions of a device: bytes in, answers out, one command at a time.

internal import Foundation
internal import QKDModel

extension Device {
    static let mostSessions = 4

    /// - Returns: false when the device has no session left; the connection is to be closed.
    mutating func open(_ session: SessionID) -> Bool {
        guard sessions.count < Self.mostSessions else { return false }
        sessions[session] = Session(StatusModel(conditions))
        return true
    }

    mutating func close(_ session: SessionID) {
        sessions[session] = nil
        if lockOwner == session { lockOwner = nil }
        tokens = tokens.filter { $0.value != session }
    }

    /// Takes bytes of a session and executes the lines that they complete.
    mutating func receive(_ bytes: [UInt8], from session: SessionID, _ moment: Moment) -> [DeviceAction] {
        guard let isCleared = sessions[session]?.receive(bytes) else { return [] }
        return (isCleared ? [.forget(session)] : []) + run(session, moment)
    }

    /// Goes on with a session until it has nothing to do or waits.
    mutating func run(_ session: SessionID, _ moment: Moment) -> [DeviceAction] {
        var actions: [DeviceAction] = []
        while var current = sessions[session] {
            if let waiting = current.waiting {
                guard !isBusy(moment) else { return actions }
                if waiting == .completeQuery { append([[UInt8]("1".utf8)], to: &current.answer) }
                current.waiting = nil
                sessions[session] = current
            }
            if let unit = current.units.first {
                sessions[session]?.units.removeFirst()
                actions += perform(unit, session, moment)
                continue
            }
            if let error = current.lineError {
                self[statusOf: session].queue(error)
                sessions[session]?.lineError = nil
            }
            actions += finishLine(session, moment)
            guard let line = sessions[session]?.nextLine() else { return actions }
            let message = CommandParser.parse(line)
            sessions[session]?.units = message.units[...]
            sessions[session]?.lineError = message.error
        }
        return actions
    }

    /// Sends the answers of a message, joined by `;`.
    private mutating func finishLine(_ session: SessionID, _ moment: Moment) -> [DeviceAction] {
        guard var answer = sessions[session]?.answer, !answer.isEmpty else { return [] }
        sessions[session]?.answer = []
        answer.append(0x0A)
        return [.send(session, answer, notBefore: answerTime(moment))]
    }

    private func append(_ parts: [[UInt8]], to answer: inout [UInt8]) {
        for part in parts {
            if !answer.isEmpty { answer.append(UInt8(ascii: ";")) }
            answer += part
        }
    }

    /// Executes one unit; errors go to the queue.
    private mutating func perform(_ unit: CommandUnit, _ session: SessionID, _ moment: Moment) -> [DeviceAction] {
        do {
            var result = try execute(unit, session, moment)
            updateConditions(moment)
            if let answer = result.answer, sessions[session] != nil {
                append([answer], to: &sessions[session, default: Session(StatusModel())].answer)
            }
            if let waiting = result.waiting { sessions[session]?.waiting = waiting }
            if result.closes { result.actions += finishLine(session, moment) }
            return result.actions
        } catch {
            self[statusOf: session].queue(error)
            // A message ends at its first error.
            sessions[session]?.units = []
            sessions[session]?.lineError = nil
            return []
        }
    }

    private mutating func execute(_ unit: CommandUnit, _ session: SessionID, _ moment: Moment) throws(SCPIError) -> Outcome {
        let command = unit.command
        if let wanted = command.role, wanted != role { throw SCPIError(-113) }
        try unit.arguments.check(command.arguments)
        if command.needsLock, let owner = lockOwner, owner != session { throw SCPIError(-200, "locked by another session") }
        if let outcome = try executeCommon(unit, session, moment) { return outcome }
        if let outcome = try executeSystem(unit, session, moment) { return outcome }
        if let outcome = try executeWork(unit, session, moment) { return outcome }
        if let outcome = try executeSimulation(unit, moment) { return outcome }
        switch role {
        case .transmitter: return try executeTransmitter(unit, moment)
        case .receiver: return try executeReceiver(unit, moment)
        }
    }
}

/// What a command leads to.
struct Outcome {
    var answer: [UInt8]?
    var waiting: Session.Waiting?
    var actions: [DeviceAction] = []
    var closes = false

    static let done = Outcome()
    static func text(_ text: String) -> Outcome { Outcome(answer: [UInt8](text.utf8)) }
    static func whole(_ value: some BinaryInteger) -> Outcome { text("\(value)") }
    static func bool(_ value: Bool) -> Outcome { text(value ? "1" : "0") }
    static func number(_ value: Double) -> Outcome { text(formatted(value)) }
    static func numbers(_ values: [Double]) -> Outcome { text(values.map(formatted).joined(separator: ",")) }
    static func string(_ value: String) -> Outcome { text("\"\(value)\"") }

    /// A definite-length block.
    static func block(_ bytes: [UInt8]) -> Outcome {
        let length = "\(bytes.count)"
        return Outcome(answer: [UInt8]("#\(length.count)\(length)".utf8) + bytes)
    }

    static func formatted(_ value: Double) -> String { String(format: "%.9g", value) }
}
