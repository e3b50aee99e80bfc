// The parts of the store joined: database, KM links to all peers, the face to applications. KeyStoreConfiguration.swift has what it
// is told, KeyStoreReports.swift what it tells, KeyStoreHousekeeping.swift what it does by the clock.

public import Foundation
public import KeyMaterial
public import Logging
import NIOCore
import NIOPosix
import NIOSSL
public import QKDModel
import Synchronization

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
    let progress: @Sendable (String, Bool) -> Void
    let rates = Mutex<[LinkID: RateWindow]>([:])
    private let bound = Mutex<(api: Int?, km: Int?)>((nil, nil))

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
        let secret = try SecretFile.readPair(path)
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
}
