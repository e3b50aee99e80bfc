// Interface 0: a USBTMC instrument of the USB488 subclass, as a value. Bulk transfers here, control requests in
// TMCFunction+Requests. Sources: USBTMC 1.0 and its USB488 subclass 1.0; docs/wire/usb.md, section 2.

struct TMCFunction: Sendable {
    var input: TMCInput
    var output: InPipe
    var notices: InPipe
    var isInputHalted = false

    /// The host has asked for this much of the next response.
    private(set) var request: (tag: UInt8, size: Int, terminator: UInt8?)?
    /// Tag of the response that goes out.
    private(set) var outputTag: UInt8 = 0
    /// Response messages that nobody has read, the first perhaps in part.
    private var responses: [ArraySlice<UInt8>] = []
    /// The first of them is what is left of the one that goes out.
    private var isSplit = false
    /// Counts program messages.
    private(set) var messageNumber = 0

    // Control requests
    var abortedOutput: SplitWait?
    var abortedInput: Int?
    var clearing: SplitWait?
    var statusTags: [UInt32: UInt8] = [:]

    // Service requests
    private var notifications: [Notification] = []
    private var reasons: UInt8 = 0
    private var wantsService = false
    private var base: (status: UInt8, enable: UInt8) = (0, 0)

    /// An answer that the host must drain before an abort or a clear is over.
    struct SplitWait: Sendable {
        var sent: Int
        /// How often PENDING is answered before the rest is thrown away: some hosts never read it.
        var patience = 2
    }

    private struct Notification: Sendable {
        var isServiceRequest: Bool
        var bytes: [UInt8]
    }

    init(packet: Int) {
        input = TMCInput(packet: packet)
        output = InPipe(packet: packet)
        notices = InPipe(packet: USBEndpoint.notificationPacket)
    }

    // MARK: - Bulk

    mutating func receive(_ urb: URB) -> [USBAction] {
        guard !isInputHalted else { return [.complete(urb.id, status: URBStatus.stall, data: [], length: 0)] }
        let events = input.receive(urb.data[...])
        if events.contains(.malformed) {
            isInputHalted = true
            return [.complete(urb.id, status: URBStatus.stall, data: [], length: 0)]
        }
        var actions: [USBAction] = [.complete(urb.id, status: URBStatus.success, data: [], length: urb.data.count)]
        for event in events { actions += handle(event) }
        return actions
    }

    private mutating func handle(_ event: TMCInput.Event) -> [USBAction] {
        switch event {
        case .messageBegins:
            let wasUnread = hasOutput
            dropOutput()
            messageNumber += 1
            return wasUnread ? [.interrupted] : []
        case .message(let bytes): return [.program(bytes, message: messageNumber)]
        case .request(let tag, let size, let terminator):
            // What is left of a transfer that the host no longer reads would look like its next answer.
            output.drop()
            request = (tag, size, terminator)
            return []
        case .malformed: return []
        }
    }

    /// Whether the host could read something (MAV).
    var hasOutput: Bool { !responses.isEmpty || !output.isIdle }

    mutating func dropOutput() {
        responses = []
        isSplit = false
        request = nil
        output.drop()
        abortedOutput = nil
        clearing = nil
    }

    /// A response message; late ones, to a message that another has overtaken, are dropped.
    mutating func answer(_ bytes: [UInt8], message: Int) -> [USBAction] {
        guard message == messageNumber else { return [.interrupted] }
        responses.append(bytes[...])
        return []
    }

    /// Moves what can be moved.
    mutating func pump() -> [USBAction] {
        var actions = output.pump()
        if output.isIdle, serve() { actions += output.pump() }
        updateService()
        while true {
            if notices.isIdle, !notifications.isEmpty, notices.isWanted { notices.load(notifications.removeFirst().bytes) }
            let done = notices.pump()
            if done.isEmpty { return actions }
            actions += done
        }
    }

    /// Begins the transfer that a request has asked for.
    private mutating func serve() -> Bool {
        guard let wanted = request, let response = responses.first else { return false }
        var part = response.prefix(wanted.size)
        var isTerminated = false
        if let terminator = wanted.terminator, let end = part.firstIndex(of: terminator) {
            part = part[...end]
            isTerminated = true
        }
        let left = response.dropFirst(part.count)
        isSplit = !left.isEmpty
        if left.isEmpty { responses.removeFirst() } else { responses[0] = left }
        let attributes: UInt8 = (left.isEmpty ? 1 : 0) | (isTerminated ? 2 : 0)
        let size = (0..<4).map { UInt8(truncatingIfNeeded: part.count >> (8 * $0)) }
        output.load([2, wanted.tag, ~wanted.tag, 0] + size + [attributes, 0, 0, 0] + part)
        outputTag = wanted.tag
        request = nil
        return true
    }

    /// Ends the transfer under way, if its tag is this, by a packet of zero bytes.
    /// - Returns: the USBTMC status.
    mutating func abortOutput(tag: UInt8) -> TMCStatus {
        let current = output.isIdle ? request?.tag : outputTag
        guard let current else { return .failed }
        guard current == tag else { return .notInProgress }
        let hadBegun = !output.isIdle
        // The rest of a response that had begun is lost; one that comes later stays until it is read or overtaken.
        if hadBegun, isSplit { responses.removeFirst() }
        isSplit = false
        abortedOutput = SplitWait(sent: hadBegun ? output.sent : 0)
        request = nil
        output.load([])
        return .success
    }

    // MARK: - Status

    mutating func setStatus(_ status: UInt8, enable: UInt8) {
        base = (status, enable)
        updateService()
    }

    private var statusByte: UInt8 { base.status & ~0x50 | (hasOutput ? 0x10 : 0) }

    /// A new reason for service asks for it once.
    private mutating func updateService() {
        let now = statusByte & base.enable & ~0x40
        if now & ~reasons != 0 {
            wantsService = true
            // One request for service at a time; it tells the newest status.
            notifications.removeAll(where: \.isServiceRequest)
            notifications.append(Notification(isServiceRequest: true, bytes: [0x81, statusByte | 0x40]))
        }
        if now == 0 { wantsService = false }
        reasons = now
    }

    /// Serial poll: bit 6 tells whether service was asked for, and is taken back.
    /// - Returns: whether the notification has room; one at a time.
    mutating func poll(tag: UInt8) -> Bool {
        guard !notifications.contains(where: { !$0.isServiceRequest }) else { return false }
        notifications.append(Notification(isServiceRequest: false, bytes: [0x80 | tag, statusByte | (wantsService ? 0x40 : 0)]))
        wantsService = false
        return true
    }

    /// After an answer to a poll that nobody reads any more.
    mutating func dropNotifications() { notifications = [] }
}

/// USBTMC_status values.
enum TMCStatus: UInt8, Sendable {
    case success = 0x01
    case pending = 0x02
    case interruptBusy = 0x20
    case failed = 0x80
    case notInProgress = 0x81
    case splitNotInProgress = 0x82
}
