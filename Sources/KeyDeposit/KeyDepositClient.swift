// The link service's end.

import KeyMaterial
import QKDModel

/// Deposits blocks in the LKMS of this node.
///
/// Each deposit uses a connection of its own: blocks come minutes apart, and so nothing has to be kept alive or
/// noticed when the store restarts.
public struct KeyDepositClient: Sendable {
    public let socketPath: String
    /// How long one system call on the socket may take before the deposit fails with `timedOut`.
    public let timeout: Duration

    public init(socketPath: String, timeout: Duration = .seconds(10)) {
        self.socketPath = socketPath
        self.timeout = timeout
    }

    /// Returns once the block is durably stored. Depositing the same block again is harmless.
    ///
    /// - Throws: `KeyDepositError`; where `isTransient`, try the same block again later; where `isFinal`, never again.
    @discardableResult
    public func deposit(_ block: DepositedBlock) async throws -> DepositReceipt {
        if let refusal = block.sizeRefusal { throw refusal }
        return try await withCheckedThrowingContinuation { continuation in
            // Not a dispatch queue: its threads are few on small machines and shared with everything asynchronous.
            thread("deposit-client") { continuation.resume(with: Result { try exchange(block) }) }
        }
    }

    private func exchange(_ block: DepositedBlock) throws -> DepositReceipt {
        let socket = try Socket.connect(path: socketPath, timeout: timeout)
        defer { socket.close() }
        try socket.write(DepositHeader(block).encoded())
        try block.bits.withBytes { try socket.write($0) }
        guard let head = try socket.read(answerHeadSize) else { throw KeyDepositError.closed(path: socketPath) }
        var (answer, length) = try DepositAnswer.parse(head: head)
        guard answer.block == block.block else { throw KeyDepositError.badFrame("an answer to another block") }
        if length > 0 { answer.reason = String(decoding: try socket.read(length) ?? [], as: UTF8.self) }
        return try answer.receipt()
    }
}
