/// What can go wrong with an instrument that can be spoken to. What goes wrong with the line is a `TransportError`.
public enum InstrumentError: Error, Equatable, Sendable {
    /// The device queued an error; SCPI's number and text.
    case refused(command: String, code: Int, text: String)
    /// Another session holds the device's lock.
    case locked(command: String)
    /// An answer that the protocol does not allow.
    case unexpectedAnswer(query: String, answer: String, wanted: String)
    /// A setting outside what the device can do.
    case outOfRange(what: String, value: String, allowed: String)
    /// `*IDN?` names a device without a driver.
    case noDriver(identity: String)
    /// The device is a transmitter where a receiver is needed, or the other way round.
    case wrongRole(serial: String, wanted: String)
    /// A symbol frame fails a check.
    case badFrame(reason: String)
    /// The line cannot carry what the symbol rate makes.
    case lineTooSlow(symbolRate: Double, needed: Int, carries: Int)
    /// The device says that a calibration failed.
    case calibrationFailed(kind: String, reason: String)
    /// Symbols stopped coming although they should.
    case streamFailed(reason: String)
    /// A managed module has no device at the moment.
    case notConnected(address: String, reason: String)
}

extension InstrumentError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .refused(let command, let code, let text): "the device refused '\(command)': \(code), \(text)"
        case .locked(let command): "the device refused '\(command)': another session holds its lock, wait or ask its owner"
        case .unexpectedAnswer(let query, let answer, let wanted): "'\(query)' was answered '\(answer)' where \(wanted) was expected"
        case .outOfRange(let what, let value, let allowed): "\(what) \(value) is out of range: use \(allowed)"
        case .noDriver(let identity): "no driver knows '\(identity)': see docs/adding-a-device.md"
        case .wrongRole(let serial, let wanted): "device \(serial) is no \(wanted): check the address"
        case .badFrame(let reason): "a symbol frame was dropped: \(reason)"
        case .lineTooSlow(let rate, let needed, let carries):
            "the line carries \(carries) bytes/s and \(rate) symbols/s need \(needed): lower the symbol rate or use tcp"
        case .calibrationFailed(let kind, let reason): "calibration \(kind) failed: \(reason)"
        case .streamFailed(let reason): "the symbol stream failed: \(reason)"
        case .notConnected(let address, let reason): "\(address) is not connected: \(reason)"
        }
    }
}
