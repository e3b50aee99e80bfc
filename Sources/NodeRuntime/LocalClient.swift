// The other end of `LocalServer`.

import AsyncHTTPClient
public import Foundation
import NIOCore
import NIOHTTP1

/// Speaks to one local service. Each request is a connection of its own: local connections are cheap, and a
/// service that was restarted is met at once.
public struct LocalClient: Sendable {
    public let socketPath: String
    private let timeout: Duration
    private let connection: Connection

    /// - Parameters:
    ///   - socketPath: at most 107 bytes.
    ///   - timeout: the longest wait for one answer; event streams have none.
    public init(socketPath: String, timeout: Duration = .seconds(30)) {
        self.socketPath = socketPath
        self.timeout = timeout
        connection = Connection()
    }

    /// - Throws: `NodeRuntimeError` `unreachable`, `timeout`, `refused` or `badMessage`.
    public func get<R: Decodable>(_ path: String) async throws -> R {
        try await exchange("GET", path, body: nil)
    }

    /// - Throws: as `get`.
    public func post<B: Encodable, R: Decodable>(_ path: String, _ body: B) async throws -> R {
        try await exchange("POST", path, body: LocalJSON.encode(body))
    }

    /// Posts nothing and expects a value.
    public func post<R: Decodable>(_ path: String) async throws -> R {
        try await exchange("POST", path, body: nil)
    }

    /// - Throws: as `get`.
    public func delete<R: Decodable>(_ path: String) async throws -> R {
        try await exchange("DELETE", path, body: nil)
    }

    /// The answer of GET as it is: JSON text.
    public func text(_ path: String) async throws -> Data {
        try await data("GET", path, body: nil)
    }

    /// The events at `path`, from now on, until the service ends the stream or the reader stops reading.
    public func events(_ path: String) -> AsyncThrowingStream<LocalEvent, any Error> {
        let (stream, out) = AsyncThrowingStream.makeStream(of: LocalEvent.self)
        let reading = Task {
            do {
                try await read(path) { out.yield($0) }
                out.finish()
            } catch {
                out.finish(throwing: error)
            }
        }
        out.onTermination = { _ in reading.cancel() }
        return stream
    }

    /// Closes what is open; later requests fail. A client that is released without it closes by itself.
    public func shutdown() async {
        try? await connection.http.shutdown()
    }

    private func exchange<R: Decodable>(_ method: String, _ path: String, body: Data?) async throws -> R {
        try LocalJSON.decode(R.self, from: await data(method, path, body: body), route: "\(method) \(path)")
    }

    private func data(_ method: String, _ path: String, body: Data?) async throws -> Data {
        let response = try await execute(request(method, path, body), deadline: .now() + TimeAmount(timeout))
        return try await collect(response, route: "\(method) \(path)")
    }

    private func read(_ path: String, _ each: (LocalEvent) -> Void) async throws {
        var head = try request("GET", path, nil)
        head.headers.add(name: "accept", value: "text/event-stream")
        let response = try await execute(head, deadline: .distantFuture)
        guard response.status == .ok else {
            _ = try await collect(response, route: "GET \(path)")
            return
        }
        var parser = LocalEventParser()
        for try await part in response.body {
            try parser.feed(part.readableBytesView).forEach(each)
        }
    }

    private func request(_ method: String, _ path: String, _ body: Data?) throws -> HTTPClientRequest {
        guard socketPath.utf8.count <= UnixSocket.longestPath else { throw NodeRuntimeError.socketPathTooLong(path: socketPath) }
        guard let url = URL(httpURLWithSocketPath: socketPath, uri: path) else {
            throw NodeRuntimeError.badMessage(route: path, reason: "it is no path")
        }
        var request = HTTPClientRequest(url: url.absoluteString)
        request.method = .init(rawValue: method)
        request.headers.add(name: "host", value: "localhost")
        request.headers.add(name: "connection", value: "close")
        if let body {
            request.headers.add(name: "content-type", value: "application/json")
            request.body = .bytes(body)
        }
        return request
    }

    private func execute(_ request: HTTPClientRequest, deadline: NIODeadline) async throws -> HTTPClientResponse {
        do {
            return try await connection.http.execute(request, deadline: deadline)
        } catch let error as HTTPClientError where error == .deadlineExceeded {
            throw NodeRuntimeError.timeout(route: "\(request.method.rawValue) on \(socketPath)", seconds: Int(timeout.components.seconds))
        } catch let error as CancellationError {
            throw error
        } catch {
            throw NodeRuntimeError.unreachable(path: socketPath, reason: LocalClient.reason(error))
        }
    }

    private func collect(_ response: HTTPClientResponse, route: String) async throws -> Data {
        let body: Data
        do {
            body = Data(try await response.body.collect(upTo: 64 << 20).readableBytesView)
        } catch {
            throw NodeRuntimeError.unreachable(path: socketPath, reason: LocalClient.reason(error))
        }
        guard (200..<300).contains(response.status.code) else {
            let message = (try? LocalJSON.decode([String: String].self, from: body, route: route))?["error"]
            throw NodeRuntimeError.refused(
                status: Int(response.status.code), message: message ?? String(decoding: body.prefix(400), as: UTF8.self))
        }
        return body
    }

    private static func reason(_ error: any Error) -> String {
        if let error = error as? IOError { return String(cString: strerror(error.errnoCode)).lowercased() }
        return "\(error)"
    }
}

/// One HTTP client, closed with its last user.
private final class Connection: Sendable {
    let http: HTTPClient

    init() {
        var configuration = HTTPClient.Configuration(timeout: .init(connect: .seconds(5)))
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.redirectConfiguration = .disallow
        http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    deinit {
        http.shutdown { _ in }
    }
}
