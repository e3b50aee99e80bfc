// From a request to its answer: who asks, whether it may, which resource it is, and what goes wrong.

import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore

/// A request with the connection that it came on.
struct RESTCONFContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        channel = source.channel
    }
}

struct Responder: HTTPResponder {
    typealias Context = RESTCONFContext

    let configuration: RESTCONFServerConfiguration
    let datastore: Datastore
    let streams: EventStreams
    let facts: SchemaFacts
    let connections: Connections
    let rate: RequestRate
    let seats: StreamSeats
    let logger: Logger
    private let quiet = QuietLog()

    init(
        configuration: RESTCONFServerConfiguration, datastore: Datastore, streams: EventStreams, facts: SchemaFacts,
        connections: Connections, rate: RequestRate, seats: StreamSeats, logger: Logger
    ) {
        (self.configuration, self.datastore, self.streams, self.facts) = (configuration, datastore, streams, facts)
        (self.connections, self.rate, self.seats, self.logger) = (connections, rate, seats, logger)
    }

    func respond(to request: Request, context: RESTCONFContext) async -> Response {
        let connection = connections[context.channel] ?? Connection(address: "unknown", isSurplus: true)
        var response: Response
        do {
            response = try await answer(request, connection, context.channel)
        } catch {
            response = refusal(error, request, connection)
        }
        // RFC 8040, section 5.5: what is true now need not be true the next time.
        if response.headers[.cacheControl] == nil { response.headers[.cacheControl] = "no-cache" }
        note(request, connection, response.status.code)
        return request.method == .head ? response.createHeadResponse() : response
    }

    /// Writes are for the log; reads only where somebody looks for them. Whoever asks too often does not fill the disk with it.
    private func note(_ request: Request, _ connection: Connection, _ status: Int) {
        if status == 429 {
            guard let suppressed = quiet.mayWrite() else { return }
            return logger.notice(
                "a client asks too often",
                metadata: ["client": "\(connection.client)", "from": "\(connection.address)", "suppressed": "\(suppressed)"])
        }
        let level: Logger.Level = request.method == .get || request.method == .head ? .debug : .info
        logger.log(
            level: level, "\(request.method.rawValue.prefix(20)) \((request.head.path ?? "").prefix(200))",
            metadata: ["client": "\(connection.client)", "from": "\(connection.address)", "status": "\(status)"])
    }

    // MARK: Who, and whether

    private func answer(_ request: Request, _ connection: Connection, _ channel: any Channel) async throws -> Response {
        let limits = configuration.limits
        if connection.isSurplus {
            throw busy("this server has its \(limits.connections) connections already", status: 503, after: 5, closes: true)
        }
        if let seconds = rate.wait(of: connection.client) {
            throw busy("more than \(Int(limits.requestsPerSecond)) requests per second", status: 429, after: seconds)
        }
        guard let role = configuration.access.role(of: connection.names) else {
            throw RESTCONFError(.protocol, .accessDenied, "the certificate of '\(connection.client)' has no role on this server")
        }
        let target = try RequestTarget(request.head.path ?? "", longest: limits.targetBytes)
        let exchange = Exchange(
            request: request, target: target, client: connection.client, role: role, channel: channel, limits: limits,
            isLenient: configuration.compatibility)
        guard role.mayWrite || exchange.isRead || request.method == .options else {
            throw RESTCONFError(.protocol, .accessDenied, "'\(connection.client)' is an \(role.rawValue): it may read, not write")
        }
        return try await route(exchange)
    }

    private func busy(_ problem: String, status: Int, after seconds: Int, closes: Bool = false) -> Refusal {
        Refusal(
            error: RESTCONFError(.transport, .resourceDenied, problem, status: status), headers: [.retryAfter: "\(seconds)"], closes: closes
        )
    }

    // MARK: Which resource

    private func route(_ exchange: Exchange) async throws -> Response {
        let path = exchange.isLenient ? Compatibility.path(exchange.target.path) : exchange.target.path
        switch path {
        case "/.well-known/host-meta": return try hostMeta(exchange, isJSON: nil)
        case "/.well-known/host-meta.json": return try hostMeta(exchange, isJSON: true)
        case "/restconf": return try root(exchange)
        case "/restconf/yang-library-version": return try libraryVersion(exchange)
        case "/restconf/operations": return try operations(exchange)
        case "/restconf/data": return try await data(exchange, nil)
        default: break
        }
        if let rest = path.tail(behind: "/restconf/data/") {
            return try await data(exchange, try ResourcePath(parsing: rest, schema: datastore.schema, qualified: !exchange.isLenient))
        }
        if let rest = path.tail(behind: "/restconf/operations/") {
            return try await operation(exchange, try ResourcePath(parsing: rest, schema: datastore.schema))
        }
        if let rest = path.tail(behind: "/streams/") { return try await stream(exchange, rest) }
        if let rest = path.tail(behind: "/yang/") { return try schemaText(exchange, rest) }
        throw RESTCONFError(.protocol, .invalidValue, "there is no resource '\(path.prefix(200))'", status: 404)
    }

    // MARK: What goes wrong

    private func refusal(_ error: any Error, _ request: Request, _ connection: Connection) -> Response {
        var refusal: Refusal
        switch error {
        case let error as Refusal: refusal = error
        case let error as RESTCONFError: refusal = Refusal(error: error)
        default:
            // The text may come from anywhere: it goes to the log, not to the client.
            logger.error("a request failed", metadata: ["client": "\(connection.client)", "error": "\(error)"])
            refusal = Refusal(error: RESTCONFError(.application, .operationFailed, "internal error: see this server's log"))
        }
        // A body that nobody has asked for yet: what follows it on this connection cannot be trusted to arrive soon.
        if request.headers[.expect] != nil { refusal.closes = true }
        let encoding = DataMedia.forErrors(request.headers[.accept], request.headers[.contentType])
        var headers = refusal.headers
        headers[.contentType] = encoding.mediaType
        if refusal.closes { headers[.connection] = "close" }
        return Response(
            status: .init(code: refusal.error.status), headers: headers,
            body: .init(byteBuffer: ByteBuffer(bytes: ErrorDocument.text(refusal.error, encoding, datastore.schema))))
    }

    // MARK: Answers

    func document(_ body: Data, type: String, _ headers: HTTPFields = [:], status: HTTPResponse.Status = .ok) -> Response {
        var headers = headers
        headers[.contentType] = type
        return Response(status: status, headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: body)))
    }

    func document(_ text: String, type: String) -> Response { document(Data(text.utf8), type: type) }

    func options(_ methods: [HTTPRequest.Method]) -> Response {
        var headers: HTTPFields = [.allow: Exchange.allow(methods)]
        if methods.contains(.patch) { headers[.acceptPatch] = DataEncoding.allCases.map(\.mediaType).joined(separator: ", ") }
        return Response(status: .ok, headers: headers)
    }
}

extension String {
    /// What follows a prefix; nil where there is nothing.
    func tail(behind prefix: String) -> String? {
        hasPrefix(prefix) && count > prefix.count ? String(dropFirst(prefix.count)) : nil
    }
}
