// What every program of a node needs and none should write twice.
//
// - `Configuration` reads a YAML file into a Decodable type and refuses what it does not know, naming file, line
//   and key.
// - `LocalServer` and `LocalRoutes` serve NodeAPI's messages as HTTP/JSON on a Unix socket, so that
//   `curl --unix-socket` is a client; events leave as server-sent events. `LocalClient` is the other end.
// - `Logs` writes one line per event to standard error, or an entry with fields to the journal.
// - `Supervision` tells systemd when a service is ready, that it makes progress, and that it ends.
// - `Daemon` runs the parts of a service until SIGTERM or SIGINT and lets them finish.
//
// - `Preflight` is what `--check` looks at besides the file itself: secrets, folders, addresses.
//
// Life of a service: parse arguments, `Logs.bootstrap`, `Configuration.load`, join the parts, `Daemon.run`.
// Nothing here knows keys: NodeAPI carries counts and states only.
//
// Sources: RFC 9112 (HTTP/1.1), the HTML standard's section on server-sent events, sd-daemon(3) for the prefixes.

/// What can go wrong under a program's feet.
public enum NodeRuntimeError: Error, Equatable, CustomStringConvertible {
    /// A configuration file cannot be read at all.
    case unreadable(file: String, reason: String)
    /// A configuration file says something that cannot be used.
    case configuration(file: String, line: Int, key: String, problem: String)
    /// More than one thing is wrong with a configuration.
    indirect case several([NodeRuntimeError])
    /// A Unix socket path is longer than the kernel's 107 bytes.
    case socketPathTooLong(path: String)
    /// Another process listens on the socket.
    case socketInUse(path: String)
    /// Something that is no socket stands at the path.
    case notASocket(path: String)
    /// The socket cannot be bound or its folder cannot be used.
    case socketUnusable(path: String, reason: String)
    /// Nobody answers on the socket, or the answer broke off.
    case unreachable(path: String, reason: String)
    /// The service answered with an error status.
    case refused(status: Int, message: String)
    /// The service's answer, or a request's body, is not what the message type says.
    case badMessage(route: String, reason: String)
    /// An answer did not come within its time.
    case timeout(route: String, seconds: Int)

    public var description: String {
        switch self {
        case .unreadable(let file, let reason): "cannot read configuration \(file): \(reason)"
        case .configuration(let file, let line, let key, let problem):
            "\(file):\(line): \(key.isEmpty ? "" : "key '\(key)': ")\(problem)"
        case .several(let errors): errors.map(\.description).joined(separator: "\n")
        case .socketPathTooLong(let path):
            "the socket path '\(path)' has \(path.utf8.count) bytes and 107 is the limit: use a shorter path or one relative to the folder"
        case .socketInUse(let path): "another process listens on \(path): stop it or configure another socket"
        case .notASocket(let path): "\(path) exists and is no socket: remove it or configure another socket"
        case .socketUnusable(let path, let reason): "cannot listen on \(path): \(reason)"
        case .unreachable(let path, let reason): "no answer on \(path): \(reason): is the service running?"
        case .refused(let status, let message): "refused with status \(status): \(message)"
        case .badMessage(let route, let reason): "\(route): the message does not fit its type: \(reason)"
        case .timeout(let route, let seconds): "\(route): no answer within \(seconds) s"
        }
    }
}

extension NodeRuntimeError {
    /// One error for all of them, by line; nil where there is none.
    static func all(_ errors: [NodeRuntimeError]) -> NodeRuntimeError? {
        func line(_ error: NodeRuntimeError) -> Int { if case .configuration(_, let line, _, _) = error { line } else { 0 } }
        let sorted = errors.enumerated().sorted { (line($0.element), $0.offset) < (line($1.element), $1.offset) }.map(\.element)
        return sorted.count > 1 ? .several(sorted) : sorted.first
    }
}
