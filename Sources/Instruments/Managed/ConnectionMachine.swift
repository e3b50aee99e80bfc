// The life of a device's connection as a value: no I/O, no clock, no randomness.
//
//            start                 opened                lost, silent too often
//   stopped ------> opening ---------------> open ------------------------------+
//      ^               |  ^                                                     |
//      | stop (any)    |  +------------ retry ------------+                     |
//                      +-- failed --> waiting(back-off) <-+---------------------+

public import QKDModel

/// What a managed device is now, and why.
public struct ModuleEvent: Sendable, Equatable, Codable {
    public var state: DeviceState
    /// One sentence; empty where the state says all.
    public var reason: String

    public init(state: DeviceState, reason: String) {
        self.state = state
        self.reason = reason
    }
}

/// How long to wait before the next attempt: doubling from `first` to `longest`, times a jitter from one half to one.
public struct BackOff: Sendable, Equatable {
    public var first: Duration
    public var longest: Duration

    public init(first: Duration = .milliseconds(250), longest: Duration = .seconds(30)) {
        self.first = first
        self.longest = longest
    }

    /// - Parameters:
    ///   - attempt: 1 for the first failure.
    ///   - jitter: uniform in 0 ..< 1; keeps many devices from coming back in step.
    public func delay(attempt: Int, jitter: Double) -> Duration {
        let doubled = first * (1 << min(max(attempt - 1, 0), 30))
        return min(doubled, longest) * (0.5 + min(max(jitter, 0), 1) / 2)
    }
}

/// Decides what to do about a connection; whoever drives it does it.
public struct ConnectionMachine: Sendable, Equatable {
    public enum Input: Sendable, Equatable {
        case start
        case opened
        /// - Parameter needsPerson: the address, the driver or a permission is wrong: waiting alone will not mend it.
        case openFailed(reason: String, needsPerson: Bool)
        case status(DeviceState, reason: String)
        /// A look at the device timed out.
        case silent(reason: String)
        case lost(reason: String)
        case retry
        case stop
    }

    public enum Action: Sendable, Equatable {
        case open
        case close
        /// Then `retry`.
        case wait(Duration)
        case publish(ModuleEvent)
    }

    public enum Phase: Sendable, Equatable {
        case stopped
        case opening
        case open(looks: Int, silences: Int)
        case waiting
    }

    /// Time-outs in a row after which the connection is given up.
    public static let silences = 3
    /// Good looks in a row after which earlier failures are forgotten.
    public static let stableAfter = 5

    public private(set) var phase = Phase.stopped
    public private(set) var event = ModuleEvent(state: .off, reason: "not started")
    /// Failures since the connection was last stable.
    public private(set) var attempts = 0
    private let backOff: BackOff

    public init(backOff: BackOff = BackOff()) { self.backOff = backOff }

    /// Takes one input. Inputs that do not fit the phase (an answer that was overtaken) do nothing.
    /// - Parameter jitter: uniform in 0 ..< 1.
    public mutating func input(_ input: Input, jitter: Double = 0) -> [Action] {
        switch (phase, input) {
        case (.stopped, .start), (.waiting, .retry):
            phase = .opening
            // What is away stays so in everybody's eyes until it is back.
            return (attempts == 0 ? publish(.initialising, "opening") : []) + [.open]
        case (.opening, .opened):
            phase = .open(looks: 0, silences: 0)
            return []
        case (.opening, .openFailed(let reason, let needsPerson)):
            return fail(needsPerson ? .fault : .off, reason, jitter)
        case (.open(let looks, _), .status(let state, let reason)):
            phase = .open(looks: looks + 1, silences: 0)
            if looks + 1 >= Self.stableAfter { attempts = 0 }
            return publish(state, reason)
        case (.open(_, let silences), .silent(let reason)):
            guard silences + 1 < Self.silences else { return [.close] + fail(.off, reason, jitter) }
            phase = .open(looks: 0, silences: silences + 1)
            return publish(.fault, reason)
        case (.open, .lost(let reason)):
            return [.close] + fail(.off, reason, jitter)
        case (.stopped, _): return []
        case (_, .stop):
            let isOpen = if case .open = phase { true } else { false }
            phase = .stopped
            attempts = 0
            return (isOpen ? [.close] : []) + publish(.off, "stopped")
        default: return []
        }
    }

    private mutating func fail(_ state: DeviceState, _ reason: String, _ jitter: Double) -> [Action] {
        phase = .waiting
        attempts += 1
        return publish(state, reason) + [.wait(backOff.delay(attempt: attempts, jitter: jitter))]
    }

    private mutating func publish(_ state: DeviceState, _ reason: String) -> [Action] {
        let next = ModuleEvent(state: state, reason: reason)
        guard next != event else { return [] }
        event = next
        return [.publish(next)]
    }
}
