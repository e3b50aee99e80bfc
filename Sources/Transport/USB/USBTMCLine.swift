// SCPI over USBTMC: a `ByteLine` whose answers are messages. The bus's hands for `TMCMachine`.

import CUSB
import Glibc

/// The control interface of a device. Belongs to one thread, but for `close`.
package final class USBTMCLine: ByteLine, SymbolCarrier, @unchecked Sendable {
    // Everything but `close` happens on the session's thread, which is the only one to touch `machine` and `buffer`.

    package let name: String
    private let handle: USBHandle
    private let layout: USBLayout
    private let buffer: UnsafeMutableRawBufferPointer
    private var machine: TMCMachine
    /// What came and has not been read.
    private var ready = 0..<0
    /// A NL that END stands for.
    private var owesNewline = false
    private var lastByte: UInt8 = 0

    /// Response transfers of up to this size are asked for.
    private static let bufferBytes = 256 * 1024
    /// An abort must not wait for what does not come.
    private static let drainDeadline = Duration.milliseconds(200)
    private static let controlDeadline = Duration.seconds(2)

    init(handle: USBHandle, layout: USBLayout) {
        self.name = handle.name
        self.handle = handle
        self.layout = layout
        buffer = .allocate(byteCount: Self.bufferBytes, alignment: 4096)
        machine = TMCMachine(endpoints: layout.control, packet: layout.controlPacket, buffer: Self.bufferBytes)
    }

    deinit {
        handle.close()
        buffer.deallocate()
    }

    package var bytesPerSecond: Int? { nil }
    package var keepsMessages: Bool { true }
    package func close() { handle.close() }

    // MARK: - ByteLine

    package func write(_ bytes: UnsafeRawBufferPointer, _ patience: Patience) throws {
        forget()
        // One transfer for each message: not every device looks for NL inside of one.
        var rest = bytes[...]
        while !rest.isEmpty {
            let end = rest.firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? rest.endIndex
            let message = Array(rest[..<end])
            rest = rest[end...]
            switch try sending(message, patience) {
            case .done: break
            case .stalled: throw TransportError.malformed(name, reason: "the device stalled a message")
            default:
                takeBack()
                throw TransportError.timedOut(name, doing: "sending")
            }
        }
    }

    private func sending(_ message: [UInt8], _ patience: Patience) throws -> TMCMachine.End {
        do { return try run(machine.send(message), patience) } catch is CancellationError {
            takeBack()
            throw CancellationError()
        }
    }

    /// Part of a message may have gone out: the device is told to forget it.
    private func takeBack() { _ = try? run(machine.abortSending(), Patience(Self.controlDeadline)) }

    package func read(into target: UnsafeMutableRawBufferPointer, _ patience: Patience) throws -> Int {
        while ready.isEmpty, !owesNewline {
            // A look at what is there already finds nothing: answers come only when they are asked for.
            if patience.isOver { throw TransportError.timedOut(name, doing: "waiting for an answer") }
            try receive(patience)
        }
        let count = min(target.count, ready.count)
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[ready.lowerBound..<(ready.lowerBound + count)]))
        ready = (ready.lowerBound + count)..<ready.upperBound
        guard count == 0, owesNewline, !target.isEmpty else { return count }
        owesNewline = false
        target[0] = UInt8(ascii: "\n")
        return 1
    }

    private func receive(_ patience: Patience) throws {
        switch try run(machine.receive(), patience) {
        case .payload(let range, let isEnd):
            ready = range
            if let last = range.last { lastByte = buffer[last] }
            owesNewline = isEnd && lastByte != UInt8(ascii: "\n")
        case .malformed(let reason): throw TransportError.malformed(name, reason: reason)
        case .stalled: throw TransportError.malformed(name, reason: "the device stalled an answer")
        default: throw TransportError.timedOut(name, doing: "waiting for an answer")
        }
    }

    private func forget() {
        ready = 0..<0
        owesNewline = false
        lastByte = 0
    }

    /// Takes the request for a lost answer back; a device that does not keep to that is cleared.
    package func clear(_ patience: Patience) throws -> Bool {
        forget()
        if machine.isWaiting, case .done = try run(machine.abort(), patience) { return true }
        return try run(machine.clear(), patience) == .done
    }

    package func statusByte(_ patience: Patience) throws -> UInt8? {
        guard layout.hasStatusByte else { return nil }
        if case .status(let value) = try run(machine.readStatusByte(), patience) { return value }
        return nil
    }

    package func serviceRequest(_ patience: Patience) throws -> Bool {
        guard let endpoint = layout.control.interruptIn else { return false }
        if machine.takeServiceRequest() { return true }
        var bytes = [UInt8](repeating: 0, count: 64)
        let outcome = try bytes.withUnsafeMutableBytes { try handle.transfer(.interrupt, endpoint: endpoint, $0, patience) }
        if case .completed(let count) = outcome { machine.notice(Array(bytes[..<count])) }
        return machine.takeServiceRequest()
    }

    package func openSymbols(frameBytes: Int, _ patience: Patience) throws -> any ByteLine {
        guard let symbols = layout.symbols else { throw TransportError.dataRefused(name, reason: "it has no symbol interface") }
        return try USBStream(handle: handle, layout: symbols, frameBytes: frameBytes)
    }

    package var carriesSymbols: Bool { layout.symbols != nil }

    // MARK: - The machine's hands

    private func run(_ first: TMCMachine.Step, _ patience: Patience) throws -> TMCMachine.End {
        var step = first
        while true {
            switch step {
            case .finished(let end): return end
            case .perform(let request): step = machine.input(try perform(request, patience))
            }
        }
    }

    private func perform(_ request: TMCMachine.Request, _ patience: Patience) throws -> TMCMachine.Outcome {
        switch request {
        case .bulkOut(let bytes):
            var bytes = bytes
            let outcome = try bytes.withUnsafeMutableBytes { try handle.transfer(.bulk, endpoint: layout.control.bulkOut, $0, patience) }
            return switch outcome {
            case .completed: .sent
            case .stalled: .stalled
            case .timedOut: .timedOut(head: [], count: 0)
            }
        case .bulkIn(let isDrain):
            let patience = isDrain ? patience.atMost(Self.drainDeadline) : patience
            return received(try handle.transfer(.bulk, endpoint: layout.control.bulkIn, buffer, patience))
        case .interruptIn: return try interrupt(patience)
        case .control(let type, let request, let value, let index, let length):
            return try control(type, request, value, index, length, patience)
        case .clearHalt(let endpoint):
            try handle.clearHalt(endpoint)
            return .done
        case .pause:
            usleep(5000)
            return .done
        }
    }

    private func received(_ outcome: USBHandle.Outcome) -> TMCMachine.Outcome {
        func head(_ count: Int) -> [UInt8] { Array(buffer[..<min(count, TMCMachine.headerLength)]) }
        return switch outcome {
        case .completed(let count): .received(head: head(count), count: count, isShort: count < buffer.count)
        case .stalled: .stalled
        case .timedOut(let count): .timedOut(head: head(count), count: count)
        }
    }

    private func interrupt(_ patience: Patience) throws -> TMCMachine.Outcome {
        guard let endpoint = layout.control.interruptIn else { return .timedOut(head: [], count: 0) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let outcome = try bytes.withUnsafeMutableBytes {
            try handle.transfer(.interrupt, endpoint: endpoint, $0, patience.atMost(Self.controlDeadline))
        }
        guard case .completed(let count) = outcome else { return .timedOut(head: [], count: 0) }
        return .received(head: Array(bytes[..<count]), count: count, isShort: true)
    }

    private func control(
        _ type: UInt8, _ request: UInt8, _ value: UInt16, _ index: UInt16, _ length: UInt16, _ patience: Patience
    ) throws -> TMCMachine.Outcome {
        let reply = try handle.control(type, request, value: value, index: index, length: length, patience.atMost(Self.controlDeadline))
        guard let reply else { return .stalled }
        return .reply(reply)
    }
}

extension USBHandle {
    /// An IN control transfer.
    /// - Returns: `nil` for a stall, and where nothing came in time.
    func control(
        _ type: UInt8, _ request: UInt8, value: UInt16, index: UInt16, length: UInt16, _ patience: Patience
    ) throws -> [UInt8]? {
        func word(_ value: UInt16) -> [UInt8] { [UInt8(value & 255), UInt8(value >> 8)] }
        var bytes = [type, request] + word(value) + word(index) + word(length) + [UInt8](repeating: 0, count: Int(length))
        let outcome = try bytes.withUnsafeMutableBytes { try transfer(.control, endpoint: 0, $0, patience) }
        guard case .completed(let count) = outcome else { return nil }
        return Array(bytes[8..<(8 + count)])
    }
}
