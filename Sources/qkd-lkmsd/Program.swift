// qkd-lkmsd: the key store (LKMS) of one node as a service.
//
// Joins the parts: KeyDeposit's socket feeds the store, the store speaks to its peers and to applications, the local
// socket tells what it does. SIGTERM and SIGINT end it in order; it may be killed at any moment.

import ArgumentParser
import Foundation
import KeyDeposit
import KeyStore
import Logging
import NodeRuntime
import QKDModel
import ServiceLifecycle

@main
struct Program: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "qkd-lkmsd", abstract: "The key store of a QKD node: stores, synchronises and delivers keys (ETSI GS QKD 014).",
        version: Release.version)

    @Option(help: "Configuration file (YAML); paths in it are relative to its folder.")
    var config: String

    @Flag(help: "Read configuration, certificates and secrets, then stop.")
    var check = false

    func run() async throws {
        Hardening.apply()
        Logs.bootstrap(program: "qkd-lkmsd")
        let logger = Logger(label: "qkd-lkmsd")
        do {
            let file = try Configuration.load(LKMSConfiguration.self, from: config)
            let folder = (config as NSString).deletingLastPathComponent
            if check { return try look(file, folder) }
            try await serve(file, folder, logger)
        } catch let error where !(error is CancellationError) && !(error is ExitCode) {
            Logs.report(error, logger, plainly: check)
            throw ExitCode.failure
        }
    }

    /// Everything that a start reads; nothing is changed, also beside a running service.
    private func look(_ file: LKMSConfiguration, _ folder: String) throws {
        var preflight = Preflight()
        for (name, value) in [
            ("socket", file.socket), ("deposit", file.deposit), ("database", file.database), ("master_key", file.master_key),
        ] {
            preflight.path(value, for: name)
        }
        if file.socket == file.deposit { preflight.problem("deposit: it is the same as socket: two sockets are needed") }
        preflight.socket(file.resolve(file.socket, folder), for: "socket")
        preflight.socket(file.resolve(file.deposit, folder), for: "deposit")
        preflight.writableFolder((file.resolve(file.database, folder) as NSString).deletingLastPathComponent, for: "database")
        do {
            for problem in KeyStoreService.problems(in: try file.keyStore(folder: folder)) { preflight.problem("\(problem)") }
        } catch { preflight.problem("\(error)") }
        if !preflight.conclude(config) { throw ExitCode.failure }
    }

    private func serve(_ file: LKMSConfiguration, _ folder: String, _ logger: Logger) async throws {
        Logs.always(["node": "\(file.node)"])
        let supervision = Supervision.shared
        supervision.expect("local", "deposits", "store")
        let store = try file.keyStore(folder: folder)
        for path in [store.database, file.resolve(file.socket, folder), file.resolve(file.deposit, folder)] {
            try makeFolder(of: path)
        }
        let service = try KeyStoreService(store, logger: logger, progress: { $1 ? supervision.beat($0) : supervision.rest($0) })
        try await Daemon.run(
            [
                LocalServer(
                    socketPath: file.resolve(file.socket, folder), routes: LocalFace(service: service).routes(), logger: logger,
                    onRunning: { supervision.up("local") }),
                StoreService(store: service), Work { await Self.tell(service, supervision) },
                DepositService(
                    socketPath: file.resolve(file.deposit, folder), users: file.deposit_users.map(Set.init), store: service, logger: logger),
            ], logger: logger)
        logger.info("stopped")
    }

    /// Keeps the status text of the service up to date.
    private static func tell(_ service: KeyStoreService, _ supervision: Supervision) async {
        repeat {
            let peers = await service.peerReports()
            let up = peers.count { $0.state == .up }
            let stored = peers.reduce(0) { $0 + $1.storedBits }
            let alarms = service.journal.alarms.count
            supervision.status("\(up) of \(peers.count) peers up, \(stored) bits in store\(alarms > 0 ? ", \(alarms) alarms" : "")")
        } while (try? await Task.sleep(for: .seconds(5))) != nil
    }

    private func makeFolder(of path: String) throws {
        let folder = (path as NSString).deletingLastPathComponent
        guard !folder.isEmpty else { return }
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }
}

/// The store under the service group.
private struct StoreService: Service {
    let store: KeyStoreService
    func run() async throws {
        try await cancelWhenGracefulShutdown { try await store.run(serving: { Supervision.shared.up("store") }) }
    }
}

/// The deposit socket under the service group.
private struct DepositService: Service {
    let socketPath: String
    let users: Set<UInt32>?
    let store: KeyStoreService
    let logger: Logger

    func run() async throws {
        let server = KeyDepositServer(
            socketPath: socketPath, allowedUsers: users, observer: { logger.warning("deposit: \($0)") },
            handler: { [store, logger] in try await Self.store($0, store, logger) })
        try server.start()
        logger.info("deposits are taken", metadata: ["socket": "\(socketPath)"])
        Supervision.shared.up("deposits")
        try? await gracefulShutdown()
        server.stop()
    }

    private static func store(_ block: DepositedBlock, _ store: KeyStoreService, _ logger: Logger) async throws -> DepositReceipt {
        do {
            let isNew = try await store.deposit(
                link: block.link, block: block.block, peer: block.peer, bits: block.bits, provenance: block.provenance,
                firstEnd: block.firstEnd)
            logger.info("block deposited", metadata: ["block": "\(block.block)", "link": "\(block.link)", "new": "\(isNew)"])
            return isNew ? .stored : .alreadyHeld
        } catch let error as KeyStoreError {
            logger.warning("a deposit was refused: \(error)")
            switch error {
            case .otherContent: throw KeyDepositError.otherContent(block.block, reason: "\(error)")
            case .storeFull: throw KeyDepositError.full(block.block, reason: "\(error)")
            case .unknownPeer: throw KeyDepositError.unknownPeer(block.block, reason: "\(error)")
            case .blockSize: throw KeyDepositError.notAccepted(block.block, reason: "\(error)")
            default: throw KeyDepositError.unavailable(block.block, reason: "\(error)")
            }
        }
    }
}
