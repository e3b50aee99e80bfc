// How the two ends find the same symbol at the start of a slot (docs/wire/classical-channel.md, 3; values only).
//
// The devices' clocks agree to some milliseconds, their symbol counters not at all. The receiver's end says when its
// first symbol came; the transmitter's end picks a window that the receiver has surely seen whole and discloses a random half of
// it; the receiver's end finds where it fits best. Frames begin behind the window, so nothing that was disclosed can enter key.

internal import PostProcessing
internal import QKDModel

enum SlotOpening {
    /// Symbols of the window. Half of them are disclosed: the phase is then known to better than .02 rad at the lowest SNR in use.
    static let window = 65536
    /// Clocks may differ by so much, seconds (the protocol's 5 ms and a little).
    static let clockTolerance = 0.006

    static func margin(symbolRate: Double) -> Int { Int(symbolRate * clockTolerance) }

    /// Symbols that the receiver must hold before the transmitter may disclose.
    static func symbolsNeeded(symbolRate: Double) -> Int { 2 * margin(symbolRate: symbolRate) + window + 1024 }

    /// A random half of the window's positions. Some 24 bits of randomness per byte would be enough; a bit per position it is.
    static func positions(window: Int, random: any RandomSource) -> [Int] {
        let bits = random.bytes((window + 7) / 8)
        return (0..<window).filter { bits[$0 / 8] >> UInt8($0 % 8) & 1 == 1 }
    }

    /// - Parameter start: the window's place in the transmitter's store.
    static func disclosure(slot: UInt32, from store: SymbolStore, start: Int, symbolRate: Double, random: any RandomSource) -> Disclosure? {
        let range = start..<start + window
        guard store.holds(range), let utc = store.utc(of: start, symbolRate: symbolRate) else { return nil }
        let samples = store.samples(in: range)
        let positions = positions(window: window, random: random).map {
            Disclosure.Position(index: UInt32($0), x: samples[2 * $0], p: samples[2 * $0 + 1])
        }
        return Disclosure(slot: slot, utc: utc, window: UInt32(window), scale: store.scale, positions: positions)
    }

    /// Positions of the first, wide search; all of them refine place and phase.
    private static let coarsePositions = 2048

    /// Finds the window in what the receiver holds.
    /// - Parameter expected: the window's place by the clocks.
    /// - Returns: the window's place in the receiver's store and the phase; nil: no correlation, no slot.
    static func align(_ disclosure: Disclosure, store: SymbolStore, expected: Int, margin: Int) -> (
        start: Int, phase: Double, significance: Double
    )? {
        guard disclosure.window <= 1 << 20, margin > 0, let few = slotDisclosure(disclosure, first: coarsePositions) else { return nil }
        let wide = max(0, expected - margin)...max(0, expected + margin)
        guard let coarse = search(few, in: store, starts: wide, span: Int(disclosure.window)) else { return nil }
        guard let all = slotDisclosure(disclosure, first: .max),
            let fine = search(all, in: store, starts: max(0, coarse.offset - 32)...(coarse.offset + 32), span: Int(disclosure.window)),
            fine.offset == coarse.offset
        else { return nil }
        return (fine.offset, fine.phase, fine.significance)
    }

    /// What the receiver's end tells of it, and the place of the first frame.
    static func reference(_ disclosure: Disclosure, store: SymbolStore, expected: Int, margin: Int, block: ReceiverBlock) -> (
        reference: SlotFrameOfReference, base: Int
    ) {
        var reference = SlotFrameOfReference(
            slot: disclosure.slot, aligned: false, significance: 0, phase: 0, unit: block.unit, meanX: block.meanX, meanP: block.meanP)
        guard let found = align(disclosure, store: store, expected: expected, margin: margin) else { return (reference, 0) }
        (reference.aligned, reference.significance, reference.phase) = (true, found.significance, found.phase)
        return (reference, found.start + Int(disclosure.window))
    }

    private static func search(_ disclosure: SlotDisclosure, in store: SymbolStore, starts: ClosedRange<Int>, span: Int) -> SlotAlignment? {
        let (first, end) = (max(starts.lowerBound, store.start), min(starts.upperBound + span, store.end))
        // The far end's clock may say that the window lies where nothing is held.
        guard first < end else { return nil }
        let range = first..<end
        let samples = store.samples(in: range)
        return try? samples.withUnsafeBufferPointer {
            try SlotAlignment.correlate(disclosure, received: $0, firstSymbol: UInt64(range.lowerBound), searchRange: starts)
        }
    }

    private static func slotDisclosure(_ disclosure: Disclosure, first count: Int) -> SlotDisclosure? {
        let positions = disclosure.positions.prefix(count)
        return try? SlotDisclosure(
            firstSymbol: 0, positions: positions.map(\.index), x: positions.map { Float($0.x) * disclosure.scale },
            p: positions.map { Float($0.p) * disclosure.scale })
    }
}
