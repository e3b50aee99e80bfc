/// A 128-bit authentication tag as it travels: a hash value under a one-time pad, so it is public.
public struct AuthenticationTag: Hashable, Sendable {
    public static let byteCount = 16
    public let bytes: [UInt8]

    /// - Throws: `KeyMaterialError.badTagLength` unless there are 16 bytes.
    public init(bytes: some Sequence<UInt8>) throws(KeyMaterialError) {
        let bytes = Array(bytes)
        guard bytes.count == Self.byteCount else { throw .badTagLength(count: bytes.count) }
        self.bytes = bytes
    }

    fileprivate init(value: SecretBytes, pad: SecretBytes) {
        bytes = value.withBytes { value in pad.withBytes { pad in zip(value, pad).map { $0 ^ $1 } } }
    }

    /// In a time that does not depend on the bytes.
    public static func == (left: Self, right: Self) -> Bool {
        zip(left.bytes, right.bytes).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}

/// The sender's end of an authenticated direction: takes in all that it says and closes each stretch with one tag.
///
/// Wegman-Carter: the hash key is recycled, each tag spends 16 fresh bytes of pad. A forger who has seen any number of tags succeeds
/// with a probability of at most `RunningHash.collisionProbability` per attempt. A call of `tag()` starts the next stretch.
public struct TagMaker: Sendable {
    private var hash: RunningHash
    private let pad: any Pad

    /// - Parameter hashKey: 16 secret bytes, the same at both ends, of this direction only.
    public init(hashKey: SecretBytes, pad: any Pad) throws(KeyMaterialError) {
        guard hashKey.count == RunningHash.keyBytes else { throw .badKeyLength(count: hashKey.count) }
        hash = RunningHash(key: hashKey)
        self.pad = pad
    }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bytes) }
    public mutating func update(_ bytes: [UInt8]) { hash.update(bytes) }

    /// Forgets what was said since the last tag: an exchange that was given up costs no pad.
    public mutating func restart() { hash.restart() }

    /// The tag over everything since the last one. The pad's cursor is durable before this returns.
    /// - Throws: `KeyMaterialError.padExhausted`, or what the pad's store throws; then nothing may be sent.
    public mutating func tag() throws -> (padOffset: UInt64, tag: AuthenticationTag) {
        let (offset, mask) = try pad.burn(AuthenticationTag.byteCount)
        let tag = AuthenticationTag(value: hash.value(), pad: mask)
        hash.restart()
        return (offset, tag)
    }
}

/// The receiver's end: takes in all that it hears and accepts or refuses each stretch as a whole.
public struct TagChecker: Sendable {
    private var hash: RunningHash
    private let pad: any Pad

    /// - Parameter hashKey: 16 secret bytes, the same at both ends, of this direction only.
    public init(hashKey: SecretBytes, pad: any Pad) throws(KeyMaterialError) {
        guard hashKey.count == RunningHash.keyBytes else { throw .badKeyLength(count: hashKey.count) }
        hash = RunningHash(key: hashKey)
        self.pad = pad
    }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bytes) }
    public mutating func update(_ bytes: [UInt8]) { hash.update(bytes) }
    public mutating func restart() { hash.restart() }

    /// Returns only when the tag covers exactly what was heard since the last accepted one, under a part of the pad that was never
    /// used; the pad's cursor has then moved past it durably. After a refusal the stretch is forgotten and the pad has not moved; the
    /// caller limits the rate of attempts.
    /// - Throws: `KeyMaterialError.tagMismatch`, `.padUsed` for a replay, `.padBeyond`, or what the pad's store throws.
    public mutating func check(_ tag: AuthenticationTag, padOffset: UInt64) throws {
        defer { hash.restart() }
        let mask = try pad.peek(at: padOffset, count: AuthenticationTag.byteCount)
        guard AuthenticationTag(value: hash.value(), pad: mask) == tag else { throw KeyMaterialError.tagMismatch(padOffset: padOffset) }
        _ = try pad.burn(at: padOffset, count: AuthenticationTag.byteCount)
    }
}
