// Two link services in one process: stations, databases, sessions over a pipe in memory.

import Foundation
import KeyMaterial
import NIOCore
import QKDModel
import QKDTesting
import QuantumLink
import Synchronization

func temporaryFolder() throws -> URL {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("sdqkd-link-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    return folder
}

final class Ends: Sendable {
    private let list = Mutex<[String]>([])
    func add(_ text: String) { list.withLock { $0.append(text) } }
    var all: [String] { list.withLock { $0 } }
}

/// One end's durable state and what it shows.
struct End {
    var database: LinkDatabase
    var context: SessionContext
    var recorder: LinkRecorder?

    /// Keys that wait for deposit, in the order of their blocks.
    func keys() throws -> [(block: BlockID, key: SecretBytes)] { try database.pendingDeposits().map { ($0.block, $0.key) } }
}

/// A whole link over a synthetic channel.
final class LinkBench {
    static let link = LinkID(unchecked: "almagro-norte")
    static let almagro = NodeID(unchecked: "almagro")
    static let norte = NodeID(unchecked: "norte")

    let folder: URL
    let line: SyntheticLine
    let transmitterStation: TransmitterStation
    let receiverStation: ReceiverStation
    private(set) var transmitter: End
    private(set) var receiver: End

    init(
        _ channel: SyntheticChannel = SyntheticChannel(), blockSymbols: Int = 4_000_000, slotSymbols: Int = 2_000_000,
        secretBytes: Int = 65536,
        code: String = "r10-n204800", efficiency: Double? = nil, loss: Double? = nil, patience: LinkSettings.Patience = .init(),
        calibrationPatience: Duration = .seconds(60),
        isRecorded: Bool = false
    ) throws {
        folder = try temporaryFolder()
        line = SyntheticLine(channel)
        transmitterStation = TransmitterStation(name: "tx", device: SyntheticTransmitter(line))
        receiverStation = ReceiverStation(name: "rx", device: SyntheticReceiver(line), patience: calibrationPatience)
        let secret = try InstalledSecret.make(bytes: secretBytes, random: SeededRandom(channel.seed))
        let path = folder.appendingPathComponent("secret").path
        _ = FileManager.default.createFile(
            atPath: path, contents: secret.withBytes { Data($0) }, attributes: [.posixPermissions: 0o600])
        let loss = Decibels(loss ?? Decibels(transmittance: channel.transmittance).value)
        let folder = folder
        func end(_ node: NodeID, _ peer: NodeID, _ role: DeviceRole) throws -> End {
            let database = try LinkDatabase(path: folder.appendingPathComponent("\(node).sqlite").path)
            try database.install(try InstalledSecret(path: path), on: Self.link)
            var settings = LinkSettings(
                identity: LinkIdentity(node: node, peer: peer, link: Self.link, role: role), path: "NORTE", loss: loss, code: code,
                efficiency: efficiency, blockSymbols: blockSymbols, slotSymbols: slotSymbols, calibrationRatio: 1)
            settings.patience = patience
            let monitor = LinkMonitor(link: Self.link, peer: peer, role: role)
            let recorder = isRecorded ? try LinkRecorder(path: folder.appendingPathComponent("\(node).rec").path, settings: settings) : nil
            return End(
                database: database,
                context: SessionContext(
                    settings: settings, database: database, monitor: monitor, random: KernelRandom(), tap: recorder, committed: {}),
                recorder: recorder)
        }
        transmitter = try end(Self.almagro, Self.norte, .transmitter)
        receiver = try end(Self.norte, Self.almagro, .receiver)
    }

    /// Codes that the two configurations name.
    func demand(_ transmitters: String, _ receivers: String) {
        transmitter.context.settings.code = transmitters
        receiver.context.settings.code = receivers
    }

    /// The file of one end's recording, whole.
    func recording(_ end: End) -> String {
        end.recorder?.finish()
        return folder.appendingPathComponent("\(end.context.settings.identity.node).rec").path
    }

    /// Both ends anew on the same files, as after a kill: nothing was closed.
    func restart() throws {
        for keyPath in [\LinkBench.transmitter, \LinkBench.receiver] {
            let node = self[keyPath: keyPath].context.settings.identity.node
            let database = try LinkDatabase(path: folder.appendingPathComponent("\(node).sqlite").path)
            self[keyPath: keyPath].database = database
            self[keyPath: keyPath].context.database = database
        }
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// Runs one connection until `done` holds, or it fails, or the time is over.
    /// - Returns: what ended each end before the run was over, if something did.
    @discardableResult
    func run(
        over pipes: (any MessagePipe, any MessagePipe)? = nil,
        tamperForward: MemoryPipe.Tamper? = nil, tamperBackward: MemoryPipe.Tamper? = nil, limit: Duration = .seconds(60),
        until done: @escaping @Sendable (LinkSnapshot, LinkSnapshot) -> Bool
    ) async -> [String] {
        let (left, right) = pipes ?? MemoryPipe.pair(tamperForward: tamperForward, tamperBackward: tamperBackward)
        let (transmitter, receiver) = (transmitter.context, receiver.context)
        let (transmitterStation, receiverStation) = (transmitterStation, receiverStation)
        let ends = Ends()
        let ended = Mutex<[String]>([])
        await withTaskGroup(of: Void.self) { group in
            let calibrator = Task { await receiverStation.run() }
            group.addTask {
                do {
                    try await LinkConversation.transmitter(
                        left, context: transmitter, station: transmitterStation, seats: [DecodingSeat(), DecodingSeat()])
                } catch {
                    ends.add("T: \(error)")
                }
                left.close()
            }
            group.addTask {
                do { try await LinkConversation.receiver(right, context: receiver, station: receiverStation) } catch {
                    ends.add("R: \(error)")
                }
                right.close()
            }
            let start = ContinuousClock.now
            while ContinuousClock.now - start < limit, ends.all.isEmpty,
                !done(transmitter.monitor.snapshot, receiver.monitor.snapshot)
            { try? await Task.sleep(for: .milliseconds(20)) }
            if ContinuousClock.now - start >= limit {
                // What a person needs to see when a test waited in vain.
                for end in [transmitter, receiver] { print("waited in vain:", end.monitor.snapshot) }
            }
            ended.withLock { $0 = ends.all }
            left.close()
            right.close()
            group.cancelAll()
            calibrator.cancel()
            await group.waitForAll()
            await calibrator.value
        }
        return ended.withLock { $0 }
    }
}
