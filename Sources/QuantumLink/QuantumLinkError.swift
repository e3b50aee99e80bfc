// What can go wrong on a quantum link. No case carries key or symbols.

public import QKDModel

/// Errors of the link service. Each says what, where and what to do, in one sentence.
public enum QuantumLinkError: Error, Equatable, CustomStringConvertible {
    /// Bytes that break docs/wire/classical-channel.md.
    case badMessage(String)
    /// A message that has no place where the conversation is.
    case unexpected(message: String, during: String)
    /// The far end is not who the configuration says, or speaks another version.
    case wrongPeer(String)
    /// A tag that does not fit what was received: bytes were changed, lost, repeated or injected.
    case tagFailed(purpose: String)
    /// Messages that the far end sent and that never came, or came and were never sent.
    case messagesLost(sent: UInt64, received: UInt64)
    /// The channel is closed.
    case closed(String)
    /// No answer in time.
    case timedOut(String)
    /// The pads are below the reserve.
    case padExhausted(link: LinkID)
    /// A pad position that was used before or lies too far ahead.
    case padPosition(String)
    /// A secret file that is none.
    case badSecret(String)
    /// The database of the link's durable state.
    case database(String)
    /// A block that was given up, with the reason.
    case blockVoid(BlockID, reason: String)
    /// A slot that ended before its frames were done.
    case slotFailed(String)
    /// A device that does not do what was asked.
    case device(name: String, reason: String)
    /// A configuration that cannot work.
    case configuration(String)
    /// A recording that cannot be run again.
    case recording(path: String, problem: String)

    public var description: String {
        switch self {
        case .badMessage(let what): "a message on the classical channel is malformed: \(what)"
        case .unexpected(let message, let during): "\(message) is out of place during \(during)"
        case .wrongPeer(let what): "the far end is not the configured one: \(what)"
        case .tagFailed(let purpose):
            "the \(purpose) tag does not match what was received: the channel was tampered with, or the secrets differ"
        case .messagesLost(let sent, let received):
            "the far end had sent \(sent) messages and \(received) came: the channel was tampered with"
        case .closed(let why): "the classical channel is closed: \(why)"
        case .timedOut(let what): "no answer in time: \(what)"
        case .padExhausted(let link): "link \(link) has used up its authentication key: run 'qkdctl secret install' at both ends"
        case .padPosition(let what): "a tag names a pad position that is not allowed: \(what)"
        case .badSecret(let what): "not a usable secret: \(what)"
        case .database(let what): "the link's database failed: \(what)"
        case .blockVoid(let block, let reason): "block \(block) was given up: \(reason)"
        case .slotFailed(let reason): "the slot ended early: \(reason)"
        case .device(let name, let reason): "device \(name): \(reason)"
        case .configuration(let what): "the configuration cannot work: \(what)"
        case .recording(let path, let problem): "\(path) \(problem)"
        }
    }
}
