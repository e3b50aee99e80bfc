// Which media type a client sends, and which it wants (RFC 8040, section 5.2; RFC 9110, sections 8.3 and 12.5.1).

/// One media type or range with its parameters: `application/yang-data+json;q=0.5`.
package struct MediaRange: Equatable {
    var type: String
    var subtype: String
    var quality: Double
    /// Without `q`.
    var parameters: [String: String]

    /// Nil where the text is none.
    init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ";", omittingEmptySubsequences: false).map { Self.trim($0) }
        let names = (parts.first ?? "").split(separator: "/", omittingEmptySubsequences: false)
        guard names.count == 2, names.allSatisfy({ !$0.isEmpty && !$0.contains(" ") }) else { return nil }
        (type, subtype) = (names[0].lowercased(), names[1].lowercased())
        guard type != "*" || subtype == "*" else { return nil }
        (quality, parameters) = (1, [:])
        for parameter in parts.dropFirst() where !parameter.isEmpty {
            let pair = parameter.split(separator: "=", maxSplits: 1).map { Self.trim($0) }
            guard pair.count == 2 else { return nil }
            guard pair[0].lowercased() == "q" else {
                parameters[pair[0].lowercased()] = pair[1].lowercased().trimming("\"")
                continue
            }
            guard let value = Double(pair[1]), (0...1).contains(value) else { return nil }
            quality = value
        }
    }

    /// How closely it names the type: 2 exactly, 1 by `type/*`, 0 by `*/*`, nil not at all.
    func closeness(_ type: String, _ subtype: String) -> Int? {
        if self.type == type, self.subtype == subtype { return 2 }
        if self.type == type, self.subtype == "*" { return 1 }
        return self.type == "*" ? 0 : nil
    }

    var essence: String { "\(type)/\(subtype)" }

    private static func trim(_ text: some StringProtocol) -> String { String(text).trimming(" \t") }
}

extension String {
    func trimming(_ characters: String) -> String {
        var text = self[...]
        while let first = text.first, characters.contains(first) { text = text.dropFirst() }
        while let last = text.last, characters.contains(last) { text = text.dropLast() }
        return String(text)
    }
}

/// An `Accept` field.
package struct Accept: Equatable {
    /// Nil: the client did not say, so anything will do.
    var ranges: [MediaRange]?

    /// - Throws: 400 where the field cannot be read.
    package init(_ field: String?) throws(RESTCONFError) {
        guard let field, !field.trimming(" \t").isEmpty else {
            ranges = nil
            return
        }
        var ranges: [MediaRange] = []
        for part in field.split(separator: ",") {
            guard let range = MediaRange(part) else {
                throw RESTCONFError(.protocol, .malformedMessage, "the Accept field has '\(part.prefix(80))', which is no media range")
            }
            ranges.append(range)
        }
        self.ranges = ranges
    }

    /// Only wildcards, or nothing.
    var isAnything: Bool { ranges?.allSatisfy { $0.type == "*" } ?? true }

    /// The offer with the highest quality; between equals the earlier offer.
    /// - Parameter offers: `type/subtype`, the server's favourite first.
    func choose(_ offers: [String]) -> String? {
        guard let ranges else { return offers.first }
        var best: (offer: String, quality: Double)?
        for offer in offers {
            let names = offer.split(separator: "/").map(String.init)
            let matches = ranges.compactMap { range in range.closeness(names[0], names[1]).map { ($0, range.quality) } }
            guard let closest = matches.max(by: { $0.0 < $1.0 }), closest.1 > 0 else { continue }
            if closest.1 > best?.quality ?? 0 { best = (offer, closest.1) }
        }
        return best?.offer
    }
}

/// The media types of data resources.
package enum DataMedia {
    /// `application/yang-data` alone names no encoding: it gets the favourite one.
    static let bare = "application/yang-data"

    /// The encoding that a client wants.
    /// - Parameter plain: `application/json` and `application/xml` will do too.
    /// - Throws: 406.
    package static func wanted(_ accept: Accept, plain: Bool) throws(RESTCONFError) -> DataEncoding {
        var offers = DataEncoding.allCases.map { ($0.mediaType, $0) } + [(bare, .json)]
        if plain { offers += [("application/json", .json), ("application/xml", .xml)] }
        guard let chosen = accept.choose(offers.map(\.0)) else {
            throw RESTCONFError(
                .protocol, .invalidValue,
                "none of the accepted media types can be sent: \(DataEncoding.json.mediaType) and \(DataEncoding.xml.mediaType) can",
                status: 406)
        }
        return offers.first { $0.0 == chosen }?.1 ?? .json
    }

    /// In which encoding errors go out where what is wanted cannot be told: section 7.1 leaves it to the server.
    static func forErrors(_ accept: String?, _ contentType: String?) -> DataEncoding {
        if let accept = try? Accept(accept), accept.ranges != nil, let wanted = try? wanted(accept, plain: true) { return wanted }
        return contentType?.contains("xml") == true ? .xml : .json
    }

    /// The encoding of a request's body.
    /// - Throws: 415.
    package static func sent(_ contentType: String?, plain: Bool, first: UInt8?) throws(RESTCONFError) -> DataEncoding {
        let guessed: DataEncoding = first == UInt8(ascii: "<") ? .xml : .json
        guard let contentType else {
            if plain { return guessed }
            throw unsupported("a body needs a Content-Type")
        }
        guard let range = MediaRange(contentType) else { throw unsupported("the Content-Type cannot be read") }
        if let charset = range.parameters["charset"], charset != "utf-8" {
            throw unsupported("the charset '\(charset.prefix(40))' is not supported, utf-8 is")
        }
        switch range.essence {
        case DataEncoding.json.mediaType: return .json
        case DataEncoding.xml.mediaType: return .xml
        case bare: return guessed
        case "application/json" where plain: return .json
        case "application/xml" where plain, "text/xml" where plain: return .xml
        default: throw unsupported("the media type '\(range.essence)' is not supported here")
        }
    }

    private static func unsupported(_ problem: String) -> RESTCONFError {
        RESTCONFError(
            .protocol, .invalidValue, "\(problem); \(DataEncoding.json.mediaType) and \(DataEncoding.xml.mediaType) are supported",
            status: 415)
    }
}
