// Control sessions: bytes to lines, lines to units, and what waits for an operation to end.

/// Names one control session of one device.
typealias SessionID = Int

/// What the outside shall do for a device.
enum DeviceAction: Equatable, Sendable {
    /// Bytes for a session, not before a wall-clock time (ns; 0: at once).
    case send(SessionID, [UInt8], notBefore: UInt64)
    /// End of a control session.
    case close(SessionID)
    /// End of the data connection.
    case closeData
}

/// When it is, by both clocks.
struct Moment: Sendable {
    /// Testbed time in ns: device time counts from the device's power-on.
    var time: UInt64
    /// A monotonic wall clock in ns; testbed time where nobody waits.
    var wall: UInt64
}

struct Session {
    static let longestLine = 4096
    private var input: [UInt8] = []
    private var overlong = false
    private(set) var lines: [[UInt8]] = []
    /// Units of the line at hand that are not yet executed.
    var units: ArraySlice<CommandUnit> = []
    /// Error of the line at hand, to queue after its good units.
    var lineError: SCPIError?
    /// Answers of the line at hand.
    var answer: [UInt8] = []
    var waiting: Waiting?

    enum Waiting { case completeQuery, wait }

    /// Takes bytes in; returns how many lines were too long.
    mutating func receive(_ bytes: [UInt8]) -> Int {
        var tooLong = 0
        for byte in bytes {
            switch byte {
            case 0x0A:
                if overlong { tooLong += 1 } else if !input.isEmpty { lines.append(input) }
                input.removeAll(keepingCapacity: true)
                overlong = false
            case 0x0D: continue
            case 0x18: clear()
            default:
                if input.count >= Self.longestLine { overlong = true } else { input.append(byte) }
            }
        }
        return tooLong
    }

    mutating func nextLine() -> [UInt8]? { lines.isEmpty ? nil : lines.removeFirst() }

    var isIdle: Bool { lines.isEmpty && units.isEmpty && waiting == nil }

    /// Device clear: everything pending is dropped.
    mutating func clear() { self = Session() }
}
