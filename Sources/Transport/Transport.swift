// Transport: instrument sessions by address, without knowing what is said on them.
//
//   address        line (bytes)      session (messages and answers)
//   tcp:           TCPLine      \
//   serial:        SerialLine    >   InstrumentSession  ->  Instruments
//   usb:           USBTMCLine    |
//   replay:        ReplayLine   /
//                  DataConnection   (symbol frames, beside a tcp: or usb: session)
//   AttachedDevices, HotplugMonitor    what is plugged in and ours, and what comes and goes (udev)
//
// A `ByteLine` is a pair of byte streams with blocking calls; every call carries a `Patience`: a deadline and a way to
// end the wait early. An `InstrumentSession` owns a line and a thread of its own (`LineThread`); its async calls queue on that
// thread, so exchanges of many tasks never mix, and a task that is cancelled gets its thread back at once. A session
// that timed out knows that it is out of step: before the next message it sends a marker (`*IDN?` several times in one
// message) and drops everything up to the marker's answer, so a late answer is never taken for the next command's.
//
// USB is libusb with one event thread for the process (`USBContext`); `USBHandle` is an open device with transfers that have
// a deadline; `TMCMachine` says, as a value without a bus, what USBTMC does next; `USBStream` keeps large transfers in flight.
// A USBTMC line keeps messages: a new one makes the device drop what was not read, so it is brought back into step by taking
// the request back (abort, drain, clear) and never by a marker, and an answer that stays away is told from one that is slow
// by a serial poll.
//
// Deadlines of input and output are the kernel's (poll(2) on the monotonic clock); everything above takes its clock as
// a parameter.
//
// Sources: IEEE 488.2-1992 sections 6 and 7 (message exchange, definite-length blocks), docs/wire/instrument-protocol.md 1.1.

import Synchronization

/// A pair of byte streams to one instrument. Calls block; at most one read and one write at a time.
public protocol ByteLine: AnyObject, Sendable {
    /// The address as people write it, for messages.
    var name: String { get }

    /// What the line can carry at best, or `nil` where symbols are no burden to it.
    var bytesPerSecond: Int? { get }

    /// Writes all bytes.
    /// - Throws: `TransportError.timedOut` (part of the bytes may be gone), `.closed`, `CancellationError`.
    func write(_ bytes: UnsafeRawBufferPointer, _ patience: Patience) throws

    /// Reads what there is, at least one byte.
    /// - Returns: how many bytes were put at the start of `buffer`.
    func read(into buffer: UnsafeMutableRawBufferPointer, _ patience: Patience) throws -> Int

    /// A device clear, where the line has one: the device drops pending input and output.
    /// - Returns: whether the line did that.
    func clear(_ patience: Patience) throws -> Bool

    /// Ends waiting calls with `TransportError.closed`. Safe to call twice and from any thread.
    func close()

    /// Whether answers are messages with an end of their own, and a new message makes the device drop an unread answer
    /// (USBTMC). Such a line is in step again after `clear`.
    var keepsMessages: Bool { get }

    /// Whether answers of an earlier session may still be on the way when this one begins (serial lines: nothing ends with a session).
    var keepsOldAnswers: Bool { get }

    /// IEEE 488.1's serial poll, which disturbs no exchange; `nil` where the line has none.
    func statusByte(_ patience: Patience) throws -> UInt8?

    /// Waits for the device to ask for service. - Returns: whether it did; `false` at once where the line has no such thing.
    func serviceRequest(_ patience: Patience) throws -> Bool
}

extension ByteLine {
    public var keepsMessages: Bool { false }
    public var keepsOldAnswers: Bool { false }
    public func statusByte(_ patience: Patience) throws -> UInt8? { nil }
    public func serviceRequest(_ patience: Patience) throws -> Bool { false }
}

/// A line whose device sends symbols on the same cable.
package protocol SymbolCarrier {
    /// Whether this device does.
    var carriesSymbols: Bool { get }
    /// - Parameter frameBytes: of one frame with its header.
    func openSymbols(frameBytes: Int, _ patience: Patience) throws -> any ByteLine
}

/// How long a blocking call may wait, and who may end the wait.
public struct Patience: Sendable {
    public let deadline: ContinuousClock.Instant
    public let cancellation: Cancellation

    public init(deadline: ContinuousClock.Instant, cancellation: Cancellation = Cancellation()) {
        self.deadline = deadline
        self.cancellation = cancellation
    }

    public init(_ duration: Duration, cancellation: Cancellation = Cancellation()) {
        self.init(deadline: .now + duration, cancellation: cancellation)
    }

    /// The same cancellation with an earlier end, if `duration` from now is earlier.
    public func atMost(_ duration: Duration) -> Patience {
        Patience(deadline: min(deadline, .now + duration), cancellation: cancellation)
    }

    public var isOver: Bool { ContinuousClock.now >= deadline }

    /// What poll(2) takes: milliseconds, rounded up, at most a minute (callers wait in rounds).
    var milliseconds: Int32 {
        let rest = deadline - .now
        guard rest > .zero else { return 0 }
        guard rest < .seconds(60) else { return 60_000 }
        return Int32(rest / .milliseconds(1)) + 1
    }
}

/// Ends a blocking wait from another thread, once.
public final class Cancellation: Sendable {
    private struct State {
        var isCancelled = false
        var wake: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())

    public init() {}

    public var isCancelled: Bool { state.withLock { $0.isCancelled } }

    public func cancel() {
        let wake = state.withLock { state in
            state.isCancelled = true
            return state.wake
        }
        wake?()
    }

    /// - Throws: `CancellationError` where it has been cancelled already.
    func whenCancelled(_ wake: @escaping @Sendable () -> Void) throws {
        let isCancelled = state.withLock { state in
            state.wake = wake
            return state.isCancelled
        }
        if isCancelled { throw CancellationError() }
    }
}
