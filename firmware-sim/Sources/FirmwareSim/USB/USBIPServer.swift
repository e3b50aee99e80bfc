// A USB/IP server: lists the devices, lets hosts attach them, carries transfers. Any Linux attaches one with
// `usbip --tcp-port PORT attach -r HOST -b 1-1`. Everything of one server happens on one event loop.

internal import NIOCore
internal import NIOPosix

final class USBIPServer: Sendable {
    /// How often cables and status registers are looked at.
    private static let interval = TimeAmount.milliseconds(5)

    let port: Int
    private let channel: any Channel
    private let ports: NIOLoopBound<USBPorts>
    private let watch: RepeatedTask

    static func start(host: String, port: Int, hub: Hub, group: any EventLoopGroup) async throws -> USBIPServer {
        let loop = group.next()
        let ports = try await loop.submit { NIOLoopBound(USBPorts(hub), eventLoop: loop) }.get()
        let channel = try await ServerBootstrap(group: loop)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(USBIPHandler(ports.value)) }
            }
            .bind(host: host, port: port).get()
        return USBIPServer(channel, ports, port)
    }

    private init(_ channel: any Channel, _ ports: NIOLoopBound<USBPorts>, _ port: Int) {
        self.channel = channel
        self.ports = ports
        self.port = channel.localAddress?.port ?? port
        watch = channel.eventLoop.scheduleRepeatedTask(initialDelay: Self.interval, delay: Self.interval) { _ in ports.value.look() }
    }

    /// - Returns: the bus id under which hosts find it.
    func export(_ device: Int, _ identity: USBIdentity, _ speed: USBSpeed) async throws -> String {
        try await channel.eventLoop.submit { [ports] in ports.value.add(device, identity, speed) }.get()
    }

    func close() async {
        watch.cancel()
        try? await channel.close()
        _ = try? await channel.eventLoop.submit { [ports] in ports.value.closeAll() }.get()
    }
}

/// The devices of one server and who is connected to it.
final class USBPorts {
    private let hub: Hub
    private var all: [USBPort] = []
    private var connections: [ObjectIdentifier: any Channel] = [:]

    init(_ hub: Hub) { self.hub = hub }

    func add(_ device: Int, _ identity: USBIdentity, _ speed: USBSpeed) -> String {
        let record = USBIPRecord(number: UInt32(all.count + 1), speed: speed)
        all.append(USBPort(hub: hub, device: device, identity: identity, record: record))
        return record.busID
    }

    var plugged: [USBIPRecord] { all.filter(\.isPlugged).map(\.record) }
    func port(_ busID: String) -> USBPort? { all.first { $0.record.busID == busID } }
    func look() { for port in all { port.look() } }

    func connected(_ channel: any Channel) { connections[ObjectIdentifier(channel)] = channel }
    func disconnected(_ channel: any Channel) { connections[ObjectIdentifier(channel)] = nil }
    func closeAll() { for channel in connections.values { channel.close(promise: nil) } }
}

/// One connection.
private final class USBIPHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let ports: USBPorts
    private var parser = USBIPParser()
    private var port: USBPort?
    private var isAttaching = false

    init(_ ports: USBPorts) { self.ports = ports }

    func channelActive(context: ChannelHandlerContext) { ports.connected(context.channel) }

    func channelInactive(context: ChannelHandlerContext) {
        port?.detach(context.channel)
        port = nil
        ports.disconnected(context.channel)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        parser.append(unwrapInboundIn(data))
        parse(context)
    }

    private func parse(_ context: ChannelHandlerContext) {
        do {
            while !isAttaching, let message = try parser.next() { handle(message, context) }
        } catch {
            context.close(promise: nil)
        }
    }

    private func handle(_ message: USBIPMessage, _ context: ChannelHandlerContext) {
        switch message {
        case .deviceList: context.writeAndFlush(NIOAny(USBIPReply.deviceList(ports.plugged)), promise: nil)
        case .attach(let name):
            isAttaching = true
            attach(name, context, patience: 20)
        case .submit(let urb): port?.submit(urb)
        case .unlink(let id, let target): port?.unlink(target, as: id)
        }
    }

    /// A host that has just hung up may still seem to have the device: that is waited for.
    private func attach(_ name: String, _ context: ChannelHandlerContext, patience: Int) {
        guard context.channel.isActive else { return }
        let wanted = ports.port(name)
        let status = wanted?.attach(context.channel) ?? .noDevice
        if status == .busy, patience > 0 {
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            context.eventLoop.scheduleTask(in: .milliseconds(10)) {
                let (handler, context) = bound.value
                handler.attach(name, context, patience: patience - 1)
            }
            return
        }
        if status == .ok {
            port = wanted
            parser.isAttached = true
        }
        isAttaching = false
        context.writeAndFlush(NIOAny(USBIPReply.attach(status, wanted?.record)), promise: nil)
        parse(context)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
