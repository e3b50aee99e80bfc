// Event streams as their subscribers get them (RFC 8040, sections 3.8 and 6).

import Foundation
import HTTPTypes
import HummingbirdCore
import NIOCore
import ServiceLifecycle
import Synchronization

/// The open event streams, counted.
final class StreamSeats: Sendable {
    private let taken = Mutex<[String: Int]>([:])
    private let limits: RESTCONFLimits

    init(limits: RESTCONFLimits) { self.limits = limits }

    /// - Throws: 503 where there is no place left.
    func take(_ client: String) throws -> StreamSeat {
        let problem: String? = taken.withLock { taken in
            let (all, own) = (taken.values.reduce(0, +), taken[client, default: 0])
            if all >= limits.subscribers { return "this server has its \(limits.subscribers) event streams already" }
            if own >= limits.subscribersPerClient { return "'\(client)' has its \(limits.subscribersPerClient) event streams already" }
            taken[client] = own + 1
            return nil
        }
        if let problem {
            throw Refusal(error: RESTCONFError(.transport, .resourceDenied, problem, status: 503), headers: [.retryAfter: "10"])
        }
        return StreamSeat(seats: self, client: client)
    }

    fileprivate func leave(_ client: String) {
        taken.withLock { taken in
            let left = taken[client, default: 1] - 1
            taken[client] = left > 0 ? left : nil
        }
    }
}

/// One subscriber's place; free again when nobody holds it, whatever became of the answer.
final class StreamSeat: Sendable {
    private let seats: StreamSeats
    private let client: String

    fileprivate init(seats: StreamSeats, client: String) {
        self.seats = seats
        self.client = client
    }

    deinit { seats.leave(client) }
}

/// Ends a subscription when the answer that it belongs to is gone.
private final class Subscription: Sendable {
    let subscriber: Subscriber
    private let streams: EventStreams
    private let seat: StreamSeat

    init(_ subscriber: Subscriber, _ streams: EventStreams, _ seat: StreamSeat) {
        (self.subscriber, self.streams, self.seat) = (subscriber, streams, seat)
    }

    deinit {
        let (subscriber, streams) = (subscriber, streams)
        subscriber.finish()
        Task { await streams.close(subscriber) }
    }
}

extension Responder {
    /// - Parameter place: `name/json` or `name/xml`.
    func stream(_ exchange: Exchange, _ place: String) async throws -> Response {
        let parts = place.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let encoding = DataEncoding(rawValue: String(parts[1])), let name = RequestTarget.decode(String(parts[0])),
            streams.streams.contains(where: { $0.name == name })
        else { throw RESTCONFError(.protocol, .invalidValue, "there is no event stream '\(place.prefix(80))'", status: 404) }
        try exchange.only([.get, .head])
        if exchange.method == .options { return options([.get, .head]) }
        guard try exchange.accept().choose([EventText.mediaType]) != nil else {
            throw RESTCONFError(.protocol, .invalidValue, "event streams are sent as \(EventText.mediaType)", status: 406)
        }
        let times = try QueryParameters(exchange.target, known: QueryParameters.replaying).replay(now: Date())
        let headers: HTTPFields = [.contentType: EventText.mediaType, .cacheControl: "no-cache"]
        if exchange.method == .head { return Response(status: .ok, headers: headers) }
        let seat = try seats.take(exchange.client)
        // A client that is too slow to take what was written is not waited for either.
        let channel = exchange.channel
        let subscriber = try await streams.open(
            stream: name, from: times.from, until: times.until, backlog: exchange.limits.subscriberBacklog,
            onDrop: { channel.triggerUserOutboundEvent(ConnectionGuard.HangUp(), promise: nil) })
        return Response(status: .ok, headers: headers, body: events(Subscription(subscriber, streams, seat), encoding, exchange))
    }

    private func events(_ subscription: Subscription, _ encoding: DataEncoding, _ exchange: Exchange) -> ResponseBody {
        let (channel, pause) = (exchange.channel, Duration.seconds(exchange.limits.keepAliveSeconds))
        return ResponseBody { writer in
            let subscriber = subscription.subscriber
            channel.closeFuture.whenComplete { [weak subscriber] _ in subscriber?.finish() }
            let tick = Task { [weak subscriber] in
                while (try? await Task.sleep(for: pause)) != nil, let subscriber { subscriber.poke() }
            }
            defer { tick.cancel() }
            // What is written at once tells the client that it is subscribed.
            try await writer.write(EventText.keepAlive)
            while let batch = await taking(subscriber) { try await writer.write(Self.text(batch, encoding)) }
            if !subscriber.wasDropped { try await writer.finish(nil) }
        }
    }

    /// A server that is asked to stop ends its streams.
    private func taking(_ subscriber: Subscriber) async -> [Notification]? {
        await withGracefulShutdownHandler {
            await subscriber.take()
        } onGracefulShutdown: {
            subscriber.finish()
        }
    }

    /// One write for everything that waits.
    private static func text(_ batch: [Notification], _ encoding: DataEncoding) throws -> ByteBuffer {
        guard batch.count != 1 else { return try batch[0].event(encoding) }
        if batch.isEmpty { return EventText.keepAlive }
        var buffer = ByteBuffer()
        for notification in batch {
            var event = try notification.event(encoding)
            buffer.writeBuffer(&event)
        }
        return buffer
    }
}
