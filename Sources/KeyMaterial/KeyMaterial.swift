// KeyMaterial: the only types in which secret bits may live, and the arithmetic that uses them up.
//
// `SecretBytes` owns memory pages that are locked where the system allows it, left out of core dumps and overwritten
// when the last reference goes. `RunningHash` is a universal hash by polynomial evaluation over GF(2^128); with its
// value one-time-padded it authenticates messages with information-theoretic security (`TagMaker`, `TagChecker`). `Pad`
// is one direction's one-time pad: its cursor is durable before bits leave, so that no bit ever serves twice.
//
// Sources: M. Wegman and J. Carter, New hash functions and their use in authentication and set equality (1981);
// D. McGrew and J. Viega, The Galois/Counter Mode of operation (2004), for the hash's bounds.

/// What can go wrong with secrets and their bookkeeping. Never carries secret bits.
public enum KeyMaterialError: Error, Equatable, CustomStringConvertible {
    case padExhausted(needed: Int, remaining: Int)
    case padUsed(offset: UInt64, cursor: UInt64)
    case padBeyond(offset: UInt64, count: Int, end: UInt64)
    case tagMismatch(padOffset: UInt64)
    case badTagLength(count: Int)
    case badKeyLength(count: Int)
    /// A secret file's path and what is wrong with it.
    case badFile(String)

    public var description: String {
        switch self {
        case .padExhausted(let needed, let remaining):
            "one-time pad has \(remaining) bytes left and \(needed) are needed: install a new secret or wait for the next block"
        case .padUsed(let offset, let cursor):
            "one-time pad byte \(offset) lies below the cursor \(cursor): it is spent and never used again"
        case .padBeyond(let offset, let count, let end):
            "one-time pad ends at byte \(end), the peer asks for \(count) bytes at \(offset): compare both ends' pads"
        case .tagMismatch(let padOffset):
            "authentication tag at pad byte \(padOffset) does not match: the message was changed on its way, or the ends hold different secrets"
        case .badTagLength(let count):
            "an authentication tag has 16 bytes, not \(count)"
        case .badKeyLength(let count):
            "a hash key has 16 bytes, not \(count)"
        case .badFile(let trouble): trouble
        }
    }
}
