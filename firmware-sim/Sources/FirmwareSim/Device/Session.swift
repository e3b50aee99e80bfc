// Control sessions: bytes to lines, lines to units, and what waits for an operation to end.

/// Names one control session of one device.
typealias SessionID = Int

/// What the outside shall do for a device.
enum DeviceAction: Equatable, Sendable {
    /// Bytes for a session, not before a wall-clock time (ns; 0: at once).
    case send(SessionID, [UInt8], notBefore: UInt64)
    /// Answers of a session that have not left yet are dropped.
    case forget(SessionID)
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
    /// Its own registers and errors.
    var status: StatusModel

    enum Waiting { case completeQuery, wait }

    init(_ status: StatusModel) { self.status = status }

    /// Takes bytes in; lines that are too long are errors.
    /// - Returns: whether there was a device clear among them.
    mutating func receive(_ bytes: [UInt8]) -> Bool {
        var isCleared = false
        for byte in bytes {
            switch byte {
            case 0x0A:
                if overlong { status.queue(SCPIError(-363)) } else if !input.isEmpty { lines.append(input) }
                input.removeAll(keepingCapacity: true)
                overlong = false
            case 0x0D: continue
            case 0x18:
                clear()
                isCleared = true
            default:
                if input.count >= Self.longestLine { overlong = true } else { input.append(byte) }
            }
        }
        return isCleared
    }

    mutating func nextLine() -> [UInt8]? { lines.isEmpty ? nil : lines.removeFirst() }

    var isIdle: Bool { lines.isEmpty && units.isEmpty && waiting == nil }

    /// Device clear: everything pending is dropped; registers and errors stay, but `*OPC` waits no longer (IEEE 488.2, 10.19).
    mutating func clear() {
        drop()
        status.completionArmed = false
    }

    /// Forgets what came and what was to be said.
    mutating func drop() { self = Session(status) }
}
