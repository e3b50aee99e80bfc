// Two whole stores in one process, joined by TLS over loopback; and what happens to their wire.

import Foundation
import Glibc
import KeyMaterial
import KeyStore
import Logging
import NIOCore
import NIOPosix
import QKDModel
import Synchronization
import Testing

/// One node's service and the task that runs it.
final class RunningStore: Sendable {
    let service: KeyStoreService
    private let task: Task<Void, any Error>

    init(_ configuration: KeyStoreConfiguration) throws {
        let service = try KeyStoreService(configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        self.service = service
        task = Task { try await service.run() }
    }

    func stop() async {
        task.cancel()
        _ = await task.result
    }

    func apiPort() async throws -> Int {
        var port: Int?
        _ = await eventually {
            port = self.service.ports.api
            return port != nil
        }
        return try #require(port)
    }
}

/// Almagro and Norte, with applications at both.
final class StorePair: Sendable {
    let scratch: Scratch
    let pki: TestPKI
    let kmPorts: [Int]
    let configurations: [KeyStoreConfiguration]

    /// - Parameter dial: the port at which Almagro finds Norte; a test may stand in between.
    init(dial: Int? = nil, change: (inout KeyStoreConfiguration) -> Void = { _ in }) throws {
        let scratch = try Scratch()
        let ports = try freePorts(2)
        let pki = try TestPKI(
            scratch, names: ["kme-almagro", "kme-norte", "app-almagro", "app-norte", "app-second", "app-stranger"])
        let installed = noise(65_536, 77)
        let names = [almagro, norte]
        let applications: [SAEID: NodeID] = [
            sae("app-almagro"): almagro, sae("app-norte"): norte, sae("app-second"): norte, sae("app-here"): almagro,
        ]
        configurations = try [0, 1].map { index in
            let (own, peer) = (names[index], names[1 - index])
            var configuration = KeyStoreConfiguration(
                node: own, database: scratch.path + "/\(own).sqlite", masterKey: scratch.path + "/\(own).master",
                api: .init(listen: try HostPort("127.0.0.1:0"), files: pki.files("kme-\(own)")),
                km: .init(listen: try HostPort("127.0.0.1:\(ports[index])"), files: pki.files("kme-\(own)")),
                peers: [
                    .init(
                        node: peer, address: try HostPort("127.0.0.1:\(index == 0 ? dial ?? ports[1] : ports[0])"),
                        certificateName: "kme-\(peer)", secret: try scratch.write(installed, "\(own)-km"))
                ], applications: applications)
            configuration.deliverEmulated = true
            change(&configuration)
            return configuration
        }
        (self.scratch, self.pki, kmPorts) = (scratch, pki, ports)
    }

    func start(_ index: Int) throws -> RunningStore { try RunningStore(configurations[index]) }

    func isUp(_ stores: RunningStore...) async -> Bool {
        await eventually {
            for store in stores { guard await store.service.peerReports().allSatisfy({ $0.state == .up }) else { return false } }
            return true
        }
    }

    /// The same bytes at both ends, as the link services would deposit them.
    @discardableResult
    func deposit(
        _ bytes: [UInt8], id: BlockID = BlockID(UUID()), at stores: [RunningStore?], provenance: KeyProvenance = .emulated
    ) async throws -> BlockID {
        for (index, store) in stores.enumerated() {
            guard let store else { continue }
            _ = try await store.service.deposit(
                link: link("almagro-norte"), block: id, peer: index == 0 ? norte : almagro, bits: secret(bytes), provenance: provenance,
                firstEnd: index == 0)
        }
        return id
    }

    func confirmedBits(_ stores: RunningStore...) async throws -> [Int] {
        var bits: [Int] = []
        for store in stores { bits.append(try await store.service.linkReports().first?.confirmedBits ?? 0) }
        return bits
    }

    /// Both ends' offers of keys, by the way that applications' requests take.
    func keys(_ count: Int, from store: RunningStore, index: Int, bytes: Int = 32) async throws -> [DeliveredKey] {
        let peer = index == 0 ? norte : almagro
        let request = KeyRequest(
            peer: peer, master: sae(index == 0 ? "app-almagro" : "app-norte"), slave: sae(index == 0 ? "app-norte" : "app-almagro"),
            count: count, keyBytes: bytes)
        return try await #require(store.service.link(to: peer)).keys(request)
    }

    func fetch(_ ids: [KeyID], at store: RunningStore, index: Int) async throws -> [DeliveredKey] {
        let (master, slave) = index == 0 ? (sae("app-norte"), sae("app-almagro")) : (sae("app-almagro"), sae("app-norte"))
        return try await store.service.store.change { try $0.fetch(ids, master: master, slave: slave) }
    }
}

/// A wire between two TCP ends that a test may cut, or on which it flips bits.
final class Wire: Sendable {
    enum Mischief: Sendable, Equatable { case none, flip, swallow }
    let port: Int
    private let listener: any Channel
    private let box: Box

    init(to target: Int) async throws {
        let state = Box()
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { inbound in
                ClientBootstrap(group: inbound.eventLoop).connect(host: "127.0.0.1", port: target).flatMapThrowing { outbound in
                    try inbound.pipeline.syncOperations.addHandler(Pipe(to: outbound, state))
                    try outbound.pipeline.syncOperations.addHandler(Pipe(to: inbound, state))
                    state.add(inbound)
                    state.add(outbound)
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        self.listener = listener
        port = listener.localAddress?.port ?? 0
        box = state
    }

    /// What happens to all that passes from now on.
    func set(_ mischief: Mischief) { box.set(mischief) }
    /// Ends all connections.
    func cut() { box.cut() }
    func close() { listener.close(promise: nil) }

    final class Box: Sendable {
        private let inner = Mutex<(mischief: Mischief, channels: [any Channel])>((.none, []))
        var mischief: Mischief { inner.withLock { $0.mischief } }
        func set(_ mischief: Mischief) { inner.withLock { $0.mischief = mischief } }
        func add(_ channel: any Channel) { inner.withLock { $0.channels.append(channel) } }
        func cut() { inner.withLock { $0.channels }.forEach { $0.close(promise: nil) } }
    }

    private final class Pipe: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let other: any Channel
        private let box: Box
        init(to other: any Channel, _ box: Box) { (self.other, self.box) = (other, box) }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            if box.mischief == .swallow { return }
            var buffer = unwrapInboundIn(data)
            if box.mischief == .flip, buffer.readableBytes > 0 {
                let index = buffer.readerIndex + buffer.readableBytes / 2
                buffer.setInteger((buffer.getInteger(at: index, as: UInt8.self) ?? 0) ^ 1, at: index)
            }
            other.writeAndFlush(buffer, promise: nil)
        }
        func channelInactive(context: ChannelHandlerContext) { other.close(promise: nil) }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}
