// Symbols over bulk-IN: large transfers, several in flight, read as a stream of bytes.
//
// The device sends a frame as one transfer that a short packet ends; the buffers here hold a whole frame and one packet more,
// so each frame is one URB and one copy. Buffers come back in the order in which they were submitted.

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

    private struct State {
        /// Every buffer that libusb has, oldest first.
        var flying: [Slot] = []
        /// Being read.
        var current: (slot: Slot, position: Int)?
        var isClosed = false
        /// The claim on the handle, until the last buffer has come back.
        var guest: USBHandle.Guest?
    }

    /// One buffer and its transfer.
    private final class Slot: @unchecked Sendable {
        // Touched by libusb while it flies, by the reader otherwise.
        let raw: UnsafeMutablePointer<libusb_transfer>
        let buffer: UnsafeMutableRawBufferPointer
        let landed: DispatchSemaphore
        let isFlying = Atomic<Bool>(false)

        init(_ raw: UnsafeMutablePointer<libusb_transfer>, bytes: Int, landed: DispatchSemaphore) {
            self.raw = raw
            self.landed = landed
            buffer = .allocate(byteCount: bytes, alignment: 4096)
        }

        deinit {
            libusb_free_transfer(raw)
            buffer.deallocate()
        }
    }

    package let name: String
    private let handle: USBHandle
    private let layout: USBLayout.Symbols
    private let state = Mutex(State())
    /// One signal for each buffer that lands, and one at the end.
    private let landed = DispatchSemaphore(value: 0)

    package var bytesPerSecond: Int? { nil }

    /// Selects the interface's setting again, which begins a data connection anew, and submits the buffers.
    /// - Parameter frameBytes: of one frame with its header.
    init(handle: USBHandle, layout: USBLayout.Symbols, frameBytes: Int) throws {
        self.name = handle.name
        self.handle = handle
        self.layout = layout
        try handle.resetInterface(layout.interface, endpoints: [layout.bulkOut, layout.bulkIn])
        let guest = try handle.attach { [weak self] in self?.close() }
        state.withLock { $0.guest = guest }
        let packets = max(frameBytes, 16_384) / layout.packet + 2
        let bytes = packets * layout.packet
        let count = min(16, max(2, Self.roomInFlight / bytes))
        for _ in 0..<count {
            guard let raw = libusb_alloc_transfer(0) else { throw TransportError.cannotOpen(name, reason: "out of memory") }
            do { try launch(Slot(raw, bytes: bytes, landed: landed)) } catch {
                close()
                throw error
            }
        }
    }

    deinit { close() }

    private func launch(_ slot: Slot) throws {
        let code: Int32 = try state.withLock { state in
            guard !state.isClosed, let guest = state.guest else { throw TransportError.closed(name, reason: "closed on this side") }
            slot.raw.pointee.dev_handle = guest.handle
            slot.raw.pointee.endpoint = layout.bulkIn
            slot.raw.pointee.type = UInt8(LIBUSB_TRANSFER_TYPE_BULK.rawValue)
            slot.raw.pointee.timeout = 0
            slot.raw.pointee.buffer = slot.buffer.baseAddress?.assumingMemoryBound(to: UInt8.self)
            slot.raw.pointee.length = Int32(slot.buffer.count)
            // The callback's own, until it is over: the stream may be gone by then.
            let kept = Unmanaged.passRetained(slot)
            slot.raw.pointee.user_data = kept.toOpaque()
            slot.raw.pointee.callback = { raw in
                guard let data = raw?.pointee.user_data else { return }
                let slot = Unmanaged<Slot>.fromOpaque(data).takeRetainedValue()
                let landed = slot.landed
                slot.isFlying.store(false, ordering: .releasing)
                landed.signal()
            }
            slot.isFlying.store(true, ordering: .relaxed)
            let code = libusb_submit_transfer(slot.raw)
            guard code == 0 else {
                slot.isFlying.store(false, ordering: .relaxed)
                kept.release()
                return code
            }
            state.flying.append(slot)
            return code
        }
        if code == LIBUSB_ERROR_NO_DEVICE.rawValue { throw handle.gone() }
        guard code == 0 else { throw TransportError.closed(name, reason: "a transfer was refused: \(USBContext.words(code))") }
    }

    // MARK: - ByteLine

    package func write(_ bytes: UnsafeRawBufferPointer, _ patience: Patience) throws {
        var copy = Array(bytes)
        let outcome = try copy.withUnsafeMutableBytes { try handle.transfer(.bulk, endpoint: layout.bulkOut, $0, patience) }
        switch outcome {
        case .completed: return
        case .stalled: throw TransportError.closed(name, reason: "the symbol interface halted: its token is void")
        case .timedOut: throw TransportError.timedOut(name, doing: "sending")
        }
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer, _ patience: Patience) throws -> Int {
        while true {
            if let current = state.withLock({ $0.current }) {
                let count = try drain(current.slot, current.position, buffer)
                if count > 0 { return count }
                continue
            }
            try nextSlot(patience)
        }
    }

    /// - Returns: 0 where the buffer was at its end; it flies again.
    private func drain(_ slot: Slot, _ position: Int, _ target: UnsafeMutableRawBufferPointer) throws -> Int {
        let length = Int(slot.raw.pointee.actual_length)
        let count = min(target.count, length - position)
        if count > 0 { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: slot.buffer[position..<(position + count)])) }
        guard position + count == length else {
            state.withLock { $0.current = (slot, position + count) }
            return count
        }
        state.withLock { $0.current = nil }
        try launch(slot)
        return count
    }

    private func nextSlot(_ patience: Patience) throws {
        do { try patience.cancellation.whenCancelled { [landed] in landed.signal() } } catch { throw error }
        while true {
            if patience.cancellation.isCancelled { throw CancellationError() }
            let slot: Slot? = try state.withLock { state in
                if state.isClosed { throw TransportError.closed(name, reason: "closed on this side") }
                guard let first = state.flying.first, !first.isFlying.load(ordering: .acquiring) else { return nil }
                return state.flying.removeFirst()
            }
            if let slot {
                try check(slot)
                state.withLock { $0.current = (slot, 0) }
                return
            }
            if landed.wait(timeout: .now() + (patience.deadline - .now).dispatchInterval) == .timedOut, patience.isOver {
                throw TransportError.timedOut(name, doing: "waiting for symbols")
            }
        }
    }

    private func check(_ slot: Slot) throws {
        switch slot.raw.pointee.status {
        case LIBUSB_TRANSFER_COMPLETED: return
        case LIBUSB_TRANSFER_NO_DEVICE: throw handle.gone()
        case LIBUSB_TRANSFER_STALL: throw TransportError.closed(name, reason: "the symbol interface halted: its token is void")
        case LIBUSB_TRANSFER_OVERFLOW: throw TransportError.malformed(name, reason: "a packet is longer than there is room for")
        case LIBUSB_TRANSFER_CANCELLED: throw TransportError.closed(name, reason: "closed on this side")
        default: throw TransportError.closed(name, reason: "a transfer failed: unplugged, or a bad cable")
        }
    }

    package func clear(_ patience: Patience) throws -> Bool { false }

    package func close() {
        let (flying, guest) = state.withLock { state in
            defer {
                state.isClosed = true
                state.flying = []
                state.guest = nil
            }
            return (state.flying, state.guest)
        }
        // Newest first: nothing must land in a later buffer while an earlier one is taken back.
        for slot in flying.reversed() where slot.isFlying.load(ordering: .acquiring) { libusb_cancel_transfer(slot.raw) }
        for slot in flying { while slot.isFlying.load(ordering: .acquiring) { _ = landed.wait(timeout: .now() + .milliseconds(20)) } }
        landed.signal()
        if let guest { handle.detach(guest) }
    }
}
