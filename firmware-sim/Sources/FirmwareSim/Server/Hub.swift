// Joins sockets and testbed: which channel is which session, and who is told about new frames.

internal import NIOCore
internal import Synchronization

final class Hub: TestbedObserver {
    let testbed: Testbed
    let pacer: Mutex<Pacer?> = Mutex(nil)
    private let state = Mutex(State())
    private let names = Atomic(0)

    private struct Key: Hashable {
        var device: Int
        var session: SessionID
    }

    private struct State {
        var control: [Key: ControlLine] = [:]
        var data: [Int: DataLine] = [:]
    }

    struct ControlLine {
        var channel: any Channel
        /// Ends the session, on any thread.
        var end: @Sendable () -> Void
        /// Takes answers and their earliest wall time in place of the channel.
        var deliver: (@Sendable ([UInt8], UInt64) -> Void)?
        /// Counts device clears: answers that were to leave later never do after one.
        var clears = 0
    }

    struct DataLine {
        var connection: Int
        var channel: any Channel
        /// Sends what may be sent; to be called on the channel's event loop.
        var pump: @Sendable () -> Void
    }

    init(_ testbed: Testbed) { self.testbed = testbed }

    func nextName() -> Int { names.add(1, ordering: .relaxed).newValue }

    // MARK: Control

    func open(_ device: Int, _ session: SessionID, _ line: ControlLine) -> Bool {
        guard testbed.withCore({ $0.devices[device].open(session) }) else { return false }
        state.withLock { $0.control[Key(device: device, session: session)] = line }
        return true
    }

    func close(_ device: Int, _ session: SessionID) {
        testbed.withCore { $0.devices[device].close(session) }
        state.withLock { _ = $0.control.removeValue(forKey: Key(device: device, session: session)) }
    }

    func receive(_ bytes: [UInt8], _ device: Int, _ session: SessionID) {
        let wall = Pacer.wall()
        let actions = testbed.withCore { core -> [AddressedAction] in
            core.devices[device].receive(bytes, from: session, core.moment(wall: wall))
                .map { AddressedAction(device: device, action: $0) }
        }
        perform(actions)
        nudge()
    }

    func perform(_ actions: [AddressedAction]) {
        for item in actions {
            switch item.action {
            case .send(let session, let bytes, let notBefore):
                guard let line = line(item.device, session) else { continue }
                if let deliver = line.deliver {
                    deliver(bytes, notBefore)
                    continue
                }
                let channel = line.channel
                guard notBefore > 0 else {
                    channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil)
                    continue
                }
                // By the clock itself, not by what is left of it now: answers keep their order.
                let (device, clears) = (item.device, line.clears)
                channel.eventLoop.scheduleTask(deadline: .uptimeNanoseconds(notBefore)) {
                    guard self.line(device, session)?.clears == clears else { return }
                    channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil)
                }
            case .forget(let session): state.withLock { $0.control[Key(device: item.device, session: session)]?.clears += 1 }
            case .close(let session): line(item.device, session)?.end()
            case .closeData: state.withLock { $0.data[item.device] }?.channel.close(promise: nil)
            }
        }
    }

    private func line(_ device: Int, _ session: SessionID) -> ControlLine? {
        state.withLock { $0.control[Key(device: device, session: session)] }
    }

    // MARK: Data

    func openData(_ device: Int, token: String, _ line: DataLine) -> TestbedCore.DataWelcome {
        let welcome = testbed.withCore { $0.openData(device: device, token: token, connection: line.connection) }
        if welcome == .welcome { state.withLock { $0.data[device] = line } }
        return welcome
    }

    func closeData(_ device: Int, _ connection: Int) {
        testbed.withCore { $0.closeData(device: device, connection: connection) }
        state.withLock { if $0.data[device]?.connection == connection { $0.data[device] = nil } }
    }

    func message(_ message: DataMessage, _ device: Int, _ connection: Int) {
        testbed.withCore { $0.dataMessage(device: device, connection: connection, message) }
        if case .release = message { nudge() }
    }

    func nextFrame(_ device: Int, _ connection: Int) -> [UInt8]? {
        testbed.withCore { $0.nextFrame(device: device, connection: connection) }
    }

    func framesReady(device: Int) {
        guard let line = state.withLock({ $0.data[device] }) else { return }
        line.channel.eventLoop.execute(line.pump)
    }

    private func nudge() { pacer.withLock { $0 }?.nudge() }

    func closeAll() {
        let open = state.withLock { state in state.control.values.map(\.channel) + state.data.values.map(\.channel) }
        for channel in open { channel.close(promise: nil) }
    }
}
