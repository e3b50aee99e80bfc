// What systemd hears: readiness, status, progress and the end; over a real notification socket, too.

import Foundation
import Glibc
import Logging
import NodeRuntime
import Synchronization
import Testing

private final class Heard: Sendable {
    private let inner = Mutex<[String]>([])
    var all: [String] { inner.withLock { $0 } }
    var send: @Sendable (String) -> Bool {
        { text in
            self.inner.withLock { $0.append(text) }
            return true
        }
    }
    func count(_ text: String) -> Int { all.count { $0 == text } }
}

private final class Switch: Sendable {
    private let state = Mutex(false)
    var isOn: Bool { state.withLock { $0 } }
    func set(_ on: Bool) { state.withLock { $0 = on } }
}

private func eventually(_ condition: () -> Bool) async -> Bool {
    let deadline = ContinuousClock.now + .seconds(15)
    while ContinuousClock.now < deadline {
        if condition() { return true }
        try? await Task.sleep(for: .milliseconds(10))
    }
    return condition()
}

private func quiet() -> Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

/// A datagram socket as the service manager's.
private final class NotifySocket {
    let path = NSTemporaryDirectory() + "notify-\(UUID().uuidString.prefix(8)).sock"
    private let handle: Int32

    init() throws {
        handle = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(handle, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        try #require(bound == 0)
    }

    /// What waits to be read.
    func read() -> [String] {
        var texts: [String] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(handle, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            guard count >= 0 else { return texts }
            texts.append(String(decoding: buffer.prefix(count), as: UTF8.self))
        }
    }

    deinit {
        close(handle)
        unlink(path)
    }
}

@Suite(.serialized) struct SupervisionTests {
    @Test func readyIsToldOnceAndOnlyWhenEveryPartIsUp() {
        let heard = Heard()
        let supervision = Supervision(interval: nil, send: heard.send)
        supervision.expect("store", "deposits")
        supervision.status("opening the database")
        supervision.up("store")
        supervision.up("store")
        supervision.up("somebody else")
        #expect(!supervision.isReady && heard.all == ["STATUS=opening the database"])
        supervision.up("deposits")
        supervision.up("deposits")
        #expect(heard.all == ["STATUS=opening the database", "READY=1\nSTATUS=opening the database"])
    }

    @Test func aStatusIsOneLineAndToldOnce() {
        let heard = Heard()
        let supervision = Supervision(interval: nil, send: heard.send)
        for _ in 0..<3 { supervision.status("two peers\nREADY=1") }
        #expect(heard.all == ["STATUS=two peers READY=1"])
    }

    @Test func reloadingIsFramedAndNotToldBeforeReadiness() async {
        let heard = Heard()
        let supervision = Supervision(interval: nil, send: heard.send)
        await supervision.reloading {}
        #expect(heard.all.isEmpty)
        supervision.expect("a")
        supervision.up("a")
        await supervision.reloading { #expect(heard.all.last?.hasPrefix("RELOADING=1\nMONOTONIC_USEC=") == true) }
        #expect(heard.all.count == 3 && heard.all.last == "READY=1")
    }

    /// A timer alone feeds nothing: where a loop hangs, the signs of life end, and come back with it.
    @Test func theWatchdogStarvesWithOneSilentPart() async throws {
        let heard = Heard()
        let supervision = Supervision(interval: .milliseconds(40), send: heard.send)
        let hangs = Switch()
        try await withThrowingTaskGroup(of: Void.self) { group in
            // Not in a daemon: other tests of this process send it signals.
            group.addTask { await supervision.feed(quiet()) }
            group.addTask {
                while !Task.isCancelled {
                    supervision.beat("good", within: .seconds(2))
                    if !hangs.isOn { supervision.beat("other", within: .milliseconds(500)) }
                    try? await Task.sleep(for: .milliseconds(5))
                }
            }
            #expect(await eventually { heard.count("WATCHDOG=1") > 5 })
            hangs.set(true)
            #expect(await eventually { supervision.silent == ["other"] })
            // One may be under way.
            try await Task.sleep(for: .milliseconds(50))
            let starved = heard.count("WATCHDOG=1")
            try await Task.sleep(for: .milliseconds(300))
            #expect(heard.count("WATCHDOG=1") == starved)
            hangs.set(false)
            #expect(await eventually { heard.count("WATCHDOG=1") > starved })
            // A part that ends in order is not missed.
            supervision.beat("short", within: .milliseconds(1))
            supervision.rest("short")
            try await Task.sleep(for: .milliseconds(60))
            #expect(!supervision.silent.contains("short"))
            group.cancelAll()
            try? await group.waitForAll()
        }
    }

    @Test func theEndIsToldBeforeThePartsEnd() async throws {
        let heard = Heard()
        let supervision = Supervision(interval: nil, send: heard.send)
        try await Daemon.run(
            [
                Work {
                    try? await Task.sleep(for: .seconds(60))
                    #expect(heard.all == ["STOPPING=1"])
                },
                Work {
                    try await Task.sleep(for: .milliseconds(50))
                    kill(getpid(), SIGTERM)
                    try? await Task.sleep(for: .seconds(60))
                },
            ], logger: quiet(), supervision: supervision)
        #expect(heard.all == ["STOPPING=1"])
    }

    /// By the library's own function, over a socket as systemd has it.
    @Test func aManagersSocketHearsIt() async throws {
        let manager = try NotifySocket()
        setenv("NOTIFY_SOCKET", manager.path, 1)
        defer { unsetenv("NOTIFY_SOCKET") }
        let supervision = Supervision(interval: nil, send: { Supervision.notify($0) })
        supervision.expect("test")
        supervision.status("serving")
        supervision.up("test")
        #expect(manager.read() == ["STATUS=serving", "READY=1\nSTATUS=serving"])
        await supervision.reloading {}
        let reload = manager.read()
        #expect(reload.count == 2 && reload[0].hasPrefix("RELOADING=1\n") && reload[1] == "READY=1")
    }
}
