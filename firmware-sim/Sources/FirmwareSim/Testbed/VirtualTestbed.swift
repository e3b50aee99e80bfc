// The testbed inside one process: nobody waits, time moves when the caller says so. For tests and benchmarks.

internal import Foundation
internal import Synchronization

/// A testbed in virtual time. The same seed and the same calls give the same bytes.
public final class VirtualTestbed: Sendable {
    let testbed: Testbed
    private let outputs: Mutex<[Key: [Pending]]> = Mutex([:])
    private let names = Atomic(0)

    private struct Key: Hashable {
        var device: Int
        var session: SessionID
    }

    private struct Pending {
        var bytes: [UInt8]
        var notBefore: UInt64
    }

    public init(_ configuration: TestbedConfiguration) { testbed = Testbed(configuration, pace: "virtual") }

    public convenience init(yaml: String) throws(FirmwareSimError) { try self.init(TestbedConfiguration(yaml: yaml)) }

    public convenience init(file: String) throws(FirmwareSimError) { try self.init(TestbedConfiguration(file: file)) }

    /// s of testbed time.
    public var seconds: Double { Double(testbed.withCore { $0.time }) * 1e-9 }

    /// Lets at least this much testbed time pass, in whole steps of 65,536 symbols.
    public func advance(seconds: Double) {
        let end = testbed.withCore { $0.time } + UInt64(max(0, seconds) * 1e9)
        repeat { step() } while testbed.withCore { $0.time } < end
    }

    /// One step.
    public func step() {
        let wall = testbed.withCore { $0.time }
        keep(testbed.advance(wall: wall).actions)
    }

    /// A device with a control session of its own.
    public func device(_ serial: String) throws(FirmwareSimError) -> VirtualDevice {
        let index = try testbed.index(of: serial)
        let session = names.add(1, ordering: .relaxed).newValue
        guard testbed.withCore({ $0.devices[index].open(session) }) else {
            throw .refused(device: serial, command: "connect", reason: "all its sessions are in use")
        }
        return VirtualDevice(testbed: self, serial: serial, index: index, session: session)
    }

    /// What no host can read, for tests: the transmitter's symbol counter minus the receiver's for the same light.
    public func counterDifference(transmitter: String, receiver: String) throws(FirmwareSimError) -> UInt64 {
        let source = try testbed.index(of: transmitter)
        let sink = try testbed.index(of: receiver)
        return testbed.withCore { $0.devices[source].counterOfLight &- $0.devices[sink].counterOfLight }
    }

    func send(_ bytes: [UInt8], to device: Int, session: SessionID) -> [UInt8] {
        let actions = testbed.withCore { core -> [AddressedAction] in
            let moment = core.moment(wall: core.time)
            return core.devices[device].receive(bytes, from: session, moment).map { AddressedAction(device: device, action: $0) }
        }
        keep(actions)
        return take(device: device, session: session)
    }

    /// Answers that may leave by now.
    func take(device: Int, session: SessionID) -> [UInt8] {
        let now = testbed.withCore { $0.time }
        return outputs.withLock { outputs in
            let key = Key(device: device, session: session)
            let waiting = outputs[key] ?? []
            let ready = waiting.prefix { $0.notBefore <= now }
            outputs[key] = Array(waiting.dropFirst(ready.count))
            return ready.flatMap(\.bytes)
        }
    }

    private func keep(_ actions: [AddressedAction]) {
        outputs.withLock { outputs in
            for item in actions {
                switch item.action {
                case .send(let session, let bytes, let notBefore):
                    outputs[Key(device: item.device, session: session), default: []].append(Pending(bytes: bytes, notBefore: notBefore))
                case .forget(let session): outputs[Key(device: item.device, session: session)] = []
                case .close, .closeData: continue
                }
            }
        }
    }
}

/// One control session of a device in virtual time.
public struct VirtualDevice: Sendable {
    let testbed: VirtualTestbed
    public let serial: String
    let index: Int
    let session: SessionID

    /// Sends bytes and returns whatever the device has answered by now.
    public func control(_ bytes: [UInt8]) -> [UInt8] { testbed.send(bytes, to: index, session: session) }

    /// Sends one line and returns the answer without its newline; empty when there is none.
    @discardableResult
    public func control(_ line: String) -> String {
        let answer = String(decoding: control([UInt8]("\(line)\n".utf8)), as: UTF8.self)
        return answer.hasSuffix("\n") ? String(answer.dropLast()) : answer
    }

    /// Answers that came since the last call, as after `*OPC?` or a hang.
    public func pending() -> [UInt8] { testbed.take(device: index, session: session) }

    /// Sends a line that must not lead to an error.
    /// - Throws: `FirmwareSimError.refused` with the device's error.
    @discardableResult
    public func order(_ line: String) throws(FirmwareSimError) -> String {
        let answer = control(line)
        let error = control("SYSTem:ERRor?")
        guard error.hasPrefix("0,") else { throw .refused(device: serial, command: line, reason: error) }
        return answer
    }

    /// Bytes of the oldest frames in the ring, at most `most`; they stay there until `release(through:)`.
    public func frames(from number: UInt64 = 0, most: Int = .max) -> [[UInt8]] {
        testbed.testbed.withCore { core in
            let kept = core.devices[index].ring.frames.filter { $0.number >= number }.prefix(most)
            var bytes: [[UInt8]] = []
            for frame in kept { bytes.append(core.devices[index].outgoing(frame)) }
            return bytes
        }
    }

    /// Frees frames as `ACQuire:RELease` does.
    public func release(through number: UInt64) { testbed.testbed.withCore { $0.devices[index].ring.release(through: number) } }

    /// Ends the session, as a client that hangs up.
    public func close() { testbed.testbed.withCore { $0.devices[index].close(session) } }
}
