// qkd-linkd: the quantum links of one node as a service.
//
// Joins the parts: devices by URI, links over the classical channel, committed blocks into the key store of the same
// node, and a local socket that tells and takes. SIGTERM and SIGINT end it in order; it may be killed at any moment.

import ArgumentParser
import Foundation
import KeyDeposit
import KeyMaterial
import Logging
import NodeRuntime
import QKDModel
import QuantumLink
import ServiceLifecycle

@main
struct Program: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "qkd-linkd", abstract: "The quantum links of a QKD node: devices, slots, distillation, deposit.", version: "0.1.0")

    @Option(help: "Configuration file (YAML); paths in it are relative to its folder.")
    var config: String

    @Flag(help: "Read configuration and secrets, then stop.")
    var check = false

    func run() async throws {
        Hardening.apply()
        Logs.bootstrap(program: "qkd-linkd")
        let logger = Logger(label: "qkd-linkd")
        do { try await serve(logger) } catch let error where !(error is CancellationError) {
            logger.error("\(error)")
            throw ExitCode.failure
        }
    }

    private func serve(_ logger: Logger) async throws {
        let file = try Configuration.load(LinkdConfiguration.self, from: config)
        let folder = (config as NSString).deletingLastPathComponent
        let socket = file.resolve(file.socket, folder)
        let service = try LinkService(
            try file.service(folder: folder), sink: DepositSink(client: KeyDepositClient(socketPath: file.resolve(file.deposit, folder))),
            install: !check)
        if check { return print("\(config): usable") }
        let socketFolder = (socket as NSString).deletingLastPathComponent
        if !socketFolder.isEmpty {
            try FileManager.default.createDirectory(
                atPath: socketFolder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        }
        let face = LocalFace(service: service, file: file)
        try await Daemon.run(
            [LocalServer(socketPath: socket, routes: face.routes(), logger: logger), Work { try await service.run() }], logger: logger)
        logger.info("stopped")
    }
}

/// The key store of this node behind its deposit socket.
private struct DepositSink: KeySink {
    let client: KeyDepositClient

    func deposit(_ deposit: PendingDeposit, firstEnd: Bool) async throws {
        let block = DepositedBlock(
            link: deposit.link, block: deposit.block, peer: deposit.peer, bits: deposit.key, provenance: deposit.provenance,
            firstEnd: firstEnd)
        do { _ = try await client.deposit(block) } catch let error as KeyDepositError where error.isFinal {
            throw DepositRefused(reason: error.description)
        }
    }
}
