// libyang's errors in RESTCONF's words.

import CYang
import Foundation

/// The first error that libyang noted on this thread (those that follow are mostly its consequences).
func libyangError(_ context: OpaquePointer, _ fallback: String) -> RESTCONFError {
    guard let item = ly_err_first(context) else { return RESTCONFError(.application, .operationFailed, fallback) }
    let noted = LibyangError(
        code: item.pointee.vecode,
        message: item.pointee.msg.map { String(cString: $0) } ?? fallback,
        path: item.pointee.path.map { String(cString: $0) },
        appTag: item.pointee.apptag.map { String(cString: $0) })
    ly_err_clean(context, nil)
    return noted.translated
}

struct LibyangError {
    var code: LY_VECODE
    var message: String
    var path: String?
    var appTag: String?

    var translated: RESTCONFError {
        var (tag, status) = classify()
        if let appTag, let known = Self.appTags[appTag] { (tag, status) = known }
        return RESTCONFError(.application, tag, Self.sentence(message), path: instancePath, status: status, appTag: appTag ?? impliedAppTag)
    }

    /// RFC 7950, section 15, and the status that RFC 8040, section 7 has for it.
    private static let appTags: [String: (ErrorTag, Int?)] = [
        "too-many-elements": (.operationFailed, 412), "too-few-elements": (.operationFailed, 412),
        "must-violation": (.operationFailed, 412), "data-not-unique": (.operationFailed, 412),
        "instance-required": (.dataMissing, nil), "missing-choice": (.dataMissing, nil),
    ]

    private var impliedAppTag: String? {
        message.hasPrefix("Unique data leaf(s)") ? "data-not-unique" : nil
    }

    private func classify() -> (ErrorTag, Int?) {
        if code == LYVE_SYNTAX_XML || code == LYVE_SYNTAX_JSON { return (.malformedMessage, nil) }
        let rules: [(String, ErrorTag, Int?)] = [
            ("not found as a child of", .unknownElement, nil),
            ("No module named", .unknownElement, nil),
            ("No module with namespace", .unknownNamespace, nil),
            ("not found in the", .unknownElement, nil),
            ("Unknown", .unknownElement, nil),
            ("When condition", .unknownElement, nil),
            ("missing its key", .missingElement, nil),
            ("Mandatory", .dataMissing, nil),
            ("Must condition", .operationFailed, 412),
            ("Unique data leaf(s)", .operationFailed, 412),
            ("Too many", .operationFailed, 412),
            ("Too few", .operationFailed, 412),
            ("Invalid leafref value", .dataMissing, nil),
            ("Duplicate instance", .invalidValue, nil),
            ("Unexpected data", .invalidValue, nil),
        ]
        for (text, tag, status) in rules where message.contains(text) { return (tag, status) }
        switch code {
        case LYVE_DATA: return (.invalidValue, nil)
        case LYVE_REFERENCE: return (.unknownElement, nil)
        case LYVE_SYNTAX: return (.malformedMessage, nil)
        default: return (.invalidValue, nil)
        }
    }

    /// `Data location "/mod:c/list[key='a']", line number 1.` -> the path between the quotes.
    private var instancePath: String? {
        guard let path, let start = path.range(of: "Data location \"") else { return nil }
        let rest = path[start.upperBound...]
        let end = rest.range(of: "\", line number")?.lowerBound ?? rest.range(of: "\".", options: .backwards)?.lowerBound
        return end.map { String(rest[..<$0]) }
    }

    /// A lower-case sentence of at most 500 characters without a full stop: values that were refused can be long.
    private static func sentence(_ text: String) -> String {
        var text = text.count > 500 ? text.prefix(500) + "..." : text[...]
        if text.hasSuffix("."), !text.hasSuffix("..") { text.removeLast() }
        return text.prefix(1).lowercased() + text.dropFirst()
    }
}
