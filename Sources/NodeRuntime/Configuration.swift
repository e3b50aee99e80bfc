// Configuration files: YAML in, checked values out.

import Foundation
import Yams

public enum Configuration {
    /// Reads a YAML file into `T`.
    ///
    /// Strict: a key that `T` does not ask for, a missing key, a value of the wrong kind and what `T`'s own `init(from:)`
    /// refuses are all errors that name file, line and key; all of them are told at once. Numbers may be written `5e7` or `50_000_000`.
    /// - Parameter partial: leaves keys that `T` does not ask for to other readers of the same file.
    /// - Throws: `NodeRuntimeError.unreadable`, `.configuration`, or `.several` of these.
    public static func load<T: Decodable>(_ type: T.Type, from path: String, partial: Bool = false) throws(NodeRuntimeError) -> T {
        let text: String
        do {
            text = try String(contentsOfFile: path, encoding: .utf8)
        } catch {
            let exists = FileManager.default.fileExists(atPath: path)
            throw .unreadable(file: path, reason: exists ? "it is not readable as UTF-8" : "no such file")
        }
        return try parse(type, text: text, file: path, partial: partial)
    }

    /// As `load`, from text; `file` stands in errors only.
    public static func parse<T: Decodable>(_ type: T.Type, text: String, file: String, partial: Bool = false) throws(NodeRuntimeError) -> T
    {
        guard let root = try compose(text, file: file) else {
            throw .configuration(file: file, line: 1, key: "", problem: "the file is empty")
        }
        let reading = ConfigurationReading(file: file)
        let value: T? = try? reading.value(of: root, at: [])
        if !partial { reading.refuseUnknownKeys(in: root, at: []) }
        if let problem = NodeRuntimeError.all(reading.problems) { throw problem }
        guard let value else { throw .configuration(file: file, line: 1, key: "", problem: "it cannot be read") }
        return value
    }

    private static func compose(_ text: String, file: String) throws(NodeRuntimeError) -> Node? {
        do {
            return try Yams.compose(yaml: text)
        } catch let error as YamlError {
            throw explain(error, file: file)
        } catch {
            throw .configuration(file: file, line: 1, key: "", problem: "\(error)")
        }
    }

    private static func explain(_ error: YamlError, file: String) -> NodeRuntimeError {
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _), .composer(_, let problem, let mark, _):
            .configuration(file: file, line: mark.line, key: "", problem: "not YAML: \(problem)")
        case .duplicatedKeysInMapping(let duplicates, let context):
            .configuration(file: file, line: context.mark.line, key: duplicates.joined(separator: ", "), problem: "is given twice")
        default:
            .configuration(file: file, line: 1, key: "", problem: "not YAML: \(error)")
        }
    }
}
