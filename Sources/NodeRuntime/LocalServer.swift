// HTTP/JSON on a Unix socket. Hummingbird carries the bytes; what is answered stands in `LocalRoutes`.

import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
public import Logging
import NIOCore
public import ServiceLifecycle

/// Serves `LocalRoutes` on a Unix socket until the service group asks it to stop.
///
/// The socket file has mode 0660: its owner and group are the trust boundary, there is no other authentication.
/// A socket file that a killed process left behind is replaced; one on which somebody listens is not.
public struct LocalServer: Service {
    /// An idle event stream carries a comment this often, so that a reader that went away is noticed.
    public static let keepAliveInterval: Duration = .seconds(10)
    /// Events that one reader may be behind before it is dropped.
    public static let longestBacklog = 4096
    /// The longest request body, in bytes.
    public static let longestBody = 1 << 20

    private let socketPath: String
    private let routes: LocalRoutes
    private let logger: Logger
    private let keepAlive: Duration
    private let onRunning: @Sendable () async -> Void

    /// - Parameters:
    ///   - socketPath: at most 107 bytes; missing folders are made.
    ///   - keepAlive: interval of the comments on idle event streams.
    ///   - onRunning: called once connections are accepted.
    public init(
        socketPath: String, routes: LocalRoutes, logger: Logger = Logger(label: "local"), keepAlive: Duration = keepAliveInterval,
        onRunning: @escaping @Sendable () async -> Void = {}
    ) {
        self.socketPath = socketPath
        self.routes = routes
        self.logger = logger
        self.keepAlive = keepAlive
        self.onRunning = onRunning
    }

    /// - Throws: `NodeRuntimeError` where the socket cannot be had.
    public func run() async throws {
        try UnixSocket.claim(socketPath)
        let path = socketPath
        let (logger, onRunning) = (logger, onRunning)
        let application = Application(
            router: router(), configuration: .init(address: .unixDomainSocket(path: path)),
            onServerRunning: { _ in
                do { try UnixSocket.restrict(path) } catch { logger.error("\(error)") }
                logger.debug("listening", metadata: ["socket": "\(path)"])
                await onRunning()
            },
            logger: Self.quiet(logger))
        try await application.run()
        unlink(path)
    }

    /// Hummingbird tells of its own start at info; one line per service is enough.
    private static func quiet(_ logger: Logger) -> Logger {
        var logger = logger
        logger.logLevel = max(logger.logLevel, .warning)
        return logger
    }

    private func router() -> Router<BasicRequestContext> {
        let router = Router(context: BasicRequestContext.self)
        router.add(middleware: ProblemsAsJSON(logger: logger))
        for route in routes.all {
            guard let method = HTTPRequest.Method(rawValue: route.method) else { continue }
            let keepAlive = keepAlive
            router.on(RouterPath(route.path), method: method) { request, context in
                let request = try await LocalRequest(request, context)
                switch route.answer {
                case .json(let handler): return Response(status: .ok, json: try await handler(request))
                case .events(let handler): return Response(events: try await handler(request), keepAlive: keepAlive)
                }
            }
        }
        refuseOtherMethods(router)
        return router
    }

    /// A path that exists is never "not found".
    private func refuseOtherMethods(_ router: Router<BasicRequestContext>) {
        for (path, methods) in routes.methods {
            for method in [HTTPRequest.Method.get, .post, .put, .patch, .delete] where !methods.contains(method.rawValue) {
                router.on(RouterPath(path), method: method) { request, _ -> Response in
                    throw LocalProblem(
                        status: 405, message: "\(request.method) \(request.uri.path): use \(methods.sorted().joined(separator: " or "))")
                }
            }
        }
    }
}

extension LocalRequest {
    fileprivate init(_ request: Request, _ context: BasicRequestContext) async throws {
        let body = try await request.body.collect(upTo: LocalServer.longestBody)
        self.init(
            path: request.uri.path, parameters: Self.decoded(context.parameters), queries: Self.decoded(request.uri.queryParameters),
            body: Data(body.readableBytesView))
    }

    private static func decoded(_ pairs: FlatDictionary<Substring, Substring>) -> [String: String] {
        Dictionary(pairs.map { (String($0.key), $0.value.removingPercentEncoding ?? "") }) { first, _ in first }
    }
}

/// Every error leaves as `{"error": "..."}` with the status that fits it.
private struct ProblemsAsJSON: RouterMiddleware {
    typealias Context = BasicRequestContext
    let logger: Logger

    func handle(
        _ request: Request, context: BasicRequestContext, next: (Request, BasicRequestContext) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch {
            let (status, message) = Self.read(error)
            if status >= 500 { logger.warning("\(request.method) \(request.uri.path): \(message)") }
            let body = try LocalJSON.encode(["error": message])
            return Response(status: .init(code: status), json: body)
        }
    }

    private static func read(_ error: any Error) -> (Int, String) {
        switch error {
        case let problem as LocalProblem: (problem.status, problem.message)
        case let error as NodeRuntimeError: if case .badMessage = error { (400, "\(error)") } else { (500, "\(error)") }
        case let error as HTTPError: (error.status.code, error.body ?? error.status.reasonPhrase)
        default: (500, "\(error)")
        }
    }
}

extension Response {
    fileprivate init(status: HTTPResponse.Status, json: Data) {
        self.init(
            status: status, headers: [.contentType: "application/json"],
            body: .init(byteBuffer: ByteBuffer(bytes: json + Data("\n".utf8))))
    }

    fileprivate init(events: AsyncStream<LocalEvent>, keepAlive: Duration) {
        self.init(
            status: .ok, headers: [.contentType: "text/event-stream", .cacheControl: "no-store"],
            body: .init { writer in
                for await text in mergeKeepAlive(into: events, every: keepAlive) {
                    try await writer.write(ByteBuffer(string: text))
                }
                try await writer.finish(nil)
            })
    }
}

/// The events' texts with comments between them while nothing happens. Ends with the events, on graceful
/// shutdown, or when the reader is `longestBacklog` texts behind.
private func mergeKeepAlive(into events: AsyncStream<LocalEvent>, every interval: Duration) -> AsyncStream<String> {
    let (texts, out) = AsyncStream.makeStream(of: String.self, bufferingPolicy: .bufferingOldest(LocalServer.longestBacklog))
    @Sendable func send(_ text: String) {
        if case .dropped = out.yield(text) { out.finish() }
    }
    send(LocalEvent.keepAlive)
    let forward = Task {
        await cancelWhenGracefulShutdown {
            for await event in events { send(event.text) }
        }
        out.finish()
    }
    let tick = Task {
        while (try? await Task.sleep(for: interval)) != nil { send(LocalEvent.keepAlive) }
    }
    out.onTermination = { _ in
        forward.cancel()
        tick.cancel()
    }
    return texts
}
