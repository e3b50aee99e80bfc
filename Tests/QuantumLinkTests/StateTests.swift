// What must survive: pads with their cursors, blocks between two ends; and secrets as files.

import Foundation
import KeyMaterial
import QKDModel
import QKDTesting
import QuantumLink
import Testing

@Suite("Durable state of a link")
struct StateTests {
    private let link = LinkID(unchecked: "a-b")

    private func secretFile(_ folder: URL, seed: UInt64, name: String = "secret", mode: Int = 0o600) throws -> String {
        let secret = try InstalledSecret.make(bytes: 65536, random: SeededRandom(seed))
        let path = folder.appendingPathComponent(name).path
        _ = FileManager.default.createFile(
            atPath: path, contents: secret.withBytes { Data($0) }, attributes: [.posixPermissions: mode])
        return path
    }

    @Test("A pad's cursor is in the file before the pad is used; nothing is used twice")
    func padDurability() throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let secret = try InstalledSecret(path: try secretFile(folder, seed: 1))
        let path = folder.appendingPathComponent("db").path
        var offsets: [UInt64] = []
        for _ in 0..<5 {
            // A fresh process each time, as after a kill.
            let database = try LinkDatabase(path: path)
            #expect(try database.synchronousLevel() == 3)
            try database.install(secret, on: link)
            let keys = try #require(try database.epochs(of: link).first)
            let (offset, bytes) = try keys.forwardPad.burn(16)
            #expect(bytes.matches(secret.forwardPad.slice(Int(offset)..<Int(offset) + 16)))
            offsets.append(offset)
        }
        #expect(offsets == [0, 16, 32, 48, 64])
        let keys = try #require(try LinkDatabase(path: path).epochs(of: link).first)
        #expect(throws: KeyMaterialError.padUsed(offset: 64, cursor: 80)) { try keys.forwardPad.burn(at: 64, count: 16) }
        // Peeking moves nothing; a jump ahead loses what lies between.
        let ahead = try keys.forwardPad.peek(at: 4000, count: 16)
        #expect(try keys.forwardPad.burn(at: 100, count: 16).matches(secret.forwardPad.slice(100..<116)))
        #expect(try keys.forwardPad.burn(at: 4000, count: 16).matches(ahead))
        #expect(throws: KeyMaterialError.self) { try keys.forwardPad.burn(at: 3000, count: 16) }
        #expect(throws: KeyMaterialError.self) { try keys.forwardPad.burn(1 << 20) }
    }

    @Test("A secret is installed once, serves one link, and must be the owner's file")
    func secrets() throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let database = try LinkDatabase(path: folder.appendingPathComponent("db").path)
        let secret = try InstalledSecret(path: try secretFile(folder, seed: 2))
        #expect(try database.install(secret, on: link))
        #expect(try !database.install(secret, on: link))
        #expect(try !database.install(secret, on: LinkID(unchecked: "other")))
        #expect(try database.owner(of: secret.epoch) == link)
        #expect(throws: QuantumLinkError.self) { try InstalledSecret(path: try secretFile(folder, seed: 3, name: "open", mode: 0o644)) }
        // A link's target is somebody else's: it is neither read nor erased.
        let (target, alias) = (try secretFile(folder, seed: 3, name: "target"), folder.appendingPathComponent("alias").path)
        try FileManager.default.createSymbolicLink(atPath: alias, withDestinationPath: target)
        #expect(throws: QuantumLinkError.self) { try InstalledSecret(path: alias) }
        #expect(throws: QuantumLinkError.self) { try InstalledSecret.consume(path: alias) }
        #expect(try InstalledSecret(path: target).epoch == InstalledSecret(path: target).epoch)
        let short = folder.appendingPathComponent("short").path
        _ = FileManager.default.createFile(atPath: short, contents: Data("SDQKSEC1".utf8), attributes: [.posixPermissions: 0o600])
        #expect(throws: QuantumLinkError.self) { try InstalledSecret(path: short) }
        // The newest comes first.
        let newer = try InstalledSecret(path: try secretFile(folder, seed: 4, name: "newer"))
        #expect(try database.install(newer, on: link))
        #expect(try database.epochs(of: link).map(\.epoch) == [newer.epoch, secret.epoch])
    }

    @Test("A block in doubt is settled once: pads grow alike at both ends, the rest waits for deposit")
    func ledger() throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let secret = try InstalledSecret(path: try secretFile(folder, seed: 5))
        let left = try LinkDatabase(path: folder.appendingPathComponent("l").path)
        let right = try LinkDatabase(path: folder.appendingPathComponent("r").path)
        for database in [left, right] { try database.install(secret, on: link) }
        let (keysLeft, keysRight) = (try #require(try left.epochs(of: link).first), try #require(try right.epochs(of: link).first))
        let key = SecretBytes(count: 1000, random: SeededRandom(6))
        func block(_ id: BlockID) -> FinishedBlock {
            FinishedBlock(
                link: link, peer: NodeID(unchecked: "b"), block: id, key: key, padBytesForward: 48, padBytesBackward: 16,
                provenance: .hardware, role: .transmitter)
        }
        let (good, lost) = (BlockID(UUID()), BlockID(UUID()))
        try right.holdInDoubt(block(good), epoch: keysRight)
        try right.holdInDoubt(block(lost), epoch: keysRight)
        #expect(Set(try right.blocksInDoubt(on: link)) == [good, lost])
        #expect(try right.pendingDeposits().isEmpty)
        try left.commit(block(good), epoch: keysLeft)
        #expect(try left.isCommitted(good) && !left.isCommitted(lost))
        for _ in 0..<2 {
            try right.resolve(good, committed: true)
            try right.resolve(lost, committed: false)
        }
        // A late word about a settled block changes nothing.
        try right.resolve(lost, committed: true)
        #expect(try right.state(of: lost) == .void)
        for database in [left, right] {
            let pending = try database.pendingDeposits()
            #expect(pending.map(\.block) == [good])
            #expect(pending.first?.role == .transmitter)
            #expect(pending.first?.key.matches(key.slice(64..<1000)) == true)
        }
        let end = UInt64(secret.forwardPad.count)
        #expect(try keysLeft.forwardPad.peek(at: end, count: 48).matches(key.slice(0..<48)))
        #expect(try keysRight.forwardPad.peek(at: end, count: 48).matches(key.slice(0..<48)))
        #expect(try keysRight.backwardPad.peek(at: end, count: 16).matches(key.slice(48..<64)))
        // A key store that never takes it: the key is gone, the answer to the far end stays.
        try right.markRefused(good)
        #expect(try right.pendingDeposits().isEmpty)
        #expect(try right.isCommitted(good))
        try left.markDeposited(good)
        #expect(try left.pendingDeposits().isEmpty)
        #expect(try left.isCommitted(good))
    }

    @Test("An emulator's key in the pads marks the epoch for good, and blocks of real devices are refused on it")
    func provenance() throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appendingPathComponent("db").path
        let database = try LinkDatabase(path: path)
        try database.install(try InstalledSecret(path: try secretFile(folder, seed: 8)), on: link)
        let keys = try #require(try database.epochs(of: link).first)
        func block(_ provenance: KeyProvenance, pads: Int) -> FinishedBlock {
            FinishedBlock(
                link: link, peer: NodeID(unchecked: "b"), block: BlockID(UUID()), key: SecretBytes(count: 1000, random: SeededRandom(6)),
                padBytesForward: pads, padBytesBackward: 0, provenance: provenance, role: .receiver)
        }
        try database.commit(block(.hardware, pads: 16), epoch: keys)
        try database.commit(block(.emulated, pads: 0), epoch: keys)
        #expect(try keys.obstacle(to: .hardware) == nil)
        let inDoubt = block(.emulated, pads: 16)
        try database.holdInDoubt(inDoubt, epoch: keys)
        #expect(try keys.obstacle(to: .hardware) == nil)
        try database.resolve(inDoubt.block, committed: true)
        #expect(try keys.obstacle(to: .hardware) != nil)
        #expect(try keys.obstacle(to: .emulated) == nil)
        let again = try LinkDatabase(path: path)
        #expect(try #require(try again.epochs(of: link).first).holdsEmulatedKey())
        try again.install(try InstalledSecret(path: try secretFile(folder, seed: 9, name: "newer")), on: link)
        #expect(try #require(try again.epochs(of: link).first).obstacle(to: .hardware) == nil)
    }

    @Test("A service consumes the secret that it installs; a lost state cannot begin the same pads anew")
    func consumedSecret() throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = try secretFile(folder, seed: 10)
        let state = folder.appendingPathComponent("state").path
        let identity = LinkIdentity(node: NodeID(unchecked: "a"), peer: NodeID(unchecked: "b"), link: link, role: .transmitter)
        let configuration = LinkServiceConfiguration(
            node: identity.node, state: state, listen: nil, devices: [.init(name: "tx", uri: "tcp:127.0.0.1:1")],
            peers: [.init(node: identity.peer, channel: try .init("127.0.0.1:1"), secret: file)],
            links: [
                .init(
                    settings: LinkSettings(
                        identity: identity, path: "", loss: Decibels(6), code: "r10-n204800", blockSymbols: 1_000_000, slotSymbols: 500_000),
                    device: "tx")
            ], decoders: 1)
        _ = try LinkService(configuration, sink: NoSink(), install: false)
        #expect(FileManager.default.fileExists(atPath: file))
        func installed() throws -> Int { try LinkDatabase(path: state + "/linkd.sqlite").epochs(of: link).count }
        #expect(try installed() == 0)
        // Killed between the two steps, then started again.
        let copy = try Data(contentsOf: URL(fileURLWithPath: file))
        for _ in 0..<2 {
            _ = try LinkService(configuration, sink: NoSink())
            #expect(!FileManager.default.fileExists(atPath: file))
            #expect(try installed() == 1)
            _ = FileManager.default.createFile(atPath: file, contents: copy, attributes: [.posixPermissions: 0o600])
        }
        _ = try LinkService(configuration, sink: NoSink())
        try FileManager.default.removeItem(atPath: state)
        _ = try LinkService(configuration, sink: NoSink())
        #expect(try installed() == 0)
    }

    private struct NoSink: KeySink {
        func deposit(_ deposit: PendingDeposit, firstEnd: Bool) async throws {}
    }

    @Test("Pads are refilled up to their size, and a block starts only above the reserve")
    func account() {
        let full = PadAccount(remainingForward: 32736, remainingBackward: 32736, size: 32752)
        #expect(full.refill(secretBits: 1_000_000) == (128, 128))
        #expect(full.refill(secretBits: 0) == (0, 0))
        #expect(full.refill(secretBits: 640) == (80, 80))
        #expect(PadAccount.allows(forward: 80, backward: 80, secretBits: 640))
        #expect(!PadAccount.allows(forward: 88, backward: 80, secretBits: 640))
        #expect(!PadAccount.allows(forward: 4, backward: 80, secretBits: 640))
        #expect(full.suffices)
        #expect(!PadAccount(remainingForward: 8192, remainingBackward: 32736, size: 32752).suffices)
    }
}
