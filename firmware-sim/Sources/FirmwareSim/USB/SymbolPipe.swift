// Interface 1: the data connection of docs/wire/instrument-protocol.md, section 3, on two bulk endpoints.

struct SymbolPipe: Sendable {
    enum State: Equatable, Sendable {
        case waitingForHello
        /// The hello is with the instrument.
        case asking
        case open
        /// Until SET_INTERFACE.
        case closed
    }

    private static let helloLength = 24
    private(set) var state = State.waitingForHello
    var output: InPipe
    var isInputHalted = false
    private var buffer: [UInt8] = []
    /// Frames have run out; new ones or new credit will be told.
    private var isStarved = false
    private var isPulling = false

    init(packet: Int) { output = InPipe(packet: packet) }

    mutating func receive(_ urb: URB) -> [USBAction] {
        guard !isInputHalted, state != .closed else {
            isInputHalted = true
            return [.complete(urb.id, status: URBStatus.stall, data: [], length: 0)]
        }
        buffer += urb.data
        return [.complete(urb.id, status: URBStatus.success, data: [], length: urb.data.count)] + takeMessages()
    }

    private mutating func takeMessages() -> [USBAction] {
        var actions: [USBAction] = []
        if state == .waitingForHello, buffer.count >= Self.helloLength {
            actions.append(.hello(Array(buffer.prefix(Self.helloLength))))
            buffer.removeFirst(Self.helloLength)
            state = .asking
        }
        guard state == .open else { return actions }
        var start = 0
        while buffer.count - start >= DataMessage.length {
            let message = Array(buffer[start..<start + DataMessage.length])
            start += DataMessage.length
            // An unknown message means that both sides no longer agree where messages begin.
            guard DataMessage(message) != nil else { return actions + refuse() }
            actions.append(.streamMessage(message))
            isStarved = false
        }
        buffer.removeFirst(start)
        return actions
    }

    private mutating func refuse() -> [USBAction] {
        let wasOpen = state == .open
        state = .closed
        buffer = []
        isInputHalted = true
        output.drop()
        output.isHalted = true
        return wasOpen ? [.closeStream] : []
    }

    mutating func welcome(_ code: UInt8) -> [USBAction] {
        guard state == .asking else { return [] }
        output.load([code])
        state = code == 0 ? .open : .closed
        return takeMessages()
    }

    mutating func frame(_ bytes: [UInt8]?) {
        guard isPulling else { return }
        isPulling = false
        guard state == .open, output.isIdle, let bytes else {
            isStarved = true
            return
        }
        output.load(bytes)
    }

    mutating func framesReady() { isStarved = false }

    mutating func pump() -> [USBAction] {
        var actions = output.pump()
        if state == .open, output.isWanted, !isStarved, !isPulling {
            isPulling = true
            actions.append(.pullFrame)
        }
        return actions
    }

    /// SET_INTERFACE and SET_CONFIGURATION: as if the connection had been closed and made again. Waiting buffers stay.
    mutating func reset() -> [USBAction] {
        let wasOpen = state == .open || state == .asking
        state = .waitingForHello
        buffer = []
        isStarved = false
        isPulling = false
        isInputHalted = false
        output.isHalted = false
        output.drop()
        return wasOpen ? [.closeStream] : []
    }
}
