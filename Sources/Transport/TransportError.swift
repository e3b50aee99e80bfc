/// What can go wrong on a line. Texts from devices are cut to 60 characters and never hold symbol data.
public enum TransportError: Error, Equatable, Sendable {
    /// The address cannot be understood; `reason` says which part.
    case badAddress(String, reason: String)
    /// A `tcp:` address beyond loopback without leave.
    case remoteRefused(String)
    /// Opening failed; `reason` is the system's word.
    case cannotOpen(String, reason: String)
    /// Nothing with this serial number is plugged in.
    case notFound(String, reason: String)
    /// The device is there, but this user may not open it; `reason` says which rule or group would help.
    case noPermission(String, reason: String)
    /// The device is ours by its ids, but does not look as it should.
    case unknownFirmware(String, reason: String)
    /// Another process or session has the line.
    case inUse(String, reason: String)
    /// Nothing, or not all, came within the deadline.
    case timedOut(String, doing: String)
    /// The device answered a query with nothing (it queued an error instead).
    case noAnswer(String, query: String)
    /// The other end hung up, the cable is gone, or `close` was called.
    case closed(String, reason: String)
    /// A message that the protocol cannot carry: more than 4095 bytes, or more than one line.
    case unsendable(String, message: String)
    /// An answer does not keep to the protocol's framing.
    case malformed(String, reason: String)
    /// An answer is longer than the caller allows.
    case tooLong(String, limit: Int)
    /// The data connection was refused by the device.
    case dataRefused(String, reason: String)
    /// A replayed session was asked for something other than what was recorded, or not for all of it.
    case offScript(String, reason: String)
}

extension TransportError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .badAddress(let address, let reason): "cannot read the address '\(address)': \(reason)"
        case .remoteRefused(let address):
            "'\(address)' is beyond this machine and its symbols are as good as key: use loopback, or allow remote instruments explicitly"
        case .cannotOpen(let address, let reason): "cannot open \(address): \(reason)"
        case .notFound(let address, let reason): "\(address) is not plugged in: \(reason)"
        case .noPermission(let address, let reason): "no permission for \(address): \(reason)"
        case .unknownFirmware(let address, let reason): "\(address) cannot be used: \(reason)"
        case .inUse(let address, let reason): "\(address) is in use: \(reason)"
        case .timedOut(let address, let doing): "\(address) did not answer in time while \(doing)"
        case .noAnswer(let address, let query): "\(address) gave no answer to '\(query)': read its error queue"
        case .closed(let address, let reason): "\(address) is closed: \(reason)"
        case .unsendable(let address, let message): "cannot send '\(message)' to \(address): a message is one line of at most 4095 bytes"
        case .malformed(let address, let reason): "\(address) broke the framing: \(reason)"
        case .tooLong(let address, let limit): "\(address) answers with more than \(limit) bytes: ask for less at a time"
        case .dataRefused(let address, let reason): "\(address) refused the data connection: \(reason)"
        case .offScript(let address, let reason): "\(address) left its script: \(reason)"
        }
    }
}

/// A device's text as it may stand in an error: one line, printable, 60 characters at most.
package func excerpt(_ text: some StringProtocol) -> String {
    let printable = text.prefix(61).map { $0.isASCII && !$0.isNewline && $0 != "\t" ? $0 : "?" }
    return printable.count > 60 ? String(printable.prefix(60)) + "..." : String(printable)
}
