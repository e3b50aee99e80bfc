// Which bytes of a confirmed block may still become keys, and by whose hand. A value without I/O.

package import QKDModel

/// The account of one block's bytes.
///
///     0 ......... start ............. split ............. end
///     |  pads     |  first end's half |  other end's half  |
///
/// The own half is given out in order; in the peer's half ranges come in as the peer names them, and what it skipped
/// stays free as a gap. Both halves are only ever cut smaller, so no byte is given away twice.
package struct BlockLedger: Equatable, Sendable {
    package let block: BlockID
    package let start: Int
    package let split: Int
    package let end: Int
    package let firstEnd: Bool
    /// The next free byte of the own half, and of the peer's.
    package private(set) var ownCursor: Int
    package private(set) var peerCursor: Int
    /// Ranges of the peer's half below its cursor that were never named; in order, apart.
    package private(set) var gaps: [Range<Int>]

    /// A freshly confirmed block. - Parameter pads: bytes at its front that went to the pads.
    package init(block: BlockID, byteCount: Int, pads: Int, firstEnd: Bool) {
        let start = min(pads, byteCount)
        let split = start + (byteCount - start) / 2 / 32 * 32
        self.init(
            block: block, start: start, split: split, end: byteCount, firstEnd: firstEnd,
            ownCursor: firstEnd ? start : split, peerCursor: firstEnd ? split : start, gaps: [])
    }

    /// As it was stored.
    init(block: BlockID, start: Int, split: Int, end: Int, firstEnd: Bool, ownCursor: Int, peerCursor: Int, gaps: [Range<Int>]) {
        self.block = block
        self.start = start
        self.split = split
        self.end = end
        self.firstEnd = firstEnd
        self.ownCursor = ownCursor
        self.peerCursor = peerCursor
        self.gaps = gaps
    }

    package var ownHalf: Range<Int> { firstEnd ? start..<split : split..<end }
    package var peerHalf: Range<Int> { firstEnd ? split..<end : start..<split }
    package var ownRemaining: Int { ownHalf.upperBound - ownCursor }
    package var peerRemaining: Int { peerHalf.upperBound - peerCursor + gaps.reduce(0) { $0 + $1.count } }

    /// Whether no key of `smallest` bytes can come out of it any more.
    package func isSpent(smallest: Int) -> Bool { ownRemaining < smallest && peerRemaining < smallest }

    /// Takes up to `count` keys of `size` bytes from the own half, one after the other.
    ///
    /// - Returns: the range that they fill, a multiple of `size`; nil where not even one fits.
    package mutating func take(keys count: Int, size: Int) -> Range<Int>? {
        guard size > 0 else { return nil }
        let fitting = min(count, ownRemaining / size)
        guard fitting > 0 else { return nil }
        let range = ownCursor..<(ownCursor + fitting * size)
        ownCursor = range.upperBound
        return range
    }

    /// Takes a range that the peer names.
    ///
    /// - Throws: `KeyStoreError.rangeTaken` where a byte of it is not in the peer's half or not free.
    package mutating func accept(_ range: Range<Int>) throws(KeyStoreError) {
        guard !range.isEmpty, range.lowerBound >= peerHalf.lowerBound, range.upperBound <= peerHalf.upperBound else {
            throw .rangeTaken(block)
        }
        if range.lowerBound >= peerCursor {
            if range.lowerBound > peerCursor { gaps.append(peerCursor..<range.lowerBound) }
            peerCursor = range.upperBound
            return
        }
        guard let index = gaps.firstIndex(where: { $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound }) else {
            throw .rangeTaken(block)
        }
        let gap = gaps.remove(at: index)
        let rest = [gap.lowerBound..<range.lowerBound, range.upperBound..<gap.upperBound].filter { !$0.isEmpty }
        gaps.insert(contentsOf: rest, at: index)
    }
}
