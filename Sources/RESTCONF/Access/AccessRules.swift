// Who may do what: a file of certificate names and their roles.
//
//     clients:
//       sdn-controller.madrid: controller     # reads and writes
//       noc: operator                         # reads, and listens to event streams
//
// YAML, or JSON of the same shape. Whoever holds a certificate of the right authority and is not named here is answered 403.

import Foundation
import Glibc
import Synchronization
import Yams

/// What a client may do.
public enum AccessRole: String, Sendable, Codable, CaseIterable {
    /// Reads, listens to event streams, writes, invokes operations.
    case controller
    /// Reads and listens to event streams.
    case `operator`

    public var mayWrite: Bool { self == .controller }
}

/// The roles of one file, checked.
public struct AccessRules: Sendable, Equatable {
    /// By the certificate's name.
    public private(set) var clients: [String: AccessRole]

    public init(_ clients: [String: AccessRole]) { self.clients = clients }

    /// - Throws: `RESTCONFSetupError.rules` with file and line.
    public init(file: String) throws(RESTCONFSetupError) {
        guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
            let exists = FileManager.default.fileExists(atPath: file)
            throw .rules(file: file, line: 0, problem: exists ? "it is not readable as UTF-8" : "no such file")
        }
        try self.init(parsing: text, file: file)
    }

    /// - Parameter file: stands in errors only.
    public init(parsing text: String, file: String) throws(RESTCONFSetupError) {
        let root = try Self.compose(text, file: file)
        guard let mapping = root.mapping else {
            throw .rules(file: file, line: root.mark?.line ?? 1, problem: "it should be a mapping with the one key 'clients'")
        }
        var clients: [String: AccessRole]?
        for (key, value) in mapping {
            guard key.string == "clients" else {
                throw .rules(file: file, line: key.mark?.line ?? 1, problem: "unknown key '\(key.string ?? "?")': only 'clients' is known")
            }
            clients = try Self.clients(value, file: file)
        }
        guard let clients else { throw .rules(file: file, line: 1, problem: "'clients' is missing") }
        self.clients = clients
    }

    private static func compose(_ text: String, file: String) throws(RESTCONFSetupError) -> Node {
        do {
            if let root = try Yams.compose(yaml: text) { return root }
        } catch let error as YamlError {
            switch error {
            case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _), .composer(_, let problem, let mark, _):
                throw .rules(file: file, line: mark.line, problem: "not YAML: \(problem)")
            case .duplicatedKeysInMapping(let keys, let context):
                throw .rules(file: file, line: context.mark.line, problem: "'\(keys.joined(separator: "', '"))' is given twice")
            default: throw .rules(file: file, line: 1, problem: "not YAML: \(error)")
            }
        } catch {
            throw .rules(file: file, line: 1, problem: "not YAML: \(error)")
        }
        throw .rules(file: file, line: 1, problem: "it is empty: name at least 'clients'")
    }

    private static func clients(_ node: Node, file: String) throws(RESTCONFSetupError) -> [String: AccessRole] {
        guard let mapping = node.mapping else {
            throw .rules(file: file, line: node.mark?.line ?? 1, problem: "'clients' should map certificate names to roles")
        }
        var clients: [String: AccessRole] = [:]
        for (key, value) in mapping {
            let line = key.mark?.line ?? 1
            guard let name = key.string, !name.isEmpty else { throw .rules(file: file, line: line, problem: "a certificate name is empty") }
            guard let role = value.string.flatMap(AccessRole.init) else {
                let known = AccessRole.allCases.map { "'\($0.rawValue)'" }.joined(separator: " or ")
                throw .rules(file: file, line: line, problem: "the role of '\(name)' is '\(value.string ?? "?")', should be \(known)")
            }
            clients[name] = role
        }
        return clients
    }

    /// The role of a certificate with these names. Where names of one certificate have different roles the lesser one counts.
    public func role(of names: [String]) -> AccessRole? {
        let roles = names.compactMap { clients[$0] }
        return roles.contains(.operator) ? .operator : roles.first
    }
}

/// The rules that are in force; they may be read again while the server runs, and count from the next request on.
public final class AccessList: Sendable {
    /// What a file looked like when it was read.
    private struct Look: Equatable {
        var inode: UInt64 = 0
        var size: Int64 = 0
        var seconds = 0
        var nanoseconds = 0

        init(_ file: String) {
            var facts = stat()
            guard stat(file, &facts) == 0 else { return }
            (inode, size) = (UInt64(facts.st_ino), Int64(facts.st_size))
            (seconds, nanoseconds) = (facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec)
        }
    }

    private let file: String?
    private let rules: Mutex<AccessRules>
    private let look: Mutex<Look?>

    /// - Throws: `RESTCONFSetupError.rules`.
    public init(file: String) throws(RESTCONFSetupError) {
        self.file = file
        look = Mutex(Look(file))
        rules = Mutex(try AccessRules(file: file))
    }

    public init(_ rules: AccessRules) {
        file = nil
        look = Mutex(nil)
        self.rules = Mutex(rules)
    }

    public var current: AccessRules { rules.withLock { $0 } }

    /// Reads the file again; where it is wrong the old rules stay in force.
    /// - Throws: `RESTCONFSetupError.rules`.
    public func reload() throws(RESTCONFSetupError) {
        guard let file else { return }
        replace(with: try AccessRules(file: file))
    }

    /// Reads the file again where it is another one than it was, or has gone.
    /// - Returns: whether that was so, and whether other rules are in force now.
    /// - Throws: `RESTCONFSetupError.rules`, once for each change of the file: the old rules stay in force.
    public func reloadIfChanged() throws(RESTCONFSetupError) -> (isRead: Bool, isNew: Bool) {
        guard let file else { return (false, false) }
        let now = Look(file)
        let isChanged = look.withLock { look in
            defer { look = now }
            return look != now
        }
        guard isChanged else { return (false, false) }
        let new = try AccessRules(file: file)
        let isNew = new != current
        replace(with: new)
        return (true, isNew)
    }

    public func replace(with new: AccessRules) { rules.withLock { $0 = new } }

    func role(of names: [String]) -> AccessRole? { rules.withLock { $0.role(of: names) } }
}
