// Symbols over bulk-IN: large transfers, several in flight, read as a stream of bytes.
//
// The device sends a frame as one transfer that a short packet ends; the buffers here hold a whole frame and one packet more,
// so each frame is one URB and one copy. Buffers come back in the order in which they were submitted. Whenever one lands, libusb's
// own thread submits a spare one in its place: the bus never waits for whoever reads. Messages go the same way: what is
// said while one is on its way goes with the next, so nobody waits for the bus to say something.

import CUSB
import Dispatch
import Synchronization

/// What a device's descriptors say of it.
struct USBLayout: Sendable {
    struct Symbols: Sendable {
        var interface: Int32
        var bulkOut: UInt8
        var bulkIn: UInt8
        var packet: Int
    }

    var control: TMCMachine.Endpoints
    var controlPacket: Int
    var symbols: Symbols?
    /// USB488 with READ_STATUS_BYTE.
    var hasStatusByte = false
}

/// Interface 1 of docs/wire/usb.md. `read` belongs to one thread; the rest to any.
package final class USBStream: ByteLine {
    /// Room for frames on the way: usbfs gives 16 MiB to all devices together.
    private static let roomInFlight = 4 << 20
    /// Room for messages on the way.
    private static let roomForMessages = 4096

    package let name: String
    private let traffic: Traffic
    /// Being read.
    private let current = Mutex<(slot: USBSlot, position: Int)?>(nil)

    package var bytesPerSecond: Int? { nil }

    /// Selects the interface's setting again, which begins a data connection anew, and submits the buffers.
    /// - Parameter frameBytes: of one frame with its header.
    init(handle: USBHandle, layout: USBLayout.Symbols, frameBytes: Int) throws {
        name = handle.name
        traffic = Traffic(handle, layout)
        try handle.resetInterface(layout.interface, endpoints: [layout.bulkOut, layout.bulkIn])
        try traffic.attach()
        let packets = max(frameBytes, 16_384) / layout.packet + 2
        let bytes = packets * layout.packet
        do { try traffic.begin(buffers: min(16, max(2, Self.roomInFlight / bytes)), bytes: bytes, messages: Self.roomForMessages) } catch {
            traffic.close()
            throw error
        }
    }

    deinit { close() }

    /// Hands the bytes over; a device that does not take them shows in a later call.
    package func write(_ bytes: UnsafeRawBufferPointer, _ patience: Patience) throws { try traffic.send(bytes, patience) }

    package func read(into buffer: UnsafeMutableRawBufferPointer, _ patience: Patience) throws -> Int {
        while true {
            let (slot, position) = try current.withLock { $0 } ?? (traffic.next(patience), 0)
            let count = min(buffer.count, slot.count - position)
            if count > 0 { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: slot.buffer[position..<(position + count)])) }
            if position + count < slot.count {
                current.withLock { $0 = (slot, position + count) }
                return count
            }
            current.withLock { $0 = nil }
            traffic.recycle(slot)
            if count > 0 { return count }
        }
    }

    package func clear(_ patience: Patience) throws -> Bool { false }
    package func close() { traffic.close() }
}

/// The transfers of one stream, shared with libusb's thread.
private final class Traffic: Sendable {
    private struct State {
        /// Buffers that libusb has or had and nobody has read, oldest first.
        var arriving: [USBSlot] = []
        var spare: [USBSlot] = []
        /// How many libusb has, and how many it should have.
        var inFlight = 0, wanted = 0
        var message: USBSlot?
        /// Said while a message is on its way.
        var unsent: [UInt8] = []
        var sentAt = ContinuousClock.now
        /// Why nothing more will come.
        var failure: TransportError?
        var isClosed = false
        /// The claim on the handle, until the last buffer has come back.
        var guest: USBHandle.Guest?
    }

    private let handle: USBHandle
    private let layout: USBLayout.Symbols
    private let state = Mutex(State())
    /// One signal for each buffer that lands, and one at the end.
    private let landed = DispatchSemaphore(value: 0)

    init(_ handle: USBHandle, _ layout: USBLayout.Symbols) {
        self.handle = handle
        self.layout = layout
    }

    func attach() throws {
        let guest = try handle.attach { [weak self] in self?.close() }
        state.withLock { $0.guest = guest }
    }

    /// - Parameters:
    ///   - buffers: of `bytes` each, in flight; as many again are spare.
    ///   - messages: bytes of messages at a time.
    func begin(buffers: Int, bytes: Int, messages: Int) throws {
        let made = (0..<(2 * buffers)).compactMap { _ in USBSlot(bytes: bytes) { [weak self] in self?.arrived($0) } }
        let message = USBSlot(bytes: messages) { [weak self] in self?.sent($0) }
        guard made.count == 2 * buffers, let message else { throw TransportError.cannotOpen(handle.name, reason: "out of memory") }
        try state.withLock { state in
            (state.spare, state.message, state.wanted) = (made, message, buffers)
            fill(&state)
            if let failure = state.failure { throw failure }
        }
    }

    // MARK: Buffers

    /// Gives libusb what it should have. - A submission that fails ends the stream.
    private func fill(_ state: inout State) {
        guard !state.isClosed, state.failure == nil, let guest = state.guest else { return }
        while state.inFlight < state.wanted, let slot = state.spare.popLast() {
            let code = slot.launch(guest.handle, endpoint: layout.bulkIn, count: slot.buffer.count)
            guard code == 0 else {
                state.spare.append(slot)
                return state.failure = refusal(code)
            }
            state.inFlight += 1
            state.arriving.append(slot)
        }
    }

    private func refusal(_ code: Int32) -> TransportError {
        if code == LIBUSB_ERROR_NO_DEVICE.rawValue { return handle.gone() }
        return .closed(handle.name, reason: "a transfer was refused: \(USBContext.words(code))")
    }

    /// On libusb's thread.
    private func arrived(_ slot: USBSlot) {
        state.withLock { state in
            slot.isFlying = false
            state.inFlight -= 1
            if slot.status == LIBUSB_TRANSFER_COMPLETED { fill(&state) }
        }
        landed.signal()
    }

    /// The oldest buffer, once it is there.
    func next(_ patience: Patience) throws -> USBSlot {
        try patience.cancellation.whenCancelled { [landed] in landed.signal() }
        while true {
            if patience.cancellation.isCancelled { throw CancellationError() }
            let slot: USBSlot? = try state.withLock { state in
                if state.isClosed { throw TransportError.closed(handle.name, reason: "closed on this side") }
                if let first = state.arriving.first, !first.isFlying { return state.arriving.removeFirst() }
                if let failure = state.failure { throw failure }
                return nil
            }
            if let slot {
                if let failure = failure(slot.status) { throw failure }
                return slot
            }
            if landed.wait(timeout: .now() + (patience.deadline - .now).dispatchInterval) == .timedOut, patience.isOver {
                throw TransportError.timedOut(handle.name, doing: "waiting for symbols")
            }
        }
    }

    /// It has been read.
    func recycle(_ slot: USBSlot) {
        state.withLock { state in
            state.spare.append(slot)
            fill(&state)
        }
    }

    private func failure(_ status: libusb_transfer_status) -> TransportError? {
        switch status {
        case LIBUSB_TRANSFER_COMPLETED: nil
        case LIBUSB_TRANSFER_NO_DEVICE: handle.gone()
        case LIBUSB_TRANSFER_STALL: .closed(handle.name, reason: "the symbol interface halted: its token is void")
        case LIBUSB_TRANSFER_OVERFLOW: .malformed(handle.name, reason: "a packet is longer than there is room for")
        case LIBUSB_TRANSFER_CANCELLED: .closed(handle.name, reason: "closed on this side")
        default: .closed(handle.name, reason: "a transfer failed: unplugged, or a bad cable")
        }
    }

    // MARK: Messages

    func send(_ bytes: UnsafeRawBufferPointer, _ patience: Patience) throws {
        try state.withLock { state in
            if state.isClosed { throw TransportError.closed(handle.name, reason: "closed on this side") }
            if let failure = state.failure { throw failure }
            guard let message = state.message, state.unsent.count + bytes.count <= message.buffer.count else {
                throw TransportError.timedOut(handle.name, doing: "sending")
            }
            // Five seconds, as `DataConnection` has them, without a word taken.
            if message.isFlying, .now - state.sentAt > .seconds(5) { throw TransportError.timedOut(handle.name, doing: "sending") }
            state.unsent += bytes
            post(&state)
            if let failure = state.failure { throw failure }
        }
    }

    /// Sends what is to be said, unless something is on its way.
    private func post(_ state: inout State) {
        guard !state.isClosed, state.failure == nil, let guest = state.guest else { return }
        guard let message = state.message, !message.isFlying, !state.unsent.isEmpty else { return }
        message.buffer.copyBytes(from: state.unsent)
        state.sentAt = .now
        let code = message.launch(guest.handle, endpoint: layout.bulkOut, count: state.unsent.count)
        state.unsent.removeAll(keepingCapacity: true)
        if code != 0 { state.failure = refusal(code) }
    }

    /// On libusb's thread.
    private func sent(_ message: USBSlot) {
        state.withLock { state in
            message.isFlying = false
            if let failure = failure(message.status) { state.failure = state.failure ?? failure } else { post(&state) }
        }
        landed.signal()
    }

    // MARK: End

    func close() {
        let (flying, guest) = state.withLock { state in
            defer {
                state.isClosed = true
                (state.arriving, state.spare, state.message, state.guest) = ([], [], nil, nil)
            }
            return ((state.arriving + [state.message].compactMap { $0 }).filter(\.isFlying), state.guest)
        }
        // Newest first: nothing must land in a later buffer while an earlier one is taken back.
        for slot in flying.reversed() { slot.cancel() }
        for slot in flying { while state.withLock({ _ in slot.isFlying }) { _ = landed.wait(timeout: .now() + .milliseconds(20)) } }
        landed.signal()
        if let guest { handle.detach(guest) }
    }
}
