// All links of a node: devices, stations, connections, deposits. The programs' one entrance to this module.
//
//     run ── devices         ManagedModule keeps each open
//         ├─ stations        receivers calibrate; transmitters are shared by their links
//         ├─ links           one task per link: the transmitter's end connects again and again (LinkService+Channel)
//         ├─ listener        the receiver's ends wait for connections
//         └─ deposits        committed blocks go to the key sink until it has them (LinkService+Deposits)
//
// What was asked for at run time (LinkService+RunTime) is in the database and comes back at the next start.

internal import Foundation
internal import Instruments
internal import KeyMaterial
internal import Logging
internal import NIOCore
internal import NIOPosix
public import QKDModel

public actor LinkService {
    struct Running {
        var link: LinkServiceConfiguration.Link
        var origin: WishOrigin
        var context: SessionContext
        var task: Task<Void, Never>?
        /// The receiver's end's session.
        var session: Task<Void, Never>?
        /// Whether that session goes on.
        var isLive = false
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
    let sink: any KeySink
    let wake = MessageQueue<Void>()
    nonisolated let hub = EventHub()
    var peers: [NodeID: (peer: LinkServiceConfiguration.Peer, origin: WishOrigin)] = [:]
    /// By name, what was last seen of each device.
    var deviceViews: [String: DeviceView] = [:]
    /// Apart from the views: nobody is told of each measurement.
    var spectra: [String: SpectrumSummary] = [:]
    private var managed: [String: ManagedModule] = [:]
    private var transmitters: [String: TransmitterStation] = [:]
    private var receivers: [String: ReceiverStation] = [:]
    private var stationTasks: [Task<Void, Never>] = []
    var links: [LinkID: Running] = [:]
    /// Prepared by somebody, not running yet.
    var prepared: [LinkID: (link: LinkServiceConfiguration.Link, reason: String)] = [:]
    /// Connections that have not shown a tag yet.
    var door = DoorKeeper()
    var guests: [Int: NetworkPipe] = [:]
    /// When the link's connection of now, or its last, was established.
    var sessionBegan: [LinkID: ContinuousClock.Instant] = [:]
    var isRunning = false
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
        // What was asked for at run time comes behind what the file says.
        for peer in try database.peers() { peers[peer.node] = (peer, .request) }
        for peer in configuration.peers { peers[peer.node] = (peer, .file) }
        let known = Array(peers.values.map(\.peer))
        for link in configuration.links { try Self.check(link, configuration, peers: known, beside: configuration.links) }
        for link in configuration.links {
            try Self.install(link, peers[link.settings.identity.peer]?.peer, configuration, database, isCheck: !install)
        }
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
        let watches = watchDevices() + [Task { await self.watchSpectra() }]
        try await startAll()
        let listener = try await listen()
        let deposits = Task { await self.deposit() }
        let looks = Task { await self.watchLinks() }
        await untilCancelled()
        isRunning = false
        deposits.cancel()
        looks.cancel()
        try? await listener?.close()
        for link in links.keys { await stop(link) }
        for task in stationTasks { task.cancel() }
        for task in stationTasks { await task.value }
        for module in managed.values { await module.stop() }
        for watch in watches { watch.cancel() }
        await deposits.value
        await looks.value
    }

    private func untilCancelled() async {
        let never = MessageQueue<Void>()
        _ = await never.next()
    }

    /// The file's links, but for those that were removed; then those that were asked for at run time.
    private func startAll() async throws {
        let wishes = try database.wishes()
        for link in configuration.links {
            let id = link.settings.identity.link
            guard let wish = wishes[id] else {
                try start(link, origin: .file)
                continue
            }
            if wish.state == .removed {
                logger.warning("the link was removed at run time: prepare and commit it to bring it back", metadata: ["link": "\(id)"])
            } else if wish.link == nil {
                try start(link, origin: .file, enabled: wish.enabled)
            }
        }
        for (id, wish) in wishes.sorted(by: { $0.key < $1.key }) {
            guard let link = wish.link, wish.state != .removed else { continue }
            do {
                try check(link)
                guard wish.state == .committed else {
                    prepared[id] = (link, "prepared")
                    continue
                }
                try Self.install(link, peers[link.settings.identity.peer]?.peer, configuration, database)
                try start(link, origin: .request, enabled: wish.enabled)
            } catch {
                // The file has changed since: the link is kept and says why it does not run.
                prepared[id] = (link, describe(error))
                logger.error("a link of an earlier request does not start: \(describe(error))", metadata: ["link": "\(id)"])
            }
        }
    }

    func start(_ link: LinkServiceConfiguration.Link, origin: WishOrigin, enabled: Bool = true) throws {
        let identity = link.settings.identity
        let monitor = LinkMonitor(link: identity.link, peer: identity.peer, role: identity.role)
        let wake = wake
        let context = SessionContext(
            settings: link.settings, database: database, monitor: monitor, random: random, tap: try recorder(link),
            committed: { wake.put(()) })
        var running = Running(link: link, origin: origin, context: context)
        monitor.update { $0.enabled = enabled }
        forward(monitor, device: link.device)
        monitor.setState(.pending, "waiting for the classical channel")
        try makeStation(link)
        if identity.role == .transmitter {
            running.task = Task { await self.keepConnected(identity.link) }
        }
        links[identity.link] = running
    }

    /// Each start begins a file of its own.
    private func recorder(_ link: LinkServiceConfiguration.Link) throws -> LinkRecorder? {
        guard let folder = link.record else { return nil }
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let moment = Int(Date().timeIntervalSince1970 * 1000)
        let path = "\(folder)/\(link.settings.identity.link)-\(moment).qkdrec"
        logger.warning(
            "the link records its symbols and deposits nothing: the file is key material", metadata: ["file": "\(path)"])
        return try LinkRecorder(path: path, settings: link.settings)
    }

    private func makeStation(_ link: LinkServiceConfiguration.Link) throws {
        guard let module = managed[link.device] else { throw QuantumLinkError.configuration("there is no device '\(link.device)'") }
        switch link.settings.identity.role {
        case .transmitter:
            guard transmitters[link.device] == nil else { return }
            transmitters[link.device] = TransmitterStation(name: link.device, device: ManagedTransmitter(module))
        case .receiver:
            guard receivers[link.device] == nil else { return }
            let station = ReceiverStation(name: link.device, device: ManagedReceiver(module), memory: database)
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
        if let recorder = running.context.tap as? LinkRecorder {
            if let trouble = recorder.trouble {
                logger.error("the recording is not whole", metadata: ["link": "\(link)", "reason": "\(trouble)"])
            }
            recorder.finish()
        }
        running.context.monitor.setState(.off, "stopped")
    }

    func transmitter(of link: LinkID) -> TransmitterStation? { links[link].flatMap { transmitters[$0.link.device] } }
    func receiver(of link: LinkID) -> ReceiverStation? { links[link].flatMap { receivers[$0.link.device] } }

    func module(_ name: String) -> ManagedModule? { managed[name] }
    func station(sharing device: String) -> TransmitterStation? { transmitters[device] }
    var sharedDevices: [String] { transmitters.keys.sorted() }
    public var uptime: Duration { ContinuousClock.now - began }

    /// A link's events go to the log and to whoever listens to the service.
    private func forward(_ monitor: LinkMonitor, device: String) {
        let events = monitor.events()
        let (logger, hub) = (logger, hub)
        Task {
            for await event in events {
                let level: Logger.Level = event.kind == "alarm" ? .warning : .info
                logger.log(level: level, "\(event.text)", metadata: ["link": "\(event.link)", "kind": "\(event.kind)"])
                hub.send(
                    ServiceEvent(
                        time: event.time, kind: event.kind, text: event.text, link: event.link, device: device, block: event.block,
                        snapshot: event.kind == "block" ? monitor.snapshot : nil))
            }
        }
    }
}
