// All links of a node: devices, stations, connections, deposits. The programs' one entrance to this module.
//
//     run ── devices         ManagedModule keeps each open
//         ├─ stations        receivers calibrate; transmitters are shared by their links
//         ├─ links           one task per link: the transmitter's end connects again and again (LinkService+Channel)
//         ├─ listener        the receiver's ends wait for connections
//         └─ deposits        committed blocks go to the key sink until it has them

internal import Foundation
internal import Instruments
internal import KeyMaterial
internal import Logging
internal import NIOCore
internal import NIOPosix
internal import PostProcessing
public import QKDModel

public actor LinkService {
    struct Running {
        var link: LinkServiceConfiguration.Link
        var context: SessionContext
        var task: Task<Void, Never>?
        /// The receiver's end's session.
        var session: Task<Void, Never>?
        let turnstile = Turnstile()
        /// Failed tags since the last good handshake, and when the next attempt is allowed.
        var tagFailures = 0
        var notBefore = ContinuousClock.now
    }

    public nonisolated let configuration: LinkServiceConfiguration
    nonisolated let database: LinkDatabase
    nonisolated let logger: Logger
    let group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
    let random: any RandomSource
    let seats: [DecodingSeat]
    private let sink: any KeySink
    private let wake = MessageQueue<Void>()
    private var managed: [String: ManagedModule] = [:]
    private var transmitters: [String: TransmitterStation] = [:]
    private var receivers: [String: ReceiverStation] = [:]
    private var stationTasks: [Task<Void, Never>] = []
    var links: [LinkID: Running] = [:]
    /// Prepared by somebody, not running yet.
    private var prepared: [LinkID: LinkServiceConfiguration.Link] = [:]
    var handshakes = 0
    /// When the link's connection of now, or its last, was established.
    var sessionBegan: [LinkID: ContinuousClock.Instant] = [:]
    private var isRunning = false
    private let began = ContinuousClock.now

    /// Opens the durable state, checks the configuration and installs the peers' secrets that are not installed yet.
    /// - Parameter install: false: secrets are only read, as a check.
    /// - Throws: `QuantumLinkError`.
    public init(
        _ configuration: LinkServiceConfiguration, sink: any KeySink, random: any RandomSource = KernelRandom(), install: Bool = true
    ) throws {
        self.configuration = configuration
        self.sink = sink
        self.random = random
        logger = Logger(label: "qkd-linkd")
        seats = (0..<max(1, configuration.decoders)).map { _ in DecodingSeat() }
        try FileManager.default.createDirectory(
            atPath: configuration.state, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        database = try LinkDatabase(path: configuration.state + "/linkd.sqlite")
        for link in configuration.links { try Self.check(link, in: configuration, beside: configuration.links) }
        for link in configuration.links { try Self.install(link, configuration, database, isCheck: !install) }
    }

    private static func check(
        _ link: LinkServiceConfiguration.Link, in configuration: LinkServiceConfiguration, beside others: [LinkServiceConfiguration.Link]
    ) throws {
        let (identity, settings) = (link.settings.identity, link.settings)
        func refuse(_ what: String) -> QuantumLinkError { .configuration("link \(identity.link): \(what)") }
        guard configuration.devices.contains(where: { $0.name == link.device }) else { throw refuse("there is no device '\(link.device)'") }
        guard configuration.peers.contains(where: { $0.node == identity.peer }) else { throw refuse("there is no peer '\(identity.peer)'") }
        guard others.filter({ $0.settings.identity.peer == identity.peer }).count <= 1 else {
            throw refuse("two links to '\(identity.peer)' would share one secret: one link per peer")
        }
        guard others.filter({ $0.settings.identity.link == identity.link }).count <= 1 else { throw refuse("it is listed twice") }
        for other in others where other.device == link.device && other.settings.identity.link != identity.link {
            guard identity.role == .transmitter, other.settings.identity.role == .transmitter else {
                throw refuse("a receiver serves one link, '\(link.device)' is asked to serve two")
            }
        }
        guard let code = try? ReconciliationCode.named(settings.code) else { throw refuse("there is no code '\(settings.code)'") }
        guard settings.blockSymbols >= code.frameSymbols, settings.slotSymbols >= code.frameSymbols else {
            throw refuse("block and slot need at least \(code.frameSymbols) symbols")
        }
        guard settings.epsilon > 1e-30, settings.epsilon <= 0.1, (0.5...0.99).contains(settings.efficiency), settings.weight > 0,
            settings.loss.value >= 0, (0...0.1).contains(settings.driftAllowance)
        else { throw refuse("epsilon, efficiency, weight, loss_db or drift_allowance is out of range") }
        if identity.role == .receiver, configuration.listen == nil { throw refuse("the receiver's end needs 'channel: { listen: ... }'") }
    }

    private static func install(
        _ link: LinkServiceConfiguration.Link, _ configuration: LinkServiceConfiguration, _ database: LinkDatabase, isCheck: Bool = false
    ) throws {
        guard let peer = configuration.peers.first(where: { $0.node == link.settings.identity.peer }) else { return }
        // Without its file a link goes on with what is installed; with neither it alarms and waits for a secret.
        guard FileManager.default.fileExists(atPath: peer.secret) else { return }
        let secret = try InstalledSecret(path: peer.secret)
        if isCheck { return }
        if try !database.install(secret, on: link.settings.identity.link) {
            guard try database.owner(of: secret.epoch) == link.settings.identity.link else {
                throw QuantumLinkError.badSecret("\(peer.secret) serves another link already")
            }
        }
        // Also when an earlier start was killed between the two steps.
        try InstalledSecret.consume(path: peer.secret)
    }

    // MARK: Running

    /// Runs until cancelled.
    public func run() async throws {
        for device in configuration.devices {
            let module = ManagedModule(name: device.name, uri: device.uri)
            managed[device.name] = module
            await module.start()
        }
        isRunning = true
        for link in configuration.links { try await start(link) }
        let listener = try await listen()
        let deposits = Task { await self.deposit() }
        await untilCancelled()
        isRunning = false
        deposits.cancel()
        try? await listener?.close()
        for link in links.keys { await stop(link) }
        for task in stationTasks { task.cancel() }
        for task in stationTasks { await task.value }
        for module in managed.values { await module.stop() }
        await deposits.value
    }

    private func untilCancelled() async {
        let never = MessageQueue<Void>()
        _ = await never.next()
    }

    private func start(_ link: LinkServiceConfiguration.Link) async throws {
        let identity = link.settings.identity
        let monitor = LinkMonitor(link: identity.link, peer: identity.peer, role: identity.role)
        let wake = wake
        let context = SessionContext(
            settings: link.settings, database: database, monitor: monitor, random: random, committed: { wake.put(()) })
        var running = Running(link: link, context: context)
        log(monitor)
        monitor.setState(.pending, "waiting for the classical channel")
        try makeStation(link)
        if identity.role == .transmitter {
            running.task = Task { await self.keepConnected(identity.link) }
        }
        links[identity.link] = running
    }

    private func makeStation(_ link: LinkServiceConfiguration.Link) throws {
        guard let module = managed[link.device] else { throw QuantumLinkError.configuration("there is no device '\(link.device)'") }
        switch link.settings.identity.role {
        case .transmitter:
            guard transmitters[link.device] == nil else { return }
            transmitters[link.device] = TransmitterStation(name: link.device, device: ManagedTransmitter(module))
        case .receiver:
            guard receivers[link.device] == nil else { return }
            let station = ReceiverStation(name: link.device, device: ManagedReceiver(module))
            receivers[link.device] = station
            stationTasks.append(Task { await station.run() })
        }
    }

    func stop(_ link: LinkID) async {
        guard let running = links[link] else { return }
        running.task?.cancel()
        running.session?.cancel()
        await running.task?.value
        await running.session?.value
        running.context.monitor.setState(.off, "stopped")
    }

    func transmitter(of link: LinkID) -> TransmitterStation? { links[link].flatMap { transmitters[$0.link.device] } }
    func receiver(of link: LinkID) -> ReceiverStation? { links[link].flatMap { receivers[$0.link.device] } }

    private func log(_ monitor: LinkMonitor) {
        let events = monitor.events()
        let logger = logger
        Task {
            for await event in events {
                let level: Logger.Level = event.kind == "alarm" ? .warning : .info
                logger.log(level: level, "\(event.text)", metadata: ["link": "\(event.link)", "kind": "\(event.kind)"])
            }
        }
    }

    // MARK: Deposits

    /// Committed blocks go to the key store, again and again until it has them.
    private func deposit() async {
        var pause = Duration.milliseconds(250)
        while !Task.isCancelled {
            do {
                let pending = try database.pendingDeposits()
                for block in pending { try await deposit(block) }
                show(pending: 0)
                pause = .milliseconds(250)
                if pending.isEmpty { _ = await wake.next() }
            } catch {
                show(pending: (try? database.pendingDeposits().count) ?? 0)
                logger.warning("deposit failed, it will be repeated: \(describe(error))")
                try? await Task.sleep(for: pause)
                pause = min(pause * 2, .seconds(10))
            }
        }
    }

    private func deposit(_ block: PendingDeposit) async throws {
        let isFirst =
            configuration.links.first { $0.settings.identity.link == block.link }?.settings.identity.role
            ?? links[block.link]?.link.settings.identity.role
        try await sink.deposit(block, firstEnd: isFirst == .transmitter)
        try database.markDeposited(block.block)
    }

    private func show(pending: Int) {
        for running in links.values { running.context.monitor.update { $0.pendingDeposits = pending } }
    }

    // MARK: What operators ask

    public var uptime: Duration { ContinuousClock.now - began }

    public func snapshots() -> [(snapshot: LinkSnapshot, device: String)] {
        links.sorted { $0.key < $1.key }.map { link, running in
            var snapshot = running.context.monitor.snapshot
            if let keys = try? database.epochs(of: link).first, let account = try? keys.account() {
                (snapshot.padForward, snapshot.padBackward) = (account.remainingForward, account.remainingBackward)
            }
            return (snapshot, running.link.device)
        }
    }

    public func snapshot(of link: LinkID) -> (snapshot: LinkSnapshot, device: String)? { snapshots().first { $0.snapshot.link == link } }
    public func blocks(of link: LinkID) -> [BlockReport]? { links[link]?.context.monitor.blocks }

    /// Name, address, role on links, condition of every device.
    public func devices() async -> [(device: LinkServiceConfiguration.Device, role: DeviceRole, state: DeviceState, reason: String)] {
        var all: [(device: LinkServiceConfiguration.Device, role: DeviceRole, state: DeviceState, reason: String)] = []
        for device in configuration.devices {
            let role = links.values.first { $0.link.device == device.name }?.link.settings.identity.role ?? .receiver
            let event = await managed[device.name]?.event
            all.append((device, role, event?.state ?? .off, event?.reason ?? "not started"))
        }
        return all
    }

    public func sharing() async -> [(device: String, report: SharingReport)] {
        var all: [(device: String, report: SharingReport)] = []
        for (name, station) in transmitters.sorted(by: { $0.key < $1.key }) { all.append((name, await station.report())) }
        return all
    }

    /// Events of all links that run now.
    public func events() -> AsyncStream<LinkEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: LinkEvent.self, bufferingPolicy: .bufferingNewest(1024))
        let tasks = links.values.map { running in
            let events = running.context.monitor.events()
            return Task { for await event in events { continuation.yield(event) } }
        }
        continuation.onTermination = { _ in for task in tasks { task.cancel() } }
        return stream
    }

    // MARK: What operators change

    public func setEnabled(_ isEnabled: Bool, _ link: LinkID) throws {
        guard let running = links[link] else { throw QuantumLinkError.configuration("there is no running link '\(link)'") }
        running.context.monitor.update { $0.enabled = isEnabled }
        running.context.monitor.say("state", isEnabled ? "enabled" : "disabled")
    }

    /// Checks a link that the configuration file does not have.
    public func prepare(_ link: LinkServiceConfiguration.Link) throws {
        let id = link.settings.identity.link
        guard links[id] == nil else { throw QuantumLinkError.configuration("link \(id) is running already") }
        try Self.check(link, in: configuration, beside: links.values.map(\.link) + [link])
        prepared[id] = link
    }

    public func commit(_ link: LinkID) async throws {
        guard isRunning, let plan = prepared.removeValue(forKey: link) else {
            throw QuantumLinkError.configuration("link \(link) is not prepared")
        }
        try Self.install(plan, configuration, database)
        try await start(plan)
    }

    public func remove(_ link: LinkID) async throws {
        guard links[link] != nil || prepared[link] != nil else { throw QuantumLinkError.configuration("there is no link '\(link)'") }
        prepared[link] = nil
        await stop(link)
        links[link] = nil
    }

    /// A fresh epoch for a link. The connection begins anew: the newest secret that both ends have is used then.
    public func installSecret(path: String, on link: LinkID) async throws {
        guard let running = links[link] else { throw QuantumLinkError.configuration("there is no running link '\(link)'") }
        guard try database.install(try InstalledSecret(path: path), on: link) else {
            throw QuantumLinkError.badSecret("\(path) is installed already: make a new one")
        }
        try InstalledSecret.consume(path: path)
        running.context.monitor.clear("pad")
        running.context.monitor.say("channel", "a new secret is installed")
        await restart(link)
    }
}
