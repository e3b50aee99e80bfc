// From the bytes of a program message to command units: headers found in the tree, arguments split but not yet typed.

/// One command or query with its arguments.
struct CommandUnit: Equatable {
    var command: Command
    var arguments: Arguments
}

/// What one line holds: units, up to the first that is wrong.
struct ParsedMessage: Equatable {
    var units: [CommandUnit] = []
    var error: SCPIError?
}

/// The header tree: every spelling of every command (long and short forms, optional nodes left out).
package struct CommandTree {
    static let shared = CommandTree()
    private var spellings: [String: Command] = [:]
    /// Spellings that two commands claim; a test holds this empty.
    private var claimedTwice: [String] = []

    /// Short forms of different commands that read the same.
    package static var ambiguous: [String] { shared.claimedTwice.sorted() }

    private init() {
        for command in Command.allCases {
            for spelling in Self.spellings(of: command.rawValue) {
                if spellings.updateValue(command, forKey: spelling) != nil { claimedTwice.append(spelling) }
            }
        }
    }

    /// `nodes` in any case, without leading colon; a query ends in `?`.
    func command(_ header: String) -> Command? { spellings[header.uppercased()] }

    /// `"SYSTem:ERRor[:NEXT]?"` gives SYSTEM:ERROR?, SYST:ERR?, SYSTEM:ERROR:NEXT? and so on.
    static func spellings(of pattern: String) -> Set<String> {
        let query = pattern.hasSuffix("?") ? "?" : ""
        var results: Set<String> = [""]
        for node in nodes(of: pattern) {
            let long = node.name.uppercased()
            let short = String(node.name.filter { !$0.isLowercase })
            var next: Set<String> = node.optional ? results : []
            for prefix in results {
                let stem = prefix.isEmpty ? "" : prefix + ":"
                next.insert(stem + long)
                next.insert(stem + short)
            }
            results = next
        }
        return Set(results.map { $0 + query })
    }

    private static func nodes(of pattern: String) -> [(name: String, optional: Bool)] {
        let plain = pattern.hasSuffix("?") ? String(pattern.dropLast()) : pattern
        let marked = plain.replacing("[:", with: ":[").split(separator: ":")
        return marked.map { ($0.filter { $0 != "[" && $0 != "]" }, $0.hasPrefix("[")) }
    }
}

/// Splits and resolves program messages.
enum CommandParser {
    /// Parses one line without its terminator. Headers after `;` continue in the last one's branch unless they start with `:` or `*`.
    static func parse(_ line: [UInt8]) -> ParsedMessage {
        var message = ParsedMessage()
        guard line.allSatisfy({ (32..<127).contains($0) || $0 == 9 }) else {
            message.error = SCPIError(-101)
            return message
        }
        guard let parts = split(line, at: UInt8(ascii: ";")) else {
            message.error = SCPIError(-151)
            return message
        }
        var branch = ""
        for part in parts {
            let text = trimmed(String(decoding: part, as: UTF8.self))
            if text.isEmpty { continue }
            do {
                message.units.append(try unit(text, branch: &branch))
            } catch {
                message.error = error
                return message
            }
        }
        return message
    }

    private static func unit(_ text: String, branch: inout String) throws(SCPIError) -> CommandUnit {
        let end = text.firstIndex { $0 == " " || $0 == "\t" } ?? text.endIndex
        var header = String(text[..<end])
        guard header.allSatisfy({ $0.isLetter || $0.isNumber || ":*?_".contains($0) }) else { throw SCPIError(-102, header) }
        if header.hasPrefix(":") {
            header.removeFirst()
            branch = ""
        }
        let full = header.hasPrefix("*") || branch.isEmpty ? header : "\(branch):\(header)"
        let found = CommandTree.shared.command(full).map { ($0, full) } ?? CommandTree.shared.command(header).map { ($0, header) }
        guard let (command, name) = found else { throw SCPIError(-113, header) }
        if !header.hasPrefix("*") { branch = name.lastIndex(of: ":").map { String(name[..<$0]) } ?? "" }
        let rest = trimmed(String(text[end...]))
        return CommandUnit(command: command, arguments: try arguments(rest))
    }

    private static func arguments(_ text: String) throws(SCPIError) -> Arguments {
        if text.isEmpty { return Arguments([]) }
        if text.hasPrefix("#") { throw SCPIError(-168) }
        guard let parts = split([UInt8](text.utf8), at: UInt8(ascii: ",")) else { throw SCPIError(-151) }
        let items = parts.map { trimmed(String(decoding: $0, as: UTF8.self)) }
        guard !items.contains("") else { throw SCPIError(-103) }
        return Arguments(items)
    }

    /// Splits outside quotes; `nil` when a quote stays open.
    private static func split(_ bytes: [UInt8], at separator: UInt8) -> [ArraySlice<UInt8>]? {
        var parts: [ArraySlice<UInt8>] = []
        var quote: UInt8?
        var start = 0
        for (index, byte) in bytes.enumerated() {
            if let open = quote {
                if byte == open { quote = nil }
            } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                quote = byte
            } else if byte == separator {
                parts.append(bytes[start..<index])
                start = index + 1
            }
        }
        parts.append(bytes[start...])
        return quote == nil ? parts : nil
    }

    private static func trimmed(_ text: String) -> String {
        let start = text.firstIndex { $0 != " " && $0 != "\t" } ?? text.endIndex
        let end = text.lastIndex { $0 != " " && $0 != "\t" }.map(text.index(after:)) ?? start
        return String(text[start..<end])
    }
}
