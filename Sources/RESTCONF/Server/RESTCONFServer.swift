// A RESTCONF server (RFC 8040) over mutual TLS 1.3: Hummingbird carries the bytes, `ConnectionGuard` watches each connection,
// `Responder` decides who may do what and on which resource, `Datastore` and `EventStreams` hold what is asked for.
//
// A request: certificate read once per connection -> connection limit (503) -> request rate (429) -> role (403) -> target (400,
// 414) -> resource (404) -> method (405) -> media types (406, 415) -> query (400) -> body (408, 413) -> datastore.
// The statuses 408, 414, 429, 431 and 503 are HTTP's own (RFC 9110, RFC 6585); all others follow the table of section 7.

import Foundation
import Glibc
import Hummingbird
import HummingbirdCore
import HummingbirdTLS
public import Logging
import NIOCore
import NIOSSL
public import ServiceLifecycle

public struct RESTCONFServer: Service {
    private let configuration: RESTCONFServerConfiguration
    private let datastore: Datastore
    private let streams: EventStreams
    private let logger: Logger
    private let onRunning: @Sendable (_ port: Int) async -> Void

    /// - Parameter onRunning: called with the port once connections are accepted.
    public init(
        configuration: RESTCONFServerConfiguration, datastore: Datastore, streams: EventStreams,
        logger: Logger = Logger(label: "restconf"), onRunning: @escaping @Sendable (_ port: Int) async -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.datastore = datastore
        self.streams = streams
        self.logger = logger
        self.onRunning = onRunning
    }

    /// Serves until cancelled or asked to stop.
    /// - Throws: `RESTCONFSetupError` for certificates and the address; `RESTCONFError` where the schema lacks the modules
    ///   that a server describes itself with.
    public func run() async throws {
        let tls = try configuration.files.server()
        let (limits, logger) = (limits(), logger)
        let connections = Connections(limit: limits.connections)
        let quiet = QuietLog()
        let responder = responder(limits, connections)
        var silent = logger
        silent.logLevel = .critical
        let http1 = HTTP1Channel.Configuration(
            additionalChannelHandlers: [ConnectionGuard(connections: connections, limits: limits, logger: logger, quiet: quiet)],
            httpDecoderConfiguration: .init(
                maxHeaderFieldSize: limits.targetBytes + 8192, maxHeaderListSize: 65_536, maxHeaderFieldCount: 100))
        let application = Application(
            responder: responder, server: try .tls(.http1(configuration: http1), tlsConfiguration: tls),
            configuration: .init(
                address: .hostname(configuration.host, port: configuration.port), serverName: nil,
                // Beyond the limit connections are accepted to be told so; beyond this they wait.
                availableConnectionsDelegate: MaximumAvailableConnections(limits.connections + 32, logger: silent)),
            onServerRunning: { channel in await started(channel.localAddress?.port ?? configuration.port) }, logger: silent)
        do { try await application.run() } catch let error as IOError {
            throw RESTCONFSetupError.cannotListen(
                address: "\(configuration.host):\(configuration.port)", problem: String(cString: strerror(error.errnoCode)).lowercased())
        }
    }

    private func responder(_ limits: RESTCONFLimits, _ connections: Connections) -> Responder {
        var configuration = configuration
        configuration.limits = limits
        return Responder(
            configuration: configuration, datastore: datastore, streams: streams, facts: SchemaFacts(schema: datastore.schema),
            connections: connections, rate: RequestRate(rate: limits.requestsPerSecond, burst: limits.requestBurst),
            seats: StreamSeats(limits: limits), logger: logger)
    }

    /// Connections take at most half of the descriptors that this process may have.
    private func limits() -> RESTCONFLimits {
        var limits = configuration.limits
        var descriptors = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &descriptors) == 0 else { return limits }
        limits.connections = max(1, min(limits.connections, Int(min(descriptors.rlim_cur, 1 << 20)) / 2))
        return limits
    }

    private func started(_ port: Int) async {
        let host = configuration.host.contains(":") ? "[\(configuration.host)]" : configuration.host
        let url = (configuration.publicURL ?? "https://\(host):\(port)").trimming("/")
        do {
            try await datastore.locateModules(at: url + "/yang")
            try await datastore.setState(Monitoring(streams, url: url).json)
        } catch {
            logger.error("the server cannot describe itself: is ietf-restconf-monitoring in the schema?", metadata: ["error": "\(error)"])
        }
        logger.info("RESTCONF listens", metadata: ["address": "\(host):\(port)", "compatibility": "\(configuration.compatibility)"])
        await onRunning(port)
    }
}
