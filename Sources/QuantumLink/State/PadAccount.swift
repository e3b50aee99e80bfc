// How much authentication key a link holds, spends and takes from each block. Values only.

/// The pads of one link, in bytes.
public struct PadAccount: Equatable, Sendable {
    /// What is never sold: 64 kbit per direction.
    public static let reserveBytes = 65536 / 8
    /// A block spends two tags forward and one backward; a handshake one each.
    public static let tagBytes = 16

    public var remainingForward: Int
    public var remainingBackward: Int
    /// At installation, per direction.
    public var size: Int

    public init(remainingForward: Int, remainingBackward: Int, size: Int) {
        self.remainingForward = remainingForward
        self.remainingBackward = remainingBackward
        self.size = size
    }

    public var remaining: Int { min(remainingForward, remainingBackward) }

    /// Whether a block may start.
    public var suffices: Bool { remaining >= Self.reserveBytes + 8 * Self.tagBytes }

    /// What the next block of `secretBits` gives back, in bits, whole bytes, at most an eighth of it per direction.
    public func refill(secretBits: Int) -> (forward: Int, backward: Int) {
        let most = secretBits / 8 / 8
        func bits(_ remaining: Int) -> Int { 8 * max(0, min(size - remaining, most)) }
        return (bits(remainingForward), bits(remainingBackward))
    }

    /// Whether an offered refill is one that this end could have computed: not more than an eighth per direction.
    public static func allows(forward: Int, backward: Int, secretBits: Int) -> Bool {
        let most = secretBits / 8
        return forward % 8 == 0 && backward % 8 == 0 && forward >= 0 && backward >= 0 && forward <= most && backward <= most
    }
}

/// The direction in which a pad authenticates.
public enum ChannelDirection: Int, Sendable, CaseIterable {
    /// From the transmitter's end to the receiver's end.
    case forward = 1
    case backward = 2
}
