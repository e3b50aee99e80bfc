// One control connection, TCP or pseudo-terminal.

internal import Foundation
internal import NIOCore

final class ControlHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let hub: Hub
    private let device: Int
    private let session: SessionID
    /// A descriptor to hold open as long as the channel lives.
    private let keeps: Int32?
    private var isOpen = false

    init(hub: Hub, device: Int, keeps: Int32? = nil) {
        self.hub = hub
        self.device = device
        self.keeps = keeps
        session = hub.nextName()
    }

    func handlerAdded(context: ChannelHandlerContext) { if context.channel.isActive { start(context) } }
    func channelActive(context: ChannelHandlerContext) { start(context) }

    private func start(_ context: ChannelHandlerContext) {
        guard !isOpen else { return }
        isOpen = hub.open(device, session, context.channel)
        if !isOpen { context.close(promise: nil) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard isOpen else { return }
        hub.receive([UInt8](unwrapInboundIn(data).readableBytesView), device, session)
    }

    func channelInactive(context: ChannelHandlerContext) {
        if isOpen { hub.close(device, session) }
        isOpen = false
        if let keeps { close(keeps) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
