// Symbol frames, instrument-protocol.md section 2.

import Transport

/// A block of symbols with what the device says about it.
public struct SymbolFrame: Sendable {
    public enum Kind: UInt32, Sendable, Codable, CaseIterable {
        case signal = 1
        case shot = 2
        case dark = 3
    }

    public struct Flags: OptionSet, Sendable, Hashable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        /// The device lost frames before this one.
        public static let overrun = Flags(rawValue: 1 << 0)
        public static let saturated = Flags(rawValue: 1 << 1)
        public static let unlocked = Flags(rawValue: 1 << 2)
        public static let unsettled = Flags(rawValue: 1 << 3)
        public static let staleCalibration = Flags(rawValue: 1 << 4)
        public static let emulated = Flags(rawValue: 1 << 31)
    }

    public let kind: Kind
    /// Counts the frames that the device produced since power-on, kept or lost.
    public let number: UInt64
    /// The device's own symbol counter: starts anywhere, may slip, wraps.
    public let firstSymbol: UInt64
    /// Device time of the first symbol, ns since power-on.
    public let deviceTime: UInt64
    /// UTC of the first symbol, ns since 1970.
    public let utc: UInt64
    public let flags: Flags
    /// Transmitter: sqrt(SNU) per LSB at the fibre input; receiver: volts per LSB.
    public let scale: Float
    /// Saturated samples in this frame.
    public let saturated: Int
    /// Symbols; twice as many samples.
    public let count: Int
    /// Frames missing between the one delivered before and this one.
    public let lostBefore: UInt64
    public let samples: SymbolBuffer

    /// A frame that no device sent: for recordings and simulations.
    /// - Parameter samples: x0, p0, x1, p1, ...; an even number of them.
    public init(
        kind: Kind, number: UInt64, firstSymbol: UInt64, deviceTime: UInt64, utc: UInt64, flags: Flags, scale: Float, saturated: Int,
        samples: [Int16], lostBefore: UInt64 = 0
    ) {
        self.kind = kind
        self.number = number
        self.firstSymbol = firstSymbol
        self.deviceTime = deviceTime
        self.utc = utc
        self.flags = flags
        self.scale = scale
        self.saturated = saturated
        count = samples.count / 2
        self.lostBefore = lostBefore
        self.samples = SymbolBuffer(copying: samples)
    }

    /// A frame out of its bytes on the wire.
    /// - Throws: `InstrumentError.badFrame`.
    public init(copying bytes: UnsafeRawBufferPointer) throws {
        let header = try FrameHeader(bytes)
        guard bytes.count == FrameHeader.bytes + header.payloadBytes else {
            throw InstrumentError.badFrame(
                reason: "it has \(bytes.count) bytes where its header says \(FrameHeader.bytes + header.payloadBytes)")
        }
        let buffer = BufferPool(kept: 0).take(headerBytes: FrameHeader.bytes, payloadBytes: header.payloadBytes)
        buffer.header.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<FrameHeader.bytes]))
        buffer.payload.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[FrameHeader.bytes...]))
        guard CRC32C.checksum(UnsafeRawBufferPointer(buffer.payload)) == header.payloadChecksum else {
            throw InstrumentError.badFrame(reason: "its payload's checksum is wrong")
        }
        self.init(header, samples: buffer, lostBefore: 0)
    }

    init(_ header: FrameHeader, samples: SymbolBuffer, lostBefore: UInt64) {
        kind = header.kind
        number = header.number
        firstSymbol = header.firstSymbol
        deviceTime = header.deviceTime
        utc = header.utc
        flags = header.flags
        scale = header.scale
        saturated = header.saturated
        count = header.count
        self.lostBefore = lostBefore
        self.samples = samples
    }
}

extension SymbolFrame: CustomStringConvertible {
    /// Never shows samples.
    public var description: String { "<\(kind) frame \(number), \(count) symbols>" }
}

/// The 72 bytes in front of a frame's samples.
package struct FrameHeader: Sendable, Equatable {
    package static let bytes = 72
    /// More than the protocol's 1 MiB; anything longer is noise, not a frame.
    package static let longestPayload = 4 << 20

    package var payloadBytes: Int
    package var count: Int
    package var number: UInt64
    package var firstSymbol: UInt64
    package var deviceTime: UInt64
    package var utc: UInt64
    package var kind: SymbolFrame.Kind
    package var flags: SymbolFrame.Flags
    package var scale: Float
    package var saturated: Int
    package var payloadChecksum: UInt32

    /// - Throws: `InstrumentError.badFrame` with what is wrong.
    package init(_ bytes: UnsafeRawBufferPointer) throws {
        guard bytes.count >= Self.bytes else { throw InstrumentError.badFrame(reason: "its header is cut short") }
        func word(_ offset: Int) -> UInt32 { UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
        func long(_ offset: Int) -> UInt64 { UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) }
        guard bytes.prefix(4).elementsEqual("QSYM".utf8) else { throw InstrumentError.badFrame(reason: "its magic is not QSYM") }
        guard CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[..<68])) == word(68) else {
            throw InstrumentError.badFrame(reason: "its header's checksum is wrong")
        }
        guard word(4) == 72 << 16 | 1 else {
            throw InstrumentError.badFrame(reason: "its version is not 1, or its header is not 72 bytes long")
        }
        payloadBytes = Int(word(8))
        count = Int(word(12))
        guard payloadBytes == 4 * count, (4...Self.longestPayload).contains(payloadBytes) else {
            throw InstrumentError.badFrame(reason: "its length of \(payloadBytes) bytes does not fit \(count) symbols")
        }
        guard let kind = SymbolFrame.Kind(rawValue: word(48)) else {
            throw InstrumentError.badFrame(reason: "its kind \(word(48)) is unknown")
        }
        self.kind = kind
        number = long(16)
        firstSymbol = long(24)
        deviceTime = long(32)
        utc = long(40)
        flags = SymbolFrame.Flags(rawValue: word(52))
        scale = Float(bitPattern: word(56))
        saturated = Int(word(60))
        payloadChecksum = word(64)
        guard scale.isFinite, scale > 0 else { throw InstrumentError.badFrame(reason: "its scale is no positive number") }
    }
}
