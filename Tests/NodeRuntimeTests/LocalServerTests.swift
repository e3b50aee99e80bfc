import Foundation
import Glibc
import Logging
import NodeRuntime
import Testing

private struct Greeting: Codable, Sendable, Equatable {
    var text: String
    var ratio: Double = .infinity
}

/// A folder with a short path, removed with its last user.
private final class Folder: Sendable {
    let path: String
    init() throws {
        path = NSTemporaryDirectory() + "nr-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}

private func routes() -> LocalRoutes {
    var routes = LocalRoutes()
    routes.get("/greetings/:name") { Greeting(text: "hello \(try $0.require("name")) \($0.query("mood") ?? "")") }
    routes.post("/greetings") { (body: Greeting, _: LocalRequest) in Greeting(text: body.text.uppercased(), ratio: 0.5) }
    routes.post("/nothing") { (_: LocalNothing, _: LocalRequest) in LocalNothing() }
    routes.delete("/greetings/:name") { _ -> LocalNothing in throw LocalProblem.conflict("it is in use") }
    routes.get("/broken") { _ -> LocalNothing in throw NodeRuntimeError.unreadable(file: "x", reason: "y") }
    routes.events("/events") { request in
        let count = Int(request.query("count") ?? "") ?? 3
        return AsyncStream { out in
            for number in 0..<count { _ = try? out.yield(LocalEvent(name: "n", payload: ["n": number])) }
            if count > 0 { out.finish() }
        }
    }
    return routes
}

/// Runs `body` against a served socket, then asks the server to stop as a signal would.
private func serving(keepAlive: Duration = .seconds(10), _ body: (LocalClient, String) async throws -> Void) async throws {
    let folder = try Folder()
    let path = folder.path + "/api.sock"
    let (running, up) = AsyncStream.makeStream(of: Void.self)
    let server = LocalServer(
        socketPath: path, routes: routes(), logger: quiet(), keepAlive: keepAlive, onRunning: { up.yield() })
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await server.run() }
        for await _ in running { break }
        let client = LocalClient(socketPath: path, timeout: .seconds(5))
        try await body(client, path)
        await client.shutdown()
        group.cancelAll()
        try? await group.waitForAll()
    }
}

private func quiet() -> Logger {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return logger
}

@Suite struct LocalServerTests {
    @Test func getPostAndParameters() async throws {
        try await serving { client, path in
            let greeting: Greeting = try await client.get("/greetings/ana%20mar?mood=so%26so")
            #expect(greeting == Greeting(text: "hello ana mar so&so"))
            let loud: Greeting = try await client.post("/greetings", Greeting(text: "hi"))
            #expect(loud == Greeting(text: "HI", ratio: 0.5))
            let nothing: LocalNothing = try await client.post("/nothing")
            #expect(nothing == LocalNothing())
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o660)
        }
    }

    @Test func problemsReachTheCallerWithStatusAndSentence() async throws {
        try await serving { client, _ in
            await #expect(throws: NodeRuntimeError.refused(status: 409, message: "it is in use")) {
                let _: LocalNothing = try await client.delete("/greetings/ana")
            }
            await #expect(throws: NodeRuntimeError.refused(status: 500, message: "cannot read configuration x: y")) {
                let _: LocalNothing = try await client.get("/broken")
            }
            await #expect(throws: NodeRuntimeError.refused(status: 404, message: "Not Found")) {
                let _: LocalNothing = try await client.get("/nowhere")
            }
            await #expect(throws: NodeRuntimeError.refused(status: 405, message: "POST /broken: use GET")) {
                let _: LocalNothing = try await client.post("/broken", LocalNothing())
            }
            let missing = "POST /greetings: the message does not fit its type: 'text' is missing"
            await #expect(throws: NodeRuntimeError.refused(status: 400, message: missing)) {
                let _: Greeting = try await client.post("/greetings", ["word": "hi"])
            }
        }
    }

    @Test func eventsArriveInOrderThroughKeepAlives() async throws {
        try await serving(keepAlive: .milliseconds(1)) { client, _ in
            var numbers: [Int] = []
            for try await event in client.events("/events?count=500") {
                numbers.append(try event.decode([String: Int].self)["n"] ?? -1)
            }
            #expect(numbers == Array(0..<500))
        }
    }

    @Test func unknownEventStreamIsAnError() async throws {
        try await serving { client, _ in
            await #expect(throws: NodeRuntimeError.refused(status: 404, message: "Not Found")) {
                for try await _ in client.events("/nowhere") {}
            }
        }
    }

    @Test func openEventStreamDoesNotHoldUpTheStop() async throws {
        let folder = try Folder()
        let path = folder.path + "/api.sock"
        let (running, up) = AsyncStream.makeStream(of: Void.self)
        let server = LocalServer(socketPath: path, routes: routes(), logger: quiet(), onRunning: { up.yield() })
        let client = LocalClient(socketPath: path)
        let start = ContinuousClock.now
        try await Daemon.run(
            [
                server,
                Work {
                    for await _ in running { break }
                    let reader = Task { for try await _ in client.events("/events?count=0") {} }
                    try await Task.sleep(for: .milliseconds(200))
                    reader.cancel()
                    _ = try? await reader.value
                    _ = Task { for try await _ in client.events("/events?count=0") {} }
                    try await Task.sleep(for: .milliseconds(200))
                },
            ], logger: quiet(), limit: .seconds(8))
        #expect(ContinuousClock.now - start < .seconds(5))
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func sigtermStopsADaemon() async throws {
        let start = ContinuousClock.now
        try await Daemon.run(
            [
                Work { try await Task.sleep(for: .seconds(60)) },
                Work {
                    try await Task.sleep(for: .milliseconds(100))
                    kill(getpid(), SIGTERM)
                    try await Task.sleep(for: .seconds(60))
                },
            ], logger: quiet())
        #expect(ContinuousClock.now - start < .seconds(20))
    }

    @Test func failureOfAPartIsTheDaemonsError() async {
        await #expect(throws: NodeRuntimeError.notASocket(path: "p")) {
            try await Daemon.run(
                [Work { throw NodeRuntimeError.notASocket(path: "p") }, Work { try await Task.sleep(for: .seconds(60)) }], logger: quiet())
        }
    }
}

@Suite struct LocalClientTests {
    @Test func nobodyThere() async {
        let client = LocalClient(socketPath: NSTemporaryDirectory() + "none-\(UUID().uuidString.prefix(8))")
        let start = ContinuousClock.now
        do {
            let _: LocalNothing = try await client.get("/status")
            Issue.record("an answer from nobody")
        } catch NodeRuntimeError.unreachable(_, let reason) {
            #expect(reason.contains("no such file"))
        } catch {
            Issue.record("\(error)")
        }
        #expect(ContinuousClock.now - start < .seconds(3))
    }

    @Test func silentServiceTimesOut() async throws {
        let folder = try Folder()
        let listener = try Listener(folder.path + "/mute.sock")
        let client = LocalClient(socketPath: listener.path, timeout: .seconds(1))
        await #expect(throws: NodeRuntimeError.timeout(route: "GET on \(listener.path)", seconds: 1)) {
            let _: LocalNothing = try await client.get("/status")
        }
    }
}

/// A bound, listening socket that never accepts.
private final class Listener: Sendable {
    let path: String
    private let handle: Int32

    init(_ path: String) throws {
        self.path = path
        handle = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(handle, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        try #require(bound == 0)
        try #require(listen(handle, 4) == 0)
    }

    deinit { close(handle) }
}

@Suite struct UnixSocketTests {
    @Test func staleSocketIsReplacedAndALiveOneIsNot() throws {
        let folder = try Folder()
        let path = folder.path + "/a/b/s.sock"
        try UnixSocket.claim(path)
        var listener: Listener? = try Listener(path)
        #expect(throws: NodeRuntimeError.socketInUse(path: path)) { try UnixSocket.claim(path) }
        _ = listener
        listener = nil
        #expect(FileManager.default.fileExists(atPath: path))
        try UnixSocket.claim(path)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func fileInTheWayIsKept() throws {
        let folder = try Folder()
        let path = folder.path + "/file"
        try Data("precious".utf8).write(to: URL(filePath: path))
        #expect(throws: NodeRuntimeError.notASocket(path: path)) { try UnixSocket.claim(path) }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
    }

    @Test func longPathIsRefusedInWords() {
        let path = "/tmp/" + String(repeating: "x", count: 103)
        #expect(throws: NodeRuntimeError.socketPathTooLong(path: path)) { try UnixSocket.claim(path) }
    }
}
