// Recorded sessions: what a host sent and what the device answered, in two readable columns.
//
//   # model: CVR-1                header lines, anywhere; `# key: value`
//   > SYSTem:ROLE?                sent by the host, one message
//   < RECEIVER                    the exact answer line
//   <~ [0-9]+                     an answer that matches the whole pattern ...
//   # example: 123456             ... and what a replayed device says there
//   <# 12                         a definite-length block of 12 bytes, zeros when replayed
//   <# 4 00000041                 the same with its bytes in hexadecimal
//
// Drivers are played against the answers (`replay:`, tests), emulators against the messages.

public import Foundation

/// One recorded session.
public struct Transcript: Sendable, Equatable {
    public enum Entry: Sendable, Equatable {
        case sent(String)
        case line(String)
        /// `example` is what a replayed device says; without one the entry binds emulators only.
        case pattern(String, example: String?)
        case block([UInt8])
    }

    /// `# key: value` lines, keys in lower case.
    public var header: [String: String] = [:]
    public var entries: [Entry] = []

    public init(entries: [Entry] = []) { self.entries = entries }

    /// - Throws: `TransportError.offScript` naming the line.
    public init(text: String, name: String) throws {
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            guard let entry = try Self.parse(line, "\(name):\(number + 1)") else { continue }
            switch entry {
            case .comment(let key, let value):
                if key == "example", case .pattern(let pattern, _)? = entries.last {
                    entries[entries.count - 1] = .pattern(pattern, example: value)
                } else {
                    header[key] = value
                }
            case .entry(let entry): entries.append(entry)
            }
        }
    }

    public init(contentsOf file: URL) throws {
        do {
            try self.init(text: String(contentsOf: file, encoding: .utf8), name: file.lastPathComponent)
        } catch let error as TransportError {
            throw error
        } catch {
            throw TransportError.cannotOpen("replay:\(file.relativePath)", reason: "the recording cannot be read")
        }
    }

    private enum Parsed {
        case comment(key: String, value: String)
        case entry(Entry)
    }

    private static func parse(_ line: Substring, _ place: String) throws -> Parsed? {
        func content(_ mark: String) -> String? {
            guard line.hasPrefix(mark) else { return nil }
            return String(line.dropFirst(mark.count).drop { $0 == " " })
        }
        if let text = content("<~") { return .entry(.pattern(text, example: nil)) }
        if let text = content("<#") { return .entry(.block(try block(text, place))) }
        if let text = content(">") { return .entry(.sent(text)) }
        if let text = content("<") { return .entry(.line(text)) }
        if let text = content("#") {
            let parts = text.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
            return parts.count == 2 ? .comment(key: parts[0].lowercased(), value: parts[1]) : nil
        }
        guard line.allSatisfy(\.isWhitespace) else {
            throw TransportError.offScript(place, reason: "a line must begin with #, >, <, <~ or <#")
        }
        return nil
    }

    private static func block(_ text: String, _ place: String) throws -> [UInt8] {
        let parts = text.split(separator: " ")
        guard let count = parts.first.flatMap({ Int($0) }), (0...(4 << 20)).contains(count), parts.count <= 2 else {
            throw TransportError.offScript(place, reason: "write '<# COUNT' or '<# COUNT HEX'")
        }
        guard parts.count == 2 else { return [UInt8](repeating: 0, count: count) }
        let digits = parts[1].compactMap { $0.hexDigitValue.map(UInt8.init) }
        guard digits.count == 2 * count, parts[1].count == 2 * count else {
            throw TransportError.offScript(place, reason: "a block of \(count) bytes needs \(2 * count) hexadecimal digits")
        }
        return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }
}
