// A message pipe over TCP: NIO cuts the stream into messages, a queue with a high-water mark hands them to the one
// consumer and stops reading while it is behind.

internal import Foundation
package import NIOCore
internal import NIOPosix
internal import Synchronization

/// One TCP connection of the classical channel.
package final class NetworkPipe: MessagePipe {
    /// Bytes that wait for the consumer before reading stops.
    private static let highWater = 16 << 20

    /// A far end that is gone without a word is noticed within half a minute, be there something to send or not.
    private static let watch: [(ChannelOptions.Types.SocketOption, Int)] = [
        (.init(level: .socket, name: .so_keepalive), 1), (.init(level: .tcp, name: .init(rawValue: TCP_KEEPIDLE)), 5),
        (.init(level: .tcp, name: .init(rawValue: TCP_KEEPINTVL)), 5), (.init(level: .tcp, name: .init(rawValue: TCP_KEEPCNT)), 5),
        (.init(level: .tcp, name: .init(rawValue: TCP_USER_TIMEOUT)), 30_000), (.init(level: .tcp, name: .tcp_nodelay), 1),
    ]

    private let channel: any Channel
    fileprivate let inbound = MessageQueue<ByteBuffer>()
    private let waiting = Atomic<Int>(0)
    private let limit = Atomic<Int>(MessageCodec.handshakeLimit)
    /// The length of a message that breaks the rules; -1: none came.
    private let broken = Atomic<Int>(-1)

    fileprivate init(_ channel: any Channel) { self.channel = channel }

    /// Who is at the other side.
    var peer: String { channel.remoteAddress.map { "\($0)" } ?? "-" }
    /// Without the port.
    var address: String { channel.remoteAddress?.ipAddress ?? "-" }

    /// The option's value on the socket, for tests.
    package func option(_ level: Int32, _ name: Int32) async throws -> Int {
        try await channel.getOption(
            ChannelOptions.Types.SocketOption(level: .init(rawValue: level), name: .init(rawValue: name))
        ).get()
    }

    package func send(_ message: ByteBuffer) { channel.writeAndFlush(message, promise: nil) }

    /// - Throws: `badMessage` where the stream went on with a length that no message has.
    package func receive() async throws -> ByteBuffer? {
        guard let message = await inbound.next() else {
            let length = broken.load(ordering: .sequentiallyConsistent)
            if length >= 0 { throw QuantumLinkError.badMessage("one of \(length) bytes is announced") }
            return nil
        }
        let left = waiting.subtract(message.readableBytes, ordering: .sequentiallyConsistent).newValue
        if left < Self.highWater, left + message.readableBytes >= Self.highWater { channel.read() }
        return message
    }

    package func setLimit(_ bytes: Int) { limit.store(bytes, ordering: .sequentiallyConsistent) }

    package func close() {
        inbound.close()
        channel.close(promise: nil)
    }

    fileprivate func accept(_ message: ByteBuffer) {
        waiting.add(message.readableBytes, ordering: .sequentiallyConsistent)
        inbound.put(message)
    }

    /// Nothing behind it can be read. What came before it is still handed on; the consumer closes the connection.
    fileprivate func breakOff(at length: Int) {
        broken.store(length, ordering: .sequentiallyConsistent)
        inbound.close()
    }

    fileprivate var isFull: Bool { waiting.load(ordering: .sequentiallyConsistent) >= Self.highWater }
    fileprivate var isBroken: Bool { broken.load(ordering: .sequentiallyConsistent) >= 0 }
    fileprivate var longest: Int { limit.load(ordering: .sequentiallyConsistent) }

    // MARK: Making one

    /// - Throws: what the network says.
    package static func connect(host: String, port: Int, group: any EventLoopGroup) async throws -> NetworkPipe {
        let channel = try await prepared(ClientBootstrap(group: group)).connectTimeout(.seconds(5)).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture { try install(on: channel) }
        }.connect(host: host, port: port).get()
        return try await pipe(of: channel)
    }

    private static func prepared(_ bootstrap: ClientBootstrap) -> ClientBootstrap {
        watch.reduce(bootstrap) { $0.channelOption($1.0, value: $1.1) }
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 512 << 10))
            .channelOption(.writeBufferWaterMark, value: .init(low: 1 << 20, high: 16 << 20))
    }

    fileprivate static func install(on channel: any Channel) throws {
        try channel.pipeline.syncOperations.addHandler(MessageHandler(NetworkPipe(channel)))
    }

    private static func pipe(of channel: any Channel) async throws -> NetworkPipe {
        try await channel.eventLoop.submit { try channel.pipeline.syncOperations.handler(type: MessageHandler.self).pipe }.get()
    }

    /// Listens until the returned channel is closed; every connection is handed to `accept`.
    package static func listen(
        host: String, port: Int, group: any EventLoopGroup, accept: @escaping @Sendable (NetworkPipe) -> Void
    ) async throws -> any Channel {
        try await watch.reduce(ServerBootstrap(group: group)) { $0.childChannelOption($1.0, value: $1.1) }
            .serverChannelOption(.backlog, value: 16)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 512 << 10))
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipe = NetworkPipe(channel)
                    try channel.pipeline.syncOperations.addHandler(MessageHandler(pipe))
                    accept(pipe)
                }
            }
            .bind(host: host, port: port).get()
    }
}

/// Cuts the stream into messages. Reading goes on only while the consumer keeps up.
private final class MessageHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let pipe: NetworkPipe
    private var parts = ByteBuffer()

    init(_ pipe: NetworkPipe) { self.pipe = pipe }

    func read(context: ChannelHandlerContext) {
        // The consumer asks again when it has caught up.
        if !pipe.isFull { context.read() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !pipe.isBroken else { return }
        var bytes = unwrapInboundIn(data)
        if parts.readableBytes == 0 { parts.clear() }
        parts.writeBuffer(&bytes)
        while let length = parts.getInteger(at: parts.readerIndex, endianness: .little, as: UInt32.self) {
            guard length >= 1, Int(length) <= pipe.longest else { return pipe.breakOff(at: Int(length)) }
            guard parts.readableBytes >= 4 + Int(length) else {
                parts.reserveCapacity(minimumWritableBytes: 4 + Int(length) - parts.readableBytes)
                break
            }
            parts.moveReaderIndex(forwardBy: 4)
            // A copy: the consumer's message does not hold the whole stretch of the stream.
            guard let message = parts.readSlice(length: Int(length)) else { return }
            pipe.accept(ByteBuffer(bytes: message.readableBytesView))
        }
        if parts.readerIndex > 1 << 20 { parts.discardReadBytes() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        pipe.inbound.close()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { pipe.close() }
}
