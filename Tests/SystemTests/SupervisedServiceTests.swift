// A service under a service manager: what it tells it, over a real notification socket.

import Foundation
import Glibc
import Testing

@Suite struct SupervisedServiceTests {
    @Test func theStoreTellsReadinessProgressAndItsEnd() async throws {
        let scratch = try Scratch()
        let lab = try await run("qkdctl", "lab", "prepare", "firmware-sim/testbeds/small.yaml", "--folder", scratch.path + "/lab")
        try #require(lab.status == 0, "\(lab)")
        let manager = try NotifySocket(scratch.path + "/n")
        let service = try Running(
            [
                "/usr/bin/env", "NOTIFY_SOCKET=\(manager.path)", "WATCHDOG_USEC=2000000", Programs.path("qkd-lkmsd"), "--config",
                "lkmsd.yaml",
            ], in: scratch.path + "/lab/alpha")
        #expect(await eventually(within: .seconds(30)) { manager.heard("READY=1") }, "\(service.errors)")
        // What it says to be ready for, it is.
        #expect(FileManager.default.fileExists(atPath: scratch.path + "/lab/alpha/run/lkmsd.sock"))
        #expect(FileManager.default.fileExists(atPath: scratch.path + "/lab/alpha/run/deposit.sock"))
        #expect(await eventually(within: .seconds(20)) { manager.count("WATCHDOG=1") >= 3 })
        #expect(manager.texts.contains { $0.contains("STATUS=0 of 1 peers up") }, "\(manager.texts)")
        // Stopped in its tracks, it gives no sign of life.
        service.signal(SIGSTOP)
        try await Task.sleep(for: .milliseconds(200))
        let count = manager.count("WATCHDOG=1")
        try await Task.sleep(for: .seconds(2))
        #expect(manager.count("WATCHDOG=1") == count)
        service.signal(SIGCONT)
        service.signal(SIGTERM)
        let end = await service.end(within: .seconds(20))
        #expect(end.status == 0 && manager.heard("STOPPING=1"), "\(end)")
    }

    /// It is ready without the services that it speaks for, and says that they are away.
    @Test func theAgentTellsReadinessProgressAndItsEnd() async throws {
        let scratch = try Scratch()
        let lab = try await run("qkdctl", "lab", "prepare", "firmware-sim/testbeds/small.yaml", "--folder", scratch.path + "/lab")
        try #require(lab.status == 0, "\(lab)")
        let manager = try NotifySocket(scratch.path + "/n")
        let service = try Running(
            [
                "/usr/bin/env", "NOTIFY_SOCKET=\(manager.path)", "WATCHDOG_USEC=2000000", Programs.path("qkd-agentd"), "--config",
                "agentd.yaml",
            ], in: scratch.path + "/lab/alpha")
        #expect(await eventually(within: .seconds(30)) { manager.heard("READY=1") }, "\(service.errors)")
        #expect(await eventually(within: .seconds(20)) { manager.count("WATCHDOG=1") >= 3 })
        #expect(manager.texts.contains { $0.contains("STATUS=NEW: 0 interfaces, 0 of 0 links active") }, "\(manager.texts)")
        #expect(await eventually(within: .seconds(20)) { manager.texts.contains { $0.contains("STATUS=DOWN") } }, "\(manager.texts)")
        service.signal(SIGTERM)
        let end = await service.end(within: .seconds(20))
        #expect(end.status == 0 && manager.heard("STOPPING=1"), "\(end)")
    }
}

/// A datagram socket as the service manager's.
private final class NotifySocket: @unchecked Sendable {
    let path: String
    private let handle: Int32
    private var all: [String] = []

    init(_ path: String) throws {
        self.path = path
        handle = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(handle, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        try #require(bound == 0)
    }

    deinit { close(handle) }

    /// Everything that was said so far; to be asked by one task only.
    var texts: [String] {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(handle, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            guard count >= 0 else { return all }
            all.append(String(decoding: buffer.prefix(count), as: UTF8.self))
        }
    }

    func count(_ text: String) -> Int { texts.count { $0 == text } }
    func heard(_ text: String) -> Bool { texts.contains { $0.split(separator: "\n").contains { $0 == text } } }
}
