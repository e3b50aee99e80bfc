// A link service as operators and the agent see it: peers and links at run time, over restarts; deposits; its blocks' accounts.

import Foundation
import KeyMaterial
import QKDModel
import QKDTesting
import QuantumLink
import Synchronization
import Testing

@Suite("Link service")
struct ServiceTests {
    private final class Store: KeySink {
        struct Full: Error {}
        private let state = Mutex((taken: [(BlockID, Bool)](), refused: Set<BlockID>(), busy: Set<BlockID>()))

        func refuse(_ block: BlockID) { _ = state.withLock { $0.refused.insert(block) } }
        func busy(_ block: BlockID, _ isBusy: Bool) {
            state.withLock { state in
                if isBusy { state.busy.insert(block) } else { state.busy.remove(block) }
            }
        }
        var taken: [BlockID] { state.withLock { $0.taken.map(\.0) } }
        func firstEnd(_ block: BlockID) -> Bool? { state.withLock { $0.taken.first { $0.0 == block }?.1 } }

        func deposit(_ deposit: PendingDeposit, firstEnd: Bool) async throws {
            try state.withLock { state in
                if state.refused.contains(deposit.block) { throw DepositRefused(reason: "too small") }
                if state.busy.contains(deposit.block) { throw Full() }
                state.taken.append((deposit.block, firstEnd))
            }
        }
    }

    private func configuration(_ folder: URL, listen: Bool = true, links: [LinkServiceConfiguration.Link] = []) throws
        -> LinkServiceConfiguration
    {
        LinkServiceConfiguration(
            node: NodeID(unchecked: "almagro"), state: folder.appendingPathComponent("state").path,
            listen: listen ? try .init("127.0.0.1:0") : nil,
            // Nobody listens there: the devices never open.
            devices: [.init(name: "tx", uri: "tcp:127.0.0.1:1"), .init(name: "rx", uri: "tcp:127.0.0.1:1")],
            peers: [.init(node: NodeID(unchecked: "norte"), channel: try .init("127.0.0.1:1"), secret: nil)], links: links, decoders: 1,
            secrets: folder.appendingPathComponent("secrets").path)
    }

    private func link(_ id: String, to peer: String, role: DeviceRole = .transmitter, code: String = "r10-n204800")
        -> LinkServiceConfiguration.Link
    {
        .init(
            settings: LinkSettings(
                identity: LinkIdentity(
                    node: NodeID(unchecked: "almagro"), peer: NodeID(unchecked: peer), link: LinkID(unchecked: id), role: role),
                path: "P", loss: Decibels(6), code: code, blockSymbols: 4_000_000, slotSymbols: 2_000_000),
            device: role == .transmitter ? "tx" : "rx")
    }

    private func secret(_ name: String, in folder: URL, seed: UInt64, mode: Int = 0o600) throws {
        let secrets = folder.appendingPathComponent("secrets")
        try FileManager.default.createDirectory(at: secrets, withIntermediateDirectories: true)
        let content = try InstalledSecret.make(bytes: 65536, random: SeededRandom(seed))
        _ = FileManager.default.createFile(
            atPath: secrets.appendingPathComponent(name).path, contents: content.withBytes { Data($0) },
            attributes: [.posixPermissions: mode])
    }

    /// Runs a service while `body` works.
    private func running<R: Sendable>(
        _ configuration: LinkServiceConfiguration, _ store: Store = Store(), _ body: (LinkService) async throws -> R
    ) async throws -> R {
        let service = try LinkService(configuration, sink: store)
        let task = Task { try await service.run() }
        // Commits are taken when the service runs.
        for _ in 0..<200 where await service.uptime < .milliseconds(100) { try await Task.sleep(for: .milliseconds(5)) }
        let result: Result<R, any Error>
        do { result = .success(try await body(service)) } catch { result = .failure(error) }
        task.cancel()
        try? await task.value
        return try result.get()
    }

    @Test("Peers and links that were asked for at run time come back after a restart, and go for good when they are removed")
    func runTime() async throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let configuration = try configuration(folder, links: [link("almagro-norte", to: "norte")])
        try secret("oeste", in: folder, seed: 1)
        let oeste = NodeID(unchecked: "oeste")
        let id = LinkID(unchecked: "almagro-oeste")
        try await running(configuration) { service in
            let events = service.events()
            await #expect(throws: QuantumLinkError.self) { try await service.prepare(link("almagro-oeste", to: "oeste")) }
            try await service.add(.init(node: oeste, channel: try .init("127.0.0.1:1"), secret: "oeste"))
            try await service.prepare(link("almagro-oeste", to: "oeste"))
            #expect(await service.view(of: id)?.isPrepared == true)
            await #expect(throws: QuantumLinkError.self) { try await service.removePeer(oeste) }
            var seen: [ServiceChange] = []
            for await event in events {
                if let change = event.change, event.kind != "device" { seen.append(change) }
                if seen.count == 2 { break }
            }
            #expect(seen == [.added, .prepared])
        }
        // Still prepared, its secret not installed yet.
        let file = folder.appendingPathComponent("secrets/oeste").path
        #expect(FileManager.default.fileExists(atPath: file))
        try await running(configuration) { service in
            #expect(await service.view(of: id)?.isPrepared == true)
            try await service.commit(id)
            #expect(!FileManager.default.fileExists(atPath: file))
            try await service.setEnabled(false, id)
            try await service.setEnabled(false, LinkID(unchecked: "almagro-norte"))
        }
        try await running(configuration) { service in
            let view = try #require(await service.view(of: id))
            #expect(!view.isPrepared && !view.snapshot.enabled && view.origin == .request)
            #expect((view.snapshot.padForward ?? 0) > 30_000)
            #expect(await service.view(of: LinkID(unchecked: "almagro-norte"))?.snapshot.enabled == false)
            try await service.remove(id)
            try await service.remove(LinkID(unchecked: "almagro-norte"))
            #expect(try await service.removePeer(oeste).peer.node == oeste)
        }
        try await running(configuration) { service in
            #expect(await service.views().isEmpty)
            #expect(await service.peerViews().map(\.peer.node.rawValue) == ["norte"])
            // A link of the file that was removed comes back when it is asked for.
            try await service.prepare(link("almagro-norte", to: "norte"))
            try await service.commit(LinkID(unchecked: "almagro-norte"))
        }
        try await running(configuration) { service in #expect(await service.views().map(\.isPrepared) == [false]) }
    }

    @Test("What cannot work is refused when it is asked for: bad names, file peers, unknown codes, two links for one receiver")
    func refusals() async throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let configuration = try configuration(folder)
        try secret("open", in: folder, seed: 2, mode: 0o644)
        try await running(configuration) { service in
            let channel = try LinkServiceConfiguration.Endpoint("127.0.0.1:1")
            for name in ["../secrets/open", "/etc/passwd", "", ".hidden", "open", "a b"] {
                await #expect(throws: QuantumLinkError.self, "\(name)") {
                    try await service.add(.init(node: NodeID(unchecked: "oeste"), channel: channel, secret: name))
                }
            }
            for node in ["norte", "almagro"] {
                await #expect(throws: QuantumLinkError.self) {
                    try await service.add(.init(node: NodeID(unchecked: node), channel: channel, secret: nil))
                }
            }
            await #expect(throws: QuantumLinkError.self) { try await service.removePeer(NodeID(unchecked: "norte")) }
            await #expect(throws: QuantumLinkError.self) { try await service.prepare(link("x", to: "norte", code: "r99")) }
            try await service.add(.init(node: NodeID(unchecked: "oeste"), channel: channel, secret: nil))
            try await service.prepare(link("one", to: "norte", role: .receiver))
            await #expect(throws: QuantumLinkError.self) { try await service.prepare(link("two", to: "oeste", role: .receiver)) }
        }
        // In the file the same mistake ends the start, at once.
        let wrong = try self.configuration(folder, links: [link("x", to: "norte", code: "r99")])
        #expect(throws: QuantumLinkError.self) { try LinkService(wrong, sink: Store()) }
    }

    @Test("A block that the store refuses for good, or cannot take now, keeps no other; a link that is gone deposits with its role")
    func deposits() async throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let configuration = try configuration(folder)
        try FileManager.default.createDirectory(atPath: configuration.state, withIntermediateDirectories: true)
        let id = LinkID(unchecked: "gone")
        var blocks: [BlockID] = []
        do {
            let database = try LinkDatabase(path: configuration.state + "/linkd.sqlite")
            try secret("s", in: folder, seed: 3)
            try database.install(try InstalledSecret(path: folder.appendingPathComponent("secrets/s").path), on: id)
            let keys = try #require(try database.epochs(of: id).first)
            for role in [DeviceRole.transmitter, .transmitter, .receiver, .transmitter] {
                let block = BlockID(UUID())
                blocks.append(block)
                try database.commit(
                    FinishedBlock(
                        link: id, peer: NodeID(unchecked: "norte"), block: block, key: SecretBytes(count: 1000, random: SeededRandom(6)),
                        padBytesForward: 16, padBytesBackward: 16, provenance: .hardware, role: role), epoch: keys)
            }
        }
        let store = Store()
        store.refuse(blocks[0])
        store.busy(blocks[1], true)
        try await running(configuration, store) { _ in
            for _ in 0..<400 where store.taken.count < 2 { try await Task.sleep(for: .milliseconds(10)) }
            #expect(store.taken == [blocks[2], blocks[3]])
            store.busy(blocks[1], false)
            for _ in 0..<400 where store.taken.count < 3 { try await Task.sleep(for: .milliseconds(10)) }
        }
        #expect(store.taken == [blocks[2], blocks[3], blocks[1]])
        #expect(store.firstEnd(blocks[3]) == true && store.firstEnd(blocks[2]) == false)
        let database = try LinkDatabase(path: configuration.state + "/linkd.sqlite")
        #expect(try database.state(of: blocks[0]) == .refused)
        #expect(try database.pendingDeposits().isEmpty)
    }

    @Test("Every block leaves an accounting record from which the script computes the same length")
    func accounting() async throws {
        let bench = try LinkBench(SyntheticChannel(seed: 41))
        await bench.run { $0.blocksDeposited >= 2 && $1.blocksDeposited >= 2 }
        let ends = [bench.transmitter.context.monitor.blocks, bench.receiver.context.monitor.blocks]
        let records = try ends.map { blocks in try blocks.map { try #require($0.accounting) } }
        // Both ends recorded the same.
        #expect(Array(records[0].prefix(2)) == Array(records[1].prefix(2)))
        let decoded = try #require(try JSONSerialization.jsonObject(with: Data(records[0][0].utf8)) as? [String: Any])
        let counts = try #require(decoded["counts"] as? [String: Any])
        let report = ends[0][0]
        #expect(
            counts["observedBits"] as? Int == 8 * report.framesDecoded + 6
                * report.framesInRound.enumerated().reduce(0) { $0 + $1.offset * $1.element } + 128)
        // As `qkdctl link blocks --json` prints them: a list of blocks, each with its record as text.
        let list = zip(ends[0], records[0]).map { block, record in
            [
                "depositedBits": block.depositedBits, "secretBits": block.secretBits, "rawBits": block.rawBits, "padBits": block.padBits,
                "holevoBits": block.holevoBits, "limitedBy": block.limitedBy, "terms": block.terms, "accounting": record,
            ] as [String: Any]
        }
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["python3", root.appending(path: "scripts/recompute-key-length").path, "-"]
        let (input, output) = (Pipe(), Pipe())
        (process.standardInput, process.standardOutput, process.standardError) = (input, output, output)
        try process.run()
        input.fileHandleForWriting.write(try JSONSerialization.data(withJSONObject: list))
        try input.fileHandleForWriting.close()
        let text = String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(text)")
        for report in ends[0] { #expect(text.contains("\(report.secretBits) secret bits"), "\(text)") }
    }
}
