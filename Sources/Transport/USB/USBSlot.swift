// A libusb transfer with a buffer of its own, submitted again and again.

import CUSB

/// Belongs to libusb from `launch` until it has landed, and to its owner otherwise; the owner's lock says which.
final class USBSlot: @unchecked Sendable {
    // Checked by the owner's lock: see above.
    private let raw: UnsafeMutablePointer<libusb_transfer>
    let buffer: UnsafeMutableRawBufferPointer
    private let landed: @Sendable (USBSlot) -> Void
    /// Guarded by the owner's lock.
    var isFlying = false

    /// - Parameter landed: called by libusb's event thread, which may launch from there.
    /// - Returns: `nil` where there is no memory.
    init?(bytes: Int, landed: @escaping @Sendable (USBSlot) -> Void) {
        guard let raw = libusb_alloc_transfer(0) else { return nil }
        self.raw = raw
        self.landed = landed
        buffer = .allocate(byteCount: bytes, alignment: 4096)
    }

    deinit {
        libusb_free_transfer(raw)
        buffer.deallocate()
    }

    var status: libusb_transfer_status { raw.pointee.status }
    /// Bytes that came or went.
    var count: Int { Int(raw.pointee.actual_length) }

    /// Submits the first `count` bytes of the buffer as a bulk transfer without a deadline.
    /// - Returns: libusb's error, 0 for none.
    func launch(_ handle: OpaquePointer, endpoint: UInt8, count: Int) -> Int32 {
        raw.pointee.dev_handle = handle
        raw.pointee.endpoint = endpoint
        raw.pointee.type = UInt8(LIBUSB_TRANSFER_TYPE_BULK.rawValue)
        raw.pointee.timeout = 0
        raw.pointee.buffer = buffer.baseAddress?.assumingMemoryBound(to: UInt8.self)
        raw.pointee.length = Int32(count)
        // The callback's own, until it is over: the owner may be gone by then.
        let kept = Unmanaged.passRetained(self)
        raw.pointee.user_data = kept.toOpaque()
        raw.pointee.callback = { raw in
            guard let data = raw?.pointee.user_data else { return }
            let slot = Unmanaged<USBSlot>.fromOpaque(data).takeRetainedValue()
            slot.landed(slot)
        }
        isFlying = true
        let code = libusb_submit_transfer(raw)
        if code != 0 {
            isFlying = false
            kept.release()
        }
        return code
    }

    func cancel() { libusb_cancel_transfer(raw) }
}
