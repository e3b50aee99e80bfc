// How deep a body is nested, before anything that recurses gets to see it.

package import Foundation

package enum BodyShape {
    /// - Throws: 413 for a body beyond `limit`, 400 for a document type in XML.
    package static func check(_ body: Data, _ encoding: DataEncoding, limit: Int) throws(RESTCONFError) {
        let depth = try encoding == .json ? body.withUnsafeBytes { json($0, limit) } : depth(ofXML: body, limit: limit)
        guard depth <= limit else {
            throw RESTCONFError(.protocol, .tooBig, "the body is nested deeper than \(limit)", status: 413)
        }
    }

    /// What one element may have: a parser looks through all namespaces that are declared around a name.
    private static let attributes = 128

    /// - Returns: the depth, or some depth beyond `limit`.
    /// - Throws: 400 for a document type, and for an element with more attributes than anybody needs.
    static func depth(ofXML text: Data, limit: Int) throws(RESTCONFError) -> Int {
        let depth = text.withUnsafeBytes { xml($0, limit) }
        guard depth != documentType else {
            throw RESTCONFError(.protocol, .malformedMessage, "the text has a document type, which no XML of RESTCONF has")
        }
        guard depth != manyAttributes else {
            throw RESTCONFError(.protocol, .malformedMessage, "an element has more than \(attributes) attributes")
        }
        return depth
    }

    private static let documentType = -1
    private static let manyAttributes = -2

    /// Brackets outside of strings; stops counting beyond the limit.
    private static func json(_ bytes: UnsafeRawBufferPointer, _ limit: Int) -> Int {
        var (depth, deepest, isString, isEscaped) = (0, 0, false, false)
        for byte in bytes {
            if isString {
                isString = isEscaped || byte != UInt8(ascii: "\"")
                isEscaped = !isEscaped && byte == UInt8(ascii: "\\")
                continue
            }
            switch byte {
            case UInt8(ascii: "\""): isString = true
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                deepest = max(deepest, depth)
                if deepest > limit { return deepest }
            case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
            default: break
            }
        }
        return deepest
    }

    /// Start tags less end tags, outside of comments, CDATA sections and instructions.
    private static func xml(_ bytes: UnsafeRawBufferPointer, _ limit: Int) -> Int {
        var (depth, deepest, index) = (0, 0, 0)
        while let start = bytes[index...].firstIndex(of: UInt8(ascii: "<")) {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[(start + 1)...])
            if rest.starts(with: "!DOCTYPE".utf8) { return documentType }
            if let (opening, closing) = spans.first(where: { rest.starts(with: $0.0.utf8) }) {
                index = end(of: closing, in: bytes, from: start + 1 + opening.utf8.count)
                continue
            }
            guard let close = tagEnd(bytes, from: start + 1) else { return manyAttributes }
            if rest.first == UInt8(ascii: "/") {
                depth = max(0, depth - 1)
            } else {
                deepest = max(deepest, depth + 1)
                if deepest > limit { return deepest }
                if bytes[close - 1] != UInt8(ascii: "/") { depth += 1 }
            }
            index = min(close + 1, bytes.count)
        }
        return deepest
    }

    private static let spans = [("!--", "-->"), ("![CDATA[", "]]>"), ("?", "?>")]

    /// The index behind `closing`.
    private static func end(of closing: String, in bytes: UnsafeRawBufferPointer, from start: Int) -> Int {
        var index = start
        while index < bytes.count {
            if UnsafeRawBufferPointer(rebasing: bytes[index...]).starts(with: closing.utf8) { return index + closing.utf8.count }
            index += 1
        }
        return bytes.count
    }

    /// The `>` that ends a tag: not one in an attribute's value. Nil for too many attributes.
    private static func tagEnd(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
        var quote: UInt8?
        var values = 0
        for index in start..<bytes.count {
            let byte = bytes[index]
            if let open = quote {
                guard byte == open else { continue }
                quote = nil
                values += 1
                if values > attributes { return nil }
            } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                quote = byte
            } else if byte == UInt8(ascii: ">") {
                return index
            }
        }
        return bytes.count
    }
}
