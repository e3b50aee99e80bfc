// Runs the programs of this build as their users would.

import Foundation
import Glibc
import Synchronization
import Testing

/// The programs of the build under test, and the project's folder.
enum Programs {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .path(percentEncoded: false)

    /// Where the tests' own executable stands, the programs stand too.
    static let folder: String = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return (own as NSString).deletingLastPathComponent
    }()

    static func path(_ name: String) -> String { folder + "/" + name }
}

/// What a program said and how it ended.
struct Outcome: Sendable, CustomStringConvertible {
    var status: Int32
    var output: String
    var errors: String
    /// Ended by a signal, the time limit's included.
    var killed: Bool

    var description: String {
        "status \(status)\(killed ? " (killed)" : ""), output: \(output.suffix(2000)), errors: \(errors.suffix(4000))"
    }
}

/// A program while it runs. It is killed with its last reference.
///
/// Started by posix_spawn: Foundation's Process crashes now and then after some hundred children.
final class Running: Sendable {
    let pid: pid_t
    private let scratch: Scratch
    private let status = Mutex<Int32?>(nil)

    init(_ command: [String], in folder: String = Programs.root) throws {
        scratch = try Scratch()
        pid = try Self.spawn(["/usr/bin/env", "--chdir=\(folder)"] + command, output: scratch.path + "/out", errors: scratch.path + "/err")
    }

    deinit {
        guard isRunning else { return }
        signal(SIGKILL)
        var ignored: Int32 = 0
        waitpid(pid, &ignored, 0)
    }

    private static func spawn(_ command: [String], output: String, errors: String) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT, 0o600)
        let arguments = command.map { strdup($0) }
        defer { arguments.forEach { free($0) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, command[0], &actions, nil, arguments + [nil], environ)
        try #require(code == 0, "cannot start \(command): \(String(cString: strerror(code)))")
        return pid
    }

    /// The wait status, once it has ended.
    private var ended: Int32? {
        status.withLock { known in
            if known != nil { return known }
            var found: Int32 = 0
            if waitpid(pid, &found, WNOHANG) == pid { known = found }
            return known
        }
    }

    var isRunning: Bool { ended == nil }
    var output: String { (try? String(contentsOfFile: scratch.path + "/out", encoding: .utf8)) ?? "" }
    var errors: String { (try? String(contentsOfFile: scratch.path + "/err", encoding: .utf8)) ?? "" }

    func signal(_ number: Int32) { kill(pid, number) }

    /// Waits for its end; kills it when `limit` is over.
    func end(within limit: Duration = .seconds(60)) async -> Outcome {
        let deadline = ContinuousClock.now + limit
        while isRunning, ContinuousClock.now < deadline { try? await Task.sleep(for: .milliseconds(20)) }
        let late = isRunning
        if late { signal(SIGKILL) }
        while isRunning { try? await Task.sleep(for: .milliseconds(5)) }
        let status = ended ?? 0
        return Outcome(
            status: (status >> 8) & 0xff, output: output, errors: errors + (late ? "\n(killed by the test after \(limit))" : ""),
            killed: status & 0x7f != 0)
    }
}

/// - Returns: how `command` ended; its program by name is one of this build.
func run(_ command: String..., in folder: String = Programs.root, within limit: Duration = .seconds(60)) async throws -> Outcome {
    let program = command[0].hasPrefix("/") ? command[0] : Programs.path(command[0])
    return await (try Running([program] + command.dropFirst(), in: folder)).end(within: limit)
}

/// Polls `condition` until it holds or the time is over.
/// - Returns: whether it held.
func eventually(within limit: Duration, every step: Duration = .milliseconds(100), _ condition: () async throws -> Bool) async rethrows
    -> Bool
{
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
        if try await condition() { return true }
        try? await Task.sleep(for: step)
    }
    return try await condition()
}

/// A folder of its own, removed with its last user.
final class Scratch: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "st-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    func write(_ text: String, _ name: String) throws -> String {
        try Data(text.utf8).write(to: URL(filePath: path + "/" + name))
        return path + "/" + name
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
