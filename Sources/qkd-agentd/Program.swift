// qkd-agentd: the SDN agent of a QKD node as a service.
//
// Joins the parts: the two services behind their local sockets, the node as YANG data, the RESTCONF server, and a broker
// where one is configured. It needs no order of starting: a service that is away is a state. It never sees a key.

import ArgumentParser
import Foundation
import Logging
import NodeRuntime
import RESTCONF
import SDNAgent
import ServiceLifecycle

@main
struct Program: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "qkd-agentd", abstract: "The SDN agent of a QKD node: ETSI GS QKD 015 over RESTCONF, with notifications.",
        version: Release.version)

    @Option(help: "Configuration file (YAML); paths in it are relative to its folder.")
    var config: String

    @Flag(help: "Read configuration, certificates, rules and YANG modules, then stop.")
    var check = false

    func run() async throws {
        signal(SIGPIPE, SIG_IGN)
        Hardening.apply()
        Logs.bootstrap(program: "qkd-agentd")
        let logger = Logger(label: "qkd-agentd")
        do {
            let file = try Configuration.load(AgentdConfiguration.self, from: config)
            let folder = (config as NSString).deletingLastPathComponent
            if check { return try look(file, folder) }
            try await serve(file, folder, logger)
        } catch let error where !(error is CancellationError) && !(error is ExitCode) {
            Logs.report(error, logger, plainly: check)
            throw ExitCode.failure
        }
    }

    /// Everything that a start reads; nothing is changed, also beside a running service.
    private func look(_ file: AgentdConfiguration, _ folder: String) throws {
        var preflight = Preflight()
        preflight.writableFolder(file.resolve(file.state, folder), for: "state")
        for (name, path) in [("linkd_socket", file.linkd_socket), ("lkmsd_socket", file.lkmsd_socket)] {
            let path = file.resolve(path, folder)
            if path.utf8.count > 107 { preflight.problem("\(name): \(NodeRuntimeError.socketPathTooLong(path: path))") }
        }
        preflight.attempt("restconf") {
            let server = try file.server(folder: folder)
            try server.files.check()
        }
        preflight.attempt {
            guard let broker = try file.broker(folder: folder), let tls = broker.tls else { return }
            for path in [tls.authorities, tls.certificate, tls.key].compactMap({ $0 }) where access(path, R_OK) != 0 {
                throw AgentdError("rabbitmq: '\(path)' cannot be read")
            }
        }
        preflight.attempt("yang") { _ = try schema(file, folder) }
        if !preflight.conclude(config) { throw ExitCode.failure }
    }

    private func schema(_ file: AgentdConfiguration, _ folder: String) throws -> YANGSchema {
        try YANGSchema(
            folders: [file.resolve(file.yang, folder)],
            modules: [
                "etsi-qkd-node-types", "etsi-qkd-sdn-node", "sdqkd-cv-qkd", "ietf-restconf", "ietf-restconf-monitoring",
                "ietf-netconf-with-defaults",
            ])
    }

    private func serve(_ file: AgentdConfiguration, _ folder: String, _ logger: Logger) async throws {
        Logs.always(["node": "\(file.node)"])
        let supervision = Supervision.shared
        supervision.expect("restconf", "agent")
        let server = try file.server(folder: folder)
        let broker = try file.broker(folder: folder)
        let schema = try schema(file, folder)
        let settings = file.settings(version: Release.version)
        let state = file.resolve(file.state, folder)
        let held = try StateFolder(path: state)
        defer { withExtendedLifetime(held) {} }
        let sink = try broker.map { broker in
            try RabbitMQSink(
                broker, node: settings.id.uuidString.lowercased(), outboxPath: state + "/outbox",
                entries: file.rabbitmq?.outbox_notifications ?? 20_000, bytes: file.rabbitmq?.outbox_bytes ?? 32 << 20, logger: logger)
        }
        // Two services that hang together are still a sign of life within the watchdog's minute.
        let patience = Duration.seconds(20)
        let agent = try Agent(
            settings, schema: schema, folder: state,
            links: LocalLinkService(client: LocalClient(socketPath: file.resolve(file.linkd_socket, folder), timeout: patience)),
            store: LocalStore(client: LocalClient(socketPath: file.resolve(file.lkmsd_socket, folder), timeout: patience)), sink: sink,
            logger: logger)
        let face = RESTCONFServer(configuration: server, datastore: agent.datastore, streams: agent.streams, logger: logger) { port in
            logger.info("RESTCONF is served", metadata: ["port": "\(port)", "qkdn_id": "\(settings.id.uuidString.lowercased())"])
            supervision.up("restconf")
        }
        let work = Work {
            try await agent.run { sentence in
                // A round that ends is the sign of life that the watchdog is fed with.
                supervision.beat("agent")
                supervision.status(sentence)
                supervision.up("agent")
            }
        }
        let rules = Work { await Self.followRules(server.access, agent, logger) }
        try await Daemon.run([work, face, rules], logger: logger)
        logger.info("stopped")
    }

    /// The file of access rules is looked at every two seconds. What became of a change is a line of the log and a notification.
    private static func followRules(_ access: AccessList, _ agent: Agent, _ logger: Logger) async {
        while (try? await Task.sleep(for: .seconds(2))) != nil {
            do {
                guard try access.reloadIfChanged().isRead else { continue }
                logger.notice("access rules were read again", metadata: ["clients": "\(access.current.clients.count)"])
                await agent.noteAccessRules(problem: nil)
            } catch {
                logger.error("the old access rules stay in force: \(error)")
                await agent.noteAccessRules(problem: "\(error)")
            }
        }
    }
}
