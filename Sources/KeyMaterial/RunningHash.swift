internal import CKeyMaterial

/// A universal hash of a byte string that arrives in pieces: a polynomial over GF(2^128) in the key.
///
/// Field: GF(2)[x] / (x^128 + x^7 + x^2 + x + 1); bit i of byte j of a block is the coefficient of x^(8 j + i). The message
/// is padded with zeros to whole blocks m_1 ... m_n and followed by a block that holds its length in bits (64 bits, little endian, then
/// zeros); the value is `sum m_i k^(n + 1 - i)` over all of them. For two different messages of at most n blocks, the
/// difference of values takes any given value with a probability of at most (n + 1) / 2^128 over the key.
///
/// A value in the clear gives the key away: it is either one-time-padded (`TagMaker`) or made with a key that serves once.
public struct RunningHash: Sendable {
    public static let keyBytes = 16
    public static let valueBytes = 16

    // Powers of the key and the running sum, in the layout of the kernel.
    private var state: SecretBytes
    private let kernel: Int32

    /// - Parameter key: 16 uniform secret bytes.
    public init(key: SecretBytes) { self.init(key: key, portable: false) }

    /// `portable` leaves the processor's carry-less multiplication aside.
    package init(key: SecretBytes, portable: Bool) {
        precondition(key.count == Self.keyBytes, "a hash key has 16 bytes")
        let kernel = portable ? Int32(CKM_PORTABLE) : ckm_kernel()
        let state = SecretBytes(count: MemoryLayout<ckm_hash>.size)
        key.withBytes { key in
            state.withHash { hash in ckm_hash_begin(hash, key.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self), kernel) }
        }
        self.kernel = kernel
        self.state = state
    }

    /// Bytes taken in so far.
    public var length: UInt64 { state.withHash { $0.pointee.length } }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count > 0 else { return }
        own()
        state.withHash { ckm_hash_update($0, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count, kernel) }
    }

    public mutating func update(_ bytes: some Sequence<UInt8>) {
        if bytes.withContiguousStorageIfAvailable({ update(UnsafeRawBufferPointer($0)) }) == nil {
            Array(bytes).withUnsafeBytes { update($0) }
        }
    }

    /// A number as 8 bytes, little endian: separates fields of a transcript.
    public mutating func update(_ number: UInt64) { withUnsafeBytes(of: number.littleEndian) { update($0) } }

    public mutating func update(_ secret: SecretBytes) { secret.withBytes { update($0) } }

    /// The hash of all bytes so far; more may follow.
    public func value() -> SecretBytes {
        let value = SecretBytes(count: Self.valueBytes)
        value.withMutableBytes { out in
            state.withHash { ckm_hash_value($0, out.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self), kernel) }
        }
        return value
    }

    /// Back to the empty message under the same key.
    public mutating func restart() {
        own()
        state.withHash { ckm_hash_restart($0) }
    }

    /// The probability that two messages of at most `bytes` bytes collide, or that a forger without the pad's bits guesses a tag.
    public static func collisionProbability(bytes: UInt64) -> Double {
        (Double((bytes + 15) / 16) + 1) * 0x1p-128
    }

    /// Copies of a hash go their own ways.
    private mutating func own() {
        if !isKnownUniquelyReferenced(&state) { state = state.slice(0..<state.count) }
    }
}

extension SecretBytes {
    fileprivate func withHash<R>(_ body: (UnsafeMutablePointer<ckm_hash>) -> R) -> R {
        withMutableBytes { body($0.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: ckm_hash.self)) }
    }
}
