public import KeyMaterial
internal import PostProcessingKernels

/// Core bits that the receiver's end discloses for a frame that did not decode, one round's worth.
///
/// The transmitter's end says "more" (one bit, which counts as disclosed like the others); the receiver's end answers with the next few core
/// bits, at positions that are the same for every frame of a code and known to anybody; the decoder goes on from where it
/// stood. After the code's `disclosureRounds` the frame is disclosed altogether. Bytes: docs/wire/reconciliation-messages.md.
public struct FrameDisclosure: Sendable, Equatable {
    /// 1 for the first one.
    public var round: Int
    /// `code.disclosureBits` bits, bit k in byte k / 8, lowest bit first.
    public var bits: [UInt8]

    private static let magic: [UInt8] = Array("SRD1".utf8)
    private static let headBytes = 12

    /// The receiver's end: the bits of `core`, as `FrameEncoder.encode` returned it, that belong to a round.
    /// - Throws: `ReconciliationError.disclosureRound`, `.disclosedCore` where the core is not one of this code.
    public init(of core: SecretBytes, round: Int, code: ReconciliationCode) throws {
        guard (1...code.disclosureRounds).contains(round) else { throw ReconciliationError.disclosureRound(round) }
        guard core.count * 8 == code.coreBits else { throw ReconciliationError.disclosedCore }
        self.round = round
        var bits = [UInt8](repeating: 0, count: (code.disclosureBits + 7) / 8)
        core.withBytes { core in
            for (k, position) in code.disclosurePositions(round: round).enumerated() {
                bits[k / 8] |= (core[position / 8] >> UInt8(position % 8) & 1) << UInt8(k % 8)
            }
        }
        self.bits = bits
    }

    /// The disclosure as bytes.
    public func encoded() -> [UInt8] {
        var bytes = Self.magic
        for field in [UInt32(round), UInt32(bits.count)] { withUnsafeBytes(of: field.littleEndian) { bytes += $0 } }
        return bytes + bits
    }

    /// Bytes of a disclosure for this code.
    public static func byteCount(_ code: ReconciliationCode) -> Int { headBytes + (code.disclosureBits + 7) / 8 }

    /// Reads a disclosure for a frame of `code`.
    /// - Throws: `ReconciliationError.messageLength` or `.messageField`.
    public init(decoding bytes: UnsafeRawBufferPointer, for code: ReconciliationCode) throws {
        guard bytes.count == Self.byteCount(code) else {
            throw ReconciliationError.messageLength(expected: Self.byteCount(code), found: bytes.count)
        }
        let word = { (offset: Int) in UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
        guard bytes.prefix(4).elementsEqual(Self.magic) else { throw ReconciliationError.messageField("magic") }
        guard (1...UInt32(code.disclosureRounds)).contains(word(4)) else { throw ReconciliationError.messageField("round") }
        guard Int(word(8)) == bytes.count - Self.headBytes else { throw ReconciliationError.messageField("number of disclosed bytes") }
        round = Int(word(4))
        bits = Array(bytes[Self.headBytes...])
        guard code.disclosureBits % 8 == 0 || (bits.last ?? 0) >> UInt8(code.disclosureBits % 8) == 0 else {
            throw ReconciliationError.messageField("bit beyond the disclosed ones")
        }
    }
}

extension ReconciliationCode {
    /// Rounds of disclosure that a frame may get: a fifth of the core altogether. Long frames, which lack little, get it in smaller parts.
    public var disclosureRounds: Int { frameBits > 500_000 ? 80 : 40 }

    /// Core bits that one round discloses, rounded up.
    public var disclosureBits: Int { (coreBits + 5 * disclosureRounds - 1) / (5 * disclosureRounds) }

    /// Core bits of a round, in the order in which they are disclosed.
    package func disclosurePositions(round: Int) -> [Int] {
        guard let order = ldpc_disclosure_order(table.code), round > 0 else { return [] }
        return ((round - 1) * disclosureBits..<round * disclosureBits).prefix { $0 < coreBits }.map { Int(order[$0]) }
    }
}
