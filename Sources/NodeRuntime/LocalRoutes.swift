// The routes of a local service, without a server: plain closures from message to message.

package import Foundation

/// What a route's handler may ask about its request.
public struct LocalRequest: Sendable {
    /// The path as it was asked for, without the query.
    public let path: String
    package let parameters: [String: String]
    package let queries: [String: String]
    package let body: Data

    package init(path: String, parameters: [String: String] = [:], queries: [String: String] = [:], body: Data = Data()) {
        self.path = path
        self.parameters = parameters
        self.queries = queries
        self.body = body
    }

    /// - Returns: the value at `:name` in the route's path; `nil` where the route has no such parameter.
    public func parameter(_ name: String) -> String? { parameters[name] }

    /// - Throws: `LocalProblem` 400 where the route has no parameter `name`.
    public func require(_ name: String) throws(LocalProblem) -> String {
        guard let value = parameters[name] else { throw .badRequest("the path has no '\(name)'") }
        return value
    }

    /// - Returns: the first value of `?name=` in the query.
    public func query(_ name: String) -> String? { queries[name] }
}

/// An error that a handler answers on purpose, with its HTTP status. Every other error becomes status 500.
public struct LocalProblem: Error, Equatable, CustomStringConvertible {
    public let status: Int
    public let message: String

    public init(status: Int, message: String) {
        self.status = status
        self.message = message
    }

    public static func badRequest(_ message: String) -> Self { Self(status: 400, message: message) }
    public static func notFound(_ message: String) -> Self { Self(status: 404, message: message) }
    public static func conflict(_ message: String) -> Self { Self(status: 409, message: message) }
    public static func unavailable(_ message: String) -> Self { Self(status: 503, message: message) }

    public var description: String { message }
}

/// The message that says nothing, for routes without a body or without an answer.
public struct LocalNothing: Codable, Sendable, Equatable {
    public init() {}
}

/// The routes of one local service.
///
/// Path components that begin with `:` are parameters: `/links/:id`.
public struct LocalRoutes: Sendable {
    package enum Answer: Sendable {
        case json(@Sendable (LocalRequest) async throws -> Data)
        case events(@Sendable (LocalRequest) async throws -> AsyncStream<LocalEvent>)
    }

    package struct Route: Sendable {
        package let method: String
        package let path: String
        package let answer: Answer
    }

    package private(set) var all: [Route] = []

    /// By path.
    package var methods: [String: Set<String>] { all.reduce(into: [:]) { $0[$1.path, default: []].insert($1.method) } }

    public init() {}

    /// Answers GET at `path` with the handler's value as JSON.
    public mutating func get<R: Encodable & Sendable>(
        _ path: String, _ handler: @escaping @Sendable (LocalRequest) async throws -> R
    ) {
        add("GET", path, .json { try LocalJSON.encode(await handler($0)) })
    }

    /// Answers POST at `path`: the body is decoded as `B` (an empty body as `{}`), the handler's value goes back.
    public mutating func post<B: Decodable & Sendable, R: Encodable & Sendable>(
        _ path: String, _ handler: @escaping @Sendable (B, LocalRequest) async throws -> R
    ) {
        add(
            "POST", path,
            .json { request in
                let text = request.body.isEmpty ? Data("{}".utf8) : request.body
                let body = try LocalJSON.decode(B.self, from: text, route: "POST \(request.path)")
                return try LocalJSON.encode(await handler(body, request))
            })
    }

    /// Answers DELETE at `path` with the handler's value as JSON.
    public mutating func delete<R: Encodable & Sendable>(
        _ path: String, _ handler: @escaping @Sendable (LocalRequest) async throws -> R
    ) {
        add("DELETE", path, .json { try LocalJSON.encode(await handler($0)) })
    }

    /// Answers GET at `path` with a stream of server-sent events that ends when the handler's stream ends, the
    /// reader leaves, or the service stops.
    public mutating func events(
        _ path: String, _ handler: @escaping @Sendable (LocalRequest) async throws -> AsyncStream<LocalEvent>
    ) {
        add("GET", path, .events(handler))
    }

    private mutating func add(_ method: String, _ path: String, _ answer: Answer) {
        all.append(Route(method: method, path: path, answer: answer))
    }
}
