public import KeyMaterial

/// One hash over the whole raw key of a block: what makes eps_cor hold, whatever the short hashes of frames let through.
///
/// The receiver's end chooses a fresh key after the raw key is fixed, and sends key and digest; both are public, and the digest's 64 bits count as disclosed.
/// Two different raw keys of at most b bytes have the same digest with a probability of at most `collisionProbability(bytes: b)`.
public enum BlockVerification {
    public static let keyBytes = RunningHash.keyBytes
    public static let digestBytes = 8
    public static let digestBits = 64

    /// - Parameters:
    ///   - rawKey: parts that are hashed as one string.
    ///   - key: 16 fresh uniform bytes, used once.
    /// - Returns: 8 bytes.
    /// - Throws: `PostProcessingError.lengthMismatch`.
    public static func digest(of rawKey: [SecretBytes], key: [UInt8]) throws(PostProcessingError) -> [UInt8] {
        guard key.count == keyBytes else { throw .lengthMismatch(what: "verification key bytes", expected: keyBytes, found: key.count) }
        var hash = RunningHash(key: key.withUnsafeBytes { SecretBytes(copying: $0) })
        for part in rawKey { hash.update(part) }
        return hash.value().withBytes { Array($0.prefix(digestBytes)) }
    }

    /// A polynomial over GF(2^128) cut to 64 bits: 2^64 differences of the full value are not told apart.
    public static func collisionProbability(bytes: UInt64) -> Double { RunningHash.collisionProbability(bytes: bytes) * 0x1p64 }
}
