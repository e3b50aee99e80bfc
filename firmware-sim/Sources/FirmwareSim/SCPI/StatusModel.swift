// Status registers of IEEE 488.2 and SCPI-99.

/// Bits of the standard event status register.
enum EventStatus {
    static let operationComplete: UInt8 = 1
    static let queryError: UInt8 = 4
    static let deviceError: UInt8 = 8
    static let executionError: UInt8 = 16
    static let commandError: UInt8 = 32
    static let powerOn: UInt8 = 128
}

/// Bits of the OPERation register.
enum Operation {
    static let calibrating: UInt16 = 1 << 0
    static let settling: UInt16 = 1 << 1
    static let measuring: UInt16 = 1 << 4
}

/// Bits of the QUEStionable register.
enum Questionable {
    static let power: UInt16 = 1 << 3
    static let temperature: UInt16 = 1 << 4
    static let phase: UInt16 = 1 << 6
    static let calibration: UInt16 = 1 << 8
    static let overrun: UInt16 = 1 << 9
    static let saturation: UInt16 = 1 << 10
}

/// Condition, event and enable register of one SCPI status group; events latch rising edges.
struct StatusGroup {
    private(set) var condition: UInt16
    private(set) var event: UInt16 = 0
    var enable: UInt16 = 0

    init(condition: UInt16) { self.condition = condition }

    var summary: Bool { event & enable != 0 }

    mutating func set(_ bits: UInt16) {
        event |= bits & ~condition
        condition = bits
    }

    /// An event without a lasting condition.
    mutating func pulse(_ bits: UInt16) { event |= bits }

    mutating func readEvent() -> UInt16 {
        defer { event = 0 }
        return event
    }

    mutating func clearEvent() { event = 0 }
}

/// The condition registers: what is so now. One instrument has one of each; sessions see the same.
struct Conditions: Equatable {
    var operation: UInt16 = 0
    var questionable: UInt16 = 0
}

/// Registers and error queue of one session. What a session reads, clears or enables is nobody else's business, and an error belongs
/// to the session whose message caused it; only conditions, events and errors of the instrument itself reach all.
struct StatusModel {
    var operation: StatusGroup
    var questionable: StatusGroup
    var errors = ErrorQueue()
    var eventStatus: UInt8 = EventStatus.powerOn
    var eventEnable: UInt8 = 0
    var serviceEnable: UInt8 = 0
    /// `*OPC` waits for the end of what runs.
    var completionArmed = false

    /// As after power-on: conditions that are there already are no events.
    init(_ conditions: Conditions = Conditions()) {
        operation = StatusGroup(condition: conditions.operation)
        questionable = StatusGroup(condition: conditions.questionable)
    }

    mutating func set(_ conditions: Conditions) {
        operation.set(conditions.operation)
        questionable.set(conditions.questionable)
    }

    mutating func queue(_ error: SCPIError) {
        errors.append(error)
        eventStatus |= error.eventBit
    }

    /// `*CLS`: events and errors, not the enable registers.
    mutating func clear() {
        eventStatus = 0
        operation.clearEvent()
        questionable.clearEvent()
        errors.clear()
        completionArmed = false
    }

    /// `STATus:PRESet`.
    mutating func preset() {
        operation.enable = 0
        questionable.enable = 0
    }

    mutating func readEventStatus() -> UInt8 {
        defer { eventStatus = 0 }
        return eventStatus
    }

    /// `*STB?`: bit 6 is the master summary.
    func statusByte(messageAvailable: Bool) -> UInt8 {
        var byte: UInt8 = 0
        if errors.count > 0 { byte |= 1 << 2 }
        if questionable.summary { byte |= 1 << 3 }
        if messageAvailable { byte |= 1 << 4 }
        if eventStatus & eventEnable != 0 { byte |= 1 << 5 }
        if operation.summary { byte |= 1 << 7 }
        if byte & serviceEnable & ~(1 << 6) != 0 { byte |= 1 << 6 }
        return byte
    }
}
