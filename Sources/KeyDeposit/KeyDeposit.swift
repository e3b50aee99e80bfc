// The binary socket from the link service to the LKMS of the same node, both ends of it.
//
// docs/wire/key-deposit.md is the schema. A deposit is idempotent by block id and answered only after the block is
// durably stored. The key bytes travel by read(2) and write(2) directly between the socket and locked pages: that
// is why this module uses plain blocking sockets on threads of their own and no event loop with pooled buffers.
//
//   client:  connect -> [request -> answer]*          one request at a time, each with a deadline
//   server:  accept -> peer's user id allowed? -> [request -> handler (async, durable) -> answer]* -> close

public import KeyMaterial
public import QKDModel

/// One block of distilled key on its way into the store.
public struct DepositedBlock: Sendable {
    public var link: LinkID
    /// The same at both ends of the link.
    public var block: BlockID
    /// The node at the far end.
    public var peer: NodeID
    /// The key, eight bits to a byte; as many as `sizes` allows.
    public var bits: SecretBytes
    public var provenance: KeyProvenance
    /// True at the transmitter's node: the two stores divide the block between them by it.
    public var firstEnd: Bool

    /// Bytes of a block that a store takes. Less is refused for good, at both ends alike.
    public static let sizes = 64...(64 << 20)

    public init(link: LinkID, block: BlockID, peer: NodeID, bits: SecretBytes, provenance: KeyProvenance, firstEnd: Bool) {
        self.link = link
        self.block = block
        self.peer = peer
        self.bits = bits
        self.provenance = provenance
        self.firstEnd = firstEnd
    }
}

/// What the store did with a block that it accepted.
public enum DepositReceipt: Sendable, Equatable {
    /// Durably stored now.
    case stored
    /// Stored earlier under the same id with the same content; nothing was added.
    case alreadyHeld
}

/// What can go wrong on the deposit socket. No case carries key.
public enum KeyDepositError: Error, Equatable, CustomStringConvertible {
    /// The path is longer than a socket address holds (107 bytes).
    case pathTooLong(String)
    /// A system call failed; the store may not be running yet.
    case socket(operation: String, path: String, errno: Int32)
    /// No answer within the deadline: deposit the same block again.
    case timedOut(path: String)
    /// The other end closed the connection in the middle of an exchange.
    case closed(path: String)
    /// A frame breaks docs/wire/key-deposit.md.
    case badFrame(String)
    /// The id is taken by a block of other content.
    case otherContent(BlockID, reason: String)
    /// The store's limit for the link is reached.
    case full(BlockID, reason: String)
    /// A field, or the block's size, is out of range.
    case notAccepted(BlockID, reason: String)
    /// The node at the far end is no peer of the store, at present: one may be added at any time.
    case unknownPeer(BlockID, reason: String)
    /// The store cannot write now: deposit the same block again later.
    case unavailable(BlockID, reason: String)

    /// Whether the same deposit is worth another try later. `unknownPeer` and `full` last until somebody does something.
    public var isTransient: Bool {
        switch self {
        case .socket, .timedOut, .closed, .unavailable, .full, .unknownPeer: true
        case .pathTooLong, .badFrame, .otherContent, .notAccepted: false
        }
    }

    /// Whether the store has refused this block for good: it will answer the same whenever it is asked, so the block is to be
    /// erased here and voided at the far end. False for `pathTooLong` and `badFrame` too: those are this end's own trouble.
    public var isFinal: Bool {
        switch self {
        case .otherContent, .notAccepted: true
        case .socket, .timedOut, .closed, .unavailable, .full, .unknownPeer, .pathTooLong, .badFrame: false
        }
    }

    public var description: String {
        switch self {
        case .pathTooLong(let path): "the socket path '\(path)' is longer than 107 bytes: choose a shorter one"
        case .socket("bind", let path, let code):
            "the deposit socket '\(path)' cannot be had: \(text(of: code)); does another qkd-lkmsd run in the same folder?"
        case .socket(let operation, let path, let code):
            "\(operation) on the deposit socket '\(path)' failed: \(text(of: code)); is qkd-lkmsd running and is the path the same in both files?"
        case .timedOut(let path): "the deposit socket '\(path)' did not answer in time; the block will be deposited again"
        case .closed(let path):
            "the deposit socket '\(path)' was closed in the middle of an exchange; are both programs run by the same user?"
        case .badFrame(let what): "a frame on the deposit socket breaks the format: \(what)"
        case .otherContent(let block, let reason): "block \(block) was refused, its id is taken: \(reason)"
        case .full(let block, let reason): "block \(block) was refused, the store is full: \(reason)"
        case .notAccepted(let block, let reason): "block \(block) was not accepted: \(reason)"
        case .unknownPeer(let block, let reason): "block \(block) waits, its peer is unknown to the store: \(reason)"
        case .unavailable(let block, let reason): "block \(block) could not be stored now: \(reason)"
        }
    }
}
