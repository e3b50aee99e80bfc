// Errors as SCPI-99 numbers them, and the queue that keeps them.

/// One entry of the error queue.
struct SCPIError: Error, Equatable {
    var number: Int
    var text: String

    /// `detail` follows the standard text after a semicolon.
    init(_ number: Int, _ detail: String = "") {
        self.number = number
        let standard = Self.texts[number] ?? "Device-specific error"
        let plain = detail.filter { $0.isASCII && !$0.isNewline && $0 != "\"" }
        text = plain.isEmpty ? standard : "\(standard);\(plain.prefix(120))"
    }

    static let none = SCPIError(0)
    var answer: String { "\(number),\"\(text)\"" }

    /// The bit of the standard event status register that this class of errors sets.
    var eventBit: UInt8 {
        switch number {
        case -199 ... -100: EventStatus.commandError
        case -299 ... -200: EventStatus.executionError
        case -499 ... -400: EventStatus.queryError
        case 0: 0
        default: EventStatus.deviceError
        }
    }

    private static let texts: [Int: String] = [
        0: "No error", -100: "Command error", -101: "Invalid character", -102: "Syntax error", -103: "Invalid separator",
        -104: "Data type error", -108: "Parameter not allowed", -109: "Missing parameter", -113: "Undefined header",
        -120: "Numeric data error", -131: "Invalid suffix", -151: "Invalid string data", -168: "Block data not allowed",
        -200: "Execution error", -213: "Init ignored", -221: "Settings conflict", -222: "Data out of range", -223: "Too much data",
        -224: "Illegal parameter value", -230: "Data corrupt or stale", -240: "Hardware error", -241: "Hardware missing",
        -310: "System error", -340: "Calibration failed", -350: "Queue overflow", -363: "Input buffer overrun", -365: "Time out error",
        -410: "Query INTERRUPTED",
    ]
}

/// First in, first out; when full the last entry becomes -350.
struct ErrorQueue {
    static let capacity = 16
    private var entries: [SCPIError] = []

    var count: Int { entries.count }

    mutating func append(_ error: SCPIError) {
        if entries.count < Self.capacity {
            entries.append(error)
        } else {
            entries[Self.capacity - 1] = SCPIError(-350)
        }
    }

    mutating func next() -> SCPIError { entries.isEmpty ? .none : entries.removeFirst() }
    mutating func clear() { entries.removeAll() }
}
