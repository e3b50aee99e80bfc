/// What the receiver's end tells the transmitter's end about one frame.
public struct FrameMessage: Sendable, Equatable {
    /// Rotations, one component per quadrature in the frame's order, in units of 1/127.
    public var rotations: [Int8]
    /// Norms of the groups of eight, in the receiver's unit: group l of set s at 64 s + l.
    public var norms: [Float]
    /// Syndrome of the word, bit i in byte i / 8, lowest bit first.
    public var syndrome: [UInt8]
    /// 24-bit universal hash of the core bits.
    public var verification: UInt32

    public static let verificationBits = 24

    public init(rotations: [Int8], norms: [Float], syndrome: [UInt8], verification: UInt32) {
        self.rotations = rotations
        self.norms = norms
        self.syndrome = syndrome
        self.verification = verification
    }

    private static let magic: [UInt8] = Array("SRM1".utf8)
    private static let headBytes = 16

    /// Bytes of a message of this code.
    public static func byteCount(_ code: ReconciliationCode) -> Int {
        headBytes + code.frameBits + 4 * (code.frameBits / 8) + code.syndromeBits / 8
    }

    /// The message as bytes (docs/wire/reconciliation-messages.md).
    public func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.headBytes + rotations.count + 4 * norms.count + syndrome.count)
        bytes += Self.magic
        for field in [UInt32(rotations.count), UInt32(8 * syndrome.count), verification] {
            withUnsafeBytes(of: field.littleEndian) { bytes += $0 }
        }
        rotations.withUnsafeBytes { bytes += $0 }
        #if _endian(little)
            norms.withUnsafeBytes { bytes += $0 }
        #else
            for norm in norms { withUnsafeBytes(of: norm.bitPattern.littleEndian) { bytes += $0 } }
        #endif
        return bytes + syndrome
    }

    /// Reads a message of `code`; every length and value is checked before use.
    /// - Throws: `ReconciliationError.messageLength` or `.messageField`.
    public init(decoding bytes: UnsafeRawBufferPointer, for code: ReconciliationCode) throws {
        guard bytes.count == Self.byteCount(code) else {
            throw ReconciliationError.messageLength(expected: Self.byteCount(code), found: bytes.count)
        }
        let word = { (offset: Int) in UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
        guard bytes.prefix(4).elementsEqual(Self.magic) else { throw ReconciliationError.messageField("magic") }
        guard word(4) == UInt32(code.frameBits) else { throw ReconciliationError.messageField("number of code bits") }
        guard word(8) == UInt32(code.syndromeBits) else { throw ReconciliationError.messageField("number of syndrome bits") }
        let rotationStart = Self.headBytes
        let normStart = rotationStart + code.frameBits
        let syndromeStart = normStart + 4 * (code.frameBits / 8)
        self.init(
            rotations: Self.copy(bytes[rotationStart..<normStart]),
            norms: Self.copy(bytes[normStart..<syndromeStart]).map { (bits: UInt32) in Float(bitPattern: UInt32(littleEndian: bits)) },
            syndrome: Self.copy(bytes[syndromeStart...]), verification: word(12))
        try check(for: code)
    }

    private static func copy<T: BitwiseCopyable>(_ bytes: Slice<UnsafeRawBufferPointer>) -> [T] {
        [T](unsafeUninitializedCapacity: bytes.count / MemoryLayout<T>.size) { values, filled in
            UnsafeMutableRawBufferPointer(values).copyBytes(from: bytes)
            filled = values.count
        }
    }

    /// The same from an array.
    public init(decoding bytes: [UInt8], for code: ReconciliationCode) throws {
        self = try bytes.withUnsafeBytes { try FrameMessage(decoding: $0, for: code) }
    }

    /// Whether the message can be one of this code.
    func check(for code: ReconciliationCode) throws {
        guard rotations.count == code.frameBits else { throw ReconciliationError.messageField("number of rotations") }
        guard norms.count == code.frameBits / 8 else { throw ReconciliationError.messageField("number of norms") }
        guard syndrome.count == code.syndromeBits / 8 else { throw ReconciliationError.messageField("number of syndrome bits") }
        guard verification < 1 << UInt32(Self.verificationBits) else { throw ReconciliationError.messageField("hash") }
        guard rotations.reduce(0, { min($0, $1) }) > .min else { throw ReconciliationError.messageField("rotation") }
        // Bit patterns of finite floats without sign lie below infinity's.
        let largest = norms.reduce(0) { max($0, $1.bitPattern) }
        guard largest < Float.infinity.bitPattern else { throw ReconciliationError.messageField("norm") }
    }
}
