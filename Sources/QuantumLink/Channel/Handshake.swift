// The first exchange of a connection as a value: messages in, actions out (docs/wire/classical-channel.md, 3).
//
//     T: start -> helloSent -> (hello) -> resolving -> (resolve, tag) -> established
//     R: start -> (hello) -> helloSent -> (resolve) -> checking -> (tag) -> established
//
// The receiver's end touches its own pad only after the transmitter's tag has verified. Nothing of a HELLO or
// RESOLVE is acted upon before.

public import QKDModel

public struct Handshake: Sendable {
    /// What the runner does, in order.
    public enum Action: Equatable, Sendable {
        case send(ChannelMessage)
        /// The transcript gets its keys.
        case begin(Epoch, transmitterNonce: [UInt8], receiverNonce: [UInt8])
        case sendTag
        /// How the other end decided blocks that are in doubt here.
        case resolve([Resolve.Answer])
        case established(Epoch)
    }

    private enum State {
        case start
        case helloSent
        case resolving(peer: Hello, epoch: Epoch)
        case checking(peer: Hello, resolve: Resolve)
        case established
    }

    private var state: State = .start
    private let own: Hello
    /// Answers a block in doubt at the other end: whether it is committed here.
    private let committed: @Sendable (BlockID) throws -> Bool
    /// The position of this end's next tag in its own pad.
    private let next: @Sendable (Epoch) throws -> UInt64

    public init(
        own: Hello, next: @escaping @Sendable (Epoch) throws -> UInt64, committed: @escaping @Sendable (BlockID) throws -> Bool
    ) {
        self.own = own
        self.next = next
        self.committed = committed
    }

    /// The transmitter's end speaks first.
    public mutating func start() -> [Action] {
        guard own.role == .transmitter, case .start = state else { return [] }
        state = .helloSent
        return [.send(.hello(own))]
    }

    public mutating func input(_ message: ChannelMessage) throws -> [Action] {
        switch (own.role, state, message) {
        case (.receiver, .start, .hello(let peer)):
            try check(peer)
            state = .resolving(peer: peer, epoch: Epoch([]))
            return [.send(.hello(own))]
        case (.receiver, .resolving(let peer, _), .resolve(let resolve)):
            guard own.epochs.contains(resolve.epoch) else {
                throw QuantumLinkError.wrongPeer("it uses a secret that is not installed here")
            }
            try check(resolve)
            state = .checking(peer: peer, resolve: resolve)
            return [.begin(resolve.epoch, transmitterNonce: peer.nonce, receiverNonce: own.nonce)]
        case (.transmitter, .helloSent, .hello(let peer)):
            try check(peer)
            guard let epoch = own.epochs.first(where: { peer.epochs.contains($0) }) else {
                throw QuantumLinkError.wrongPeer("the two ends have no installed secret in common")
            }
            try checkPad(epoch, peer)
            state = .resolving(peer: peer, epoch: epoch)
            return [
                .begin(epoch, transmitterNonce: own.nonce, receiverNonce: peer.nonce), .send(.resolve(try answer(peer, epoch))), .sendTag,
            ]
        case (.transmitter, .resolving(let peer, let epoch), .resolve(let resolve)):
            guard resolve.epoch == epoch else { throw QuantumLinkError.wrongPeer("it uses another secret than agreed") }
            try check(resolve)
            state = .checking(peer: peer, resolve: resolve)
            return []
        case (_, _, .bye(let reason)):
            throw QuantumLinkError.closed("the far end refused: \(reason)")
        default:
            throw QuantumLinkError.unexpected(message: message.name, during: "the handshake")
        }
    }

    /// The other end's tag has verified.
    public mutating func tagVerified(_ purpose: TagPurpose) throws -> [Action] {
        guard purpose == .handshake, case .checking(let peer, let resolve) = state else {
            throw QuantumLinkError.unexpected(message: "a \(purpose) tag", during: "the handshake")
        }
        // Only now is its HELLO believed.
        if own.role == .receiver { try checkPad(resolve.epoch, peer) }
        state = .established
        let settled: [Action] = [.resolve(resolve.answers), .established(resolve.epoch)]
        return own.role == .transmitter ? settled : [.send(.resolve(try answer(peer, resolve.epoch))), .sendTag] + settled
    }

    private func answer(_ peer: Hello, _ epoch: Epoch) throws -> Resolve {
        Resolve(epoch: epoch, answers: try peer.inDoubt.map { .init(block: $0, committed: try committed($0)) })
    }

    /// An end that runs on an old copy of its state must not tag anything: it would use a stretch of its pad twice.
    private func checkPad(_ epoch: Epoch, _ peer: Hello) throws {
        guard let index = peer.epochs.firstIndex(of: epoch) else { return }
        let (taken, next) = (peer.taken[index], try next(epoch))
        guard taken <= next else {
            throw QuantumLinkError.padPosition(
                "the far end has taken tags up to byte \(taken), the next one here would be at \(next): this end runs on an old copy")
        }
    }

    /// Answers are for what was asked, in that order: no more and no less.
    private func check(_ resolve: Resolve) throws {
        guard resolve.answers.map(\.block) == own.inDoubt else {
            throw QuantumLinkError.badMessage("resolve does not answer what was asked")
        }
    }

    private func check(_ peer: Hello) throws {
        guard peer.version == Hello.version else {
            throw QuantumLinkError.wrongPeer("it speaks version \(peer.version), this end \(Hello.version)")
        }
        guard peer.role != own.role else { throw QuantumLinkError.wrongPeer("both ends are configured as \(own.role.rawValue)") }
        guard peer.node == own.peer, peer.peer == own.node, peer.link == own.link else {
            throw QuantumLinkError.wrongPeer(
                "it is '\(peer.node.prefix(64))' for link '\(peer.link.prefix(64))' of '\(peer.peer.prefix(64))'")
        }
        guard peer.nonce != own.nonce else { throw QuantumLinkError.wrongPeer("it repeats our own nonce") }
    }
}
