internal import CKeyMaterial
public import QKDModel
internal import Synchronization

/// A string of secret bytes in pages of its own.
///
/// The pages are locked into memory where `RLIMIT_MEMLOCK` allows it (`SecretBytes.unlockedBytes` counts the rest),
/// left out of core dumps, wiped in forked children, and overwritten when the last reference goes. Printing, dumping
/// and reflecting show only the length; the type is neither `Codable` nor `Hashable`.
public final class SecretBytes: Sendable {
    public let count: Int
    /// Whether the pages cannot be swapped out.
    public let isLocked: Bool
    // Written only by initialisers and by `withMutableBytes`, which comes before sharing.
    private nonisolated(unsafe) let pages: UnsafeMutableRawPointer

    private static let unlocked = Atomic<Int>(0)
    private static let living = Atomic<Int>(0)

    /// Secret bytes alive in this process whose pages could be swapped out.
    public static var unlockedBytes: Int { unlocked.load(ordering: .relaxed) }
    /// Secret bytes alive in this process.
    public static var livingBytes: Int { living.load(ordering: .relaxed) }

    /// Zeros.
    /// - Precondition: `count >= 0`, and the system has that much memory.
    public init(count: Int) {
        precondition(count >= 0, "a negative count of secret bytes")
        var locked = false
        guard let pages = ckm_pages_make(count, &locked) else { preconditionFailure("out of memory for \(count) secret bytes") }
        self.count = count
        self.pages = pages
        isLocked = locked
        Self.living.add(count, ordering: .relaxed)
        if !locked { Self.unlocked.add(count, ordering: .relaxed) }
    }

    /// A copy; whoever owns the original overwrites it.
    public convenience init(copying bytes: UnsafeRawBufferPointer) {
        self.init(count: bytes.count)
        UnsafeMutableRawBufferPointer(start: pages, count: count).copyMemory(from: bytes)
    }

    /// Fresh random bytes, written straight into the pages.
    public convenience init(count: Int, random: any RandomSource) {
        self.init(count: count)
        random.fill(UnsafeMutableRawBufferPointer(start: pages, count: count))
    }

    /// A copy; the array is overwritten with zeros and emptied. Only this array: copies made before are the caller's.
    public convenience init(consuming bytes: inout [UInt8]) {
        self.init(count: bytes.count)
        bytes.withUnsafeMutableBytes { buffer in
            UnsafeMutableRawBufferPointer(start: pages, count: buffer.count).copyMemory(from: UnsafeRawBufferPointer(buffer))
            if let base = buffer.baseAddress { ckm_zero(base, buffer.count) }
        }
        bytes = []
    }

    deinit {
        ckm_pages_drop(pages, count)
        Self.living.subtract(count, ordering: .relaxed)
        if !isLocked { Self.unlocked.subtract(count, ordering: .relaxed) }
    }

    public func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeRawBufferPointer(start: pages, count: count))
    }

    /// For whoever makes the secret, before anyone else holds a reference.
    public func withMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer) throws -> R) rethrows -> R {
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeMutableRawBufferPointer(start: pages, count: count))
    }

    /// A copy of a part.
    public func slice(_ range: Range<Int>) -> SecretBytes {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "slice \(range) of \(count) secret bytes")
        return withBytes { SecretBytes(copying: UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    public static func concatenate(_ parts: [SecretBytes]) -> SecretBytes {
        let whole = SecretBytes(count: parts.reduce(0) { $0 + $1.count })
        var start = 0
        for part in parts where part.count > 0 {
            part.withBytes { (whole.pages + start).copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: $0.count) }
            start += part.count
        }
        return whole
    }

    /// Whether both hold the same bytes, in a time that depends on the lengths only.
    public func matches(_ other: SecretBytes) -> Bool {
        guard count == other.count else { return false }
        defer { withExtendedLifetime((self, other)) {} }
        return ckm_equal(pages, other.pages, count)
    }

    /// Overwrites the bytes now instead of with the last reference.
    public func zeroise() { ckm_zero(pages, count) }
}

extension SecretBytes: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "<\(count) secret bytes>" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: [], displayStyle: .class) }
}
