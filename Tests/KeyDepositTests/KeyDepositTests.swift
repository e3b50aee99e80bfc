// Deposits over a real socket: idempotence, refusals, credentials, frames that break the format.

import Foundation
import Glibc
import KeyDeposit
import KeyMaterial
import QKDModel
import Synchronization
import Testing

/// A store in memory with the rules of the real one.
private final class Shelf: Sendable {
    let blocks = Mutex<[BlockID: (SecretBytes, LinkID)]>([:])

    func take(_ block: DepositedBlock) throws -> DepositReceipt {
        guard block.link.rawValue != "unknown" else { throw KeyDepositError.notAccepted(block.block, reason: "no such link") }
        guard block.link.rawValue != "elsewhere" else { throw KeyDepositError.unknownPeer(block.block, reason: "no such peer") }
        guard block.link.rawValue != "full" else { throw KeyDepositError.full(block.block, reason: "no more") }
        guard block.link.rawValue != "broken" else { throw CancellationError() }
        return try blocks.withLock { blocks in
            if let (bits, link) = blocks[block.block] {
                guard bits.matches(block.bits), link == block.link else {
                    throw KeyDepositError.otherContent(block.block, reason: "differs")
                }
                return .alreadyHeld
            }
            blocks[block.block] = (block.bits, block.link)
            return .stored
        }
    }
}

private func folder() throws -> String {
    let path = FileManager.default.temporaryDirectory.path + "/sdqkd-deposit-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    return path
}

/// - Parameter least: short ones are filled up with zeros to so many.
private func block(
    _ bytes: [UInt8], id: UUID = UUID(), link: String = "almagro-norte", firstEnd: Bool = true, least: Int = 64
) throws -> DepositedBlock {
    var bytes = bytes + [UInt8](repeating: 0, count: max(0, least - bytes.count))
    return DepositedBlock(
        link: try LinkID(link), block: BlockID(id), peer: try NodeID("norte"), bits: SecretBytes(consuming: &bytes), provenance: .emulated,
        firstEnd: firstEnd)
}

private func withServer<R>(
    users: Set<UInt32>? = nil, _ body: (Shelf, KeyDepositClient, String) async throws -> R
) async throws -> R {
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let path = folder + "/deposit.sock"
    let shelf = Shelf()
    let server = KeyDepositServer(socketPath: path, allowedUsers: users) { try shelf.take($0) }
    try server.start()
    defer { server.stop() }
    return try await body(shelf, KeyDepositClient(socketPath: path, timeout: .seconds(5)), path)
}

@Suite struct KeyDepositTests {
    @Test func blockArrivesWithEveryBitAndField() async throws {
        try await withServer { shelf, client, _ in
            let bytes = (0..<300_001).map { UInt8(truncatingIfNeeded: $0 &* 167) }
            let sent = try block(bytes)
            #expect(try await client.deposit(sent) == .stored)
            let held = try #require(shelf.blocks.withLock { $0[sent.block] })
            #expect(held.0.withBytes { Array($0) } == bytes)
            #expect(held.1.rawValue == "almagro-norte")
        }
    }

    @Test func sameBlockAgainIsAcceptedOnceAndOtherContentRefused() async throws {
        try await withServer { shelf, client, _ in
            let id = UUID()
            let receipts = [try await client.deposit(block([1, 2, 3], id: id)), try await client.deposit(block([1, 2, 3], id: id))]
            #expect(receipts == [.stored, .alreadyHeld])
            await #expect(throws: KeyDepositError.otherContent(BlockID(id), reason: "differs")) {
                try await client.deposit(block([1, 2, 4], id: id))
            }
            #expect(shelf.blocks.withLock { $0.count } == 1)
        }
    }

    @Test func refusalsAndFailuresReachTheClientAsWhatTheyAre() async throws {
        try await withServer { _, client, _ in
            await #expect {
                try await client.deposit(block([1], link: "unknown"))
            } throws: { error in
                guard let error = error as? KeyDepositError, case .notAccepted = error else { return false }
                return !error.isTransient
            }
            await #expect {
                try await client.deposit(block([1], link: "broken"))
            } throws: { error in
                guard let error = error as? KeyDepositError, case .unavailable = error else { return false }
                return error.isTransient
            }
        }
    }

    /// What to do about a refusal: every answer says whether it will ever be another one.
    @Test(arguments: [("unknown", true, false), ("elsewhere", false, true), ("broken", false, true), ("full", false, true)])
    func everyRefusalIsEitherForGoodOrNot(link: String, final: Bool, transient: Bool) async throws {
        try await withServer { _, client, _ in
            _ = await #expect {
                try await client.deposit(block([1], link: link))
            } throws: { error in
                guard let error = error as? KeyDepositError else { return false }
                return error.isFinal == final && error.isTransient == transient
            }
        }
    }

    /// Both ends of the socket say so, and the store itself is not asked.
    @Test(arguments: [0, 1, 63]) func blocksBelow64BytesAreRefusedForGood(count: Int) async throws {
        try await withServer { shelf, client, path in
            let small = try block([UInt8](repeating: 7, count: count), least: 0)
            let refusal = KeyDepositError.notAccepted(small.block, reason: "a block of \(count) bytes is outside 64 bytes to 64 MiB")
            await #expect(throws: refusal) { try await client.deposit(small) }
            #expect(refusal.isFinal && !refusal.isTransient)
            guard count > 0 else { return }
            // A client that does not look first is told the same, and its connection goes on.
            let socket = try RawConnection(path)
            for _ in 0..<2 {
                let answer = socket.ask(DepositHeader(small).encoded() + [UInt8](repeating: 7, count: count))
                let head = try DepositAnswer.parse(head: Array(answer.prefix(24)))
                #expect(head.answer.status == .notAccepted && head.answer.block == small.block)
            }
            #expect(shelf.blocks.withLock { $0.isEmpty })
        }
    }

    @Test func otherUsersAreTurnedAway() async throws {
        try await withServer(users: [geteuid() &+ 1]) { shelf, client, _ in
            await #expect {
                try await client.deposit(block([1, 2, 3]))
            } throws: { ($0 as? KeyDepositError)?.isTransient == true }
            #expect(shelf.blocks.withLock { $0.isEmpty })
        }
    }

    @Test func missingServerIsATransientErrorThatNamesThePath() async throws {
        let client = KeyDepositClient(socketPath: "/tmp/no-such-folder/deposit.sock")
        await #expect {
            try await client.deposit(block([1]))
        } throws: { ($0 as? KeyDepositError)?.isTransient == true && "\($0)".contains("/tmp/no-such-folder/deposit.sock") }
    }

    @Test func manyDepositsAtOnceAllArrive() async throws {
        try await withServer { shelf, client, _ in
            try await withThrowingTaskGroup(of: DepositReceipt.self) { group in
                for index in 0..<24 { group.addTask { try await client.deposit(block([UInt8](repeating: UInt8(index), count: 5000))) } }
                for try await receipt in group { #expect(receipt == .stored) }
            }
            #expect(shelf.blocks.withLock { $0.count } == 24)
        }
    }

    @Test func brokenFramesAreRefusedAndTheServerLivesOn() async throws {
        try await withServer { shelf, client, path in
            let content = [UInt8](repeating: 5, count: 64)
            let good = DepositHeader(try block(content)).encoded() + content
            var random = SystemRandomNumberGenerator()
            for _ in 0..<200 {
                var bad = good
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    bad[Int.random(in: 0..<40, using: &random)] = .random(in: 0...255, using: &random)
                }
                if Bool.random(using: &random) { bad = Array(bad.prefix(.random(in: 0..<bad.count, using: &random))) }
                raw(path, send: bad)
            }
            #expect(try await client.deposit(block([9, 9])) == .stored)
            #expect(shelf.blocks.withLock { $0.values.contains { $0.0.withBytes { Array($0.prefix(2)) } == [9, 9] } })
        }
    }

    @Test func headersSurviveTheWire() throws {
        let header = DepositHeader(try block([1, 2, 3], firstEnd: false))
        let bytes = header.encoded()
        #expect(Array(bytes.prefix(6)) == Array("QKDD".utf8) + [1, 1])
        let headerLength = try DepositHeader.headerLength(preamble: Array(bytes.prefix(8)))
        #expect(headerLength == bytes.count - 8)
        let back = try DepositHeader(header: Array(bytes.dropFirst(8)))
        #expect(back == header)
        let short = Array(bytes.dropFirst(8).dropLast())
        #expect(throws: KeyDepositError.self) { _ = try DepositHeader(header: short) }
        let answer = DepositAnswer(status: .full, block: header.block, reason: "full")
        let encoded = answer.encoded()
        var (parsed, length) = try DepositAnswer.parse(head: Array(encoded.prefix(24)))
        parsed.reason = String(decoding: encoded.suffix(length), as: UTF8.self)
        #expect(parsed == answer)
    }
}

/// Sends bytes and closes, whatever the server thinks of them.
private func raw(_ path: String, send bytes: [UInt8]) {
    let number = connected(path)
    defer { if number >= 0 { close(number) } }
    guard number >= 0 else { return }
    _ = bytes.withUnsafeBytes { Glibc.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
}

/// A client without manners.
private final class RawConnection {
    private let number: Int32
    init(_ path: String) throws {
        number = connected(path)
        try #require(number >= 0)
    }
    deinit { close(number) }

    func ask(_ bytes: [UInt8]) -> [UInt8] {
        _ = bytes.withUnsafeBytes { Glibc.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        var answer = [UInt8](repeating: 0, count: 4096)
        let count = recv(number, &answer, answer.count, 0)
        return Array(answer.prefix(max(0, count)))
    }
}

private func connected(_ path: String) -> Int32 {
    let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let size = socklen_t(MemoryLayout<sockaddr_un>.size)
    let connected = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(number, $0, size) }
    }
    guard connected == 0 else {
        close(number)
        return -1
    }
    return number
}
