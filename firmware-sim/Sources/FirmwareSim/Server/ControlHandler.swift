// One control connection, TCP or pseudo-terminal.

internal import Foundation
internal import NIOCore

final class ControlHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let hub: Hub
    private let device: Int
    private var session: SessionID
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
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let channel = context.channel
        isOpen = hub.open(
            device, session,
            Hub.ControlLine(channel: channel) {
                channel.eventLoop.execute {
                    let (handler, context) = bound.value
                    handler.end(context)
                }
            })
        if !isOpen { context.close(promise: nil) }
    }

    /// A connection is closed; a terminal stays and begins a new session.
    private func end(_ context: ChannelHandlerContext) {
        guard keeps != nil else { return context.close(promise: nil) }
        hub.close(device, session)
        session = hub.nextName()
        isOpen = false
        start(context)
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
