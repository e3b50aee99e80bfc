// What watches over one client's connection: time for the handshake, for a request's head and body, for taking the answer;
// answers to what is no HTTP; and an orderly end.
//
// Between TLS and HTTP below and Hummingbird above. Phases: handshake -> idle -> reading (head seen) -> answering (end seen)
// -> idle ...; any of them -> leaving, in which what arrives is thrown away until the client has hung up or its time is over,
// so that an answer that closes the connection is not lost with it.

import Glibc
import HTTPTypes
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOSSL
import NIOTLS

final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    static let leaving = TimeAmount.seconds(2)

    private let connections: Connections
    private let limits: RESTCONFLimits
    private let logger: Logger
    private let quiet: QuietLog

    /// What time is running out for.
    private var limit: Scheduled<Void>?
    private var isReading = false
    /// Requests without a complete answer.
    private var unanswered = 0
    private var isAnswerBegun = false
    private var isStreaming = false
    private var closesAfterAnswer = false
    private var isLeaving = false
    private var hasHungUp = false
    /// Parts of answers that are not with the client's side yet, and when there was progress.
    private var unsent = 0
    private var progress = NIODeadline.now()
    private var watch: Scheduled<Void>?

    init(connections: Connections, limits: RESTCONFLimits, logger: Logger, quiet: QuietLog) {
        self.connections = connections
        self.limits = limits
        self.logger = logger
        self.quiet = quiet
    }

    // MARK: Life

    func handlerAdded(context: ChannelHandlerContext) {
        connections.opened(context.channel)
        // A client that lost its power is noticed within half a minute, even where only comments are sent to it.
        let timeout = ChannelOptions.Types.SocketOption(level: .tcp, name: .init(rawValue: CInt(18 /* TCP_USER_TIMEOUT */)))
        context.channel.setOption(timeout, value: 30_000).whenFailure { _ in }
        allow(.seconds(Int64(limits.headSeconds)), context) { Self.hangUp(context) }
    }

    func handlerRemoved(context: ChannelHandlerContext) { end(context) }

    func channelInactive(context: ChannelHandlerContext) {
        end(context)
        context.fireChannelInactive()
    }

    private func end(_ context: ChannelHandlerContext) {
        limit?.cancel()
        watch?.cancel()
        connections.closed(context.channel)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case TLSUserEvent.handshakeCompleted:
            let certificate = try? context.channel.pipeline.syncOperations.nioSSL_peerCertificate()
            connections.identified(context.channel, names: certificate.map(CertificateNames.read) ?? [])
            awaitHead(context, .seconds(Int64(limits.headSeconds)))
        case ChannelEvent.inputClosed:
            // Whoever has hung up sends no more requests and takes no more events, but still what was asked for.
            hasHungUp = true
            if isStreaming || isLeaving || unanswered == 0 { return Self.hangUp(context) }
        default: break
        }
        context.fireUserInboundEventTriggered(event)
    }

    // MARK: Time

    private func allow(_ time: TimeAmount, _ context: ChannelHandlerContext, _ after: @escaping () -> Void) {
        limit?.cancel()
        limit = context.eventLoop.assumeIsolated().scheduleTask(in: time, after)
    }

    private func awaitHead(_ context: ChannelHandlerContext, _ time: TimeAmount) {
        allow(time, context) { Self.hangUp(context) }
    }

    private func awaitBody(_ context: ChannelHandlerContext) {
        allow(.seconds(Int64(limits.bodySeconds)), context) { [weak self] in
            guard let self else { return }
            let error = RESTCONFError(
                .transport, .operationFailed, "the request's body did not arrive within \(limits.bodySeconds) s", status: 408)
            refuse(error, context)
        }
    }

    // MARK: In

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isLeaving { return }
        switch unwrapInboundIn(data) {
        case .head(let head):
            limit?.cancel()
            unanswered += 1
            isReading = true
            if unanswered == 1 {
                isAnswerBegun = false
                awaitBody(context)
                invite(head, context)
            }
        case .body: break
        case .end:
            isReading = false
            limit?.cancel()
        }
        context.fireChannelRead(data)
    }

    /// A client that asks first (RFC 9110, section 10.1.1) is told to go on where its body is not too large from the start.
    private func invite(_ head: HTTPRequest, _ context: ChannelHandlerContext) {
        guard head.headerFields[.expect]?.lowercased() == "100-continue" else { return }
        let length = head.headerFields[.contentLength].flatMap { Int($0) } ?? 0
        guard length <= limits.bodyBytes else { return }
        context.writeAndFlush(wrapOutboundOut(.head(HTTPResponse(status: .continue))), promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case let error as HTTPParserError where !isLeaving && unanswered == 0:
            refuse(Self.refusal(error), context)
        case is NIOSSLError, is BoringSSLError: tell(error, context)
        default: break
        }
        // Where a request is being answered, its handler learns it with the body.
        if unanswered > 0 || !(error is HTTPParserError) { context.fireErrorCaught(error) }
    }

    private static func refusal(_ error: HTTPParserError) -> RESTCONFError {
        if case .headerOverflow = error {
            return RESTCONFError(.transport, .tooBig, "the request's header fields are too large", status: 431)
        }
        return RESTCONFError(.transport, .malformedMessage, "the request is not HTTP/1.1")
    }

    /// A client that hangs up without ceremony is no news; one that the handshake refused is.
    private func tell(_ error: any Error, _ context: ChannelHandlerContext) {
        if case NIOSSLError.uncleanShutdown = error { return }
        guard connections[context.channel]?.names.isEmpty ?? true, let suppressed = quiet.mayWrite() else { return }
        logger.notice(
            "a client was refused in the TLS handshake",
            metadata: [
                "from": "\(context.remoteAddress?.ipAddress ?? "unknown")", "reason": "\(error)", "suppressed": "\(suppressed)",
            ])
    }

    // MARK: Out

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        if isLeaving {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        let part = unwrapOutboundIn(data)
        if case .head(let head) = part, head.status.kind != .informational {
            isAnswerBegun = true
            isStreaming = head.headerFields[.contentType] == EventText.mediaType
            closesAfterAnswer = closesAfterAnswer || head.headerFields[.connection]?.lowercased() == "close"
        }
        context.write(data, promise: watched(promise, context))
        if isStreaming, hasHungUp { return Self.hangUp(context) }
        if case .end = part { answered(context) }
    }

    private func answered(_ context: ChannelHandlerContext) {
        unanswered -= 1
        isAnswerBegun = false
        isStreaming = false
        if closesAfterAnswer || (hasHungUp && unanswered == 0) { return leaveAfterWrites(context) }
        if unanswered == 0 {
            awaitHead(context, .seconds(Int64(limits.idleSeconds)))
        } else if unanswered == 1, isReading {
            awaitBody(context)
        }
    }

    /// Answers without Hummingbird, and leaves. Where an answer has begun there is nothing to say any more.
    private func refuse(_ error: RESTCONFError, _ context: ChannelHandlerContext) {
        guard !isAnswerBegun else { return Self.hangUp(context) }
        let body = ByteBuffer(bytes: ErrorDocument.json(error))
        var head = HTTPResponse(status: .init(code: error.status))
        head.headerFields[.contentType] = DataEncoding.json.mediaType
        head.headerFields[.contentLength] = "\(body.readableBytes)"
        head.headerFields[.connection] = "close"
        context.write(wrapOutboundOut(.head(head)), promise: watched(nil, context))
        context.write(wrapOutboundOut(.body(body)), promise: nil)
        context.write(wrapOutboundOut(.end(nil)), promise: nil)
        leaveAfterWrites(context)
    }

    private func leaveAfterWrites(_ context: ChannelHandlerContext) {
        isLeaving = true
        context.flush()
        context.close(mode: .output, promise: nil)
        allow(Self.leaving, context) { Self.hangUp(context) }
    }

    /// Asked for by whoever knows that a client is too slow.
    struct HangUp: Sendable {}

    func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?) {
        guard event is HangUp else { return context.triggerUserOutboundEvent(event, promise: promise) }
        Self.hangUp(context)
        promise?.succeed()
    }

    /// At once: without TLS's farewell, for which a client that takes nothing would be waited for another five seconds.
    private static func hangUp(_ context: ChannelHandlerContext) {
        let below = try? context.pipeline.syncOperations.context(handlerType: NIOSSLServerHandler.self)
        (below ?? context).close(promise: nil)
    }

    // MARK: Slow readers

    private func watched(_ promise: EventLoopPromise<Void>?, _ context: ChannelHandlerContext) -> EventLoopPromise<Void> {
        let promise = promise ?? context.eventLoop.makePromise()
        if unsent == 0 { progress = .now() }
        unsent += 1
        promise.futureResult.assumeIsolated().whenComplete { [weak self] _ in
            self?.unsent -= 1
            self?.progress = .now()
        }
        if watch == nil { keepWatch(context, .seconds(Int64(limits.answerSeconds))) }
        return promise
    }

    private func keepWatch(_ context: ChannelHandlerContext, _ time: TimeAmount) {
        watch = context.eventLoop.assumeIsolated().scheduleTask(in: time) { [weak self] in
            guard let self else { return }
            watch = nil
            guard unsent > 0 else { return }
            let left = progress + .seconds(Int64(limits.answerSeconds)) - .now()
            if left > .zero { keepWatch(context, left) } else { Self.hangUp(context) }
        }
    }
}
