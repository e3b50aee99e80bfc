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
        version: "0.1.0")

    @Option(help: "Configuration file (YAML); paths in it are relative to its folder.")
    var config: String

    @Flag(help: "Read configuration, certificates and secrets, then stop.")
    var check = false

    func run() async throws {
        Hardening.apply()
        Logs.bootstrap(program: "qkd-lkmsd")
        let logger = Logger(label: "qkd-lkmsd")
        do { try await serve(logger) } catch let error where !(error is CancellationError) {
            logger.error("\(error)")
            throw ExitCode.failure
        }
    }

    private func serve(_ logger: Logger) async throws {
        let file = try Configuration.load(LKMSConfiguration.self, from: config)
        let folder = (config as NSString).deletingLastPathComponent
        let store = try file.keyStore(folder: folder)
        if check {
            try KeyStoreService.check(store)
            return print("\(config): usable")
        }
        for path in [store.database, file.resolve(file.socket, folder), file.resolve(file.deposit, folder)] {
            try makeFolder(of: path)
        }
        let service = try KeyStoreService(store, logger: logger)
        try await Daemon.run(
            [
                LocalServer(socketPath: file.resolve(file.socket, folder), routes: LocalFace(service: service).routes(), logger: logger),
                StoreService(store: service),
                DepositService(
                    socketPath: file.resolve(file.deposit, folder), users: file.deposit_users.map(Set.init), store: service, logger: logger),
            ], logger: logger)
        logger.info("stopped")
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
    func run() async throws { try await cancelWhenGracefulShutdown { try await store.run() } }
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
            case .unknownPeer, .blockSize: throw KeyDepositError.notAccepted(block.block, reason: "\(error)")
            default: throw KeyDepositError.unavailable(block.block, reason: "\(error)")
            }
        }
    }
}
