// The running hash of both directions of one connection and the tags that close its stretches
// (docs/wire/classical-channel.md, 2.2). A value: bytes in, tags out.

internal import KeyMaterial
public import QKDModel

/// One end's view of the transcript.
///
/// Until the epoch is agreed the few bytes of the handshake are kept; then they enter the hash like all others.
public struct ChannelTranscript: Sendable {
    private enum State {
        case early(sent: [UInt8], received: [UInt8])
        case keyed(Keyed)
    }

    fileprivate struct Keyed {
        var maker: TagMaker
        var checker: TagChecker
        var made: UInt64 = 0
        var checked: UInt64 = 0
        let nonces: [UInt8]
        let own: ChannelDirection
    }

    private var state: State = .early(sent: [], received: [])

    public init() {}

    /// Takes in bytes that this end sends, in order.
    public mutating func sent(_ bytes: UnsafeRawBufferPointer) { take(bytes, own: true) }
    /// Takes in bytes that came, in order.
    public mutating func received(_ bytes: UnsafeRawBufferPointer) { take(bytes, own: false) }

    private mutating func take(_ bytes: UnsafeRawBufferPointer, own: Bool) {
        switch state {
        case .early(var sent, var received):
            if own { sent.append(contentsOf: bytes) } else { received.append(contentsOf: bytes) }
            state = .early(sent: sent, received: received)
        case .keyed(var keyed):
            // Leave no second reference to the hash, or every update would copy it.
            state = .early(sent: [], received: [])
            if own { keyed.maker.update(bytes) } else { keyed.checker.update(bytes) }
            state = .keyed(keyed)
        }
    }

    /// From here on there are keys. What was said before goes into the first stretch.
    public mutating func begin(_ keys: EpochKeys, role: DeviceRole, transmitterNonce: [UInt8], receiverNonce: [UInt8]) throws {
        guard case .early(let sent, let received) = state else { return }
        let forward = (keys.forwardKey, keys.forwardPad)
        let backward = (keys.backwardKey, keys.backwardPad)
        let (own, other) = role == .transmitter ? (forward, backward) : (backward, forward)
        var keyed = Keyed(
            maker: try TagMaker(hashKey: own.0, pad: own.1), checker: try TagChecker(hashKey: other.0, pad: other.1),
            nonces: transmitterNonce + receiverNonce, own: role == .transmitter ? .forward : .backward)
        keyed.headMaker()
        keyed.headChecker()
        keyed.maker.update(sent)
        keyed.checker.update(received)
        state = .keyed(keyed)
    }

    /// Closes the sender's stretch. The pad's cursor is durable before this returns.
    public mutating func tag(_ purpose: TagPurpose) throws -> TagMessage {
        guard case .keyed(var keyed) = state else { throw QuantumLinkError.unexpected(message: "a tag", during: "the exchange of hellos") }
        keyed.maker.update([purpose.rawValue])
        let (offset, tag) = try keyed.maker.tag()
        keyed.made += 1
        keyed.headMaker()
        state = .keyed(keyed)
        return TagMessage(purpose: purpose, padOffset: offset, tag: tag.bytes)
    }

    /// Returns only when the tag covers exactly what came since the last one.
    /// - Throws: `QuantumLinkError.tagFailed`, or `.padPosition` for a replay.
    public mutating func check(_ message: TagMessage) throws {
        guard case .keyed(var keyed) = state else { throw QuantumLinkError.unexpected(message: "tag", during: "the exchange of hellos") }
        keyed.checker.update([message.purpose.rawValue])
        do {
            try keyed.checker.check(AuthenticationTag(bytes: message.tag), padOffset: message.padOffset)
        } catch KeyMaterialError.tagMismatch {
            throw QuantumLinkError.tagFailed(purpose: "\(message.purpose)")
        } catch let error as KeyMaterialError {
            throw QuantumLinkError.padPosition(error.description)
        }
        keyed.checked += 1
        keyed.headChecker()
        state = .keyed(keyed)
    }
}

extension ChannelTranscript.Keyed {
    fileprivate mutating func headMaker() { maker.update(heading(own, number: made)) }
    fileprivate mutating func headChecker() { checker.update(heading(own == .forward ? .backward : .forward, number: checked)) }

    private func heading(_ direction: ChannelDirection, number: UInt64) -> [UInt8] {
        Array("SDQK-TAG".utf8) + [UInt8(direction.rawValue)] + withUnsafeBytes(of: number.littleEndian, Array.init) + nonces
    }
}
