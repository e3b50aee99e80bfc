// The LKMS's end: one thread accepts, one thread per connection reads blocks and waits for the store.

import Dispatch
import Foundation
import Glibc
import KeyMaterial
import QKDModel
import Synchronization

/// Accepts deposits on a Unix socket.
public final class KeyDepositServer: Sendable {
    /// Stores a block durably, then returns. Errors of type `KeyDepositError` reach the client as their status; any
    /// other one as "unavailable".
    public typealias Handler = @Sendable (DepositedBlock) async throws -> DepositReceipt
    /// Told of connections that were refused and of frames that break the format; for the log.
    public typealias Observer = @Sendable (String) -> Void

    private let socketPath: String
    private let allowedUsers: Set<UInt32>
    private let handler: Handler
    private let observer: Observer
    private let open = Mutex<Open>(Open())

    private struct Open {
        var listener: Socket?
        var connections: [ObjectIdentifier: Socket] = [:]
        var stopped = false
    }

    /// - Parameter allowedUsers: user ids that may deposit; by default the one this process runs as.
    public init(
        socketPath: String, allowedUsers: Set<UInt32>? = nil, observer: @escaping Observer = { _ in },
        handler: @escaping Handler
    ) {
        self.socketPath = socketPath
        self.allowedUsers = allowedUsers ?? [geteuid()]
        self.observer = observer
        self.handler = handler
    }

    /// Binds the socket and begins to accept. - Throws: `KeyDepositError`.
    public func start() throws {
        let listener = try Socket.listen(path: socketPath, mode: allowedUsers == [geteuid()] ? 0o600 : 0o660)
        open.withLock { $0.listener = listener }
        thread("deposit-accept") { [self] in
            do { while true { admit(try listener.accept(shortage: observer)) } } catch {
                if !open.withLock({ $0.stopped }) { observer("no more deposits are taken: \(error)") }
            }
            listener.close()
        }
    }

    /// Stops accepting, ends the connections and removes the socket file.
    public func stop() {
        let (listener, connections) = open.withLock { open in
            open.stopped = true
            return (open.listener, Array(open.connections.values))
        }
        listener?.interrupt()
        connections.forEach { $0.interrupt() }
        if listener != nil { unlink(socketPath) }
    }

    private func admit(_ connection: Socket) {
        guard let user = try? connection.peerUser(), allowedUsers.contains(user) else {
            observer("a deposit connection was refused: the user at its other end is not allowed")
            return connection.close()
        }
        let id = ObjectIdentifier(connection)
        // All places taken: others wait in the listener's queue, for a while.
        var place = enter(connection, id)
        for _ in 0..<500 where place == .taken {
            usleep(10_000)
            place = enter(connection, id)
        }
        guard place == .free else { return connection.close() }
        thread("deposit") { [self] in
            serve(connection)
            open.withLock { _ = $0.connections.removeValue(forKey: id) }
            connection.close()
        }
    }

    private enum Place { case free, taken, stopped }

    private func enter(_ connection: Socket, _ id: ObjectIdentifier) -> Place {
        open.withLock { open in
            if open.stopped { return .stopped }
            guard open.connections.count < 32 else { return .taken }
            open.connections[id] = connection
            return .free
        }
    }

    private func serve(_ connection: Socket) {
        do {
            // An idle connection may stay; a frame that has begun must end in time.
            while let preamble = try connection.read(preambleSize) {
                try connection.setTimeout(.seconds(30))
                try connection.write(try answer(connection, preamble: preamble).encoded())
                try connection.setTimeout(.zero)
            }
        } catch let error as KeyDepositError {
            if case .badFrame(let what) = error {
                try? connection.write(
                    DepositAnswer(status: .notAccepted, block: BlockID(UUID(uuid: noUUID)), reason: what).encoded())
            }
            observer("\(error)")
        } catch { observer("\(error)") }
    }

    private func answer(_ connection: Socket, preamble: [UInt8]) throws -> DepositAnswer {
        let length = try DepositHeader.headerLength(preamble: preamble)
        guard let bytes = try connection.read(length) else { throw KeyDepositError.closed(path: socketPath) }
        let header = try DepositHeader(header: bytes)
        let bits = SecretBytes(count: header.byteCount)
        let whole = try bits.withMutableBytes { try connection.readAll($0) }
        guard whole else { throw KeyDepositError.closed(path: socketPath) }
        let block = DepositedBlock(
            link: header.link, block: header.block, peer: header.peer, bits: bits, provenance: header.provenance,
            firstEnd: header.firstEnd)
        if let refusal = block.sizeRefusal { return DepositAnswer(block: header.block, outcome: .failure(refusal)) }
        return DepositAnswer(block: header.block, outcome: wait { [handler] in try await handler(block) })
    }
}

extension DepositedBlock {
    /// Both ends of the socket say the same about a block that is too small or too large.
    var sizeRefusal: KeyDepositError? {
        guard !Self.sizes.contains(bits.count) else { return nil }
        return .notAccepted(block, reason: "a block of \(bits.count) bytes is outside 64 bytes to 64 MiB")
    }
}

private let noUUID: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

func thread(_ name: String, _ body: @escaping @Sendable () -> Void) {
    let made = Thread(block: body)
    made.name = name
    made.start()
}

/// Blocks this thread (one of our own, never one of the cooperative pool) until `body` has ended.
private func wait<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) -> Result<T, any Error> {
    let outcome = Outcome<T>()
    let done = DispatchSemaphore(value: 0)
    Task {
        let result: Result<T, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        outcome.value.withLock { $0 = result }
        done.signal()
    }
    done.wait()
    return outcome.value.withLock { $0 }
}

private final class Outcome<T: Sendable>: Sendable {
    let value = Mutex<Result<T, any Error>>(.failure(CancellationError()))
}
