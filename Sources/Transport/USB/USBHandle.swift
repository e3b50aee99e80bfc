// An open USB device: claimed interfaces, and transfers with a deadline.

import CUSB
import Dispatch
import Synchronization

/// Owns a libusb handle. `close` takes all transfers back; the handle goes when nobody uses it any more.
final class USBHandle: Sendable {
    enum Outcome: Equatable, Sendable {
        case completed(Int)
        case stalled
        /// Bytes that came before the time was over.
        case timedOut(Int)
    }

    private struct Claim {
        var interface: Int32
        /// The kernel had a driver bound, which gets it back.
        var hadDriver: Bool
    }

    private struct State {
        var handle: Pinned?
        var users = 0
        var isClosed = false
        var isGone = false
        var claims: [Claim] = []
        var waiting: [ObjectIdentifier: Transfer] = [:]
        /// Ends of streams that have transfers of their own.
        var guests: [Int: @Sendable () -> Void] = [:]
        var nextGuest = 0
    }

    let name: String
    private let context: USBContext
    private let state: Mutex<State>

    /// - Parameter handle: owned from now on.
    init(_ handle: OpaquePointer, name: String, context: USBContext) {
        self.name = name
        self.context = context
        state = Mutex(State(handle: Pinned(handle: handle)))
        context.enter()
    }

    deinit { close() }

    // MARK: - Life

    func close() {
        let (waiting, guests) = state.withLock { state in
            state.isClosed = true
            return (Array(state.waiting.values), Array(state.guests.values))
        }
        for transfer in waiting { transfer.cancel() }
        for end in guests { end() }
        releaseIfUnused()
    }

    /// Pins the handle for transfers of their own until `detach`.
    /// - Parameter end: called by `close`; takes the transfers back and detaches.
    func attach(_ end: @escaping @Sendable () -> Void) throws -> Guest {
        try state.withLock { state in
            guard let handle = state.handle, !state.isClosed else { throw closed(state) }
            state.users += 1
            state.nextGuest += 1
            state.guests[state.nextGuest] = end
            return Guest(handle: handle.handle, id: state.nextGuest)
        }
    }

    func detach(_ guest: Guest) {
        state.withLock { state in
            if state.guests.removeValue(forKey: guest.id) != nil { state.users -= 1 }
        }
        releaseIfUnused()
    }

    struct Guest: @unchecked Sendable {
        // The handle is valid until it is detached.
        let handle: OpaquePointer
        let id: Int
    }

    /// Runs `body` with the handle pinned.
    func use<R>(_ body: (OpaquePointer) throws -> R) throws -> R {
        let handle = try state.withLock { state in
            guard let handle = state.handle, !state.isClosed else { throw closed(state) }
            state.users += 1
            return handle
        }
        defer {
            state.withLock { $0.users -= 1 }
            releaseIfUnused()
        }
        return try body(handle.handle)
    }

    private struct Pinned: @unchecked Sendable {
        // Valid while `users` counts its holder.
        let handle: OpaquePointer
    }

    private func closed(_ state: borrowing State) -> TransportError {
        .closed(name, reason: state.isGone ? "unplugged" : "closed on this side")
    }

    private func releaseIfUnused() {
        let last: (Pinned, [Claim], Bool)? = state.withLock { state in
            guard state.isClosed, state.users == 0, let handle = state.handle else { return nil }
            state.handle = nil
            return (handle, state.claims, state.isGone)
        }
        guard let (pinned, claims, isGone) = last else { return }
        if !isGone {
            for claim in claims.reversed() {
                libusb_release_interface(pinned.handle, claim.interface)
                if claim.hadDriver { libusb_attach_kernel_driver(pinned.handle, claim.interface) }
            }
        }
        libusb_close(pinned.handle)
        context.leave()
    }

    /// Takes an interface, from the kernel's driver if one has it.
    /// - Returns: libusb's error, 0 for none.
    func claim(_ interface: Int32) throws -> Int32 {
        try use { handle in
            let hadDriver = libusb_kernel_driver_active(handle, interface) == 1
            if hadDriver {
                let code = libusb_detach_kernel_driver(handle, interface)
                guard code == 0 || code == LIBUSB_ERROR_NOT_FOUND.rawValue else { return code }
            }
            let code = libusb_claim_interface(handle, interface)
            guard code == 0 else {
                if hadDriver { libusb_attach_kernel_driver(handle, interface) }
                return code
            }
            state.withLock { $0.claims.append(Claim(interface: interface, hadDriver: hadDriver)) }
            return 0
        }
    }

    func clearHalt(_ endpoint: UInt8) throws { try use { handle in try check(libusb_clear_halt(handle, endpoint)) } }

    /// Selects setting 0 of an interface: its endpoints begin anew.
    ///
    /// As a plain SET_INTERFACE: libusb_set_interface_alt_setting of libusb 1.0.26 unlocks a lock that it has not taken where the
    /// device has just gone, and the libusb_close after that ends the process. Clearing the halts resets the host's side.
    func resetInterface(_ interface: Int32, endpoints: [UInt8]) throws {
        _ = try control(0x01, 11, value: 0, index: UInt16(interface), length: 0, Patience(.seconds(2)))
        for endpoint in endpoints { try clearHalt(endpoint) }
    }

    private func check(_ code: Int32) throws {
        if code == LIBUSB_ERROR_NO_DEVICE.rawValue { throw gone() }
        // Anything else shows in the next transfer.
    }

    /// The device has been pulled out.
    func gone() -> TransportError {
        state.withLock { $0.isGone = true }
        return .closed(name, reason: "unplugged")
    }

    var isClosed: Bool { state.withLock { $0.isClosed } }

    // MARK: - Transfers

    enum Kind { case control, bulk, interrupt }

    /// One transfer from its start to its end.
    /// - Parameters:
    ///   - buffer: what is sent, or room for what comes; for control eight bytes of setup before it.
    /// - Throws: `TransportError.closed`, `CancellationError`.
    func transfer(_ kind: Kind, endpoint: UInt8, _ buffer: UnsafeMutableRawBufferPointer, _ patience: Patience) throws -> Outcome {
        try use { handle in
            guard let raw = libusb_alloc_transfer(0) else { throw TransportError.cannotOpen(name, reason: "out of memory") }
            let transfer = Transfer(raw)
            // Freed only here, after its end.
            defer { libusb_free_transfer(raw) }
            fill(raw, kind, handle, endpoint, buffer, transfer)
            try submit(transfer)
            defer { state.withLock { _ = $0.waiting.removeValue(forKey: ObjectIdentifier(transfer)) } }
            let isLate = try wait(transfer, patience)
            if patience.cancellation.isCancelled { throw CancellationError() }
            return try outcome(raw.pointee, isLate: isLate)
        }
    }

    private func fill(
        _ raw: UnsafeMutablePointer<libusb_transfer>, _ kind: Kind, _ handle: OpaquePointer, _ endpoint: UInt8,
        _ buffer: UnsafeMutableRawBufferPointer, _ transfer: Transfer
    ) {
        raw.pointee.dev_handle = handle
        raw.pointee.endpoint = endpoint
        raw.pointee.type =
            switch kind {
            case .control: UInt8(LIBUSB_TRANSFER_TYPE_CONTROL.rawValue)
            case .bulk: UInt8(LIBUSB_TRANSFER_TYPE_BULK.rawValue)
            case .interrupt: UInt8(LIBUSB_TRANSFER_TYPE_INTERRUPT.rawValue)
            }
        raw.pointee.timeout = 0
        raw.pointee.buffer = buffer.baseAddress?.assumingMemoryBound(to: UInt8.self)
        raw.pointee.length = Int32(buffer.count)
        raw.pointee.callback = { raw in
            guard let data = raw?.pointee.user_data else { return }
            Unmanaged<Transfer>.fromOpaque(data).takeRetainedValue().end()
        }
    }

    private func submit(_ transfer: Transfer) throws {
        let code: Int32 = try state.withLock { state in
            if state.isClosed { throw closed(state) }
            let code = transfer.submit()
            if code == 0 { state.waiting[ObjectIdentifier(transfer)] = transfer }
            return code
        }
        if code == LIBUSB_ERROR_NO_DEVICE.rawValue { throw gone() }
        guard code == 0 else { throw TransportError.closed(name, reason: "a transfer was refused: \(USBContext.words(code))") }
    }

    /// - Returns: whether the time ran out before its end.
    private func wait(_ transfer: Transfer, _ patience: Patience) throws -> Bool {
        do { try patience.cancellation.whenCancelled { transfer.cancel() } } catch { transfer.cancel() }
        let rest = patience.deadline - .now
        let isLate = !transfer.wait(rest)
        if isLate {
            transfer.cancel()
            _ = transfer.wait(nil)
        }
        return isLate
    }

    private func outcome(_ ended: libusb_transfer, isLate: Bool) throws -> Outcome {
        let count = Int(ended.actual_length)
        switch ended.status {
        case LIBUSB_TRANSFER_COMPLETED: return .completed(count)
        case LIBUSB_TRANSFER_STALL: return .stalled
        case LIBUSB_TRANSFER_NO_DEVICE: throw gone()
        case LIBUSB_TRANSFER_CANCELLED, LIBUSB_TRANSFER_TIMED_OUT:
            if isLate { return .timedOut(count) }
            throw state.withLock { closed($0) }
        case LIBUSB_TRANSFER_OVERFLOW: throw TransportError.malformed(name, reason: "a packet is longer than there is room for")
        // What the kernel says of a device that goes while a transfer runs, before it says that it has gone.
        default: throw TransportError.closed(name, reason: "a transfer failed: unplugged, or a bad cable")
        }
    }
}

/// One libusb transfer and who waits for it.
final class Transfer: @unchecked Sendable {
    // `raw` is touched by libusb between `submit` and `end`, and by its owner before and after.
    let raw: UnsafeMutablePointer<libusb_transfer>
    private let isRunning = Mutex(false)
    private let ended = DispatchSemaphore(value: 0)

    init(_ raw: UnsafeMutablePointer<libusb_transfer>) { self.raw = raw }

    func submit() -> Int32 {
        isRunning.withLock { isRunning in
            // The callback's own, until it is over: whoever waits may be gone by then.
            let kept = Unmanaged.passRetained(self)
            raw.pointee.user_data = kept.toOpaque()
            let code = libusb_submit_transfer(raw)
            isRunning = code == 0
            if code != 0 { kept.release() }
            return code
        }
    }

    func cancel() {
        isRunning.withLock { isRunning in
            if isRunning { libusb_cancel_transfer(raw) }
        }
    }

    func end() {
        isRunning.withLock { $0 = false }
        ended.signal()
    }

    /// - Returns: whether it ended in time.
    func wait(_ duration: Duration?) -> Bool {
        guard let duration else {
            ended.wait()
            return true
        }
        return ended.wait(timeout: .now() + duration.dispatchInterval) == .success
    }
}

extension Duration {
    /// At most a day: waits are repeated by those who have longer ones.
    var dispatchInterval: DispatchTimeInterval {
        guard self > .zero else { return .nanoseconds(0) }
        guard self < .seconds(86_400) else { return .seconds(86_400) }
        return .nanoseconds(Int(self / .nanoseconds(1)))
    }
}
