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
        commandName: "qkd-linkd", abstract: "The quantum links of a QKD node: devices, slots, distillation, deposit.",
        version: Release.version)

    @Option(help: "Configuration file (YAML); paths in it are relative to its folder.")
    var config: String

    @Flag(help: "Read configuration and secrets, then stop.")
    var check = false

    func run() async throws {
        Hardening.apply()
        Logs.bootstrap(program: "qkd-linkd")
        let logger = Logger(label: "qkd-linkd")
        do { try await serve(logger) } catch let error where !(error is CancellationError) && !(error is ExitCode) {
            Logs.report(error, logger, plainly: check)
            throw ExitCode.failure
        }
    }

    /// What a start reads besides the service's own configuration; nothing is changed.
    private func look(_ file: LinkdConfiguration, _ folder: String) throws {
        var preflight = Preflight()
        for (name, value) in [("socket", file.socket), ("deposit", file.deposit), ("state", file.state)] {
            preflight.path(value, for: name)
        }
        if file.socket == file.deposit { preflight.problem("deposit: it is this service's own socket; the key store's is meant") }
        preflight.socket(file.resolve(file.socket, folder), for: "socket")
        preflight.writableFolder(file.resolve(file.state, folder), for: "state")
        for device in file.devices {
            preflight.uri(device.uri, for: "device '\(device.name)'", schemes: ["tcp", "serial", "usb"])
        }
        // A secret is consumed when it is installed: its file may be gone, but not before the first start.
        let hasState = FileManager.default.fileExists(atPath: file.resolve(file.state, folder) + "/linkd.sqlite")
        for peer in file.peers {
            guard let name = peer.secret else { continue }
            let secret = file.resolve(name.contains("/") ? name : (file.secrets.map { $0 + "/" } ?? "") + name, folder)
            preflight.secret(secret, for: "the channel to \(peer.node)", sizes: 4096...(1 << 30), optional: hasState)
        }
        do {
            for problem in LinkService.problems(in: try file.service(folder: folder)) { preflight.problem(problem) }
        } catch { preflight.problem("\(error)") }
        if !preflight.conclude(config) { throw ExitCode.failure }
    }

    private func serve(_ logger: Logger) async throws {
        let file = try Configuration.load(LinkdConfiguration.self, from: config)
        let folder = (config as NSString).deletingLastPathComponent
        let socket = file.resolve(file.socket, folder)
        if check { return try look(file, folder) }
        let service = try LinkService(
            try file.service(folder: folder), sink: DepositSink(client: KeyDepositClient(socketPath: file.resolve(file.deposit, folder))),
            install: true)
        Logs.always(["node": "\(file.node)"])
        let supervision = Supervision.shared
        supervision.expect("local", "links")
        let socketFolder = (socket as NSString).deletingLastPathComponent
        if !socketFolder.isEmpty {
            try FileManager.default.createDirectory(
                atPath: socketFolder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        }
        let face = LocalFace(service: service, file: file)
        try await Daemon.run(
            [
                LocalServer(socketPath: socket, routes: face.routes(), logger: logger, onRunning: { supervision.up("local") }),
                Work { try await service.run() }, Work { await Self.tell(service, supervision) },
            ], logger: logger)
        logger.info("stopped")
    }

    /// Asks the service how it is: an answer is the sign of life that the watchdog is fed with.
    private static func tell(_ service: LinkService, _ supervision: Supervision) async {
        repeat {
            let links = await service.views().map(\.snapshot)
            supervision.beat("links")
            let active = links.count { $0.state == .active }
            let alarms = links.reduce(0) { $0 + $1.alarms.count }
            supervision.status("\(active) of \(links.count) links active\(alarms > 0 ? ", \(alarms) alarms" : "")")
            supervision.up("links")
        } while (try? await Task.sleep(for: .seconds(2))) != nil
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
