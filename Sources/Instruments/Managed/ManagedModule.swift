// A device for as long as a service runs: opened, watched, opened again.

public import QKDModel
public import Transport

/// Keeps one device open. What happens is seen as events; who needs the device asks for it each time.
public actor ManagedModule {
    public nonisolated let name: String
    public nonisolated let address: String

    private let opener: @Sendable () async throws -> any QKDModule
    private let clock: any Clock<Duration>
    private let random: any RandomSource
    private let lookEvery: Duration
    private var machine: ConnectionMachine
    private var current: (any QKDModule)?
    private var task: Task<Void, Never>?
    private var generation = 0
    /// Listens for the plug of a device that is known by its serial number.
    private var plugTask: Task<Void, Never>?
    /// A plug that came while an attempt was under way: the attempt may have been too early for it.
    private var hasPlugWaiting = false
    private var listeners: [Int: AsyncStream<ModuleEvent>.Continuation] = [:]
    private var waiters: [Int: CheckedContinuation<any QKDModule, any Error>] = [:]
    private var nextID = 0

    /// - Parameters:
    ///   - clock: paces looks at the device and back-off.
    ///   - random: jitters the back-off.
    public init(
        name: String, uri: String, options: OpenOptions = OpenOptions(), clock: any Clock<Duration> = ContinuousClock(),
        random: any RandomSource = KernelRandom(), backOff: BackOff = BackOff(), lookEvery: Duration = .seconds(1)
    ) {
        self.init(name: name, address: uri, clock: clock, random: random, backOff: backOff, lookEvery: lookEvery) {
            try await Modules.open(uri: uri, options: options, clock: clock)
        }
    }

    package init(
        name: String, address: String, clock: any Clock<Duration>, random: any RandomSource, backOff: BackOff, lookEvery: Duration,
        opener: @escaping @Sendable () async throws -> any QKDModule
    ) {
        self.name = name
        self.address = address
        self.clock = clock
        self.random = random
        self.lookEvery = lookEvery
        self.opener = opener
        machine = ConnectionMachine(backOff: backOff)
    }

    // MARK: For its users

    /// What the device is now, and why.
    public var event: ModuleEvent { machine.event }

    /// Every change from now on, the present state first. Any number of listeners.
    public func events() -> AsyncStream<ModuleEvent> {
        let id = takeID()
        let (stream, continuation) = AsyncStream.makeStream(of: ModuleEvent.self, bufferingPolicy: .bufferingNewest(64))
        listeners[id] = continuation
        continuation.onTermination = { [weak self] _ in Task { await self?.forget(id) } }
        continuation.yield(machine.event)
        return stream
    }

    /// The device if it is open now.
    /// - Throws: `InstrumentError.notConnected` with the reason.
    public func module() throws -> any QKDModule {
        guard let current else { throw InstrumentError.notConnected(address: address, reason: reason) }
        return current
    }

    /// Waits until the device is open.
    /// - Throws: `CancellationError`, or `InstrumentError.notConnected` when the module is stopped.
    public func whenOpen() async throws -> any QKDModule {
        if let current { return current }
        guard machine.phase != .stopped else { throw InstrumentError.notConnected(address: address, reason: reason) }
        let id = takeID()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                if Task.isCancelled { return continuation.resume(throwing: CancellationError()) }
                waiters[id] = continuation
            }
        } onCancel: {
            Task { await self.cancelWaiter(id) }
        }
    }

    public func start() {
        guard machine.phase == .stopped else { return }
        listenForPlugs()
        perform(.start)
    }

    private func listenForPlugs() {
        guard plugTask == nil, let parsed = try? Address(address), parsed.hotplugSerial != nil else { return }
        // Listening begins before the first attempt: what is plugged in between is not missed.
        let changes = HotplugMonitor.shared.changes()
        plugTask = Task { [weak self] in
            for await change in changes where change.device.isAt(parsed) { await self?.note(change) }
        }
    }

    /// A plug ends the back-off, a pulled cable ends the session, before anybody meets an error.
    private func note(_ change: AttachmentChange) {
        switch (change.kind, machine.phase) {
        case (.plugged, .waiting), (.changed, .waiting): perform(.retry)
        case (.plugged, .opening), (.changed, .opening): hasPlugWaiting = true
        case (.unplugged, .open): perform(.lost(reason: "\(address) is unplugged"))
        default: break
        }
    }

    /// Closes the device and ends all waits; `start` begins anew.
    public func stop() {
        generation += 1
        task?.cancel()
        task = nil
        plugTask?.cancel()
        plugTask = nil
        perform(.stop)
        for waiter in waiters.values { waiter.resume(throwing: InstrumentError.notConnected(address: address, reason: "stopped")) }
        waiters = [:]
    }

    /// Tells of an error that a user of the device met, so that a lost line is opened again at once.
    public func noteFailure(_ error: any Error) {
        guard case TransportError.closed = error else { return }
        perform(.lost(reason: "\(error)"))
    }

    private var reason: String { machine.event.reason.isEmpty ? machine.event.state.rawValue.lowercased() : machine.event.reason }

    private func takeID() -> Int {
        defer { nextID += 1 }
        return nextID
    }

    private func forget(_ id: Int) { listeners[id] = nil }
    private func cancelWaiter(_ id: Int) { waiters.removeValue(forKey: id)?.resume(throwing: CancellationError()) }

    // MARK: The machine's hands

    private func perform(_ input: ConnectionMachine.Input) {
        let jitter = Double(random.word() >> 11) * 0x1p-53
        for action in machine.input(input, jitter: jitter) {
            switch action {
            case .open: run { await $0.open($1) }
            case .close:
                current?.close()
                current = nil
            case .wait(let duration): run { await $0.retry($1, after: duration) }
            case .publish(let event): for listener in listeners.values { listener.yield(event) }
            }
        }
    }

    /// Replaces the running task: there is one at a time, for opening, looking or waiting.
    private func run(_ body: @escaping @Sendable (ManagedModule, _ generation: Int) async -> Void) {
        generation += 1
        let mine = generation
        task?.cancel()
        task = Task { [weak self] in
            guard let self else { return }
            await body(self, mine)
        }
    }

    private func open(_ mine: Int) async {
        guard mine == generation else { return }
        hasPlugWaiting = false
        do {
            let module = try await opener()
            guard mine == generation else { return module.close() }
            current = module
            perform(.opened)
            for waiter in waiters.values { waiter.resume(returning: module) }
            waiters = [:]
            run { await $0.watch(module, $1) }
        } catch {
            guard mine == generation else { return }
            perform(.openFailed(reason: "\(error)", needsPerson: Self.needsPerson(error)))
            if hasPlugWaiting { perform(.retry) }
        }
    }

    private func retry(_ mine: Int, after duration: Duration) async {
        guard (try? await clock.sleep(for: duration)) != nil, mine == generation else { return }
        perform(.retry)
    }

    private func watch(_ module: any QKDModule, _ mine: Int) async {
        while mine == generation {
            let input = await Self.look(module)
            guard mine == generation else { return }
            perform(input)
            guard (try? await clock.sleep(for: lookEvery)) != nil else { return }
        }
    }

    private static func look(_ module: any QKDModule) async -> ConnectionMachine.Input {
        do {
            let status = try await module.status()
            return .status(status.state, reason: status.reason)
        } catch let error as TransportError {
            if case .timedOut = error { return .silent(reason: "\(error)") }
            return .lost(reason: "\(error)")
        } catch {
            return .silent(reason: "\(error)")
        }
    }

    private static func needsPerson(_ error: any Error) -> Bool {
        switch error {
        case TransportError.badAddress, TransportError.remoteRefused, TransportError.noPermission, TransportError.unknownFirmware,
            InstrumentError.noDriver, InstrumentError.wrongRole:
            true
        default: false
        }
    }
}

extension ModuleStatus {
    /// Why the state is what it is, in words; empty where there is nothing to say.
    var reason: String {
        let phase: String? =
            switch self.phase {
            case .boot: "booting"
            case .warmUp: "warming up"
            case .settling: "settling"
            case .fault: "the device reports a fault"
            case .idle, .calibrating, .acquiring: nil
            }
        return ([phase].compactMap { $0 } + questionable.reasons).joined(separator: ", ")
    }
}
