// The key store of one node (LKMS): stores, synchronises and delivers keys.
//
//   Core          blocks and keys in SQLite, sealed at rest; the ledger that says which bits may be given away by whom
//   Sync          the KM link to the store of another node (docs/wire/km-link.md)
//   API014        ETSI GS QKD 014 for applications
//   Applications  who asks: registration, limits, accounts
//
// Life of a block:   held --confirm--> confirmed --all ranges taken--> spent
//                      \------------------\--mismatch, zeroise, too old--> void
// Life of a key:     master's end   offered --peer has reserved--> delivered | spoiled
//                    slave's end    reserved --fetched--> delivered | expired | void
//
// A block counts only once both ends hold it and agree. A key's bits leave the block's segments in the same
// transaction that writes the key's row, and leave the row in the same transaction that marks it delivered, which is
// durable before the bits leave the process. What is erased is overwritten in the database (secure_delete), and the
// write-ahead log is truncated regularly.
//
// Sources: ETSI GS QKD 014 V1.1.1; Wegman and Carter 1981 (tags); NIST SP 800-38D (AES-GCM).

public import Foundation
public import QKDModel

/// What can go wrong in the key store. No case carries key.
public enum KeyStoreError: Error, Equatable, CustomStringConvertible {
    case masterKey(String)
    case secret(String)
    case database(String)
    /// The database was sealed under another master key, or a record was altered.
    case sealBroken(String)
    case configuration(String)
    case certificate(String)
    /// The id is taken by a block of other content.
    case otherContent(BlockID)
    case storeFull(LinkID, limitBits: Int)
    case unknownPeer(NodeID)
    case blockSize(Int)
    /// A transition that the life of a key does not have.
    case badTransition(from: String, event: String)
    /// A range of a block that is not free, or not the asking end's to give.
    case rangeTaken(BlockID)
    case padExhausted(NodeID)
    /// An offset of a one-time pad that has been used.
    case padOffset(offset: UInt64, cursor: UInt64)
    case badMessage(String)
    case noSuchKey
    case noSuchApplication(UUID)
    case notForCaller
    case notEnoughKey(String)
    case peerUnavailable(String)
    case refusedByPeer(String)

    public var description: String {
        switch self {
        case .masterKey(let what): "the master key cannot be used: \(what)"
        case .secret(let what): "the installed secret cannot be used: \(what)"
        case .database(let what): "the key database cannot be used: \(what)"
        case .sealBroken(let what): "\(what) cannot be opened: wrong master key, or the database was altered"
        case .configuration(let what): "the configuration is not usable: \(what)"
        case .certificate(let what): "a certificate or key cannot be used: \(what)"
        case .otherContent(let block): "block \(block) exists already with other content"
        case .storeFull(let link, let limit): "link \(link) has reached its limit of \(limit) bits in store"
        case .unknownPeer(let peer): "node \(peer) is no peer of this store: add it to 'peers'"
        case .blockSize(let count): "a block of \(count) bytes is outside 64 bytes to 64 MiB"
        case .badTransition(let state, let event): "a key that is \(state) cannot be \(event)"
        case .rangeTaken(let block): "a range of block \(block) is not free"
        case .padExhausted(let peer): "the one-time pad towards \(peer) is used up: wait for key, or install a new secret at both ends"
        case .padOffset(let offset, let cursor):
            "pad offset \(offset) lies below the cursor \(cursor): a message was replayed, or a database was restored from an old copy"
        case .badMessage(let what): "a message on the KM link breaks the format: \(what)"
        case .noSuchKey: "one or more keys specified are not found on KME"
        case .noSuchApplication(let id): "there is no application \(id)"
        case .notForCaller: "the caller was not named as recipient of one or more keys"
        case .notEnoughKey(let what): "not enough key: \(what)"
        case .peerUnavailable(let what): "the far key store cannot be reached: \(what)"
        case .refusedByPeer(let what): "the far key store refused: \(what)"
        }
    }
}
