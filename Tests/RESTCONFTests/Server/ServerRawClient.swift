// A TLS connection without HTTP, for what no HTTP client would send.

import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import RESTCONF
import Synchronization

/// Sends bytes and keeps what comes back.
final class ServerRawClient: Sendable {
    private let channel: any Channel
    private let collector: Collector

    private final class Collector: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        let received = Mutex<[UInt8]>([])

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = unwrapInboundIn(data).readableBytesView
            received.withLock { $0 += bytes }
        }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }

    /// - Parameters:
    ///   - files: nil for a bare TCP connection.
    ///   - receiveBuffer: bytes that the kernel takes before anybody reads; it may be many megabytes otherwise.
    init(port: Int, files: TLSFiles?, receiveBuffer: Int? = nil) async throws {
        let collector = Collector()
        var context: NIOSSLContext?
        if let files {
            var configuration = TLSConfiguration.makeClientConfiguration()
            configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(files.certificate).map { .certificate($0) }
            configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: files.key, format: .pem))
            configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(files.authority))
            configuration.certificateVerification = .noHostnameVerification
            context = try NIOSSLContext(configuration: configuration)
        }
        let tls = context
        var bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        if let receiveBuffer {
            bootstrap = bootstrap.channelOption(.socketOption(.so_rcvbuf), value: SocketOptionValue(receiveBuffer))
        }
        channel =
            try await bootstrap
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        try channel.pipeline.syncOperations.addHandler(try NIOSSLClientHandler(context: tls, serverHostname: nil))
                    }
                    try channel.pipeline.syncOperations.addHandler(collector)
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        self.collector = collector
    }

    func send(_ text: String) async throws { try await send(Array(text.utf8)) }
    func send(_ bytes: [UInt8]) async throws { try await channel.writeAndFlush(ByteBuffer(bytes: bytes)) }

    var text: String { String(decoding: collector.received.withLock { $0 }, as: UTF8.self) }
    var count: Int { collector.received.withLock { $0.count } }
    var isOpen: Bool { channel.isActive }

    /// Stops reading, as a client does that has gone to sleep.
    func pause() async throws { try await channel.setOption(ChannelOptions.autoRead, value: false).get() }
    func resume() async throws { try await channel.setOption(ChannelOptions.autoRead, value: true).get() }
    func close() async { try? await channel.close() }

    /// Waits until the server has hung up.
    func ended(within limit: Duration = .seconds(10)) async -> Bool { await serverEventually(within: limit) { !channel.isActive } }
}
