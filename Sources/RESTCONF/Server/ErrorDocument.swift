// Errors as their readers get them: the yang-data template `errors` of ietf-restconf (RFC 8040, sections 7.1 and 8).

import Foundation

enum ErrorDocument {
    static func text(_ error: RESTCONFError, _ encoding: DataEncoding) -> Data {
        switch encoding {
        case .json: json(error)
        case .xml: Data(xml(error).utf8)
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

    private static func json(_ error: RESTCONFError) -> Data {
        let entry = Document.Entry(
            type: error.type.rawValue, tag: error.tag.rawValue, appTag: error.appTag, path: error.path, message: error.message)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(Document(errors: .init(error: [entry])))) ?? Data("{}".utf8)
    }

    private static func xml(_ error: RESTCONFError) -> String {
        var text = "<errors xmlns=\"urn:ietf:params:xml:ns:yang:ietf-restconf\"><error>"
        text += "<error-type>\(error.type.rawValue)</error-type><error-tag>\(error.tag.rawValue)</error-tag>"
        if let tag = error.appTag { text += "<error-app-tag>\(XMLText.escape(tag))</error-app-tag>" }
        // In XML the prefixes of an instance identifier would need declarations; modules' names speak for themselves, so the path
        // keeps the form of RFC 7951, section 6.11.
        if let path = error.path { text += "<error-path>\(XMLText.escape(path))</error-path>" }
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
