// Offers the devices of a testbed on TCP and pseudo-terminals and lets time pass.

internal import CFirmwareSim
internal import Foundation
public import NIOCore
internal import NIOPosix
internal import QKDModel
internal import Synchronization

/// Where one device can be reached.
public struct Endpoint: Sendable, Equatable {
    public var device: String
    public var role: String
    /// `tcp`, `pty` or `usb`.
    public var transport: String
    /// `tcp:127.0.0.1:5025`, `serial:/dev/pts/3` or `usbip:127.0.0.1:3240/1-1` (address and bus id to attach).
    public var uri: String
    /// TCP port of the data connection; `nil` on a pty.
    public var dataPort: Int?
}

/// A running emulator.
public final class EmulatorServer: Sendable {
    public let endpoints: [Endpoint]
    private let hub: Hub
    private let pacer: Pacer
    private let opener: EndpointOpener

    /// Opens every endpoint of the testbed and starts its clock.
    /// - Throws: `FirmwareSimError.cannotListen`.
    ///
    /// - Parameter patience: s of wall time after which `follow` overruns a reader that does not drain.
    public static func start(
        _ configuration: TestbedConfiguration, pace: Pace, patience: Double = 10, group: any EventLoopGroup
    ) async throws -> EmulatorServer {
        let utc = pace == .real ? UInt64(Date().timeIntervalSince1970 * 1e9) : nil
        let testbed = Testbed(configuration, pace: pace.name, utcStart: utc)
        let hub = Hub(testbed)
        var opener = EndpointOpener(hub: hub, group: group)
        for (index, device) in configuration.devices.enumerated() {
            for endpoint in device.endpoints {
                do {
                    try await opener.open(endpoint, of: device, index: index)
                } catch {
                    await opener.closeAll()
                    throw error
                }
            }
        }
        let pacer = Pacer(testbed, pace: pace, patience: patience, observer: hub)
        hub.pacer.withLock { $0 = pacer }
        pacer.start()
        return EmulatorServer(opener, hub, pacer)
    }

    private init(_ opener: EndpointOpener, _ hub: Hub, _ pacer: Pacer) {
        endpoints = opener.endpoints
        self.opener = opener
        self.hub = hub
        self.pacer = pacer
    }

    /// Stops time, closes all connections and ports, removes links to pseudo-terminals.
    public func stop() async {
        pacer.stop()
        await opener.closeAll()
        hub.closeAll()
    }

    /// s of device time since the start.
    public var seconds: Double { Double(hub.testbed.withCore { $0.time }) * 1e-9 }
}

/// Opens endpoints one by one and remembers them.
private struct EndpointOpener: Sendable {
    let hub: Hub
    let group: any EventLoopGroup
    var endpoints: [Endpoint] = []
    var channels: [any Channel] = []
    var links: [String] = []
    var usb: [String: USBIPServer] = [:]

    init(hub: Hub, group: any EventLoopGroup) {
        self.hub = hub
        self.group = group
    }

    mutating func open(_ endpoint: EndpointConfiguration, of device: DeviceConfiguration, index: Int) async throws {
        var entry = Endpoint(device: device.serial.rawValue, role: device.role.rawValue, transport: "", uri: "", dataPort: nil)
        switch endpoint {
        case .tcp(let host, let port, let dataPort):
            let control = try await listen(host, port, device) { [hub] in ControlHandler(hub: hub, device: index) }
            let data = try await listen(host, dataPort, device) { [hub] in DataHandler(hub: hub, device: index) }
            entry.transport = "tcp"
            entry.uri = "tcp:\(host):\(control)"
            entry.dataPort = data
            hub.testbed.withCore { $0.devices[index].dataPort = data }
        case .pty(let link):
            let path = try await openTerminal(device, index, link)
            entry.transport = "pty"
            entry.uri = "serial:\(path)"
        case .usb(let host, let port, let speed):
            entry.transport = "usb"
            entry.uri = try await export(device, index, host, port, speed)
        }
        endpoints.append(entry)
    }

    func closeAll() async {
        for channel in channels { try? await channel.close() }
        for server in usb.values { await server.close() }
        for link in links { unlink(link) }
    }

    /// One server per address.
    private mutating func export(
        _ device: DeviceConfiguration, _ index: Int, _ host: String, _ port: Int, _ speed: USBSpeed
    ) async throws -> String {
        do {
            let address = "\(host):\(port)"
            var server = usb[address]
            if server == nil { server = try await USBIPServer.start(host: host, port: port, hub: hub, group: group) }
            usb[address] = server
            let identity = USBIdentity(maker: device.maker, model: device.model, serial: device.serial.rawValue)
            let busID = try await server?.export(index, identity, speed)
            return "usbip:\(host):\(server?.port ?? port)/\(busID ?? "")"
        } catch {
            throw FirmwareSimError.cannotListen(device: device.serial.rawValue, endpoint: "usb on \(host):\(port)", reason: "\(error)")
        }
    }

    private mutating func listen(
        _ host: String, _ port: Int, _ device: DeviceConfiguration, _ handler: @escaping @Sendable () -> any ChannelHandler
    ) async throws -> Int {
        do {
            let channel = try await ServerBootstrap(group: group)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(handler()) }
                }
                .bind(host: host, port: port).get()
            channels.append(channel)
            return channel.localAddress?.port ?? port
        } catch {
            throw FirmwareSimError.cannotListen(device: device.serial.rawValue, endpoint: "tcp:\(host):\(port)", reason: "\(error)")
        }
    }

    /// The emulator keeps the far side open too, so that a client may come and go.
    private mutating func openTerminal(_ device: DeviceConfiguration, _ index: Int, _ link: String?) async throws -> String {
        var master: Int32 = -1
        var slave: Int32 = -1
        var name = [CChar](repeating: 0, count: 256)
        let code = fs_open_pty(&master, &slave, &name, name.count)
        guard code == 0 else {
            throw FirmwareSimError.cannotListen(device: device.serial.rawValue, endpoint: "pty", reason: String(cString: strerror(code)))
        }
        let path = name.withUnsafeBufferPointer { String(decoding: $0.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self) }
        let channel = try await NIOPipeBootstrap(group: group)
            .channelInitializer { [hub, slave] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(ControlHandler(hub: hub, device: index, keeps: slave))
                }
            }
            .takingOwnershipOfDescriptor(inputOutput: master).get()
        channels.append(channel)
        guard let link else { return path }
        unlink(link)
        guard symlink(path, link) == 0 else {
            throw FirmwareSimError.cannotListen(
                device: device.serial.rawValue, endpoint: "pty link \(link)", reason: String(cString: strerror(errno)))
        }
        links.append(link)
        return link
    }
}

extension EmulatorServer {
    /// The same on NIO's shared event loops.
    public static func start(
        _ configuration: TestbedConfiguration, pace: Pace, patience: Double = 10
    ) async throws -> EmulatorServer {
        try await start(configuration, pace: pace, patience: patience, group: MultiThreadedEventLoopGroup.singleton)
    }
}

extension Endpoint {
    /// One line of JSON, as `qkd-emulator --json` prints it.
    public var json: String {
        let data = dataPort.map(String.init) ?? "null"
        return
            "{\"event\":\"endpoint\",\"device\":\"\(device)\",\"role\":\"\(role)\",\"transport\":\"\(transport)\",\"uri\":\"\(uri)\",\"data_port\":\(data)}"
    }
}

extension TestbedConfiguration {
    /// Lets every TCP endpoint and USB/IP server take any free port.
    public mutating func useAnyPorts() {
        for index in devices.indices {
            devices[index].endpoints = devices[index].endpoints.map {
                switch $0 {
                case .tcp(let host, _, _): .tcp(host: host, port: 0, dataPort: 0)
                case .usb(let host, _, let speed): .usb(host: host, port: 0, speed: speed)
                case .pty: $0
                }
            }
        }
    }
}
