// The parts of the store joined: database, KM links to all peers, the face to applications, housekeeping.

public import Foundation
public import KeyMaterial
public import Logging
import NIOCore
import NIOPosix
import NIOSSL
public import QKDModel
import Synchronization

/// What a key store needs to know. Paths are as the program resolved them.
public struct KeyStoreConfiguration: Sendable {
    public struct Face: Sendable {
        public var listen: HostPort
        public var files: TLSFiles
        public init(listen: HostPort, files: TLSFiles) {
            self.listen = listen
            self.files = files
        }
    }

    public struct Peer: Sendable {
        public var node: NodeID
        public var address: HostPort
        public var certificateName: String
        public var secret: String
        public init(node: NodeID, address: HostPort, certificateName: String, secret: String) {
            self.node = node
            self.address = address
            self.certificateName = certificateName
            self.secret = secret
        }
    }

    public var node: NodeID
    public var database: String
    public var masterKey: String
    public var api: Face
    public var km: Face
    public var peers: [Peer]
    /// Every application of the network and the node that serves it.
    public var applications: [SAEID: NodeID]
    public var deliverEmulated = false
    /// Size of a key where the application names none, in bits.
    public var keySizeBits = 256
    /// Each link's limit in store, in bits.
    public var capacityBits = 1 << 33
    /// How long the peer may take to reserve.
    public var patience = Duration.seconds(3)
    /// Folder with the secrets of peers that are added at run time; nil: none may be.
    public var secrets: String?
    public var policy = ApplicationPolicy()

    public init(
        node: NodeID, database: String, masterKey: String, api: Face, km: Face, peers: [Peer], applications: [SAEID: NodeID]
    ) {
        self.node = node
        self.database = database
        self.masterKey = masterKey
        self.api = api
        self.km = km
        self.peers = peers
        self.applications = applications
    }

    /// - Throws: `KeyStoreError.configuration` with the reason.
    func check() throws(KeyStoreError) {
        guard keySizeBits % 8 == 0, (64...8192).contains(keySizeBits) else {
            throw .configuration("key_size \(keySizeBits) is not a multiple of 8 from 64 to 8192")
        }
        try policy.check()
        guard capacityBits > 0 else { throw .configuration("capacity \(capacityBits) is not above 0") }
        for (index, peer) in peers.enumerated() {
            if peer.node == node { throw .configuration("node \(node) is listed as its own peer") }
            if peers[..<index].contains(where: { $0.node == peer.node }) { throw .configuration("peer \(peer.node) is listed twice") }
            if peers[..<index].contains(where: { $0.certificateName == peer.certificateName }) {
                throw .configuration("certificate name \(peer.certificateName) belongs to two peers")
            }
        }
        for (application, home) in applications where home != node && !peers.contains(where: { $0.node == home }) {
            throw .configuration("application \(application) lives at \(home), which is neither this node nor a peer")
        }
    }
}

/// One link as the status shows it.
public struct StoreLinkReport: Sendable {
    public var link: LinkID
    public var peer: NodeID
    public var storedBits, deliverableBits, heldBits, reservedBits: Int
    public var depositedBits, confirmedBits, deliveredBits, padBits: Int
    public var blocks, storedKeys, emulatedBits: Int
    public var inRate, outRate: Double
    public var lastDeposit: Date?
}

/// One peer as the status shows it.
public struct StorePeerReport: Sendable {
    public enum State: String, Sendable { case down, connecting, up }
    public var peer: NodeID
    public var state: State
    public var reason: String?
    public var padSendBytes, padReceiveBytes, connections, refusedMessages: Int
    public var address: HostPort
    public var certificateName: String
    public var addedAtRunTime: Bool
    public var applications: [SAEID]
    /// Of all links to it.
    public var storedBits: Int
    public var inRate, outRate: Double
}

/// The key store of one node.
public final class KeyStoreService: Sendable {
    public let configuration: KeyStoreConfiguration
    public let journal: StoreJournal
    package let store: Store
    package let applications: Applications
    package let directory: Directory
    let book = PeerBook()
    private let transport: KMTransport
    private let names = CertificateNames()
    let logger: Logger
    private let random: any RandomSource
    /// One change of the peers at a time.
    let changing = AsyncLock()
    /// Told by each working loop that it got something done, or (false) that it has ended in order.
    private let progress: @Sendable (String, Bool) -> Void
    private let rates = Mutex<[LinkID: RateWindow]>([:])
    private let bound = Mutex<(api: Int?, km: Int?)>((nil, nil))

    /// Looks at everything that a start reads, without opening the database: one may be in use by a running store.
    ///
    /// - Returns: all that is missing or cannot be used, and where; secrets are the caller's to look at first.
    public static func problems(in configuration: KeyStoreConfiguration, now: Date = Date()) -> [KeyStoreError] {
        var problems: [KeyStoreError] = []
        func attempt(_ body: () throws -> Void) {
            do { try body() } catch {
                let problem = error as? KeyStoreError ?? .certificate("\(error)")
                if !problems.contains(problem) { problems.append(problem) }
            }
        }
        attempt { try configuration.check() }
        for (name, face) in [("km", configuration.km), ("api014", configuration.api)] {
            attempt { try face.files.check(name, now: now) }
        }
        for peer in configuration.peers { attempt { _ = try SecretFile.read(peer.secret, sizes: secretSizes) } }
        let files = FileManager.default
        if files.fileExists(atPath: configuration.masterKey) || files.fileExists(atPath: configuration.database) {
            attempt { _ = try SecretFile.read(configuration.masterKey, sizes: 32...32) }
        }
        if let folder = configuration.secrets {
            var isFolder: ObjCBool = false
            if !files.fileExists(atPath: folder, isDirectory: &isFolder) || !isFolder.boolValue {
                problems.append(.configuration("the folder of secrets '\(folder)' does not exist"))
            }
        }
        return problems
    }

    static let secretSizes = 4096...(1 << 28)

    /// Opens the database, imports the installed secrets, reads the certificates.
    ///
    /// - Throws: `KeyStoreError` with what is missing and where.
    public init(
        _ configuration: KeyStoreConfiguration, logger: Logger, random: any RandomSource = KernelRandom(),
        progress: @escaping @Sendable (String, Bool) -> Void = { _, _ in }, now: @escaping @Sendable () -> Date = { Date() }
    ) throws {
        try configuration.check()
        self.configuration = configuration
        self.logger = logger
        let journal = StoreJournal(now: now)
        self.journal = journal
        var rules = StoreRules(node: configuration.node)
        rules.deliverEmulated = configuration.deliverEmulated
        rules.capacityBits = configuration.capacityBits
        let store = try Store(
            path: configuration.database, masterKey: try Self.masterKey(configuration, random), rules: rules, random: random, now: now)
        self.store = store
        transport = try KMTransport(files: configuration.km.files, names: names, group: MultiThreadedEventLoopGroup.singleton)
        applications = try Applications(store: store, journal: journal, policy: configuration.policy, now: now)
        directory = Directory(configuration.applications)
        self.random = random
        self.progress = progress
        for peer in configuration.peers {
            try join(peer.node, peer.address, peer.certificateName, secret: peer.secret, added: nil)
        }
        try rejoin()
    }

    /// The peers that were added at run time come back. What the configuration file says by now counts more.
    private func rejoin() throws {
        for plan in try store.changeNow({ try $0.addedPeers() }) {
            do {
                let path = try check(plan)
                try join(plan.node, plan.address, plan.certificateName, secret: path, added: plan)
                try directory.set(plan.applications, of: plan.node)
            } catch { logger.error("a peer that was added is left out: \(error)", metadata: ["peer": "\(plan.node)"]) }
        }
    }

    /// Imports the pair's secret and begins the link.
    func join(_ node: NodeID, _ address: HostPort, _ certificateName: String, secret path: String, added: PeerPlan?) throws {
        let secret = try SecretFile.read(path, sizes: Self.secretSizes)
        if try store.changeNow({ try $0.install(secret: secret, peer: node) }) {
            logger.info("installed secret imported", metadata: ["peer": "\(node)", "bytes": "\(secret.count)"])
        }
        let link = KMPeer(
            settings: .init(peer: node, address: address, certificateName: certificateName, patience: configuration.patience),
            store: store, transport: transport, journal: journal, directory: directory, applications: applications, logger: logger,
            random: random)
        book.put(.init(link: link, added: added))
    }

    /// A store whose database does not exist yet may start without a master key: one is made.
    private static func masterKey(_ configuration: KeyStoreConfiguration, _ random: any RandomSource) throws -> SecretBytes {
        let files = FileManager.default
        if !files.fileExists(atPath: configuration.masterKey), !files.fileExists(atPath: configuration.database) {
            try SecretFile.create(configuration.masterKey, SecretBytes(count: 32, random: random))
        }
        return try SecretFile.read(configuration.masterKey, sizes: 32...32)
    }

    /// Serves until cancelled: the KM links, the applications, and housekeeping.
    ///
    /// - Parameter serving: called once both faces listen.
    public func run(serving: @escaping @Sendable () -> Void = {}) async throws {
        let listener: any Channel
        do { listener = try await transport.listen(configuration.km.listen) { [self] in take($0) } } catch {
            throw KeyStoreError.configuration("km cannot listen on \(configuration.km.listen): \(error)")
        }
        bound.withLock { $0.km = listener.localAddress?.port }
        logger.info("KM link listens", metadata: ["address": "\(configuration.km.listen)"])
        defer { listener.close(promise: nil) }
        let api = try API014Server(service: self, names: names, logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { [book] in await book.serve() }
            group.addTask {
                try await api.run { [self] port in
                    bound.withLock { $0.api = port }
                    serving()
                }
            }
            group.addTask { [self] in await keepHouse() }
            // Only cancellation or a failure ends any of them.
            do { _ = try await group.next() } catch is CancellationError {}
            group.cancelAll()
            while (try? await group.next()) != nil {}
        }
        // In a task of its own: this one is cancelled, and the database would refuse it.
        await Task { [store] in
            try? await store.tidy()
            try? store.close()
        }.value
    }

    /// The ports that were bound, once they are (the configuration may say 0).
    package var ports: (api: Int?, km: Int?) { bound.withLock { $0 } }

    private func take(_ result: Result<KMConnection, any Error>) {
        guard case .success(let connection) = result else { return }
        guard let link = book.peer(named: connection.names), link.settings.peer < configuration.node else {
            logger.warning("a KM connection was refused", metadata: ["certificate": "\(connection.names.joined(separator: ", "))"])
            return connection.close()
        }
        link.take(connection)
    }

    // MARK: Deposits

    /// Takes a block from the link service; returns once it is durable.
    ///
    /// - Returns: false where the same block is held already.
    /// - Throws: `KeyStoreError.otherContent`, `.storeFull`, `.unknownPeer`, `.blockSize` or `.database`.
    public func deposit(
        link: LinkID, block: BlockID, peer: NodeID, bits: SecretBytes, provenance: KeyProvenance, firstEnd: Bool
    ) async throws -> Bool {
        guard let km = book[peer]?.link else { throw KeyStoreError.unknownPeer(peer) }
        let outcome: DepositOutcome
        do {
            outcome = try await store.change {
                try $0.deposit(link: link, block: block, peer: peer, bits: bits, provenance: provenance, firstEnd: firstEnd)
            }
        } catch {
            noteFailure(error, link)
            throw error
        }
        journal.clear(.storeFull, link: link)
        journal.clear(.database)
        km.held(block)
        guard outcome == .stored else { return false }
        journal.note(.deposited, link: link, peer: peer, block: block, bits: bits.count * 8, "a block came from the link service")
        return true
    }

    private func noteFailure(_ error: any Error, _ link: LinkID) {
        switch error as? KeyStoreError {
        case .storeFull: journal.raise(.storeFull, .minor, link: link, "\(error)")
        case .database: journal.raise(.database, .major, "\(error)")
        case .otherContent(let block):
            journal.raise(.keyMismatch, .major, link: link, "block \(block) was deposited twice with different content")
        default: break
        }
    }

    /// Erases every key of a link here, and has the peer erase its own.
    public func zeroise(_ link: LinkID) async throws -> (blocks: Int, bits: Int, keys: Int) {
        let (report, tell) = try await store.change { transaction in
            let report = try transaction.zeroise(link)
            let peer = try transaction.figures().first { $0.link == link }?.peer
            return (report, try peer.map { ($0, try transaction.voidsToTell($0)) })
        }
        if let (peer, blocks) = tell { book[peer]?.link.void(blocks, .zeroised) }
        try await store.tidy()
        journal.note(.zeroised, link: link, bits: report.bits, keys: report.keys, "\(report.blocks) blocks of the link were erased")
        return report
    }

    // MARK: Status

    public func linkReports() async throws -> [StoreLinkReport] {
        let size = configuration.keySizeBits / 8
        let (figures, keys) = try await store.look { transaction in
            let figures = try transaction.figures()
            let peers = Set(figures.map(\.peer))
            let counts = try peers.map { ($0, try transaction.storedKeys(peer: $0, keyBytes: size).deliverable) }
            return (figures, Dictionary(uniqueKeysWithValues: counts))
        }
        return figures.map { figures in
            let tallies = figures.tallies
            let rate = rates.withLock { $0[figures.link]?.rates ?? (0, 0) }
            return StoreLinkReport(
                link: figures.link, peer: figures.peer, storedBits: figures.deliverable + figures.peerFree + figures.offered,
                deliverableBits: figures.deliverable + figures.offered, heldBits: figures.held, reservedBits: figures.reserved,
                depositedBits: tallies["deposited"] ?? 0, confirmedBits: tallies["confirmed"] ?? 0,
                deliveredBits: tallies["delivered"] ?? 0, padBits: tallies["pad"] ?? 0, blocks: figures.blocks,
                storedKeys: keys[figures.peer] ?? 0, emulatedBits: figures.emulated, inRate: rate.0, outRate: rate.1,
                lastDeposit: figures.lastDeposit.map { Date(timeIntervalSince1970: $0) })
        }
    }

    public func peerReports() async -> [StorePeerReport] {
        let links = (try? await linkReports()) ?? []
        var reports: [StorePeerReport] = []
        for (node, entry) in book.all.sorted(by: { $0.key < $1.key }) {
            let figures = await entry.link.status()
            let own = links.filter { $0.peer == node }
            let state: StorePeerReport.State = [.down: .down, .greeting: .connecting, .up: .up][figures.phase] ?? .down
            reports.append(
                StorePeerReport(
                    peer: node, state: state, reason: state == .up ? nil : figures.reason, padSendBytes: figures.padSend,
                    padReceiveBytes: figures.padReceive, connections: figures.connections, refusedMessages: figures.refused,
                    address: entry.link.settings.address, certificateName: entry.link.settings.certificateName,
                    addedAtRunTime: entry.added != nil, applications: directory.applications(of: node),
                    storedBits: own.reduce(0) { $0 + $1.storedBits }, inRate: own.reduce(0) { $0 + $1.inRate },
                    outRate: own.reduce(0) { $0 + $1.outRate }))
        }
        return reports
    }

    // MARK: Housekeeping

    private func keepHouse() async {
        var round = 0
        var before = ContinuousClock.now
        if let figures = try? await store.look({ try $0.figures() }) { sample(figures, at: 0) }
        while (try? await Task.sleep(for: .seconds(2))) != nil {
            round += 1
            if let figures = try? await store.look({ try $0.figures() }) { sample(figures, at: Double(round) * 2) }
            do {
                try await applications.keepHouse()
                // An empty change: the queue of changes moves, and the disk takes them.
                try await store.change { _ in }
                progress("store", true)
            } catch { journal.raise(.database, .major, "\(error)") }
            guard round % 15 == 0 else { continue }
            do {
                let now = ContinuousClock.now
                let elapsed = (now - before) / .seconds(1)
                let expired = try await store.change { try $0.expire(elapsed: elapsed) }
                before = now
                if expired.keys > 0 {
                    journal.note(.voided, keys: expired.keys, "\(expired.keys) reserved keys were never fetched and erased")
                }
                for (node, peer) in book.all where !expired.blocks.isEmpty {
                    peer.link.void(try await store.look { try $0.voidsToTell(node) }, .tooOld)
                }
                for block in expired.blocks { journal.note(.voided, block: block, "block erased: the peer never confirmed it") }
                try await store.tidy()
            } catch { journal.raise(.database, .major, "\(error)") }
        }
    }

    private func sample(_ figures: [LinkFigures], at time: Double) {
        rates.withLock { rates in
            for link in figures {
                rates[link.link, default: RateWindow()].add(
                    time: time, confirmed: link.tallies["confirmed"] ?? 0, delivered: link.tallies["delivered"] ?? 0)
            }
        }
    }
}

extension KMSession.Phase: Hashable {}

/// Rates in bits per second over the last five minutes.
struct RateWindow {
    private var samples: [(time: Double, confirmed: Int, delivered: Int)] = []

    mutating func add(time: Double, confirmed: Int, delivered: Int) {
        samples.append((time, confirmed, delivered))
        samples.removeAll { time - $0.time > 300 }
    }

    var rates: (Double, Double) {
        guard let first = samples.first, let last = samples.last, last.time > first.time else { return (0, 0) }
        let span = last.time - first.time
        return (Double(last.confirmed - first.confirmed) / span, Double(last.delivered - first.delivered) / span)
    }
}
