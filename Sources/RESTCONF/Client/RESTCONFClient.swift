// The other end: RESTCONF over mutual TLS 1.3, for controllers and tests.

import AsyncHTTPClient
public import Foundation
import Glibc
import NIOCore
import NIOHTTP1
import NIOSSL

/// What went wrong with a request.
public enum RESTCONFClientError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The server's own words; `error.status` is the answer's status.
    case refused(RESTCONFError)
    /// A status that is no success, without an error document.
    case unexpected(status: Int, text: String)
    /// No answer: not reachable, no trust, hung up.
    case unreachable(url: String, reason: String)
    case timeout(url: String, seconds: Int)
    /// An answer that is not what RFC 8040 says.
    case badAnswer(url: String, problem: String)

    public var description: String {
        switch self {
        case .refused(let error): "refused with status \(error.status): \(error)"
        case .unexpected(let status, let text): "status \(status)\(text.isEmpty ? "" : ": \(text)")"
        case .unreachable(let url, let reason): "\(url) cannot be reached: \(reason)"
        case .timeout(let url, let seconds): "\(url) did not answer within \(seconds) s"
        case .badAnswer(let url, let problem): "\(url) answered what RESTCONF does not know: \(problem)"
        }
    }

    /// The status of an answer that there was.
    public var status: Int? {
        switch self {
        case .refused(let error): error.status
        case .unexpected(let status, _): status
        default: nil
        }
    }
}

/// An answer that is a success.
public struct RESTCONFAnswer: Sendable {
    public var status: Int
    public var body: Data
    /// Without quotes.
    public var etag: String?
    public var lastModified: Date?
    public var location: String?
    /// By lower-case name; the first of each.
    public var headers: [String: String]
}

/// A client of one RESTCONF server. Values are cheap to copy; connections are shared and closed with the last copy.
public struct RESTCONFClient: Sendable {
    /// `https://host:port`, without a slash at the end.
    public let base: String
    private let timeout: Duration
    private let http: SharedHTTP

    /// - Parameters:
    ///   - base: `https://host:port`; the server's certificate has to name the host.
    ///   - timeout: for a whole request, event streams excepted.
    /// - Throws: `RESTCONFSetupError`.
    public init(base: String, files: TLSFiles, timeout: Duration = .seconds(30)) throws(RESTCONFSetupError) {
        guard let url = URL(string: base), url.scheme == "https", url.host != nil else { throw .badURL(base) }
        self.base = base.trimming("/")
        self.timeout = timeout
        http = SharedHTTP(try files.client())
    }

    // MARK: Methods

    /// - Parameters:
    ///   - path: an api-path below `/restconf/data/`, percent-encoded; empty for the datastore.
    ///   - query: for example `content=config&depth=2`.
    public func get(
        _ path: String, query: String = "", encoding: DataEncoding = .json, headers: [String: String] = [:]
    ) async throws(RESTCONFClientError) -> RESTCONFAnswer {
        try await request("GET", data(path, query), headers: ["accept": encoding.mediaType].merging(headers) { $1 })
    }

    /// Replaces or creates a resource. - Returns: whether it was created.
    @discardableResult
    public func put(
        _ path: String, _ body: Data, query: String = "", encoding: DataEncoding = .json, ifMatch etag: String? = nil
    ) async throws(RESTCONFClientError) -> Bool {
        try await send("PUT", path, body, query, encoding, etag).status == 201
    }

    /// Creates a child of `path`. - Returns: its location.
    @discardableResult
    public func post(
        _ path: String, _ body: Data, query: String = "", encoding: DataEncoding = .json
    ) async throws(RESTCONFClientError) -> String? {
        try await send("POST", path, body, query, encoding, nil).location
    }

    /// Merges into a resource (plain patch).
    public func patch(
        _ path: String, _ body: Data, encoding: DataEncoding = .json, ifMatch etag: String? = nil
    ) async throws(RESTCONFClientError) {
        _ = try await send("PATCH", path, body, "", encoding, etag)
    }

    public func delete(_ path: String, ifMatch etag: String? = nil) async throws(RESTCONFClientError) {
        _ = try await request("DELETE", data(path, ""), headers: condition(etag))
    }

    /// Invokes `module:rpc`. - Returns: its output, nil where there is none.
    public func invoke(_ operation: String, _ input: Data? = nil) async throws(RESTCONFClientError) -> Data? {
        let answer = try await request(
            "POST", "/restconf/operations/\(operation)",
            headers: input == nil ? ["accept": DataEncoding.json.mediaType] : types(.json), body: input)
        return answer.body.isEmpty ? nil : answer.body
    }

    private func send(
        _ method: String, _ path: String, _ body: Data, _ query: String, _ encoding: DataEncoding, _ etag: String?
    ) async throws(RESTCONFClientError) -> RESTCONFAnswer {
        try await request(method, data(path, query), headers: types(encoding).merging(condition(etag)) { $1 }, body: body)
    }

    private func types(_ encoding: DataEncoding) -> [String: String] {
        ["accept": encoding.mediaType, "content-type": encoding.mediaType]
    }

    private func condition(_ etag: String?) -> [String: String] {
        etag.map { ["if-match": $0 == "*" ? "*" : "\"\($0)\""] } ?? [:]
    }

    private func data(_ path: String, _ query: String) -> String {
        "/restconf/data" + (path.isEmpty ? "" : "/" + path) + (query.isEmpty ? "" : "?" + query)
    }

    // MARK: Any request

    /// A request of any kind, for what has no method of its own.
    /// - Parameter target: path and query, beginning with a slash.
    public func request(
        _ method: String, _ target: String, headers: [String: String] = [:], body: Data? = nil
    ) async throws(RESTCONFClientError) -> RESTCONFAnswer {
        var request = HTTPClientRequest(url: base + target)
        request.method = .init(rawValue: method)
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        if let body { request.body = .bytes(body) }
        let answer = try await execute(request, deadline: .now() + TimeAmount(timeout))
        guard (200..<300).contains(answer.status) else { throw Self.refusal(answer) }
        return answer
    }

    private func execute(_ request: HTTPClientRequest, deadline: NIODeadline) async throws(RESTCONFClientError) -> RESTCONFAnswer {
        do {
            let response = try await http.client.execute(request, deadline: deadline)
            let body = Data(try await response.body.collect(upTo: 256 << 20).readableBytesView)
            let headers = Dictionary(response.headers.map { ($0.name.lowercased(), $0.value) }) { first, _ in first }
            return RESTCONFAnswer(
                status: Int(response.status.code), body: body, etag: headers["etag"]?.trimming("\""),
                lastModified: headers["last-modified"].flatMap(HTTPDate.parse), location: headers["location"], headers: headers)
        } catch {
            throw Self.failure(error, base, timeout)
        }
    }

    static func refusal(_ answer: RESTCONFAnswer) -> RESTCONFClientError {
        if let error = ErrorDocument.parse(answer.body, status: answer.status) { return .refused(error) }
        return .unexpected(status: answer.status, text: String(decoding: answer.body.prefix(400), as: UTF8.self))
    }

    static func failure(_ error: any Error, _ url: String, _ timeout: Duration) -> RESTCONFClientError {
        switch error {
        case let error as RESTCONFClientError: error
        case let error as HTTPClientError where error == .deadlineExceeded || error == .readTimeout || error == .connectTimeout:
            .timeout(url: url, seconds: Int(timeout.components.seconds))
        case let error as IOError: .unreachable(url: url, reason: String(cString: strerror(error.errnoCode)).lowercased())
        default: .unreachable(url: url, reason: "\(error)")
        }
    }

    // MARK: Events

    /// The notifications of a stream, for as long as the reader wants them.
    ///
    /// The connection is made again whenever it breaks, with growing pauses; then the server is asked to replay what came since
    /// the last notification that was seen, and what was seen already is left out.
    /// - Parameters:
    ///   - stream: its name.
    ///   - from: asks for a replay from then on.
    /// - Throws: in the stream, `refused` with a status of 400 to 499 (but 408, 409 and 429), which no repetition would change.
    public func events(
        _ stream: String = EventStream.netconf.name, from: Date? = nil, pauses: EventPauses = EventPauses()
    ) -> AsyncThrowingStream<ReceivedNotification, any Error> {
        let (notifications, out) = AsyncThrowingStream.makeStream(of: ReceivedNotification.self)
        let reader = EventReader(base: base, stream: stream, http: http, pauses: pauses)
        let task = Task {
            do {
                try await reader.run(from: from) { out.yield($0) }
                out.finish()
            } catch {
                out.finish(throwing: error)
            }
        }
        out.onTermination = { _ in task.cancel() }
        return notifications
    }
}

/// One HTTP client, closed with its last user.
final class SharedHTTP: Sendable {
    let client: HTTPClient

    init(_ tls: TLSConfiguration) {
        // Servers send comments on idle event streams: a minute without one and the connection is lost.
        var configuration = HTTPClient.Configuration(timeout: .init(connect: .seconds(5), read: .seconds(60)))
        configuration.tlsConfiguration = tls
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.redirectConfiguration = .disallow
        configuration.httpVersion = .http1Only
        client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    deinit { client.shutdown { _ in } }
}
