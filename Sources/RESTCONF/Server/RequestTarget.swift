// A request's target taken apart: the path still percent-encoded, the query decoded and checked (RFC 8040, section 4.8).

import Foundation

package struct RequestTarget: Equatable {
    /// Percent-encoded, as it was sent.
    package var path: String
    /// Name and value in order, percent-decoded.
    package var query: [Parameter]

    package struct Parameter: Equatable {
        package var name: String
        package var value: String
    }

    /// - Throws: 400 for a target that is no path, for broken percent-encoding, and for a query parameter given twice; 414.
    package init(_ text: String, longest: Int = 8192) throws(RESTCONFError) {
        guard text.utf8.count <= longest else {
            throw RESTCONFError(
                .transport, .tooBig, "the request's target has \(text.utf8.count) bytes, at most \(longest) are taken", status: 414)
        }
        guard text.first == "/", text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), !text.contains("#") else {
            throw RESTCONFError(.protocol, .malformedMessage, "the request's target is no percent-encoded path")
        }
        let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        path = String(parts[0])
        guard Self.decode(path) != nil else {
            throw RESTCONFError(.protocol, .malformedMessage, "the path's percent-encoding is broken")
        }
        query = parts.count > 1 ? try Self.parameters(parts[1]) : []
    }

    private static func parameters(_ text: Substring) throws(RESTCONFError) -> [Parameter] {
        var found: [Parameter] = []
        for part in text.split(separator: "&", omittingEmptySubsequences: true) {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = decode(String(pair[0])), let value = decode(pair.count > 1 ? String(pair[1]) : "") else {
                throw RESTCONFError(.protocol, .malformedMessage, "the query's percent-encoding is broken")
            }
            guard !found.contains(where: { $0.name == name }) else {
                throw RESTCONFError(.protocol, .invalidValue, "the query parameter '\(name.prefix(80))' is given twice")
            }
            found.append(Parameter(name: name, value: value))
        }
        return found
    }

    /// Strict: every `%` has two hexadecimal digits, the bytes are UTF-8 without NUL.
    static func decode(_ text: String) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(Self.digit), let low = rest.popFirst().flatMap(Self.digit) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes.contains(0) ? nil : String(validating: bytes, as: UTF8.self)
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        Character(UnicodeScalar(byte)).hexDigitValue.map(UInt8.init)
    }
}

/// The query parameters that a method takes on a resource, as values.
struct QueryParameters {
    private let given: [String: String]

    /// - Parameter known: what may stand here; anything else is refused (section 4.8).
    /// - Throws: 400.
    init(_ target: RequestTarget, known: Set<String>) throws(RESTCONFError) {
        for parameter in target.query where !known.contains(parameter.name) {
            let name = parameter.name.prefix(80)
            throw RESTCONFError(
                .protocol, .invalidValue,
                Self.all.contains(parameter.name)
                    ? "the query parameter '\(name)' is not for this method and resource"
                    : "the query parameter '\(name)' is not supported")
        }
        given = Dictionary(target.query.map { ($0.name, $0.value) }) { first, _ in first }
    }

    static let reading: Set = ["content", "depth", "fields", "with-defaults"]
    static let placing: Set = ["insert", "point"]
    static let replaying: Set = ["start-time", "stop-time"]
    private static let all = reading.union(placing).union(replaying)

    /// Sections 4.8.1 to 4.8.3 and 4.8.9.
    func readQuery() throws(RESTCONFError) -> ReadQuery {
        var query = ReadQuery()
        if let text = given["content"] {
            query.content = try value("content", text, ReadQuery.Content(rawValue: text), "all, config, nonconfig")
        }
        if let text = given["depth"], text != "unbounded" {
            let depth = text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(text) : nil
            query.depth = try value("depth", text, depth.flatMap { (1...65_535).contains($0) ? $0 : nil }, "unbounded, 1 to 65535")
        }
        if let text = given["with-defaults"] {
            let known = ReadQuery.Defaults.allCases.map(\.rawValue).joined(separator: ", ")
            query.withDefaults = try value("with-defaults", text, ReadQuery.Defaults(rawValue: text), known)
        }
        if let text = given["fields"] { query.fields = try value("fields", text, text.isEmpty ? nil : text, "a fields expression") }
        return query
    }

    /// Sections 4.8.5 and 4.8.6.
    func place(_ edit: inout Edit) throws(RESTCONFError) {
        if let text = given["insert"] { edit.insert = try value("insert", text, Edit.Insert(rawValue: text), "first, last, before, after") }
        edit.point = given["point"]
        switch (edit.insert, edit.point) {
        case (.before, nil), (.after, nil):
            throw RESTCONFError(.protocol, .invalidValue, "insert=\(edit.insert?.rawValue ?? "") needs the query parameter 'point'")
        case (nil, .some), (.first, .some), (.last, .some):
            throw RESTCONFError(.protocol, .invalidValue, "the query parameter 'point' is only for insert=before and insert=after")
        default: break
        }
    }

    /// Sections 4.8.7 and 4.8.8.
    func replay(now: Date) throws(RESTCONFError) -> (from: Date?, until: Date?) {
        let times = (try time("start-time"), try time("stop-time"))
        if let from = times.0, from > now { throw RESTCONFError(.protocol, .invalidValue, "start-time lies in the future") }
        if let until = times.1 {
            guard let from = times.0 else { throw RESTCONFError(.protocol, .invalidValue, "stop-time needs start-time") }
            guard until > from else { throw RESTCONFError(.protocol, .invalidValue, "stop-time should be later than start-time") }
        }
        return times
    }

    private func time(_ name: String) throws(RESTCONFError) -> Date? {
        guard let text = given[name] else { return nil }
        return try value(name, text, DateAndTime.parse(text), "a time like 2026-11-23T10:00:00Z")
    }

    private func value<T>(_ name: String, _ text: String, _ value: T?, _ range: String) throws(RESTCONFError) -> T {
        guard let value else {
            throw RESTCONFError(.protocol, .invalidValue, "'\(text.prefix(80))' is no value of the query parameter '\(name)': \(range)")
        }
        return value
    }
}
