// TCP and TLS 1.3 under the KM link: who dials, who listens, frames by their length. Knows nothing of what they say.

package import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

/// A host and a port, as the configuration writes them: "127.0.0.1:9001", "[::1]:9001".
public struct HostPort: Sendable, Equatable, CustomStringConvertible {
    public var host: String
    public var port: Int

    /// - Throws: `KeyStoreError.configuration` where there is no host or no port from 0 to 65535.
    public init(_ text: String) throws(KeyStoreError) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), colon != text.startIndex else {
            throw .configuration("'\(text)' is no address: write host:port")
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        self.host = host
        self.port = Int(port)
    }

    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// One TLS connection of the KM link.
package final class KMConnection: Sendable {
    /// Names in the peer's certificate, which the CA has signed.
    package let names: [String]
    /// Frames without their length; ends with the connection.
    package let frames: AsyncStream<[UInt8]>
    private let channel: any Channel

    init(channel: any Channel, names: [String], frames: AsyncStream<[UInt8]>) {
        self.channel = channel
        self.names = names
        self.frames = frames
    }

    package func send(_ frame: [UInt8]) {
        var buffer = channel.allocator.buffer(capacity: frame.count + 4)
        buffer.writeInteger(UInt32(frame.count))
        buffer.writeBytes(frame)
        channel.writeAndFlush(buffer, promise: nil)
    }

    package func close() { channel.close(promise: nil) }

    /// Returns once the connection has ended.
    package func ended() async { try? await channel.closeFuture.get() }
}

/// Makes connections to peers and takes theirs.
package struct KMTransport: Sendable {
    let group: any EventLoopGroup
    let server: NIOSSLContext
    let client: NIOSSLContext
    let names: CertificateNames

    package init(files: TLSFiles, names: CertificateNames, group: any EventLoopGroup) throws {
        self.group = group
        self.names = names
        server = try NIOSSLContext(configuration: files.server(minimum: .tlsv13))
        client = try NIOSSLContext(configuration: files.client(minimum: .tlsv13))
    }

    /// - Returns: a connection whose TLS handshake is over.
    package func dial(_ address: HostPort, timeout: TimeAmount = .seconds(3)) async throws -> KMConnection {
        let (context, names) = (client, names)
        // A host may have several addresses, which are tried side by side: only the one that connects says hello.
        let channel = try await ClientBootstrap(group: group)
            .connectTimeout(timeout)
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .connect(host: address.host, port: address.port).get()
        let limit = channel.eventLoop.scheduleTask(in: timeout) { channel.close(promise: nil) }
        defer { limit.cancel() }
        let ready = channel.eventLoop.makePromise(of: KMConnection.self)
        do {
            try await channel.eventLoop.submit {
                try channel.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: context, serverHostname: nil))
                try Self.addHandlers(channel, names: names) { ready.completeWith($0) }
            }.get()
        } catch { ready.fail(error) }
        do { return try await ready.futureResult.get() } catch {
            channel.close(promise: nil)
            throw error
        }
    }

    /// Listens until the returned channel is closed.
    package func listen(
        _ address: HostPort, _ take: @escaping @Sendable (Result<KMConnection, any Error>) -> Void
    ) async throws -> any Channel {
        let (context, names) = (server, names)
        return try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 64)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
                    try Self.addHandlers(channel, names: names, take)
                    // Whoever does not finish the handshake in time goes.
                    try channel.pipeline.syncOperations.addHandler(HandshakeLimit())
                }
            }
            .bind(host: address.host, port: address.port).get()
    }

    private static func addHandlers(
        _ channel: any Channel, names: CertificateNames, _ ready: @escaping @Sendable (Result<KMConnection, any Error>) -> Void
    ) throws {
        try channel.pipeline.syncOperations.addHandlers(
            ByteToMessageHandler(FrameDecoder()), FrameHandler(names: names, ready: ready))
    }
}

/// Cuts the byte stream by the frames' lengths.
private struct FrameDecoder: ByteToMessageDecoder {
    typealias InboundOut = [UInt8]

    mutating func decode(context: ChannelHandlerContext, buffer: inout ByteBuffer) throws -> DecodingState {
        guard let length = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self).map(Int.init) else { return .needMoreData }
        guard (KMFrames.headBytes...KMFrames.largest).contains(length) else { throw KeyStoreError.badMessage("a frame of \(length) bytes") }
        guard buffer.readableBytes >= 4 + length else { return .needMoreData }
        buffer.moveReaderIndex(forwardBy: 4)
        guard let frame = buffer.readBytes(length: length) else { return .needMoreData }
        context.fireChannelRead(wrapInboundOut(frame))
        return .continue
    }
}

/// Waits for the handshake, then passes frames on.
private final class FrameHandler: ChannelInboundHandler {
    typealias InboundIn = [UInt8]

    private let names: CertificateNames
    private var ready: (@Sendable (Result<KMConnection, any Error>) -> Void)?
    private let stream: AsyncStream<[UInt8]>
    private let out: AsyncStream<[UInt8]>.Continuation
    private var failure: (any Error)?

    init(names: CertificateNames, ready: @escaping @Sendable (Result<KMConnection, any Error>) -> Void) {
        self.names = names
        self.ready = ready
        (stream, out) = AsyncStream.makeStream(of: [UInt8].self)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSUserEvent.handshakeCompleted = event {
            let handler = try? context.pipeline.syncOperations.handler(type: NIOSSLServerHandler.self)
            let certificate =
                handler?.peerCertificate
                ?? (try? context.pipeline.syncOperations.handler(type: NIOSSLClientHandler.self))?.peerCertificate
            let names = certificate.map { self.names.names(of: $0) } ?? []
            finish(.success(KMConnection(channel: context.channel, names: names, frames: stream)))
        }
        context.fireUserInboundEventTriggered(event)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { out.yield(unwrapInboundIn(data)) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        failure = failure ?? error
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { end() }
    func handlerRemoved(context: ChannelHandlerContext) { end() }

    private func end() {
        finish(.failure(failure ?? ChannelError.eof))
        out.finish()
    }

    private func finish(_ result: Result<KMConnection, any Error>) {
        ready?(result)
        ready = nil
    }
}

private final class HandshakeLimit: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = [UInt8]
    private var limit: Scheduled<Void>?

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        limit = context.eventLoop.scheduleTask(in: .seconds(5)) { channel.close(promise: nil) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSUserEvent.handshakeCompleted = event { limit?.cancel() }
        context.fireUserInboundEventTriggered(event)
    }

    func handlerRemoved(context: ChannelHandlerContext) { limit?.cancel() }
}
