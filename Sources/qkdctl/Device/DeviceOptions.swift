// What all actions share: how to open, how to print.

import ArgumentParser
import Dispatch
import Foundation
import Glibc
import Instruments
import Transport

struct DeviceOptions: ParsableArguments {
    @Flag(help: "Print JSON for programs.")
    var json = false

    @Flag(help: "Let tcp: leave this machine. Symbols on the way are as good as key.")
    var allowRemote = false

    @Option(help: ArgumentHelp("Longest wait for an answer, in seconds.", valueName: "seconds"))
    var timeout = 10.0

    func validate() throws {
        guard timeout > 0, timeout < 86_400 else { throw ValidationError("--timeout must be above 0 and below a day") }
    }

    var open: OpenOptions { OpenOptions(allowRemote: allowRemote, deadline: .seconds(timeout)) }

    /// Opens a device, and closes it however `body` ends.
    func withModule<R: Sendable>(_ uri: String, _ body: (any QKDModule) async throws -> R) async throws -> R {
        let module = try await Modules.open(uri: uri, options: open)
        defer { module.close() }
        return try await body(module)
    }

    /// The same with the device's lock held: nobody else changes it meanwhile.
    func withClaimed<R: Sendable>(_ uri: String, _ body: (any QKDModule) async throws -> R) async throws -> R {
        try await withModule(uri) { module in
            guard try await module.claim() else { throw DeviceFailure.locked }
            for thing in try await module.stopLeftovers() {
                Output.complain("stopped \(thing) that a session before had left running")
            }
            // Closing the session gives the lock back, whatever happens before.
            return try await body(module)
        }
    }
}

enum DeviceFailure: Error, CustomStringConvertible {
    case locked
    case wrongKind(String)
    case interrupted
    case plot(String)
    case lost(String)
    case exists(String)

    var description: String {
        switch self {
        case .locked: "another session holds the device's lock: stop the link service that uses it, or wait"
        case .wrongKind(let text): text
        case .interrupted: "interrupted"
        case .plot(let text): text
        case .lost(let text): text
        case .exists(let file): "\(file) exists already: choose another name, or say --force"
        }
    }
}

/// Printing: results to standard output, everything else to standard error.
enum Output {
    static func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

    static func json(_ value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        print(String(decoding: try encoder.encode(value), as: UTF8.self))
    }

    /// What was printed may still wait in a buffer, and the disk behind it may be full: that is known only when it has been written.
    /// Ends the program with status 1 where it cannot be.
    static func watch() {
        atexit {
            errno = 0
            guard fflush(nil) != 0 else { return }
            let reason = errno == 0 ? "" : ": \(String(cString: strerror(errno)))"
            Output.complain("qkdctl: standard output could not be written whole\(reason)")
            _exit(1)
        }
    }

    /// Two columns.
    static func table(_ rows: [(String, String)]) {
        let width = rows.map(\.0.count).max() ?? 0
        for (name, value) in rows { print(name.padding(toLength: width + 2, withPad: " ", startingAt: 0) + value) }
    }

    static func number(_ value: Double, digits: Int = 6) -> String { String(format: "%.\(digits)g", value) }

    /// Whether people look at standard error.
    static var isTerminal: Bool { isatty(2) == 1 }

    /// Overwrites one line of standard error; silent where nobody looks.
    static func progress(_ text: String) {
        guard isTerminal else { return }
        FileHandle.standardError.write(Data("\r\u{1B}[K\(text)".utf8))
    }

    static func endProgress() { if isTerminal { FileHandle.standardError.write(Data("\n".utf8)) } }
}

/// Ctrl-C, a request to end and a terminal that goes away cancel what runs, so that devices are stopped and files are finished.
enum Interruption {
    static func watched(_ body: @escaping @Sendable () async throws -> Void) async throws {
        let task = Task { try await body() }
        let sources = [SIGINT, SIGTERM, SIGHUP].filter { !isIgnored($0) }.map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { task.cancel() }
            source.resume()
            return source
        }
        defer { for source in sources { source.cancel() } }
        do { try await task.value } catch is CancellationError { throw DeviceFailure.interrupted }
    }

    /// Whoever started the program may have told it not to mind a signal (nohup).
    private static func isIgnored(_ number: Int32) -> Bool {
        var action = sigaction()
        guard number == SIGHUP, sigaction(number, nil, &action) == 0 else { return false }
        let (now, ignored) = (action.__sigaction_handler.sa_handler, SIG_IGN)
        return unsafeBitCast(now, to: Int.self) == unsafeBitCast(ignored, to: Int.self)
    }
}
