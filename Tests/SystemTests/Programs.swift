// Runs the programs of this build as their users would.

import Foundation
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
final class Running: @unchecked Sendable {
    // `Process` is used from one test at a time.
    private let process = Process()
    private let scratch: Scratch
    private let outputFile: String
    private let errorFile: String

    init(_ command: [String], in folder: String = Programs.root, environment: [String: String] = [:]) throws {
        scratch = try Scratch()
        outputFile = scratch.path + "/out"
        errorFile = scratch.path + "/err"
        for file in [outputFile, errorFile] { try Data().write(to: URL(filePath: file)) }
        process.executableURL = URL(filePath: command[0])
        process.arguments = Array(command.dropFirst())
        process.currentDirectoryURL = URL(filePath: folder)
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { _, new in new }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle(forWritingAtPath: outputFile)
        process.standardError = FileHandle(forWritingAtPath: errorFile)
        try process.run()
    }

    deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

    var pid: pid_t { process.processIdentifier }
    var isRunning: Bool { process.isRunning }
    var output: String { (try? String(contentsOfFile: outputFile, encoding: .utf8)) ?? "" }
    var errors: String { (try? String(contentsOfFile: errorFile, encoding: .utf8)) ?? "" }

    func signal(_ number: Int32) { kill(pid, number) }

    /// Waits for its end; kills it when `limit` is over.
    func end(within limit: Duration = .seconds(60)) async -> Outcome {
        let deadline = ContinuousClock.now + limit
        while process.isRunning, ContinuousClock.now < deadline { try? await Task.sleep(for: .milliseconds(20)) }
        let late = process.isRunning
        if late {
            signal(SIGKILL)
            while process.isRunning { try? await Task.sleep(for: .milliseconds(5)) }
        }
        return Outcome(
            status: process.terminationStatus, output: output, errors: errors + (late ? "\n(killed by the test after \(limit))" : ""),
            killed: late || process.terminationReason == .uncaughtSignal)
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
