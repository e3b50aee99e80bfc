// Control requests of USBTMC and USB488.

extension TMCFunction {
    /// What a control request leads to.
    enum Reply: Equatable {
        case data([UInt8])
        case stall
        /// The answer needs the instrument's status.
        case later
    }

    private enum Code {
        static let abortInput: UInt8 = 1
        static let checkAbortInput: UInt8 = 2
        static let abortOutput: UInt8 = 3
        static let checkAbortOutput: UInt8 = 4
        static let clear: UInt8 = 5
        static let checkClear: UInt8 = 6
        static let capabilities: UInt8 = 7
        static let pulse: UInt8 = 64
        static let statusByte: UInt8 = 128
        static let remoteEnable: UInt8 = 160
        static let goToLocal: UInt8 = 161
        static let localLockout: UInt8 = 162
    }

    /// - Returns: the reply, and whether the instrument shall be cleared.
    mutating func request(_ setup: SetupPacket, id: UInt32) -> (reply: Reply, clears: Bool) {
        switch (setup.requestType, setup.index & 0xFF) {
        case (0xA2, UInt16(USBEndpoint.commandOut)): (inputRequest(setup), false)
        case (0xA2, UInt16(USBEndpoint.commandIn)): (outputRequest(setup), false)
        case (0xA1, 0): interfaceRequest(setup, id: id)
        default: (.stall, false)
        }
    }

    private mutating func inputRequest(_ setup: SetupPacket) -> Reply {
        let tag = UInt8(setup.value & 0xFF)
        switch setup.request {
        case Code.abortInput:
            guard let current = input.tag else { return .data([TMCStatus.failed.rawValue, 0]) }
            guard current == tag else { return .data([TMCStatus.notInProgress.rawValue, current]) }
            abortedInput = input.received
            input.reset()
            return .data([TMCStatus.success.rawValue, tag])
        case Code.checkAbortInput:
            let status = abortedInput == nil ? TMCStatus.splitNotInProgress : .success
            defer { abortedInput = nil }
            return .data([status.rawValue, 0, 0, 0] + Self.word(abortedInput ?? 0))
        default: return .stall
        }
    }

    private mutating func outputRequest(_ setup: SetupPacket) -> Reply {
        let tag = UInt8(setup.value & 0xFF)
        switch setup.request {
        case Code.abortOutput:
            let current = output.isIdle ? request?.tag : outputTag
            return .data([abortOutput(tag: tag).rawValue, current ?? 0])
        case Code.checkAbortOutput:
            guard let sent = abortedOutput?.sent else { return .data([TMCStatus.splitNotInProgress.rawValue, 0, 0, 0] + Self.word(0)) }
            let isDrained = takesNoMore(\.abortedOutput)
            return .data([(isDrained ? TMCStatus.success : .pending).rawValue, isDrained ? 0 : 1, 0, 0] + Self.word(sent))
        default: return .stall
        }
    }

    /// Whether nothing is left to read; a host that does not read it is not waited for for ever.
    private mutating func takesNoMore(_ wait: WritableKeyPath<TMCFunction, SplitWait?>) -> Bool {
        if let patience = self[keyPath: wait]?.patience, patience > 0, !output.isIdle {
            self[keyPath: wait]?.patience -= 1
            return false
        }
        output.drop()
        self[keyPath: wait] = nil
        return true
    }

    private mutating func interfaceRequest(_ setup: SetupPacket, id: UInt32) -> (reply: Reply, clears: Bool) {
        switch setup.request {
        case Code.clear:
            clear()
            return (.data([TMCStatus.success.rawValue]), true)
        case Code.checkClear:
            guard clearing != nil else { return (.data([TMCStatus.splitNotInProgress.rawValue, 0]), false) }
            let isDrained = takesNoMore(\.clearing)
            return (.data([(isDrained ? TMCStatus.success : .pending).rawValue, isDrained ? 0 : 1]), false)
        case Code.capabilities: return (.data(Self.capabilities), false)
        case Code.pulse, Code.remoteEnable, Code.goToLocal, Code.localLockout: return (.data([TMCStatus.success.rawValue]), false)
        case Code.statusByte:
            let tag = UInt8(setup.value & 0xFF)
            guard (2...127).contains(tag) else { return (.data([TMCStatus.failed.rawValue, tag, 0]), false) }
            statusTags[id] = tag
            return (.later, false)
        default: return (.stall, false)
        }
    }

    /// INITIATE_CLEAR: both directions are emptied, bulk-OUT halts until CLEAR_FEATURE.
    private mutating func clear() {
        let wasMidway = !output.isIdle
        let sent = output.sent
        dropOutput()
        input.reset()
        isInputHalted = true
        dropNotifications()
        clearing = SplitWait(sent: sent)
        if wasMidway { output.load([]) }
    }

    /// The reply to READ_STATUS_BYTE, once the status is known.
    mutating func statusReply(id: UInt32, status: UInt8, enable: UInt8) -> [UInt8]? {
        guard let tag = statusTags.removeValue(forKey: id) else { return nil }
        setStatus(status, enable: enable)
        return poll(tag: tag) ? [TMCStatus.success.rawValue, tag, 0] : [TMCStatus.interruptBusy.rawValue, tag, 0]
    }

    /// Terminator characters and the indicator's pulse; USB488 with REN, SCPI and service requests; no TRIGGER.
    private static let capabilities: [UInt8] =
        [TMCStatus.success.rawValue, 0, 0x00, 0x01, 0b100, 0b001] + [UInt8](repeating: 0, count: 6) + [0x00, 0x01, 0b110, 0b1100]
        + [UInt8](repeating: 0, count: 8)

    private static func word(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
}
