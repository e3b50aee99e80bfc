// One mapping of a YAML file, read key by key: what is missing, malformed or left over is an error with line and key.

internal import Yams

/// Reads the keys of one mapping and remembers which were asked for. Call `finish()` at the end.
final class StrictMapping {
    let file: String
    let path: String
    let line: Int
    private let mapping: Node.Mapping
    private var asked: Set<String> = []

    init(_ node: Node, file: String, path: String) throws(FirmwareSimError) {
        self.file = file
        self.path = path
        line = node.mark?.line ?? 0
        guard case .mapping(let mapping) = node else {
            throw .badTestbed(file: file, line: line, key: path, reason: "must be a mapping of keys to values")
        }
        self.mapping = mapping
    }

    static func parse(_ text: String, file: String) throws(FirmwareSimError) -> StrictMapping {
        let node: Node?
        do {
            node = try compose(yaml: text)
        } catch let error as YamlError {
            let place = error.place(in: text)
            throw .badTestbed(file: file, line: place.line, key: place.key, reason: error.problem)
        } catch {
            throw .unreadable(file: file, reason: "\(error)")
        }
        guard let node else { throw .badTestbed(file: file, line: 1, key: "", reason: "is empty") }
        return try StrictMapping(node, file: file, path: "")
    }

    func name(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    func node(_ key: String) -> Node? {
        asked.insert(key)
        return mapping.first { $0.key.string == key }?.value
    }

    func has(_ key: String) -> Bool { node(key) != nil }

    func failure(_ key: String, _ reason: String) -> FirmwareSimError {
        let at = mapping.first { $0.key.string == key }?.key.mark?.line ?? line
        return .badTestbed(file: file, line: at, key: name(key), reason: reason)
    }

    // MARK: Scalars

    func string(_ key: String) throws(FirmwareSimError) -> String {
        guard let node = node(key) else { throw failure(key, "is missing" + otherUnit(of: key)) }
        guard let text = node.scalar?.string, !text.isEmpty else { throw failure(key, "must be a word") }
        return text
    }

    func string(_ key: String, default value: String) throws(FirmwareSimError) -> String { has(key) ? try string(key) : value }

    func double(_ key: String, in range: ClosedRange<Double>) throws(FirmwareSimError) -> Double {
        let text = try string(key)
        guard let value = Double(text.filter { $0 != "_" }), value.isFinite else {
            throw failure(key, "must be a plain number (the unit stands in the key), not '\(text)'")
        }
        guard range.contains(value) else { throw failure(key, "is \(text); it must be from \(range.lowerBound) to \(range.upperBound)") }
        return value
    }

    func double(_ key: String, in range: ClosedRange<Double>, default value: Double) throws(FirmwareSimError) -> Double {
        has(key) ? try double(key, in: range) : value
    }

    func int(_ key: String, in range: ClosedRange<Int>) throws(FirmwareSimError) -> Int {
        let value = try double(key, in: Double(range.lowerBound)...Double(range.upperBound))
        guard value == value.rounded() else { throw failure(key, "must be a whole number") }
        return Int(value)
    }

    func int(_ key: String, in range: ClosedRange<Int>, default value: Int) throws(FirmwareSimError) -> Int {
        has(key) ? try int(key, in: range) : value
    }

    func bool(_ key: String, default value: Bool) throws(FirmwareSimError) -> Bool {
        guard has(key) else { return value }
        switch try string(key) {
        case "true", "yes", "on": return true
        case "false", "no", "off": return false
        default: throw failure(key, "must be true or false")
        }
    }

    // MARK: Children

    func mapping(_ key: String) throws(FirmwareSimError) -> StrictMapping? {
        guard let node = node(key) else { return nil }
        return try StrictMapping(node, file: file, path: name(key))
    }

    func strings(_ key: String) throws(FirmwareSimError) -> [String] {
        guard let node = node(key) else { return [] }
        guard let items = node.sequence?.map({ $0.scalar?.string }) else { throw failure(key, "must be a list of words") }
        var words: [String] = []
        for item in items {
            guard let item else { throw failure(key, "must be a list of words") }
            words.append(item)
        }
        return words
    }

    func list(_ key: String) throws(FirmwareSimError) -> [StrictMapping] {
        guard let node = node(key) else { return [] }
        guard let items = node.sequence else { throw failure(key, "must be a list") }
        var mappings: [StrictMapping] = []
        for (index, item) in items.enumerated() {
            mappings.append(try StrictMapping(item, file: file, path: "\(name(key))[\(index)]"))
        }
        return mappings
    }

    // MARK: The end

    /// - Throws: the first key that nobody asked for, with the nearest key that exists.
    func finish() throws(FirmwareSimError) {
        for (key, _) in mapping {
            let text = key.string ?? ""
            guard !asked.contains(text) else { continue }
            throw .badTestbed(file: file, line: key.mark?.line ?? line, key: name(text), reason: "is no key here" + hint(for: text))
        }
    }

    /// A key that differs from `key` in its unit only.
    private func otherUnit(of key: String) -> String {
        let stem = key.split(separator: "_").first
        let other = mapping.map { $0.key.string ?? "" }.first { !asked.contains($0) && $0.split(separator: "_").first == stem }
        return other.map { "; '\($0)' has another unit" } ?? ""
    }

    private func hint(for key: String) -> String {
        let stem = key.split(separator: "_").first ?? ""
        if let other = asked.sorted().first(where: { $0 != key && $0.split(separator: "_").first == stem }) {
            return "; did you mean '\(other)'? units stand in the key"
        }
        return "; known are \(asked.sorted().joined(separator: ", "))"
    }
}

extension YamlError {
    /// The line that the parser complains about, and the key that is being read there; 0 and "" when it does not say.
    fileprivate func place(in text: String) -> (line: Int, key: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        switch self {
        case .scanner(let context, _, let mark, _), .parser(let context, _, let mark, _), .composer(let context, _, let mark, _):
            // What is not ended shows itself only later: the key is where it began.
            return (mark.line, Self.key(before: context?.mark.line ?? mark.line, lines))
        case .duplicatedKeysInMapping(let duplicates, let context):
            let key = duplicates.first ?? ""
            return (Self.second(key, after: context.mark, lines) ?? context.mark.line, key)
        default: return (0, "")
        }
    }

    /// The last `key:` on or above a line.
    private static func key(before line: Int, _ lines: [Substring]) -> String {
        for text in lines.prefix(max(0, line)).reversed() {
            let bare = text.prefix { $0 != "#" }
            guard let found = bare.matches(of: #/([A-Za-z_][A-Za-z0-9_]*):/#).last else { continue }
            return String(found.1)
        }
        return ""
    }

    /// Where the same key stands again, in the same column.
    private static func second(_ key: String, after mark: Mark, _ lines: [Substring]) -> Int? {
        let index = lines.indices.dropFirst(mark.line).first { lines[$0].dropFirst(max(0, mark.column - 1)).hasPrefix("\(key):") }
        return index.map { $0 + 1 }
    }

    fileprivate var problem: String {
        switch self {
        case .scanner(_, let problem, _, _), .parser(_, let problem, _, _), .composer(_, let problem, _, _): "is no YAML: \(problem)"
        case .duplicatedKeysInMapping: "is given twice"
        default: "is no YAML: \(self)"
        }
    }
}
