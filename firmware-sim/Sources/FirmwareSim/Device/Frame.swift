// Symbol frames as the device makes them, and the ring that keeps them until they are released.

internal import CFirmwareSim

/// What the header of one frame says, apart from payload and check sums.
struct FrameHeader: Sendable {
    var count: Int
    var number: UInt64 = 0
    var firstSymbol: UInt64
    var deviceTime: UInt64
    var utc: UInt64
    var kind: FrameKind
    var flags: FrameFlags
    var scale: Float
}

enum FrameKind: UInt32, Sendable {
    case signal = 1
    case shot = 2
    case dark = 3
}

struct FrameFlags: OptionSet, Sendable {
    let rawValue: UInt32
    static let overrun = FrameFlags(rawValue: 1 << 0)
    static let saturated = FrameFlags(rawValue: 1 << 1)
    static let unlocked = FrameFlags(rawValue: 1 << 2)
    static let unsettled = FrameFlags(rawValue: 1 << 3)
    static let stale = FrameFlags(rawValue: 1 << 4)
    static let emulated = FrameFlags(rawValue: 1 << 31)
}

/// The bytes of one frame, header and payload. Written by one job at a time, read-only once it is sealed.
final class FrameBuffer: @unchecked Sendable {
    static let headerLength = 72
    let count: Int
    private let base: UnsafeMutableRawPointer
    private(set) var number: UInt64 = 0
    /// Written by the job that fills the frame.
    var saturated = 0
    var payloadCRC: UInt32 = 0

    init(count: Int) {
        self.count = count
        base = .allocate(byteCount: Self.headerLength + 4 * count, alignment: 64)
    }

    deinit { base.deallocate() }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: Self.headerLength + 4 * count) }

    /// The samples of `count` symbols from `offset` on.
    func samples(_ offset: Int, _ count: Int) -> UnsafeMutableBufferPointer<Int16> {
        let start = base.advanced(by: Self.headerLength + 4 * offset).assumingMemoryBound(to: Int16.self)
        return UnsafeMutableBufferPointer(start: start, count: 2 * count)
    }

    func checkPayload() { payloadCRC = fs_crc32c(base.advanced(by: Self.headerLength), 4 * count) }

    /// Writes the header.
    func seal(_ header: FrameHeader) {
        number = header.number
        func put<T: FixedWidthInteger>(_ offset: Int, _ value: T) {
            base.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
        }
        put(0, UInt32(0x4D59_5351))  // "QSYM"
        put(4, UInt16(1))
        put(6, UInt16(Self.headerLength))
        put(8, UInt32(4 * count))
        put(12, UInt32(count))
        put(16, header.number)
        put(24, header.firstSymbol)
        put(32, header.deviceTime)
        put(40, header.utc)
        put(48, header.kind.rawValue)
        put(52, header.flags.rawValue)
        put(56, header.scale.bitPattern)
        put(60, UInt32(saturated))
        put(64, payloadCRC)
        put(68, fs_crc32c(base, 68))
    }
}

/// Frames that were produced and not yet released. When it is full the newest are lost.
struct FrameRing {
    let capacity: Int
    private(set) var frames: [FrameBuffer] = []
    /// Number of the next frame that is produced, kept or lost.
    private(set) var nextNumber: UInt64 = 0
    private(set) var lost: UInt64 = 0
    private var gap = false

    init(capacity: Int) { self.capacity = capacity }

    var isFull: Bool { frames.count >= capacity }

    /// `first ..< next` as `ACQuire:AVAilable?` tells it.
    var available: Range<UInt64> {
        guard let first = frames.first, let last = frames.last else { return nextNumber..<nextNumber }
        return first.number..<last.number + 1
    }

    /// Numbers, seals and keeps a frame, or loses it; returns whether it was kept.
    mutating func append(_ frame: FrameBuffer, header: FrameHeader, lose: Bool = false) -> Bool {
        var header = header
        header.number = nextNumber
        nextNumber += 1
        guard !isFull, !lose else {
            lost += 1
            gap = true
            return false
        }
        if gap { header.flags.insert(.overrun) }
        gap = false
        frame.seal(header)
        frames.append(frame)
        return true
    }

    mutating func release(through number: UInt64) {
        let kept = frames.firstIndex { $0.number > number } ?? frames.count
        frames.removeFirst(kept)
    }

    /// The oldest kept frame with this number or a later one.
    func frame(from number: UInt64) -> FrameBuffer? {
        guard let first = frames.first else { return nil }
        if first.number >= number { return first }
        return frames.first { $0.number >= number }
    }

    /// All frames of a range, or `nil` when one is missing.
    func frames(_ range: Range<UInt64>) -> [FrameBuffer]? {
        let found = frames.filter { range.contains($0.number) }
        return found.count == range.count ? found : nil
    }
}
