// Every device model that can be opened: one line each (law 3; docs/adding-a-device.md says what else a model needs).

public import QKDModel
public import Transport

/// One line of the table.
public struct Driver: Sendable {
    /// Folder below `Sources/Instruments/Drivers`.
    public var folder: String
    /// First field of `*IDN?`.
    public var maker: String
    /// What the second field begins with.
    public var model: String
    public var role: DeviceRole
    /// File below `Tests/Recordings`.
    public var recording: String
    /// Makes the module of an identified session.
    public var open: @Sendable (ModuleContext) async throws -> any QKDModule

    public init(
        folder: String, maker: String, model: String, role: DeviceRole, recording: String,
        open: @escaping @Sendable (ModuleContext) async throws -> any QKDModule
    ) {
        self.folder = folder
        self.maker = maker
        self.model = model
        self.role = role
        self.recording = recording
        self.open = open
    }
}

/// What a driver gets to work with.
public struct ModuleContext: Sendable {
    public var scpi: SCPISession
    public var identity: ModuleIdentity
    /// Where the session was opened, if at an address: data connections go to the same host.
    public var address: Address?
    public var options: OpenOptions
    /// For pauses between looks at the device.
    public var clock: any Clock<Duration>
}

public enum DriverTable {
    public static let drivers: [Driver] = [
        Driver(
            folder: "InstrumentProtocol", maker: "SDQKD", model: "CVTX", role: .transmitter, recording: "transmitter.transcript",
            open: { try await StandardTransmitter.open($0) }),
        Driver(
            folder: "InstrumentProtocol", maker: "SDQKD", model: "CVRX", role: .receiver, recording: "receiver.transcript",
            open: { try await StandardReceiver.open($0) }),
    ]

    static func driver(for identity: ModuleIdentity, in drivers: [Driver]) -> Driver? {
        drivers.first { $0.maker.lowercased() == identity.maker.lowercased() && identity.model.uppercased().hasPrefix($0.model) }
    }
}

/// Opens devices.
public enum Modules {
    /// Opens the device at an address: `tcp:HOST:PORT`, `serial:/dev/NAME?baud=N`, `replay:FILE`.
    /// - Throws: `TransportError`, `InstrumentError.noDriver`.
    public static func open(
        uri: String, options: OpenOptions = OpenOptions(), clock: any Clock<Duration> = ContinuousClock()
    ) async throws -> any QKDModule {
        let address = try Address(uri)
        let session = try await InstrumentSession.open(address, options: options)
        return try await open(session, address: address, options: options, clock: clock)
    }

    /// Identifies what speaks on a session; the session is closed where that fails.
    public static func open(
        _ session: InstrumentSession, address: Address? = nil, options: OpenOptions = OpenOptions(),
        clock: any Clock<Duration> = ContinuousClock(), drivers: [Driver] = DriverTable.drivers
    ) async throws -> any QKDModule {
        do {
            let scpi = SCPISession(session)
            let answer = try await scpi.text("*IDN?")
            let identity = try ModuleIdentity(answer: answer)
            guard let driver = DriverTable.driver(for: identity, in: drivers) else {
                throw InstrumentError.noDriver(identity: excerpt(answer))
            }
            // What earlier sessions left in the error queue is not ours.
            _ = try await scpi.errors()
            return try await driver.open(
                ModuleContext(scpi: scpi, identity: identity, address: address, options: options, clock: clock))
        } catch {
            session.close()
            throw error
        }
    }

    /// The transmitter of the instrument protocol, for drivers of models that keep to most of it.
    public static func standardTransmitter(_ context: ModuleContext) async throws -> any QuantumTransmitter {
        try await StandardTransmitter.open(context)
    }

    /// The receiver of the instrument protocol.
    public static func standardReceiver(_ context: ModuleContext) async throws -> any QuantumReceiver {
        try await StandardReceiver.open(context)
    }

    /// - Throws: also `InstrumentError.wrongRole`.
    public static func transmitter(uri: String, options: OpenOptions = OpenOptions()) async throws -> any QuantumTransmitter {
        let module = try await open(uri: uri, options: options)
        if let transmitter = module as? any QuantumTransmitter { return transmitter }
        module.close()
        throw InstrumentError.wrongRole(serial: module.identity.serial.rawValue, wanted: "transmitter")
    }

    /// - Throws: also `InstrumentError.wrongRole`.
    public static func receiver(uri: String, options: OpenOptions = OpenOptions()) async throws -> any QuantumReceiver {
        let module = try await open(uri: uri, options: options)
        if let receiver = module as? any QuantumReceiver { return receiver }
        module.close()
        throw InstrumentError.wrongRole(serial: module.identity.serial.rawValue, wanted: "receiver")
    }
}
