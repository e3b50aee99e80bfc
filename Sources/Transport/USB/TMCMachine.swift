// USBTMC from the host's side as a value: no bus, no clock, no memory of its own for answers.
//
// A task is begun, the machine says what the bus shall do, is told how that ended, and so on until it says that the task is
// over. One task at a time. Tags count 1 to 255 and never repeat in a row, so that a late answer is known by its old tag.
//
//            send                 receive
//   idle ----------> idle   idle ---------> requested(tag) ---- header ----> inTransfer(tag, left) ---- short packet ----> idle
//                                                |  ^ time-out: the request stays with the device and is not repeated
//                                                +--+
//   abort: INITIATE_ABORT_BULK_IN, drain, CHECK ... -> idle          clear: INITIATE_CLEAR, drain, CHECK ..., CLEAR_FEATURE -> idle
//
// Sources: USBTMC 1.0 (3.2, 3.3, 4.2.1), USBTMC-USB488 1.0 (3.4.1, 4.3.1), docs/wire/usb.md.

/// The host's half of one USBTMC interface.
package struct TMCMachine: Sendable {
    /// What the bus shall do next.
    package enum Request: Equatable, Sendable {
        case bulkOut([UInt8])
        /// One transfer into the whole buffer; `isDrain`: nothing may come, and it is thrown away.
        case bulkIn(isDrain: Bool)
        /// An IN control transfer of `length` bytes.
        case control(type: UInt8, request: UInt8, value: UInt16, index: UInt16, length: UInt16)
        case interruptIn
        case clearHalt(endpoint: UInt8)
        /// A few milliseconds, before a question is repeated.
        case pause
    }

    /// How it ended.
    package enum Outcome: Equatable, Sendable {
        case sent
        /// - Parameters:
        ///   - head: the first 12 bytes, or all where there are fewer.
        ///   - isShort: whether the transfer ended before the buffer was full.
        case received(head: [UInt8], count: Int, isShort: Bool)
        case reply([UInt8])
        case stalled
        /// - Parameter count: bytes that came nevertheless.
        case timedOut(head: [UInt8], count: Int)
        /// The halt is gone, or the pause is over.
        case done
    }

    package enum End: Equatable, Sendable {
        case done
        /// Bytes of the response message: where they stand in the buffer.
        case payload(Range<Int>, isEnd: Bool)
        case status(UInt8)
        case timedOut
        case stalled
        case malformed(String)
        /// The device does not know the request.
        case unsupported
    }

    package enum Step: Equatable, Sendable {
        case perform(Request)
        case finished(End)
    }

    package struct Endpoints: Equatable, Sendable {
        package var interface: UInt8
        package var bulkOut: UInt8
        package var bulkIn: UInt8
        package var interruptIn: UInt8?

        package init(interface: UInt8, bulkOut: UInt8, bulkIn: UInt8, interruptIn: UInt8?) {
            self.interface = interface
            self.bulkOut = bulkOut
            self.bulkIn = bulkIn
            self.interruptIn = interruptIn
        }
    }

    private enum Transfer: Equatable, Sendable {
        case none
        case requested(tag: UInt8)
        /// The header was seen; bytes are still to come.
        case open(tag: UInt8, left: Int, isEnd: Bool)
    }

    private enum Task: Equatable, Sendable {
        case none, sending, requesting
        case receiving(strays: Int)
        case aborting, abortDraining, abortChecking(asks: Int)
        case abortingOutput, abortOutputChecking
        case clearing, clearChecking(asks: Int), clearEnding
        case polling(tag: UInt8), pollWaiting(tag: UInt8, others: Int)
        /// A halt is taken away; then the task ends like this.
        case healing(End)
    }

    package static let headerLength = 12
    /// How often CHECK_..._STATUS is asked before the device counts as stuck.
    static let patience = 50
    /// Late transfers of earlier requests that are thrown away in a row.
    static let strays = 8

    private let endpoints: Endpoints
    private let packet: Int
    /// The longest response transfer that is asked for.
    package let longestAnswer: Int
    private var transfer = Transfer.none
    private var task = Task.none
    private var tag: UInt8 = 0
    private var pollTag: UInt8 = 1
    /// Whether a service request came and nobody has been told yet.
    package private(set) var hasServiceRequest = false

    /// - Parameters:
    ///   - packet: bytes of a full bulk packet.
    ///   - buffer: bytes of the buffer that `bulkIn` fills: whole packets, one of them for the end of a transfer.
    package init(endpoints: Endpoints, packet: Int, buffer: Int) {
        self.endpoints = endpoints
        self.packet = packet
        longestAnswer = buffer / packet * packet - packet - Self.headerLength
    }

    /// Whether the device may still hold something for the host.
    package var isWaiting: Bool { transfer != .none }

    // MARK: - Tasks

    /// A whole program message.
    package mutating func send(_ message: some Collection<UInt8>) -> Step {
        // A new message takes back what was asked for before (IEEE 488.2 6.3.2).
        transfer = .none
        task = .sending
        let header = header(1, size: message.count, attributes: 1)
        return .perform(.bulkOut(header + message + [UInt8](repeating: 0, count: -message.count & 3)))
    }

    /// The next part of the response message.
    package mutating func receive() -> Step {
        switch transfer {
        case .none:
            let header = header(2, size: longestAnswer, attributes: 0)
            transfer = .requested(tag: tag)
            task = .requesting
            return .perform(.bulkOut(header))
        case .requested, .open:
            task = .receiving(strays: 0)
            return .perform(.bulkIn(isDrain: false))
        }
    }

    /// Takes back a request that was not answered in time.
    package mutating func abort() -> Step {
        switch transfer {
        case .none: return finish(.done)
        case .requested(let tag), .open(let tag, _, _):
            task = .aborting
            return .perform(classRequest(0xA2, 3, value: UInt16(tag), index: UInt16(endpoints.bulkIn), length: 2))
        }
    }

    /// Takes back a message that could not be sent whole.
    package mutating func abortSending() -> Step {
        task = .abortingOutput
        return .perform(classRequest(0xA2, 1, value: UInt16(tag), index: UInt16(endpoints.bulkOut), length: 2))
    }

    /// Device clear.
    package mutating func clear() -> Step {
        transfer = .none
        task = .clearing
        return .perform(classRequest(0xA1, 5, index: UInt16(endpoints.interface), length: 1))
    }

    /// Serial poll.
    package mutating func readStatusByte() -> Step {
        pollTag = pollTag >= 127 ? 2 : pollTag + 1
        task = .polling(tag: pollTag)
        return .perform(classRequest(0xA1, 128, value: UInt16(pollTag), index: UInt16(endpoints.interface), length: 3))
    }

    package mutating func takeServiceRequest() -> Bool {
        defer { hasServiceRequest = false }
        return hasServiceRequest
    }

    /// A notification that came while nothing else was asked.
    package mutating func notice(_ bytes: [UInt8]) { if bytes.first == 0x81 { hasServiceRequest = true } }

    private mutating func header(_ kind: UInt8, size: Int, attributes: UInt8) -> [UInt8] {
        tag = tag == 255 ? 1 : tag + 1
        let size = (0..<4).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) }
        return [kind, tag, ~tag, 0] + size + [attributes, 0, 0, 0]
    }

    private func classRequest(_ type: UInt8, _ request: UInt8, value: UInt16 = 0, index: UInt16, length: UInt16) -> Request {
        .control(type: type, request: request, value: value, index: index, length: length)
    }

    private mutating func finish(_ end: End) -> Step {
        task = .none
        return .finished(end)
    }

    /// Takes the halt of an endpoint away, then ends.
    private mutating func heal(_ endpoint: UInt8, _ end: End) -> Step {
        task = .healing(end)
        return .perform(.clearHalt(endpoint: endpoint))
    }

    // MARK: - What the bus says

    package mutating func input(_ outcome: Outcome) -> Step {
        switch task {
        case .none: .finished(.done)
        case .sending: sent(outcome)
        case .requesting: requested(outcome)
        case .receiving(let strays): received(outcome, strays)
        case .aborting: aborted(outcome)
        case .abortDraining: drained(outcome, check: 4, asks: 0)
        case .abortChecking(let asks): checked(outcome, asks, isClear: false)
        case .abortingOutput: abortedOutput(outcome)
        case .abortOutputChecking: heal(endpoints.bulkOut, .done)
        case .clearing: cleared(outcome)
        case .clearChecking(let asks): checked(outcome, asks, isClear: true)
        case .clearEnding: finish(.done)
        case .polling(let tag): polled(outcome, tag)
        case .pollWaiting(let tag, let others): noticed(outcome, tag, others)
        case .healing(let end): finish(end)
        }
    }

    private mutating func sent(_ outcome: Outcome) -> Step {
        switch outcome {
        case .sent: return finish(.done)
        case .stalled: return heal(endpoints.bulkOut, .stalled)
        default: return finish(.timedOut)
        }
    }

    private mutating func requested(_ outcome: Outcome) -> Step {
        switch outcome {
        case .sent:
            task = .receiving(strays: 0)
            return .perform(.bulkIn(isDrain: false))
        case .stalled:
            transfer = .none
            return heal(endpoints.bulkOut, .stalled)
        default:
            transfer = .none
            return finish(.timedOut)
        }
    }

    private mutating func received(_ outcome: Outcome, _ strays: Int) -> Step {
        switch outcome {
        case .received(let head, let count, let isShort): return take(head, count, isOver: isShort, strays)
        // What came before the time ran out is kept; the next look goes on behind it.
        case .timedOut(let head, let count) where count > 0: return take(head, count, isOver: false, strays)
        case .stalled:
            transfer = .none
            return heal(endpoints.bulkIn, .stalled)
        default: return finish(.timedOut)
        }
    }

    private mutating func take(_ head: [UInt8], _ count: Int, isOver: Bool, _ strays: Int) -> Step {
        switch transfer {
        case .none: return finish(.malformed("nothing was asked for"))
        case .open(let tag, let left, let isEnd):
            return keep(tag: tag, 0..<min(left, count), left: left, count: count, isEnd: isEnd, isOver: isOver)
        case .requested(let tag):
            // The packet of zero bytes that ended an earlier transfer, or an answer with an earlier tag: not ours.
            if isOver, count == 0 || (count >= 4 && head[1] != tag && head[2] == ~head[1]) {
                guard strays < Self.strays else { return finish(.malformed("only answers to earlier requests come")) }
                task = .receiving(strays: strays + 1)
                return .perform(.bulkIn(isDrain: false))
            }
            guard count >= Self.headerLength, head[0] == 2, head[1] == tag, head[2] == ~tag else {
                return finish(.malformed("a response does not begin with its header"))
            }
            let size = (0..<4).reduce(0) { $0 | Int(head[4 + $1]) << (8 * $1) }
            guard size <= longestAnswer else {
                return finish(.malformed("a response of \(size) bytes where \(longestAnswer) were asked for"))
            }
            let range = Self.headerLength..<min(count, Self.headerLength + size)
            return keep(tag: tag, range, left: size, count: count, isEnd: head[8] & 1 != 0, isOver: isOver)
        }
    }

    private mutating func keep(tag: UInt8, _ range: Range<Int>, left: Int, count: Int, isEnd: Bool, isOver: Bool) -> Step {
        let left = left - range.count
        guard count - range.upperBound <= 3 else { return finish(.malformed("a response is longer than its header says")) }
        if isOver, left > 0 { return finish(.malformed("a response ends \(left) bytes early")) }
        // A device that owes the last packet of zero bytes gets no second chance: its answer is whole.
        transfer = left == 0 ? .none : .open(tag: tag, left: left, isEnd: isEnd)
        return finish(.payload(range, isEnd: isEnd && left == 0))
    }

    // MARK: - Abort and clear

    private enum Status {
        static let success: UInt8 = 1
        static let pending: UInt8 = 2
    }

    private mutating func aborted(_ outcome: Outcome) -> Step {
        transfer = .none
        guard case .reply(let bytes) = outcome, let status = bytes.first else { return clear() }
        // FAILED and TRANSFER_NOT_IN_PROGRESS: there is nothing to take back.
        guard status == Status.success else { return finish(.done) }
        task = .abortDraining
        return .perform(.bulkIn(isDrain: true))
    }

    private mutating func drained(_ outcome: Outcome, check: UInt8, asks: Int) -> Step {
        if outcome == .stalled { return clear() }
        task = .abortChecking(asks: asks)
        return .perform(classRequest(0xA2, check, index: UInt16(endpoints.bulkIn), length: 8))
    }

    private mutating func checkClear(_ asks: Int) -> Step {
        task = .clearChecking(asks: asks)
        return .perform(classRequest(0xA1, 6, index: UInt16(endpoints.interface), length: 2))
    }

    private mutating func checked(_ outcome: Outcome, _ asks: Int, isClear: Bool) -> Step {
        // After a pause or a drain it is asked again.
        guard case .reply(let bytes) = outcome, bytes.count >= 2 else {
            if outcome == .stalled { return isClear ? endClear() : clear() }
            return isClear ? checkClear(asks) : drained(.done, check: 4, asks: asks)
        }
        guard bytes[0] == Status.pending else { return isClear ? endClear() : finish(.done) }
        guard asks < Self.patience else { return isClear ? finish(.timedOut) : clear() }
        task = isClear ? .clearChecking(asks: asks + 1) : .abortChecking(asks: asks + 1)
        return .perform(bytes[1] & 1 != 0 ? .bulkIn(isDrain: true) : .pause)
    }

    private mutating func abortedOutput(_ outcome: Outcome) -> Step {
        guard case .reply(let bytes) = outcome, bytes.first == Status.success else { return heal(endpoints.bulkOut, .done) }
        task = .abortOutputChecking
        return .perform(classRequest(0xA2, 2, index: UInt16(endpoints.bulkOut), length: 8))
    }

    private mutating func cleared(_ outcome: Outcome) -> Step {
        guard case .reply(let bytes) = outcome, bytes.first == Status.success else { return finish(.unsupported) }
        return checkClear(0)
    }

    private mutating func endClear() -> Step {
        task = .clearEnding
        return .perform(.clearHalt(endpoint: endpoints.bulkOut))
    }

    // MARK: - Serial poll

    private mutating func polled(_ outcome: Outcome, _ tag: UInt8) -> Step {
        guard case .reply(let bytes) = outcome, bytes.count >= 3 else { return finish(outcome == .stalled ? .unsupported : .timedOut) }
        guard bytes[0] == Status.success else { return finish(.timedOut) }
        guard endpoints.interruptIn != nil else { return finish(.status(bytes[2])) }
        task = .pollWaiting(tag: tag, others: 0)
        return .perform(.interruptIn)
    }

    private mutating func noticed(_ outcome: Outcome, _ tag: UInt8, _ others: Int) -> Step {
        guard case .received(let bytes, _, _) = outcome, bytes.count >= 2 else { return finish(.timedOut) }
        if bytes[0] == 0x80 | tag { return finish(.status(bytes[1])) }
        notice(bytes)
        guard others < Self.strays else { return finish(.timedOut) }
        task = .pollWaiting(tag: tag, others: others + 1)
        return .perform(.interruptIn)
    }
}
