// One data connection: welcome by token, then frames for credits.

internal import NIOCore

final class DataHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private static let helloLength = 24
    private let hub: Hub
    private let device: Int
    private let connection: Int
    private var buffer: [UInt8] = []
    private var isWelcome = false

    init(hub: Hub, device: Int) {
        self.hub = hub
        self.device = device
        connection = hub.nextName()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        buffer += unwrapInboundIn(data).readableBytesView
        if !isWelcome {
            guard buffer.count >= Self.helloLength else { return }
            let hello = Array(buffer.prefix(Self.helloLength))
            buffer.removeFirst(Self.helloLength)
            greet(hello, context)
        }
        guard isWelcome else { return }
        while buffer.count >= DataMessage.length {
            let message = DataMessage(Array(buffer.prefix(DataMessage.length)))
            buffer.removeFirst(DataMessage.length)
            // An unknown message means that both sides no longer agree where messages begin.
            guard let message else { return context.close(promise: nil) }
            hub.message(message, device, connection)
        }
        pump(context)
    }

    private func greet(_ hello: [UInt8], _ context: ChannelHandlerContext) {
        let token = hello[8...].map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
        var welcome = TestbedCore.DataWelcome.badToken
        if Array(hello[..<8]) == [0x51, 0x44, 0x41, 0x54, 1, 0, 0, 0] {
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            let line = Hub.DataLine(connection: connection, channel: context.channel) {
                let (handler, context) = bound.value
                handler.pump(context)
            }
            welcome = hub.openData(device, token: token, line)
        }
        isWelcome = welcome == .welcome
        let answer = context.writeAndFlush(NIOAny(ByteBuffer(bytes: [welcome.rawValue])))
        if !isWelcome {
            let channel = context.channel
            answer.whenComplete { _ in channel.close(promise: nil) }
        }
    }

    /// Sends frames while there is credit and the socket takes them.
    private func pump(_ context: ChannelHandlerContext) {
        guard isWelcome, context.channel.isActive else { return }
        while context.channel.isWritable, let frame = hub.nextFrame(device, connection) {
            context.writeAndFlush(NIOAny(ByteBuffer(bytes: frame)), promise: nil)
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) { pump(context) }

    func channelInactive(context: ChannelHandlerContext) {
        if isWelcome { hub.closeData(device, connection) }
        isWelcome = false
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
