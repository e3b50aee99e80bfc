// Memory of symbol frames: allocated once, used again, aligned for vector code.

import Synchronization

/// One frame's bytes: header and payload, the payload 64-byte aligned. Returns to its pool when released.
public final class SymbolBuffer: @unchecked Sendable {
    // Written only before the frame is handed out, then read-only: that is what makes it Sendable.

    fileprivate let storage: BufferPool.Storage
    private let pool: BufferPool
    /// Length of the header in front of the payload.
    let headerBytes: Int
    let payloadBytes: Int

    fileprivate init(storage: BufferPool.Storage, pool: BufferPool, headerBytes: Int, payloadBytes: Int) {
        self.storage = storage
        self.pool = pool
        self.headerBytes = headerBytes
        self.payloadBytes = payloadBytes
    }

    /// A buffer of its own, without a frame header.
    public convenience init(copying samples: [Int16]) {
        let pool = BufferPool(kept: 0)
        let bytes = 2 * samples.count
        self.init(storage: pool.storage(for: bytes), pool: pool, headerBytes: 0, payloadBytes: bytes)
        samples.withUnsafeBytes { payload.copyMemory(from: $0) }
    }

    deinit { pool.give(storage) }

    /// Number of samples: two (x, p) for each symbol.
    public var sampleCount: Int { payloadBytes / 2 }

    /// The samples in steps of the converter, interleaved x0, p0, x1, p1, ...; valid only within `body`.
    public func withInt16<R>(_ body: (UnsafeBufferPointer<Int16>) throws -> R) rethrows -> R {
        try withExtendedLifetime(self) {
            // The wire is little-endian, and so is every processor that this runs on.
            try body(UnsafeBufferPointer(payload.assumingMemoryBound(to: Int16.self)))
        }
    }

    /// The frame as it came, header and payload; valid only within `body`.
    public func withFrameBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try withExtendedLifetime(self) {
            try body(UnsafeRawBufferPointer(start: header.baseAddress, count: headerBytes + payloadBytes))
        }
    }

    var header: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: storage.bytes[(BufferPool.payloadStart - headerBytes)..<BufferPool.payloadStart])
    }

    var payload: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: storage.bytes[BufferPool.payloadStart..<(BufferPool.payloadStart + payloadBytes)])
    }
}

/// Buffers that were used before. Grows as frames are held, keeps at most `kept` when they come back.
final class BufferPool: Sendable {
    /// Room in front of the payload; headers end there.
    static let payloadStart = 128

    final class Storage: @unchecked Sendable {
        let bytes: UnsafeMutableRawBufferPointer
        init(_ count: Int) { bytes = .allocate(byteCount: count, alignment: 64) }
        deinit { bytes.deallocate() }
    }

    private let kept: Int
    private let free = Mutex<[Storage]>([])
    private let made = Atomic<Int>(0)

    init(kept: Int) { self.kept = kept }

    /// How many buffers were ever allocated.
    var allocations: Int { made.load(ordering: .relaxed) }

    func take(headerBytes: Int, payloadBytes: Int) -> SymbolBuffer {
        SymbolBuffer(storage: storage(for: payloadBytes), pool: self, headerBytes: headerBytes, payloadBytes: payloadBytes)
    }

    fileprivate func storage(for payloadBytes: Int) -> Storage {
        let needed = Self.payloadStart + payloadBytes
        if let used = free.withLock({ $0.popLast() }), used.bytes.count >= needed { return used }
        made.add(1, ordering: .relaxed)
        return Storage((needed + 4095) & ~4095)
    }

    fileprivate func give(_ storage: Storage) {
        free.withLock { if $0.count < kept { $0.append(storage) } }
    }
}
