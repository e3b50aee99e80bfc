// Connections of a link service: made by the transmitter's ends, waited for by the receiver's ends.

internal import Foundation
internal import Logging
internal import NIOCore
internal import QKDModel

extension LinkService {
    /// For the first word of a connection: whoever connects has it ready.
    private static let helloWithin = Duration.seconds(3)

    // MARK: The transmitter's end

    /// Connects, and connects again, with a pause that grows while it does not help: every handshake costs pad.
    func keepConnected(_ link: LinkID) async {
        var pause = Duration.milliseconds(250)
        while !Task.isCancelled, let running = links[link], let station = transmitter(of: link) {
            let monitor = running.context.monitor
            guard hasPad(link, monitor) else {
                try? await Task.sleep(for: .seconds(1))
                continue
            }
            do {
                try await connectOnce(running, station)
            } catch {
                noteEnd(of: link, error)
                if case QuantumLinkError.tagFailed = error { pause = max(pause, .seconds(1)) }
            }
            if Task.isCancelled { return }
            let longest: Duration = (links[link]?.tagFailures ?? 0) > 0 ? .seconds(60) : .seconds(30)
            // A connection that carried a session starts the pauses anew.
            if wasConnected(link) { pause = .milliseconds(250) }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, longest)
        }
    }

    private func connectOnce(_ running: Running, _ station: TransmitterStation) async throws {
        let identity = running.context.settings.identity
        guard let peer = peers[identity.peer]?.peer else { throw QuantumLinkError.configuration("there is no peer '\(identity.peer)'") }
        let pipe: NetworkPipe
        do { pipe = try await NetworkPipe.connect(host: peer.channel.host, port: peer.channel.port, group: group) } catch {
            throw QuantumLinkError.closed("\(peer.channel.host):\(peer.channel.port) does not answer")
        }
        defer { pipe.close() }
        sessionBegan[identity.link] = nil
        try await withTaskCancellationHandler {
            try await LinkConversation.transmitter(
                pipe, context: running.context, station: station, seats: seats,
                established: { await self.established(identity.link) })
        } onCancel: {
            pipe.close()
        }
    }

    private func established(_ link: LinkID) {
        sessionBegan[link] = ContinuousClock.now
        links[link]?.tagFailures = 0
        guard let monitor = links[link]?.context.monitor else { return }
        monitor.setState(.pending, "connected, waiting for the receiver")
        monitor.say("channel", "up and authenticated")
    }

    /// Whether the last connection lived long enough to be more than a handshake.
    private func wasConnected(_ link: LinkID) -> Bool {
        guard let began = sessionBegan[link] else { return false }
        return ContinuousClock.now - began > .seconds(5)
    }

    private func hasPad(_ link: LinkID, _ monitor: LinkMonitor) -> Bool {
        let newest: PadAccount?
        do { newest = try database.epochs(of: link).first?.account() } catch {
            monitor.ended(error)
            monitor.setState(.pending, describe(error))
            return false
        }
        if newest?.suffices == true { return true }
        let why = newest == nil ? "no secret is installed" : "authentication key is down to its reserve"
        monitor.setState(.passive, why)
        if !monitor.snapshot.alarms.contains(where: { $0.kind == "pad" }) {
            monitor.raise(
                "pad", .major, newest == nil ? "\(why): run 'qkdctl secret install'" : "\(QuantumLinkError.padExhausted(link: link))")
        }
        return false
    }

    // MARK: The receiver's end

    func listen() async throws -> (any Channel)? {
        guard let endpoint = configuration.listen else { return nil }
        return try await NetworkPipe.listen(host: endpoint.host, port: endpoint.port, group: group) { pipe in
            Task { await self.accept(pipe) }
        }
    }

    private func accept(_ pipe: NetworkPipe) async {
        let guest = welcome(pipe)
        defer { leave(guest) }
        do {
            let first = try await withTimeout(Self.helloWithin, "a hello") { try await pipe.receive() }
            door.spoke(guest)
            guard let first, case .hello(let hello) = try MessageCodec.read(first), let link = LinkID(rawValue: hello.link),
                let running = links[link], running.context.settings.identity.role == .receiver, let station = receiver(of: link)
            else { throw QuantumLinkError.wrongPeer("its hello names no link of this node") }
            // After failed tags the next attempt comes later: guessing must be slow. Nobody waits here meanwhile, or a guesser
            // would hold the places of honest connections.
            guard ContinuousClock.now >= running.notBefore else { throw QuantumLinkError.closed("too soon after a tag that failed") }
            // What a stranger asks for says nothing about a session that goes on.
            guard running.isLive || hasPad(link, running.context.monitor) else { throw QuantumLinkError.padExhausted(link: link) }
            let (channel, keys) = try await handshake(PrefixedPipe(first: first, pipe: pipe), running)
            leave(guest)
            await replace(link, with: channel, keys, station)
        } catch {
            logger.info("a connection was refused: \(describe(error))", metadata: ["from": "\(pipe.peer)"])
            pipe.close()
        }
    }

    /// A place at the door: whoever says nothing makes room for whoever comes.
    private func welcome(_ pipe: NetworkPipe) -> Int {
        let isPeer = peers.values.contains { $0.peer.channel.host == pipe.address }
        let (id, evicted) = door.enter(from: pipe.address, isPeer: isPeer)
        guests[id] = pipe
        if let evicted { guests.removeValue(forKey: evicted)?.close() }
        return id
    }

    private func leave(_ guest: Int) {
        door.leave(guest)
        guests[guest] = nil
    }

    private func handshake(_ pipe: any MessagePipe, _ running: Running) async throws -> (AuthenticatedChannel, EpochKeys) {
        do {
            return try await LinkConversation.handshake(pipe, running.context)
        } catch {
            // Anybody may connect and talk nonsense; a tag, a used position and this node's own disk say something about the link.
            switch error {
            case QuantumLinkError.tagFailed, QuantumLinkError.padPosition, QuantumLinkError.database:
                running.context.monitor.ended(error)
                noteEnd(of: running.context.link, error)
            default: break
            }
            throw error
        }
    }

    /// Only a connection whose tag has verified takes the place of another.
    private func replace(_ link: LinkID, with channel: AuthenticatedChannel, _ keys: EpochKeys, _ station: ReceiverStation) async {
        guard let turnstile = links[link]?.turnstile else { return channel.close() }
        await turnstile.enter()
        links[link]?.session?.cancel()
        await links[link]?.session?.value
        // The old session may have left a block in doubt that this handshake did not ask about: the next one will.
        guard let running = links[link], (try? database.blocksInDoubt(on: link).isEmpty) == true else {
            await turnstile.leave()
            return channel.close()
        }
        established(link)
        links[link]?.isLive = true
        links[link]?.session = Task {
            do { try await LinkConversation.receiver(channel, keys, context: running.context, station: station) } catch {
                self.links[link]?.isLive = false
                self.noteEnd(of: link, error)
            }
        }
        await turnstile.leave()
    }

    // MARK: Both

    /// A connection ended: say why, and slow down after failed tags.
    func noteEnd(of link: LinkID, _ error: any Error) {
        guard let running = links[link], !(error is CancellationError) else { return }
        let monitor = running.context.monitor
        if case QuantumLinkError.tagFailed = error {
            links[link]?.tagFailures += 1
            let failures = min(links[link]?.tagFailures ?? 1, 7)
            links[link]?.notBefore = ContinuousClock.now + min(.seconds(1 << (failures - 1)), .seconds(60))
        }
        if case QuantumLinkError.padExhausted = error { return }
        // A stranger's failed handshake says nothing about the session that goes on.
        if running.isLive { return }
        monitor.setState(.pending, describe(error))
    }

    func restart(_ link: LinkID) async {
        guard let running = links[link] else { return }
        running.session?.cancel()
        await running.session?.value
        links[link]?.session = nil
        links[link]?.isLive = false
        guard running.task != nil else { return }
        running.task?.cancel()
        await running.task?.value
        links[link]?.task = Task { await self.keepConnected(link) }
    }
}

/// A pipe whose first message was read already.
private final class PrefixedPipe: MessagePipe {
    private let queue = MessageQueue<ByteBuffer>()
    private let pipe: any MessagePipe

    init(first: ByteBuffer, pipe: any MessagePipe) {
        self.pipe = pipe
        queue.put(first)
        queue.close()
    }

    func receive() async throws -> ByteBuffer? {
        if let first = await queue.next() { return first }
        return try await pipe.receive()
    }

    func send(_ message: ByteBuffer) { pipe.send(message) }
    func setLimit(_ bytes: Int) { pipe.setLimit(bytes) }
    func close() { pipe.close() }
}
