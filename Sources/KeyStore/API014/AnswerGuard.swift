// What watches over one application's connection: time for the handshake, time to read an answer, and the overwriting
// of key once it has left.

import Glibc
import HTTPTypes
import NIOCore
import NIOHTTPTypes
import NIOTLS
import QKDModel
import Synchronization

/// Stands between HTTP and the connection of one application.
final class AnswerGuard: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    static let handshake = TimeAmount.seconds(5)
    static let reading = TimeAmount.seconds(30)
    private var limit: Scheduled<Void>?

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        limit = context.eventLoop.scheduleTask(in: Self.handshake) { channel.close(promise: nil) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSUserEvent.handshakeCompleted = event { limit?.cancel() }
        context.fireUserInboundEventTriggered(event)
    }

    func handlerRemoved(context: ChannelHandlerContext) { limit?.cancel() }

    /// A body is overwritten when the encrypted copy of it has left, or when it never will.
    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .body(let body) = unwrapOutboundIn(data), body.readableBytes > 0 else { return context.write(data, promise: promise) }
        let channel = context.channel
        let limit = context.eventLoop.scheduleTask(in: Self.reading) { channel.close(promise: nil) }
        let sent = promise ?? context.eventLoop.makePromise()
        sent.futureResult.whenComplete { _ in
            limit.cancel()
            overwrite(body)
        }
        context.write(data, promise: sent)
    }
}

/// Overwrites a buffer where it lies: changing it through its own methods would overwrite a copy while others share it.
func overwrite(_ buffer: ByteBuffer) {
    buffer.withUnsafeReadableBytes { bytes in
        if let base = bytes.baseAddress { explicit_bzero(UnsafeMutableRawPointer(mutating: base), bytes.count) }
    }
}

/// The text of keys that waits to be written; overwritten if nobody takes it.
final class KeyText: Sendable {
    private let text: Mutex<ByteBuffer?>

    init(_ text: ByteBuffer) { self.text = Mutex(text) }

    func take() -> ByteBuffer? {
        text.withLock { text in
            defer { text = nil }
            return text
        }
    }

    deinit { if let text = take() { overwrite(text) } }
}

/// How many requests each application has at work: keys in locked pages are too few to let one take them all.
final class Crowd: Sendable {
    static let largest = 256
    private let present = Mutex<[SAEID: Int]>([:])

    /// - Throws: `KMEError` (503) where the application has too many at work.
    func enter(_ application: SAEID) throws {
        let entered = present.withLock { present in
            guard present[application, default: 0] < Self.largest else { return false }
            present[application, default: 0] += 1
            return true
        }
        guard entered else { throw KMEError.unavailable("\(application) has \(Self.largest) requests at work already") }
    }

    func leave(_ application: SAEID) {
        present.withLock { present in
            let left = present[application, default: 1] - 1
            present[application] = left > 0 ? left : nil
        }
    }
}
