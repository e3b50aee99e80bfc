// How much a server takes: requests per second over mutual TLS, notifications per second to many subscribers.
//
// Server and clients usually share one machine here, so the figures are what both together do.

import AsyncHTTPClient
public import Foundation
import NIOCore
import NIOHTTP1
import Synchronization

public struct RESTCONFBench: Sendable {
    public struct Figures: Sendable, Codable, Equatable {
        /// GET of one resource, per second.
        public var gets: Double
        /// PATCH of one resource, per second: validated, applied, written to disk.
        public var patches: Double
        /// Notifications delivered per second, over all subscribers.
        public var delivered: Double
        public var subscribers: Int
    }

    private let base: String
    private let files: TLSFiles

    /// - Parameter files: of a client that may write.
    public init(base: String, files: TLSFiles) {
        self.base = base
        self.files = files
    }

    /// - Parameters:
    ///   - get: an api-path.
    ///   - patch: an api-path, and a body for each number.
    ///   - publish: publishes one notification on the stream `NETCONF`.
    ///   - connections: of the GETs and of the PATCHes.
    ///   - seconds: for each of the three parts.
    /// - Throws: `RESTCONFSetupError`, `RESTCONFClientError`.
    public func run(
        get: String, patch: (path: String, body: @Sendable (Int) -> Data), publish: @escaping @Sendable (Int) async throws -> Void,
        connections: Int = 8, subscribers: Int = 16, seconds: Double = 3
    ) async throws -> Figures {
        let client = try RESTCONFClient(base: base, files: files)
        let gets = try await rate(connections, seconds) { _ in _ = try await client.get(get) }
        let patches = try await rate(connections, seconds) { try await client.patch(patch.path, patch.body($0)) }
        return Figures(
            gets: gets, patches: patches, delivered: try await delivered(subscribers, seconds, publish), subscribers: subscribers)
    }

    /// How often a second `body` is done by so many at once.
    private func rate(_ connections: Int, _ seconds: Double, _ body: @escaping @Sendable (Int) async throws -> Void) async throws -> Double
    {
        let counter = Counts(1)
        let began = ContinuousClock.now
        let end = began + .seconds(seconds)
        let done = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<connections {
                group.addTask {
                    var done = 0
                    while ContinuousClock.now < end {
                        try await body(counter.add(0, 1))
                        done += 1
                    }
                    return done
                }
            }
            return try await group.reduce(0, +)
        }
        return Double(done) / (began.duration(to: .now) / .seconds(1))
    }

    /// Publishes as fast as the slowest subscriber follows.
    private func delivered(
        _ subscribers: Int, _ seconds: Double, _ publish: @escaping @Sendable (Int) async throws -> Void
    ) async throws -> Double {
        let counts = Counts(subscribers)
        return try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<subscribers { group.addTask { try await count(index, counts) } }
            while counts.least < 0 { try await Task.sleep(for: .milliseconds(10)) }
            let began = ContinuousClock.now
            var published = 0
            while began.duration(to: .now) < .seconds(seconds) {
                try await publish(published)
                published += 1
                while published - counts.least > 500 { try await Task.sleep(for: .milliseconds(1)) }
            }
            let limit = ContinuousClock.now + .seconds(5)
            while counts.least < published, ContinuousClock.now < limit { try await Task.sleep(for: .milliseconds(1)) }
            let rate = Double(counts.total) / (began.duration(to: .now) / .seconds(1))
            group.cancelAll()
            return rate
        }
    }

    /// One subscriber with a connection of its own; -1 until it is subscribed.
    private func count(_ index: Int, _ counts: Counts) async throws {
        let http = SharedHTTP(try files.client())
        var request = HTTPClientRequest(url: "\(base)/streams/NETCONF/json")
        request.headers.add(name: "accept", value: EventText.mediaType)
        let response = try await http.client.execute(request, deadline: .distantFuture)
        guard response.status == .ok else { throw RESTCONFClientError.unexpected(status: Int(response.status.code), text: "event stream") }
        var parser = EventParser()
        counts.add(index, 1)
        do {
            for try await part in response.body { counts.add(index, parser.feed(part.readableBytesView)?.count ?? 0) }
        } catch { if !Task.isCancelled { throw error } }
    }

    /// What each subscriber has got.
    private final class Counts: Sendable {
        private let each: Mutex<[Int]>

        init(_ count: Int) { each = Mutex(Array(repeating: -1, count: count)) }

        @discardableResult
        func add(_ index: Int, _ more: Int) -> Int {
            each.withLock { each in
                each[index] += more
                return each[index]
            }
        }
        var least: Int { each.withLock { $0.min() ?? 0 } }
        var total: Int { each.withLock { $0.reduce(0, +) } }
    }
}
