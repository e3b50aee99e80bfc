// What a link needs of its device, apart from any driver.

public import QKDModel

/// What stays the same while a device is open.
public struct DeviceFacts: Sendable, Equatable {
    public var serial: String
    public var emulated: Bool
    /// Someone records its symbols: raw symbols are key-equivalent, nothing is deposited.
    public var captured: Bool
    /// Hz
    public var symbolRate: Double
    /// Receivers: detector efficiency and its standard uncertainty.
    public var efficiency: Double
    public var efficiencyError: Double
    /// Receivers: seconds of device time that DARK and SHOT are good for.
    public var darkValidity: Double
    public var shotValidity: Double

    public init(
        serial: String, emulated: Bool, captured: Bool = false, symbolRate: Double, efficiency: Double = 1, efficiencyError: Double = 0,
        darkValidity: Double = .infinity, shotValidity: Double = .infinity
    ) {
        self.serial = serial
        self.emulated = emulated
        self.captured = captured
        self.symbolRate = symbolRate
        self.efficiency = efficiency
        self.efficiencyError = efficiencyError
        self.darkValidity = darkValidity
        self.shotValidity = shotValidity
    }
}

/// Symbols of one acquisition or calibration, in order.
public protocol SymbolFeed: Sendable {
    /// - Returns: nil behind the last batch of a stopped acquisition.
    func next() async throws -> SymbolBatch?
}

/// What both roles share.
public protocol SlotDevice: Sendable {
    /// - Throws: `QuantumLinkError.device` while the device is not there; it comes back by itself.
    func facts() async throws -> DeviceFacts
    /// Starts acquiring; symbols come from the feed until `stop`, or until so many have come (in whole frames of the device).
    func start(symbols: Int?) async throws -> any SymbolFeed
    /// Stops after the current frame. The feed then runs dry; somebody must drain it.
    func stop() async throws
    /// How the device is, for people.
    func condition() async -> (state: DeviceState, reason: String)
}

public protocol SlotTransmitter: SlotDevice {
    /// Sets the optical carrier. - Parameter hertz: nil: the one that the device had by itself.
    func tune(to hertz: Double?) async throws
    /// Selects the path, sets the modulation variance (SNU per quadrature at the fibre input) and lights it; returns when settled.
    func light(path: String, variance: Double) async throws
}

extension SlotTransmitter {
    /// A carrier that cannot be set.
    public func tune(to hertz: Double?) async throws {}
}

public enum NoiseKind: String, Sendable, Codable, CaseIterable { case dark, shot }

public protocol SlotReceiver: SlotDevice {
    /// Opens the shutter, switches the local oscillator on and locks to the pilot; returns when locked.
    func lock() async throws
    /// Starts a calibration behind the receiver's own shutter; the feed ends with it.
    func calibrate(_ kind: NoiseKind, symbols: Int) async throws -> any SymbolFeed
}

/// One user at a time, first come first served.
actor Turnstile {
    private var isTaken = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    func enter() async {
        if !isTaken {
            isTaken = true
            return
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    func leave() {
        if waiting.isEmpty { isTaken = false } else { waiting.removeFirst().resume() }
    }
}
