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
    static let version = "0.2.0"
    static let configuration = CommandConfiguration(
        commandName: "qkd-agentd", abstract: "The SDN agent of a QKD node: ETSI GS QKD 015 over RESTCONF, with notifications.",
        version: version)

    @Option(help: "Configuration file (YAML); paths in it are relative to its folder.")
    var config: String

    @Flag(help: "Read configuration, certificates, rules and YANG modules, then stop.")
    var check = false

    func run() async throws {
        signal(SIGPIPE, SIG_IGN)
        Hardening.apply()
        Logs.bootstrap(program: "qkd-agentd")
        let logger = Logger(label: "qkd-agentd")
        do { try await serve(logger) } catch let error where !(error is CancellationError) {
            logger.error("\(error)")
            throw ExitCode.failure
        }
    }

    private func serve(_ logger: Logger) async throws {
        let file = try Configuration.load(AgentdConfiguration.self, from: config)
        let folder = (config as NSString).deletingLastPathComponent
        let server = try file.server(folder: folder)
        let broker = try file.broker(folder: folder)
        let schema = try YANGSchema(
            folders: [file.resolve(file.yang, folder)],
            modules: [
                "etsi-qkd-node-types", "etsi-qkd-sdn-node", "sdqkd-cv-qkd", "ietf-restconf", "ietf-restconf-monitoring",
                "ietf-netconf-with-defaults",
            ])
        if check { return print("\(config): usable") }
        let settings = file.settings(version: Self.version)
        let state = file.resolve(file.state, folder)
        try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let sink = try broker.map { broker in
            try RabbitMQSink(
                broker, node: settings.id.uuidString.lowercased(), outboxPath: state + "/outbox",
                entries: file.rabbitmq?.outbox_notifications ?? 20_000, bytes: file.rabbitmq?.outbox_bytes ?? 32 << 20, logger: logger)
        }
        let agent = try Agent(
            settings, schema: schema, folder: state,
            links: LocalLinkService(client: LocalClient(socketPath: file.resolve(file.linkd_socket, folder))),
            store: LocalStore(client: LocalClient(socketPath: file.resolve(file.lkmsd_socket, folder))), sink: sink, logger: logger)
        let face = RESTCONFServer(configuration: server, datastore: agent.datastore, streams: agent.streams, logger: logger) { port in
            logger.info("RESTCONF is served", metadata: ["port": "\(port)", "node": "\(settings.id.uuidString.lowercased())"])
        }
        try await Daemon.run([Work { try await agent.run() }, face], logger: logger)
        logger.info("stopped")
    }
}
