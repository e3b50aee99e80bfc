// Reads an event stream and comes back when it breaks.

import AsyncHTTPClient
public import Foundation
import NIOCore
import NIOHTTP1

/// A notification as a client gets it.
public struct ReceivedNotification: Sendable, Equatable {
    /// `module:notification`.
    public var name: String
    public var time: Date
    /// `{"ietf-restconf:notification":{...}}`
    public var json: Data

    /// - Throws: `RESTCONFClientError.badAnswer`.
    init(_ json: Data, url: String) throws(RESTCONFClientError) {
        guard let document = (try? JSONSerialization.jsonObject(with: json)) as? [String: Any],
            let body = document["ietf-restconf:notification"] as? [String: Any],
            let time = (body["eventTime"] as? String ?? body["ietf-restconf:eventTime"] as? String).flatMap(DateAndTime.parse),
            let name = body.keys.first(where: { !$0.hasSuffix("eventTime") })
        else {
            let text = String(decoding: json.prefix(200), as: UTF8.self)
            throw .badAnswer(url: url, problem: "an event that is no notification: \(text)")
        }
        (self.name, self.time, self.json) = (name, time, json)
    }
}

/// How long a client waits before it connects again.
public struct EventPauses: Sendable {
    public var first: Duration
    public var longest: Duration

    public init(first: Duration = .milliseconds(500), longest: Duration = .seconds(30)) {
        (self.first, self.longest) = (first, longest)
    }
}

struct EventReader: Sendable {
    let base: String
    let stream: String
    let http: SharedHTTP
    let pauses: EventPauses

    /// Where the reader stands: all notifications of the latest time, since several may share one.
    private struct Place {
        var time: Date?
        var seen: Set<Data> = []

        /// - Returns: whether it is new.
        mutating func pass(_ notification: ReceivedNotification) -> Bool {
            if let time, notification.time < time { return false }
            if notification.time == time { return seen.insert(notification.json).inserted }
            (time, seen) = (notification.time, [notification.json])
            return true
        }
    }

    /// Until cancelled.
    func run(from: Date?, _ each: (ReceivedNotification) -> Void) async throws {
        // Without a wish for the past, what happens while there is no connection is still asked for.
        var place = Place()
        var (since, pause) = (from, pauses.first)
        while !Task.isCancelled {
            do {
                try await read(since: since) { notification in
                    guard place.pass(notification) else { return }
                    each(notification)
                } connected: { serverTime in
                    pause = pauses.first
                    since = since ?? serverTime
                }
            } catch let error as RESTCONFClientError where Self.isFinal(error) {
                throw error
            } catch {}
            since = place.time ?? since
            do { try await Task.sleep(for: pause) } catch { return }
            pause = min(pause * 2, pauses.longest)
        }
    }

    private static func isFinal(_ error: RESTCONFClientError) -> Bool {
        guard let status = error.status else { return false }
        return (400..<500).contains(status) && ![408, 409, 429].contains(status)
    }

    private func read(since: Date?, _ each: (ReceivedNotification) -> Void, connected: (_ serverTime: Date?) -> Void) async throws {
        let name = stream.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? stream
        var url = "\(base)/streams/\(name)/json"
        if let since { url += "?start-time=" + DateAndTime.text(since) }
        var request = HTTPClientRequest(url: url)
        request.headers.add(name: "accept", value: EventText.mediaType)
        let response = try await http.client.execute(request, deadline: .distantFuture)
        guard response.status == .ok else {
            let body = Data(try await response.body.collect(upTo: 1 << 20).readableBytesView)
            throw RESTCONFClient.refusal(RESTCONFAnswer(status: Int(response.status.code), body: body, headers: [:]))
        }
        connected(response.headers.first(name: "date").flatMap(HTTPDate.parse))
        var parser = EventParser()
        for try await part in response.body {
            guard let events = parser.feed(part.readableBytesView) else {
                throw RESTCONFClientError.badAnswer(url: url, problem: "an event is too long")
            }
            for event in events { each(try ReceivedNotification(event, url: url)) }
        }
    }
}
