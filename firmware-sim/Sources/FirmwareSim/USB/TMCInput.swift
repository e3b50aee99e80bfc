// The bulk-OUT side of USBTMC: headers and the program messages that follow them, over any number of buffers.

/// Twelve bytes that begin a transfer on bulk-OUT.
enum TMCHeader: Equatable, Sendable {
    static let length = 12
    /// DEV_DEP_MSG_OUT
    case message(tag: UInt8, size: Int, isLast: Bool)
    /// REQUEST_DEV_DEP_MSG_IN
    case request(tag: UInt8, size: Int, terminator: UInt8?)

    /// `nil` when the header is malformed or asks for what the device does not have (vendor messages, TRIGGER).
    init?(_ bytes: ArraySlice<UInt8>) {
        let head = Array(bytes.prefix(Self.length))
        guard head.count == Self.length, head[1] != 0, head[2] == ~head[1], head[3] == 0 else { return nil }
        let size = (0..<4).reduce(0) { $0 | Int(head[4 + $1]) << (8 * $1) }
        switch head[0] {
        case 1: self = .message(tag: head[1], size: size, isLast: head[8] & 1 != 0)
        case 2:
            guard size > 0, bytes.count == Self.length else { return nil }
            self = .request(tag: head[1], size: size, terminator: head[8] & 2 != 0 ? head[9] : nil)
        default: return nil
        }
    }
}

/// Collects transfers into program messages.
struct TMCInput: Sendable {
    /// A program message that is longer is given to the instrument as one overlong line, which it refuses with -363.
    static let longestMessage = 65_536

    enum Event: Equatable, Sendable {
        /// The first transfer of a message has begun.
        case messageBegins
        case message([UInt8])
        case request(tag: UInt8, size: Int, terminator: UInt8?)
        /// The transfer breaks the rules; the endpoint halts.
        case malformed
    }

    private enum State: Sendable {
        case idle
        case data(tag: UInt8, left: Int, padding: Int, isLast: Bool)
        /// Alignment bytes that the last buffer did not hold.
        case padding(Int)
    }

    let packet: Int
    private var state = State.idle
    private var message: [UInt8] = []
    private var isTooLong = false
    private var hasBegun = false
    /// Bytes of messages that came in the current or last transfer.
    private(set) var received = 0

    init(packet: Int) { self.packet = packet }

    /// Tag of the transfer under way.
    var tag: UInt8? { if case .data(let tag, _, _, _) = state { tag } else { nil } }

    /// Drops the transfer and the message that it belongs to.
    mutating func reset() {
        let count = received
        self = TMCInput(packet: packet)
        received = count
    }

    /// Takes one buffer of the host.
    mutating func receive(_ bytes: ArraySlice<UInt8>) -> [Event] {
        switch state {
        case .idle: return begin(bytes)
        case .padding(let count):
            state = .idle
            return bytes.count <= count ? [] : begin(bytes)
        case .data(let tag, let left, let padding, let isLast):
            return take(bytes, whole: bytes.count, tag: tag, left: left, padding: padding, isLast: isLast)
        }
    }

    private mutating func begin(_ bytes: ArraySlice<UInt8>) -> [Event] {
        // A packet of zero bytes ends a transfer of whole packets.
        if bytes.isEmpty { return [] }
        switch TMCHeader(bytes) {
        case nil: return fail()
        case .request(let tag, let size, let terminator): return [.request(tag: tag, size: size, terminator: terminator)]
        case .message(let tag, let size, let isLast):
            let first: [Event] = hasBegun ? [] : [.messageBegins]
            hasBegun = true
            received = 0
            let body = bytes.dropFirst(TMCHeader.length)
            return first + take(body, whole: bytes.count, tag: tag, left: size, padding: -size & 3, isLast: isLast)
        }
    }

    private mutating func fail() -> [Event] {
        reset()
        return [.malformed]
    }

    /// - Parameter whole: length of the buffer that `bytes` end; less than whole packets end the transfer.
    private mutating func take(
        _ bytes: ArraySlice<UInt8>, whole: Int, tag: UInt8, left: Int, padding: Int, isLast: Bool
    ) -> [Event] {
        let part = bytes.prefix(left)
        keep(part)
        let endsShort = whole % packet != 0 || whole == 0
        guard part.count == left else {
            if endsShort { return fail() }
            state = .data(tag: tag, left: left - part.count, padding: padding, isLast: isLast)
            return []
        }
        let extra = bytes.count - left
        guard extra <= padding else { return fail() }
        state = extra < padding && !endsShort ? .padding(padding - extra) : .idle
        return isLast ? [.message(finish())] : []
    }

    private mutating func keep(_ part: ArraySlice<UInt8>) {
        received += part.count
        if message.count + part.count > Self.longestMessage { isTooLong = true }
        if !isTooLong { message += part }
    }

    /// END stands for NL.
    private mutating func finish() -> [UInt8] {
        var whole = isTooLong ? [UInt8](repeating: UInt8(ascii: " "), count: Session.longestLine + 1) : message
        if whole.last != 0x0A { whole.append(0x0A) }
        message = []
        isTooLong = false
        hasBegun = false
        return whole
    }
}
