// One server-sent event, and both directions of its text form.

public import Foundation

/// One event of a local service: a name, a JSON payload, and an optional id by which a reader may resume.
public struct LocalEvent: Sendable, Equatable {
    /// The event's type; one word, for example `block` or `alarm`.
    public var name: String
    /// The payload as JSON text in UTF-8, without line breaks.
    public var json: Data
    public var id: String?

    public init(name: String, json: Data, id: String? = nil) {
        self.name = name
        self.json = json
        self.id = id
    }

    /// - Throws: `EncodingError` where `payload` has no JSON form.
    public init(name: String, payload: some Encodable, id: String? = nil) throws {
        self.init(name: name, json: try LocalJSON.encode(payload), id: id)
    }

    /// - Throws: `NodeRuntimeError.badMessage` where the payload is no `T`.
    public func decode<T: Decodable>(_ type: T.Type = T.self) throws -> T {
        try LocalJSON.decode(T.self, from: json, route: "event \(name)")
    }

    /// The event's text form, with its closing blank line.
    package var text: String {
        var lines = ""
        if let id { lines += "id: \(oneLine(id))\n" }
        lines += "event: \(oneLine(name))\n"
        for part in String(decoding: json, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false) {
            lines += "data: \(part)\n"
        }
        return lines + "\n"
    }

    /// What keeps an idle stream alive; readers ignore it.
    package static let keepAlive = ": keep-alive\n\n"

    private func oneLine(_ text: String) -> String {
        text.replacing("\r", with: " ").replacing("\n", with: " ")
    }
}

/// Server-sent events out of bytes that arrive in parts of any size. Comments and unknown fields are skipped.
package struct LocalEventParser: Sendable {
    /// The longest line that is kept; what is longer ends the stream with an error.
    package static let longestLine = 4 << 20

    private var line: [UInt8] = []
    private var name = ""
    private var data = ""
    private var hasData = false
    private var id: String?

    package init() {}

    /// - Returns: the events that `bytes` completed, in order.
    /// - Throws: `NodeRuntimeError.badMessage` for a line beyond `longestLine`.
    package mutating func feed(_ bytes: some Sequence<UInt8>) throws(NodeRuntimeError) -> [LocalEvent] {
        var events: [LocalEvent] = []
        for byte in bytes {
            guard byte == UInt8(ascii: "\n") else {
                line.append(byte)
                guard line.count <= Self.longestLine else { throw .badMessage(route: "event", reason: "a line is too long") }
                continue
            }
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if let event = take(String(decoding: line, as: UTF8.self)) { events.append(event) }
            line.removeAll(keepingCapacity: true)
        }
        return events
    }

    private mutating func take(_ line: String) -> LocalEvent? {
        if line.isEmpty { return finish() }
        let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        var value = parts.count > 1 ? parts[1] : ""
        if value.first == " " { value = value.dropFirst() }
        switch parts[0] {
        case "event": name = String(value)
        case "id": id = String(value)
        case "data":
            data += hasData ? "\n\(value)" : String(value)
            hasData = true
        default: break
        }
        return nil
    }

    private mutating func finish() -> LocalEvent? {
        defer { (name, data, hasData) = ("", "", false) }
        guard hasData else { return nil }
        return LocalEvent(name: name.isEmpty ? "message" : name, json: Data(data.utf8), id: id)
    }
}
