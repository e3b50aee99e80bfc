// Errors as their readers get them: the yang-data template `errors` of ietf-restconf (RFC 8040, sections 7.1 and 8).

import Foundation

enum ErrorDocument {
    /// - Parameter schema: knows the namespaces that the error-path needs in XML.
    static func text(_ error: RESTCONFError, _ encoding: DataEncoding, _ schema: YANGSchema) -> Data {
        switch encoding {
        case .json: json(error)
        case .xml: Data(xml(error, schema).utf8)
        }
    }

    private struct Document: Codable {
        struct Errors: Codable { var error: [Entry] }
        struct Entry: Codable {
            var type: String
            var tag: String
            var appTag: String?
            var path: String?
            var message: String?

            enum CodingKeys: String, CodingKey {
                case type = "error-type"
                case tag = "error-tag"
                case appTag = "error-app-tag"
                case path = "error-path"
                case message = "error-message"
            }
        }
        var errors: Errors

        enum CodingKeys: String, CodingKey { case errors = "ietf-restconf:errors" }
    }

    static func json(_ error: RESTCONFError) -> Data {
        let entry = Document.Entry(
            type: error.type.rawValue, tag: error.tag.rawValue, appTag: error.appTag, path: error.path, message: error.message)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(Document(errors: .init(error: [entry])))) ?? Data("{}".utf8)
    }

    private static func xml(_ error: RESTCONFError, _ schema: YANGSchema) -> String {
        var text = "<errors xmlns=\"urn:ietf:params:xml:ns:yang:ietf-restconf\"><error>"
        text += "<error-type>\(error.type.rawValue)</error-type><error-tag>\(error.tag.rawValue)</error-tag>"
        if let tag = error.appTag { text += "<error-app-tag>\(XMLText.escape(tag))</error-app-tag>" }
        if let path = error.path {
            let path = PrefixedPath(path, schema) ?? PrefixedPath(verbatim: path)
            let declared = path.namespaces.map { " xmlns:\($0.prefix)=\"\(XMLText.escape($0.uri))\"" }.joined()
            text += "<error-path\(declared)>\(XMLText.escape(path.text))</error-path>"
        }
        return text + "<error-message>\(XMLText.escape(error.message))</error-message></error></errors>"
    }

    /// The first error of a document in JSON; nil where it is none.
    static func parse(_ json: Data, status: Int) -> RESTCONFError? {
        guard let entry = try? JSONDecoder().decode(Document.self, from: json).errors.error.first, let tag = ErrorTag(rawValue: entry.tag)
        else { return nil }
        return RESTCONFError(
            ErrorType(rawValue: entry.type) ?? .application, tag, entry.message ?? "", path: entry.path, status: status,
            appTag: entry.appTag)
    }
}

/// An instance identifier of RFC 7951, section 6.11, in the form of RFC 7950, section 9.13.2: every name has a prefix, and each is declared.
struct PrefixedPath {
    private(set) var text = ""
    private(set) var namespaces: [(prefix: String, uri: String)] = []
    private var rest: Substring = ""
    private var module = ""

    init(verbatim text: String) { self.text = text }

    /// Nil where the text is none.
    init?(_ path: String, _ schema: YANGSchema) {
        rest = path[...]
        while let mark = rest.popFirst() {
            guard mark == "/" || mark == "[" else { return nil }
            text.append(mark)
            guard mark == "/" ? name(schema, isStep: true) : predicate(schema) else { return nil }
        }
    }

    private mutating func name(_ schema: YANGSchema, isStep: Bool) -> Bool {
        let word = rest.prefix { !"/[]=".contains($0) }
        rest = rest.dropFirst(word.count)
        let parts = word.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let owner = parts.count == 2 ? parts[0] : module
        guard (1...2).contains(parts.count), let name = parts.last, !name.isEmpty, let uri = schema.namespace(of: owner) else {
            return false
        }
        if isStep { module = owner }
        if !namespaces.contains(where: { $0.prefix == owner }) { namespaces.append((owner, uri)) }
        text += "\(owner):\(name)"
        return true
    }

    /// `[key='value']`, `[.='value']` or `[1]`.
    private mutating func predicate(_ schema: YANGSchema) -> Bool {
        if rest.first == "." || rest.first?.isNumber == true {
            let word = rest.prefix { $0 != "=" && $0 != "]" }
            text += word
            rest = rest.dropFirst(word.count)
        } else if !name(schema, isStep: false) {
            return false
        }
        if rest.first == "=" {
            guard let quote = rest.dropFirst().first, quote == "'" || quote == "\"" else { return false }
            let value = rest.dropFirst(2).prefix { $0 != quote }
            text += "=\(quote)\(value)\(quote)"
            rest = rest.dropFirst(value.count + 3)
        }
        guard rest.popFirst() == "]" else { return false }
        text += "]"
        return true
    }
}

enum XMLText {
    /// Also without what XML cannot say at all.
    static func escape(_ text: String) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": out += "&amp;"
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            case "\"": out += "&quot;"
            case "\u{0}"..."\u{8}", "\u{B}", "\u{C}", "\u{E}"..."\u{1F}", "\u{FFFE}", "\u{FFFF}": out += "\u{FFFD}"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
}
