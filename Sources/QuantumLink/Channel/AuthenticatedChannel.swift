// Messages over a pipe, every byte of them in the transcript. The runner of `Handshake`.

internal import Foundation
internal import NIOCore
public import QKDModel
internal import Synchronization

/// One connection to the far end of a link.
///
/// `send` may be called from any task: the order of sending is the order of hashing. `receive` has one caller at a time; a tag that
/// fails throws there, and everything since the last good tag is void.
public final class AuthenticatedChannel: Sendable {
    private let pipe: any MessagePipe
    private let transcript = Mutex(ChannelTranscript())
    /// Messages of both directions.
    private let messages = Mutex((sent: UInt64(0), received: UInt64(0)))
    private let counters = Mutex((sent: UInt64(0), received: UInt64(0)))
    private let waitingSince = Mutex<ContinuousClock.Instant?>(nil)

    private let tap: (any LinkTap)?

    public init(_ pipe: any MessagePipe, tap: (any LinkTap)? = nil) {
        self.pipe = pipe
        self.tap = tap
    }

    /// Bytes of both directions.
    public var traffic: (sent: UInt64, received: UInt64) { counters.withLock { $0 } }

    /// How long `receive` has been waiting for the far end; nil while nobody waits.
    var silence: Duration? { waitingSince.withLock { $0.map { ContinuousClock.now - $0 } } }

    public func send(_ message: ChannelMessage) { send(message.sizeHint) { _ in message } }

    /// A sign of life that tells how many messages should have come: one that was taken away on the way shows within seconds.
    func sendAlive() { send(16) { .alive(sent: $0) } }

    /// - Parameter make: the message, from the number of those that were sent before.
    private func send(_ sizeHint: Int, _ make: (UInt64) -> ChannelMessage) {
        var buffer = ByteBufferAllocator().buffer(capacity: sizeHint)
        transcript.withLock { transcript in
            let message = make(countSent())
            MessageCodec.write(message, to: &buffer)
            buffer.withUnsafeReadableBytes { transcript.sent($0) }
            tap?.take(.said(message))
            pipe.send(buffer)
        }
        counters.withLock { $0.sent += UInt64(buffer.readableBytes) }
    }

    /// Closes what this end has said so far with a tag.
    public func sendTag(_ purpose: TagPurpose) throws {
        try transcript.withLock { transcript in
            var buffer = ByteBuffer()
            _ = countSent()
            MessageCodec.write(.tag(try transcript.tag(purpose)), to: &buffer)
            pipe.send(buffer)
        }
    }

    /// The next message. A `.tag` that is returned has verified.
    /// - Throws: `QuantumLinkError.closed` at the end, `.tagFailed`, `.badMessage`.
    public func receive() async throws -> ChannelMessage {
        waitingSince.withLock { $0 = .now }
        defer { waitingSince.withLock { $0 = nil } }
        guard let frame = try await pipe.receive() else { throw QuantumLinkError.closed("the far end hung up") }
        counters.withLock { $0.received += UInt64(frame.readableBytes + 4) }
        let message = try MessageCodec.read(frame)
        try count(message)
        try transcript.withLock { transcript in
            if case .tag(let tag) = message { return try transcript.check(tag) }
            withUnsafeBytes(of: UInt32(frame.readableBytes).littleEndian) { transcript.received($0) }
            frame.withUnsafeReadableBytes { transcript.received($0) }
        }
        return message
    }

    private func countSent() -> UInt64 {
        messages.withLock { messages in
            defer { messages.sent += 1 }
            return messages.sent
        }
    }

    /// - Throws: `QuantumLinkError.messagesLost`.
    private func count(_ message: ChannelMessage) throws {
        let before = messages.withLock { messages in
            defer { messages.received += 1 }
            return messages.received
        }
        if case .alive(let sent) = message, sent != before { throw QuantumLinkError.messagesLost(sent: sent, received: before) }
    }

    public func close() { pipe.close() }

    /// The far end learns that its bytes did not come as they were sent: both ends then show the same.
    func object(to error: any Error) {
        guard LinkHealth.isTampering(error) else { return }
        send(.bye(LinkHealth.foundChanges + String(describe(error).prefix(300))))
    }

    func begin(_ keys: EpochKeys, role: DeviceRole, transmitterNonce: [UInt8], receiverNonce: [UInt8]) throws {
        try transcript.withLock { try $0.begin(keys, role: role, transmitterNonce: transmitterNonce, receiverNonce: receiverNonce) }
    }

    func lift() { pipe.setLimit(MessageCodec.limit) }
}

extension AuthenticatedChannel {
    /// Runs the handshake to its end. `first` is a HELLO that was read already, by a listener that had to know the link.
    /// - Returns: the epoch in use.
    public func handshake(_ identity: LinkIdentity, database: LinkDatabase, random: any RandomSource) async throws -> EpochKeys {
        let epochs = try database.epochs(of: identity.link)
        let other = identity.role == .transmitter ? DeviceRole.receiver : .transmitter
        let hello = Hello(
            node: identity.node.rawValue, peer: identity.peer.rawValue, link: identity.link.rawValue, role: identity.role,
            nonce: random.bytes(32), epochs: epochs.map(\.epoch), taken: try epochs.map { try $0.position(of: other) },
            inDoubt: try database.blocksInDoubt(on: identity.link))
        var handshake = Handshake(
            own: hello, next: { epoch in try epochs.first { $0.epoch == epoch }?.position(of: identity.role) ?? 0 },
            committed: { try database.isCommitted($0) })
        var established: EpochKeys?
        var actions = handshake.start()
        while true {
            for action in actions {
                switch action {
                case .send(let message): send(message)
                case .begin(let epoch, let transmitterNonce, let receiverNonce):
                    guard let keys = epochs.first(where: { $0.epoch == epoch }) else {
                        throw QuantumLinkError.wrongPeer("no secret in common")
                    }
                    try begin(keys, role: identity.role, transmitterNonce: transmitterNonce, receiverNonce: receiverNonce)
                    established = keys
                case .sendTag: try sendTag(.handshake)
                case .resolve(let answers): for answer in answers { try database.resolve(answer.block, committed: answer.committed) }
                case .established:
                    guard let established else { throw QuantumLinkError.wrongPeer("no secret in common") }
                    lift()
                    return established
                }
            }
            let message = try await receive()
            if case .tag(let tag) = message {
                actions = try handshake.tagVerified(tag.purpose)
            } else {
                actions = try handshake.input(message)
            }
        }
    }
}

/// Who talks about which link.
public struct LinkIdentity: Hashable, Sendable, Codable {
    public var node: NodeID
    public var peer: NodeID
    public var link: LinkID
    /// This end's role.
    public var role: DeviceRole

    public init(node: NodeID, peer: NodeID, link: LinkID, role: DeviceRole) {
        self.node = node
        self.peer = peer
        self.link = link
        self.role = role
    }
}

extension ChannelMessage {
    fileprivate var sizeHint: Int {
        switch self {
        case .frame(let frame): frame.message.readableBytes + 32
        case .frameValues(let values): 2 * values.samples.count + 32
        case .blockResult(let result): result.seed.count + 256
        case .slotDisclose(let disclosure): 8 * disclosure.positions.count + 64
        default: 256
        }
    }
}
