// libusb of this process: one context, and one thread that handles its events while a device is open.

import CUSB
import Dispatch
import Foundation
import Synchronization

/// The process's libusb context. It is never given back: devices come and go for as long as a service runs.
final class USBContext: Sendable {
    nonisolated(unsafe) let pointer: OpaquePointer
    private let users = Mutex(0)
    private let begin = DispatchSemaphore(value: 0)

    private static let made = Result<USBContext, TransportError> { () throws(TransportError) in try USBContext() }

    /// - Throws: `TransportError.cannotOpen` where libusb does not start.
    static func shared() throws(TransportError) -> USBContext { try made.get() }

    private init() throws(TransportError) {
        var context: OpaquePointer?
        let code = libusb_init(&context)
        guard code == 0, let context else { throw .cannotOpen("usb", reason: "libusb does not start: \(USBContext.words(code))") }
        pointer = context
        let thread = Thread { [weak self] in
            while true {
                guard let self else { return }
                self.handleEvents()
            }
        }
        thread.name = "usb events"
        thread.start()
    }

    private func handleEvents() {
        begin.wait()
        while users.withLock({ $0 }) > 0 {
            var time = timeval(tv_sec: 60, tv_usec: 0)
            libusb_handle_events_timeout_completed(pointer, &time, nil)
        }
    }

    /// A device is open from now on.
    func enter() {
        users.withLock { $0 += 1 }
        begin.signal()
    }

    func leave() {
        users.withLock { $0 -= 1 }
        libusb_interrupt_event_handler(pointer)
    }

    static func words(_ code: Int32) -> String { String(cString: libusb_strerror(code)).lowercased() }
}
