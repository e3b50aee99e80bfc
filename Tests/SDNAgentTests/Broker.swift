// A real rabbitmq-server on loopback, and a consumer that is not ours.

import Foundation
import Glibc
import Testing

let packageFolder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .path(percentEncoded: false)

/// Loopback ports below the ephemeral range.
func freePort() throws -> Int {
    for _ in 0..<1000 {
        let port = Int.random(in: 20_000..<32_000)
        let handle = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(handle) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        address.sin_port = UInt16(port).bigEndian
        let isFree = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(handle, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 }
        }
        if isFree { return port }
    }
    throw POSIXError(.EADDRINUSE)
}

/// Starts a program in a process group of its own.
func start(_ command: [String], output: String = "/dev/null") throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    let arguments = command.map { strdup($0) }
    defer { arguments.forEach { free($0) } }
    var pid: pid_t = 0
    let code = posix_spawn(&pid, command[0], &actions, &attributes, arguments + [nil], environ)
    try #require(code == 0, "cannot start \(command)")
    return pid
}

final class Broker {
    let folder: TemporaryFolder
    let port: Int
    let tlsPort: Int?
    private let command: [String]
    private var pid: pid_t = 0

    /// - Parameter pki: a folder with ca.crt, broker.crt and broker.key.
    init(folder: TemporaryFolder, pki: String? = nil) throws {
        self.folder = folder
        port = try freePort()
        tlsPort = try pki.map { _ in try freePort() }
        var command = [
            packageFolder + "/scripts/loopback-broker", folder.path + "/broker", "\(port)", "\(try freePort())", "\(try freePort())",
        ]
        if let pki, let tlsPort { command += ["\(tlsPort)", pki + "/ca.crt", pki + "/broker.crt", pki + "/broker.key"] }
        self.command = command
    }

    func start() async throws {
        pid = try SDNAgentTests.start(command, output: folder.path + "/broker.out")
        let isUp = await eventually(within: .seconds(90)) { [port] in
            (try? String(contentsOfFile: self.folder.path + "/broker/log/start", encoding: .utf8))?.contains("completed") ?? false
                && port > 0
        }
        try #require(
            isUp,
            "rabbitmq-server does not start: \((try? String(contentsOfFile: folder.path + "/broker/log/start", encoding: .utf8)) ?? "")")
    }

    /// As power that fails.
    func kill() {
        guard pid > 0 else { return }
        Glibc.kill(-pid, SIGKILL)
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        pid = 0
        try? FileManager.default.removeItem(atPath: folder.path + "/broker/log/start")
    }

    deinit { kill() }
}

struct Delivery: Decodable, Equatable {
    var key: String
    var id: String
    var type: String
    var mode: Int
    var content: String
    var body: String
}

struct Consumer {
    let url: String
    let exchange: String
    let queue: String
    let folder: TemporaryFolder

    func bind() async throws { _ = try await run(["bind", url, exchange, queue]) }

    func drain(_ count: Int, within limit: Int) async throws -> [Delivery] {
        let text = try await run(["drain", url, exchange, queue, "\(count)", "\(limit)"])
        return try text.split(separator: "\n").map { try JSONDecoder().decode(Delivery.self, from: Data($0.utf8)) }
    }

    private func run(_ arguments: [String]) async throws -> String {
        let output = folder.path + "/consumer-\(UUID().uuidString.prefix(6))"
        let python = packageFolder + "/.venv/bin/python"
        let pid = try start([python, packageFolder + "/Tests/SystemTests/clients/amqp_consumer.py"] + arguments, output: output)
        var status: Int32 = 0
        let hasEnded = await eventually(within: .seconds(60)) { waitpid(pid, &status, WNOHANG) == pid }
        let text = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
        try #require(hasEnded && status == 0, "the consumer failed: \(text.suffix(2000))")
        return text
    }
}

func eventually(within limit: Duration, _ condition: () async throws -> Bool) async rethrows -> Bool {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
        if try await condition() { return true }
        try? await Task.sleep(for: .milliseconds(20))
    }
    return try await condition()
}
