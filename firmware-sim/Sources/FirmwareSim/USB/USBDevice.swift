// An instrument's USB side as a value: endpoint 0, the configuration, and the two interfaces. Inputs are what the bus and
// the instrument do, actions what is to be done; nothing here waits, reads a clock or touches a socket.

package struct USBDevice: Sendable {
    package let descriptors: USBDescriptors
    package private(set) var configuration: UInt8 = 0
    private var instrument: TMCFunction
    private var symbols: SymbolPipe

    package init(identity: USBIdentity, speed: USBSpeed) {
        descriptors = USBDescriptors(identity: identity, speed: speed)
        instrument = TMCFunction(packet: speed.bulkPacket)
        symbols = SymbolPipe(packet: speed.bulkPacket)
    }

    /// Number of the program message at hand: answers are to name it.
    package var messageNumber: Int { instrument.messageNumber }

    package mutating func input(_ event: USBInput) -> [USBAction] {
        var actions = handle(event)
        actions += instrument.pump()
        actions += symbols.pump()
        return actions
    }

    private mutating func handle(_ event: USBInput) -> [USBAction] {
        switch event {
        case .submit(let urb): return submit(urb)
        case .unlink(let id):
            let found =
                instrument.output.unlink(id) || instrument.notices.unlink(id) || symbols.output.unlink(id)
                || instrument.statusTags.removeValue(forKey: id) != nil
            return [.unlinked(id, found: found)]
        case .answer(let bytes, let message): return instrument.answer(bytes, message: message)
        case .status(let status, let enable):
            instrument.setStatus(status, enable: enable)
            return []
        case .statusAnswer(let id, let status, let enable):
            guard let reply = instrument.statusReply(id: id, status: status, enable: enable) else { return [] }
            return [.complete(id, status: URBStatus.success, data: reply[...], length: reply.count)]
        case .welcome(let code): return symbols.welcome(code)
        case .frame(let bytes): symbols.frame(bytes)
        case .noFrame: symbols.frame(nil)
        case .framesReady: symbols.framesReady()
        }
        return []
    }

    // MARK: - Transfers

    private mutating func submit(_ urb: URB) -> [USBAction] {
        if urb.endpoint == 0 { return control(urb) }
        guard configuration != 0 else { return [.complete(urb.id, status: URBStatus.stall, data: [], length: 0)] }
        switch (urb.endpoint | (urb.isIn ? 0x80 : 0)) {
        case USBEndpoint.commandOut: return instrument.receive(urb)
        case USBEndpoint.commandIn: instrument.output.submit(urb)
        case USBEndpoint.notification: instrument.notices.submit(urb)
        case USBEndpoint.streamOut: return symbols.receive(urb)
        case USBEndpoint.streamIn: symbols.output.submit(urb)
        default: return [.complete(urb.id, status: URBStatus.stall, data: [], length: 0)]
        }
        return []
    }

    private mutating func control(_ urb: URB) -> [USBAction] {
        let setup = urb.setup
        var actions: [USBAction] = []
        var reply: [UInt8]?
        if setup.requestType & 0x60 == 0x20 {
            // Class requests exist only once the device is configured.
            guard configuration != 0 else { return [.complete(urb.id, status: URBStatus.stall, data: [], length: 0)] }
            let result = instrument.request(setup, id: urb.id)
            if result.clears { actions.append(.clear) }
            switch result.reply {
            case .later: return actions + [.askStatus(urb.id)]
            case .data(let bytes): reply = bytes
            case .stall: reply = nil
            }
        } else if setup.requestType & 0x60 == 0 {
            (reply, actions) = standard(setup)
        }
        guard let reply else { return actions + [.complete(urb.id, status: URBStatus.stall, data: [], length: 0)] }
        let part = reply.prefix(min(Int(setup.length), urb.isIn ? urb.length : 0))
        let moved = urb.isIn ? part.count : urb.data.count
        return actions + [.complete(urb.id, status: URBStatus.success, data: part, length: moved)]
    }

    // MARK: - Standard requests

    private enum Code {
        static let getStatus: UInt8 = 0
        static let clearFeature: UInt8 = 1
        static let setFeature: UInt8 = 3
        static let setAddress: UInt8 = 5
        static let getDescriptor: UInt8 = 6
        static let getConfiguration: UInt8 = 8
        static let setConfiguration: UInt8 = 9
        static let getInterface: UInt8 = 10
        static let setInterface: UInt8 = 11
        static let setSystemExitLatency: UInt8 = 48
        static let setIsochronousDelay: UInt8 = 49
    }

    /// - Returns: the reply (empty where there is no data), or `nil` for a stall.
    private mutating func standard(_ setup: SetupPacket) -> (reply: [UInt8]?, actions: [USBAction]) {
        switch (setup.requestType, setup.request) {
        case (0x80, Code.getDescriptor):
            return (descriptors.descriptor(type: UInt8(setup.value >> 8), index: UInt8(setup.value & 255)), [])
        case (0x80, Code.getStatus): return ([1, 0], [])
        case (0x81, Code.getStatus): return (setup.index < 2 ? [0, 0] : nil, [])
        case (0x82, Code.getStatus): return (isHalted(setup.index).map { [$0 ? 1 : 0, 0] }, [])
        case (0x80, Code.getConfiguration): return ([configuration], [])
        case (0x00, Code.setConfiguration):
            guard setup.value < 2 else { return (nil, []) }
            configuration = UInt8(setup.value)
            return ([], resetInstrument() + symbols.reset())
        case (0x81, Code.getInterface): return (configuration != 0 && setup.index < 2 ? [0] : nil, [])
        case (0x01, Code.setInterface):
            guard configuration != 0, setup.value == 0, setup.index < 2 else { return (nil, []) }
            return ([], setup.index == 0 ? resetInstrument() : symbols.reset())
        case (0x02, Code.clearFeature) where setup.value == 0: return (halt(setup.index, false), [])
        case (0x02, Code.setFeature) where setup.value == 0: return (halt(setup.index, true), [])
        // Link power of super speed: U1 and U2 of the device, suspend of a function.
        case (0x00, Code.clearFeature), (0x00, Code.setFeature):
            return ((48...49).contains(setup.value) && descriptors.speed == .super ? [] : nil, [])
        case (0x01, Code.clearFeature), (0x01, Code.setFeature):
            return (setup.value == 0 && setup.index & 255 < 2 && descriptors.speed == .super ? [] : nil, [])
        case (0x00, Code.setAddress): return ([], [])
        case (0x00, Code.setSystemExitLatency), (0x00, Code.setIsochronousDelay): return (descriptors.speed == .super ? [] : nil, [])
        default: return (nil, [])
        }
    }

    private func isHalted(_ endpoint: UInt16) -> Bool? {
        switch UInt8(endpoint & 255) {
        case 0, 0x80: false
        case USBEndpoint.commandOut: instrument.isInputHalted
        case USBEndpoint.commandIn: instrument.output.isHalted
        case USBEndpoint.notification: instrument.notices.isHalted
        case USBEndpoint.streamOut: symbols.isInputHalted
        case USBEndpoint.streamIn: symbols.output.isHalted
        default: nil
        }
    }

    /// - Returns: `nil` when there is no such endpoint.
    private mutating func halt(_ endpoint: UInt16, _ value: Bool) -> [UInt8]? {
        switch UInt8(endpoint & 255) {
        case 0, 0x80: break
        case USBEndpoint.commandOut:
            instrument.isInputHalted = value
            instrument.input.reset()
        case USBEndpoint.commandIn: instrument.output.isHalted = value
        case USBEndpoint.notification: instrument.notices.isHalted = value
        case USBEndpoint.streamOut: symbols.isInputHalted = value
        case USBEndpoint.streamIn: symbols.output.isHalted = value
        default: return nil
        }
        return []
    }

    private mutating func resetInstrument() -> [USBAction] {
        instrument.isInputHalted = false
        instrument.output.isHalted = false
        instrument.notices.isHalted = false
        instrument.input.reset()
        instrument.dropOutput()
        instrument.dropNotifications()
        return [.clear]
    }
}
