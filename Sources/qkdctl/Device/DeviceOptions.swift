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
    case notPlain(file: String, what: String)

    var description: String {
        switch self {
        case .locked: "another session holds the device's lock: stop the link service that uses it, or wait"
        case .wrongKind(let text): text
        case .interrupted: "interrupted"
        case .plot(let text): text
        case .lost(let text): text
        case .exists(let file): "\(file) exists already: choose another name, or say --force"
        case .notPlain(let file, let what): "\(file) is \(what), and no plain file: it is never replaced; choose another name"
        }
    }
}

/// A file that an action is to write: looked at before the device is asked for anything.
enum NewFile {
    /// - Parameter replaces: a plain file that is there may go. Devices, pipes, sockets, folders and links never do.
    /// - Throws: `DeviceFailure.exists`, `.notPlain`.
    static func check(_ path: String, replaces: Bool) throws {
        // A link is looked at itself, not what it leads to.
        guard let type = try? FileManager.default.attributesOfItem(atPath: path)[.type] as? FileAttributeType else { return }
        let what: String? =
            switch type {
            case .typeRegular: nil
            case .typeDirectory: "a folder"
            case .typeSymbolicLink: "a symbolic link"
            case .typeSocket: "a socket"
            case .typeCharacterSpecial, .typeBlockSpecial: "a device"
            default: "a pipe"
            }
        if let what { throw DeviceFailure.notPlain(file: path, what: what) }
        guard replaces else { throw DeviceFailure.exists(path) }
    }
}

/// Printing: results to standard output, everything else to standard error.
enum Output {
    static func complain(_ text: String) { toErrors(text + "\n") }

    /// Standard error as it is. Where it cannot be written nobody is left to be told: the exit status says what there is to say.
    static func toErrors(_ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }

    static func json(_ value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        print(String(decoding: try encoder.encode(value), as: UTF8.self))
    }

    /// What was printed may still wait in a buffer, and the disk behind it may be full: that is known only when it has been written.
    /// Ends the program with status 1 where it cannot be, also where the reader of a pipe went away.
    static func watch() {
        signal(SIGPIPE, SIG_IGN)
        atexit { Output.flush() }
    }

    /// Writes what waits. What runs until it is interrupted calls it: it ends when nobody reads any more.
    static func flush() {
        errno = 0
        guard fflush(nil) != 0 else { return }
        let reason = errno == 0 ? "" : ": \(String(cString: strerror(errno)))"
        complain("qkdctl: standard output could not be written whole\(reason)")
        _exit(1)
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
        toErrors("\r\u{1B}[K\(text)")
    }

    static func endProgress() { if isTerminal { toErrors("\n") } }
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
