// Where an emulated device's USB side meets its instrument. Lives on one event loop.

internal import NIOCore

/// One exported device: its state machine while a host has it, and the control session behind it.
final class USBPort {
    let record: USBIPRecord
    private let hub: Hub
    private let device: Int
    private let identity: USBIdentity
    private var host: Host?

    /// The host that has attached the device.
    private final class Host {
        let channel: any Channel
        let session: SessionID
        let connection: Int
        /// Counts device clears: answers from before one never leave.
        var clears = 0
        var machine: USBDevice
        var inputs: [USBInput] = []
        var isWorking = false
        var hasStream = false

        init(channel: any Channel, session: SessionID, connection: Int, machine: USBDevice) {
            self.channel = channel
            self.session = session
            self.connection = connection
            self.machine = machine
        }
    }

    init(hub: Hub, device: Int, identity: USBIdentity, record: USBIPRecord) {
        self.hub = hub
        self.device = device
        self.identity = identity
        self.record = record
    }

    /// Whether the cable is in: the `unplug` fault pulls it.
    var isPlugged: Bool { hub.testbed.withCore { $0.devices[device].fault(.unplug) == nil } }

    // MARK: - Attach and detach

    func attach(_ channel: any Channel) -> USBIPReply.Status {
        guard isPlugged else { return .noDevice }
        guard host == nil else { return .busy }
        let new = Host(
            channel: channel, session: hub.nextName(), connection: hub.nextName(),
            machine: USBDevice(identity: identity, speed: record.speed))
        let bound = NIOLoopBound(self, eventLoop: channel.eventLoop)
        let loop = channel.eventLoop
        let session = new.session
        let line = Hub.ControlLine(
            channel: channel, end: { loop.execute { channel.close(promise: nil) } },
            deliver: { bytes, notBefore in
                if loop.inEventLoop {
                    bound.value.deliver(bytes, notBefore, session)
                } else {
                    loop.execute { bound.value.deliver(bytes, notBefore, session) }
                }
            })
        guard hub.open(device, new.session, line) else { return .busy }
        host = new
        refresh()
        return .ok
    }

    func detach(_ channel: any Channel) {
        guard let host, host.channel === channel else { return }
        closeStream(host)
        hub.close(device, host.session)
        self.host = nil
    }

    /// Every few milliseconds: is the cable still in, has the status changed?
    func look() {
        guard let host else { return }
        if isPlugged { refresh() } else { host.channel.close(promise: nil) }
    }

    // MARK: - Inputs

    func submit(_ urb: URB) { take(.submit(urb)) }
    func unlink(_ target: UInt32, as id: UInt32) {
        unlinkNames[target] = id
        take(.unlink(target))
    }
    private var unlinkNames: [UInt32: UInt32] = [:]

    private func refresh() {
        guard let host else { return }
        let (status, enable) = status(host)
        take(.status(status, enable: enable))
    }

    private func status(_ host: Host) -> (UInt8, UInt8) {
        hub.testbed.withCore { [session = host.session] core in
            let status = core.devices[device][statusOf: session]
            return (status.statusByte(messageAvailable: false), status.serviceEnable)
        }
    }

    private func deliver(_ bytes: [UInt8], _ notBefore: UInt64, _ session: SessionID) {
        guard let host, host.session == session else { return }
        let message = host.machine.messageNumber
        let wall = Pacer.wall()
        guard notBefore > wall else { return take(.answer(bytes, message: message)) }
        let bound = NIOLoopBound(self, eventLoop: host.channel.eventLoop)
        host.channel.eventLoop.scheduleTask(in: .nanoseconds(Int64(notBefore - wall))) { [clears = host.clears] in
            guard let host = bound.value.host, host.session == session, host.clears == clears else { return }
            bound.value.take(.answer(bytes, message: message))
        }
    }

    /// Inputs that come while others are at work wait for their turn.
    private func take(_ input: USBInput) {
        guard let host else { return }
        host.inputs.append(input)
        guard !host.isWorking else { return }
        host.isWorking = true
        while !host.inputs.isEmpty {
            let next = host.inputs.removeFirst()
            for action in host.machine.input(next) { perform(action, host) }
        }
        host.isWorking = false
        host.channel.flush()
    }

    // MARK: - Actions

    private func perform(_ action: USBAction, _ host: Host) {
        switch action {
        case .complete(let id, let status, let data, let length):
            host.channel.write(USBIPReply.submit(id, status: status, data: data, length: length), promise: nil)
        case .unlinked(let target, let found):
            guard let id = unlinkNames.removeValue(forKey: target) else { return }
            host.channel.write(USBIPReply.unlink(id, found: found), promise: nil)
        case .program(let bytes, _):
            hub.testbed.withCore { $0.devices[device].overtake(host.session) }
            hub.receive(bytes, device, host.session)
            let (status, enable) = status(host)
            host.inputs.append(.status(status, enable: enable))
        case .interrupted: hub.testbed.withCore { [session = host.session] in $0.devices[device][statusOf: session].queue(SCPIError(-410)) }
        case .clear:
            host.clears += 1
            hub.receive([0x18], device, host.session)
        case .askStatus(let id):
            let (status, enable) = status(host)
            host.inputs.append(.statusAnswer(id, status, enable: enable))
        case .hello(let bytes): host.inputs.append(.welcome(greet(bytes, host)))
        case .streamMessage(let bytes):
            if let message = DataMessage(bytes) { hub.message(message, device, host.connection) }
        case .pullFrame:
            host.inputs.append(hub.nextFrame(device, host.connection).map { .frame($0) } ?? .noFrame)
        case .closeStream: closeStream(host)
        }
    }

    private func greet(_ bytes: [UInt8], _ host: Host) -> UInt8 {
        guard let token = DataHello.token(bytes) else { return TestbedCore.DataWelcome.badToken.rawValue }
        let bound = NIOLoopBound(self, eventLoop: host.channel.eventLoop)
        let line = Hub.DataLine(connection: host.connection, channel: host.channel) { bound.value.take(.framesReady) }
        let welcome = hub.openData(device, token: token, line)
        host.hasStream = welcome == .welcome
        return welcome.rawValue
    }

    private func closeStream(_ host: Host) {
        if host.hasStream { hub.closeData(device, host.connection) }
        host.hasStream = false
    }
}

/// How a data connection begins.
private enum DataHello {
    /// The token in hexadecimal digits, or `nil` when this is no hello of version 1.
    static func token(_ bytes: [UInt8]) -> String? {
        guard bytes.count == 24, bytes.prefix(8) == [0x51, 0x44, 0x41, 0x54, 1, 0, 0, 0] else { return nil }
        return bytes[8...].map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
    }
}

extension Device {
    /// A new message while a query is at work overtakes it: its answer is dropped (-410).
    mutating func overtake(_ session: SessionID) {
        guard let current = sessions[session], current.waiting == .completeQuery || !current.answer.isEmpty else { return }
        sessions[session]?.drop()
        self[statusOf: session].queue(SCPIError(-410))
    }
}
