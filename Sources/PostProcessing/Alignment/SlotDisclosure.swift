public import QKDModel

/// What the transmitter discloses at the start of a slot: its own values at random positions. They serve no key afterwards.
public struct SlotDisclosure: Hashable, Sendable {
    /// Transmitter's counter of position 0.
    public let firstSymbol: UInt64
    /// Ascending, counted from `firstSymbol`.
    public let positions: [UInt32]
    /// Sent values at the positions [SNU^(1/2)].
    public let x: [Float]
    public let p: [Float]

    public static let maximumCount = 65_536
    /// Positions span at most this many symbols.
    public static let maximumSpan: UInt32 = 1 << 24

    /// - Throws: `PostProcessingError.badDisclosure`: lengths that differ, no or too many positions, an order that is not ascending, values that are no numbers.
    public init(firstSymbol: UInt64, positions: [UInt32], x: [Float], p: [Float]) throws(PostProcessingError) {
        guard x.count == positions.count, p.count == positions.count else { throw .badDisclosure(reason: "lists of different lengths") }
        guard (1...Self.maximumCount).contains(positions.count) else { throw .badDisclosure(reason: "\(positions.count) positions") }
        guard zip(positions, positions.dropFirst()).allSatisfy(<) else { throw .badDisclosure(reason: "positions are not ascending") }
        guard let last = positions.last, last < Self.maximumSpan else { throw .badDisclosure(reason: "positions span too many symbols") }
        guard firstSymbol < 1 << 62 else { throw .badDisclosure(reason: "first symbol \(firstSymbol)") }
        guard (x + p).allSatisfy({ abs($0) < 1e6 }), (x + p).contains(where: { $0 != 0 }) else {
            throw .badDisclosure(reason: "values that cannot have been sent")
        }
        self.firstSymbol = firstSymbol
        self.positions = positions
        self.x = x
        self.p = p
    }

    /// Different uniform positions out of `span`, ascending.
    public static func choosePositions(count: Int, span: Int, random: any RandomSource) -> [UInt32] {
        precondition(count > 0 && count <= span / 2 && span <= Int(maximumSpan), "at most half of the span, and the span below 2^24")
        var chosen = Set<UInt32>()
        while chosen.count < count {
            // The high half of a product with a 64-bit word: the bias is below 2^-40.
            chosen.insert(UInt32(random.word().multipliedFullWidth(by: UInt64(span)).high))
        }
        return chosen.sorted()
    }

    /// Little endian: first symbol (8 bytes), count (4), positions (4 each), then x and p (4 each, IEEE 754 single).
    public func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(12 + 12 * positions.count)
        func append(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) } }
        append(firstSymbol)
        append(UInt32(positions.count))
        for position in positions { append(position) }
        for (x, p) in zip(x, p) {
            append(x.bitPattern)
            append(p.bitPattern)
        }
        return bytes
    }

    /// - Throws: `PostProcessingError.badDisclosure`, also for bytes that a stranger made up.
    public init(decoding bytes: [UInt8]) throws(PostProcessingError) {
        guard bytes.count >= 12 else { throw .badDisclosure(reason: "\(bytes.count) bytes") }
        func word(_ offset: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32(8 * $1) } }
        let count = Int(word(8))
        guard count <= Self.maximumCount, bytes.count == 12 + 12 * count else {
            throw .badDisclosure(reason: "\(bytes.count) bytes for \(count) positions")
        }
        let values = 12 + 4 * count
        try self.init(
            firstSymbol: UInt64(word(0)) | UInt64(word(4)) << 32, positions: (0..<count).map { word(12 + 4 * $0) },
            x: (0..<count).map { Float(bitPattern: word(values + 8 * $0)) },
            p: (0..<count).map { Float(bitPattern: word(values + 8 * $0 + 4)) })
    }
}
