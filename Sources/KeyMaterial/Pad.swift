internal import CKeyMaterial
internal import Synchronization

/// One direction's one-time pad with a durable cursor: every byte serves at most once, also across crashes.
///
/// Offsets count from the first byte ever put in and never start again. What lies below the cursor is gone.
public protocol Pad: Sendable {
    /// The sender's use: the next `count` bytes. The cursor has moved durably before this returns.
    func burn(_ count: Int) throws -> (offset: UInt64, bytes: SecretBytes)

    /// The receiver's use: the bytes at `offset`, which lies at or beyond the cursor; what was skipped is lost. The cursor has moved
    /// durably before this returns.
    func burn(at offset: UInt64, count: Int) throws -> SecretBytes

    /// The bytes at `offset` without moving the cursor, to check a tag that may be forged: only a tag that matches moves it, so that
    /// an attacker who names far offsets cannot spend the pad.
    func peek(at offset: UInt64, count: Int) throws -> SecretBytes

    /// Bytes between the cursor and the end.
    var remaining: Int { get throws }

    /// Adds fresh bytes at the end, durably.
    func append(_ bytes: SecretBytes) throws
}

/// A pad in memory, for tests and for exchanges that need not outlive the process. Used bytes are overwritten at once.
public final class VolatilePad: Pad {
    fileprivate struct State {
        var parts: [(start: UInt64, bytes: SecretBytes)] = []
        var cursor: UInt64 = 0
        var end: UInt64 = 0
    }

    private let state: Mutex<State>

    public init(_ bytes: SecretBytes) {
        state = Mutex(State())
        append(bytes)
    }

    public func burn(_ count: Int) throws -> (offset: UInt64, bytes: SecretBytes) {
        try state.withLock { state in
            let remaining = Int(state.end - state.cursor)
            guard count <= remaining else { throw KeyMaterialError.padExhausted(needed: count, remaining: remaining) }
            let offset = state.cursor
            return (offset, try state.take(at: offset, count: count, moving: true))
        }
    }

    public func burn(at offset: UInt64, count: Int) throws -> SecretBytes {
        try state.withLock { try $0.take(at: offset, count: count, moving: true) }
    }

    public func peek(at offset: UInt64, count: Int) throws -> SecretBytes {
        try state.withLock { try $0.take(at: offset, count: count, moving: false) }
    }

    public var remaining: Int { state.withLock { Int($0.end - $0.cursor) } }

    public func append(_ bytes: SecretBytes) {
        state.withLock { state in
            state.parts.append((state.end, bytes.slice(0..<bytes.count)))
            state.end += UInt64(bytes.count)
        }
    }
}

extension VolatilePad.State {
    fileprivate mutating func take(at offset: UInt64, count: Int, moving: Bool) throws -> SecretBytes {
        guard offset >= cursor else { throw KeyMaterialError.padUsed(offset: offset, cursor: cursor) }
        guard offset <= end, count >= 0, UInt64(count) <= end - offset else {
            throw KeyMaterialError.padBeyond(offset: offset, count: count, end: end)
        }
        let range = offset..<offset + UInt64(count)
        let taken = SecretBytes.concatenate(
            parts.compactMap { part in
                let shared = range.clamped(to: part.start..<part.start + UInt64(part.bytes.count))
                return shared.isEmpty ? nil : part.bytes.slice(Int(shared.lowerBound - part.start)..<Int(shared.upperBound - part.start))
            })
        if moving { move(to: range.upperBound) }
        return taken
    }

    private mutating func move(to offset: UInt64) {
        cursor = offset
        parts.removeAll { $0.start + UInt64($0.bytes.count) <= offset }
        guard let first = parts.first, first.start < offset else { return }
        let used = Int(offset - first.start)
        first.bytes.withMutableBytes { bytes in
            if let base = bytes.baseAddress { ckm_zero(base, used) }
        }
    }
}
