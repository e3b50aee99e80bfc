// Data from text and back: RFC 7951 and RFC 7950, section 4.

import CYang
import Foundation

/// What a text may look like before it is given to the parser, which recurses.
struct TextLimits {
    /// Containers, lists and arrays inside each other.
    var depth = 64
    var bytes = 64 << 20

    static let standard = TextLimits()

    /// - Parameter single: the text is one member, or one element, with all that is in it.
    /// - Throws: 413 `too-big`; 400 `malformed-message` and, for metadata in JSON, `unknown-attribute`.
    func check(_ text: Data, _ encoding: DataEncoding, single: Bool = false) throws(RESTCONFError) {
        guard text.count <= bytes else {
            throw RESTCONFError(.protocol, .tooBig, "the text has more than \(bytes) bytes")
        }
        switch encoding {
        case .json:
            let members = try JSONText.members(of: text, depth: depth)
            guard !single || members == 1 else {
                throw RESTCONFError(.protocol, .malformedMessage, "the text has \(members) members instead of one")
            }
        case .xml:
            guard try BodyShape.depth(ofXML: text, limit: depth) <= depth else {
                throw RESTCONFError(.protocol, .malformedMessage, "the text nests deeper than \(depth) levels")
            }
            guard !text.contains(0) else { throw RESTCONFError(.protocol, .malformedMessage, "the text has a byte of value 0") }
        }
    }
}

// MARK: - In

extension DataTree {
    /// Parses what stands in `text` as children of `parent` (nil: as top-level nodes), without validating it.
    ///
    /// Unknown nodes are errors, values are checked, list entries must have their keys.
    /// - Parameter state: whether state data are allowed.
    func parse(_ text: Data, _ encoding: DataEncoding, under parent: DataNode? = nil, state: Bool = false) throws(RESTCONFError) {
        try TextLimits.standard.check(text, encoding)
        var bytes = [UInt8](text)
        bytes.append(0)
        var options = UInt32(LYD_PARSE_ONLY | LYD_PARSE_STRICT)
        if !state { options |= UInt32(LYD_PARSE_NO_STATE) }
        var found: DataNode?
        let result = bytes.withUnsafeBufferPointer { buffer -> LY_ERR in
            var input: OpaquePointer?
            let start = UnsafeRawPointer(buffer.baseAddress)?.assumingMemoryBound(to: CChar.self)
            guard ly_in_new_memory(start, &input) == LY_SUCCESS else { return LY_EMEM }
            defer { ly_in_free(input, 0) }
            let format = encoding == .json ? LYD_JSON : LYD_XML
            return parent == nil
                ? lyd_parse_data(schema.context, nil, input, format, options, 0, &found)
                : lyd_parse_data(schema.context, parent, input, format, options, 0, nil)
        }
        guard result == LY_SUCCESS else {
            let error = libyangError(schema.context, "the text cannot be parsed")
            lyd_free_all(found)
            throw error
        }
        if parent == nil, let found {
            guard lyd_insert_sibling(first, found, &first) == LY_SUCCESS else {
                throw libyangError(schema.context, "data cannot be joined")
            }
        }
    }
}

// MARK: - Out

/// How data are printed.
struct PrintStyle {
    var encoding = DataEncoding.json
    /// Nil is explicit: what was set.
    var defaults: ReadQuery.Defaults?
    var emptyContainers = false

    var options: UInt32 {
        var options = LYD_PRINT_SHRINK
        switch defaults {
        case nil, .explicit: options |= LYD_PRINT_WD_EXPLICIT
        case .trim: options |= LYD_PRINT_WD_TRIM
        case .reportAll: options |= LYD_PRINT_WD_ALL
        case .reportAllTagged: options |= LYD_PRINT_WD_ALL_TAG
        }
        if emptyContainers { options |= LYD_PRINT_KEEPEMPTYCONT }
        return UInt32(options)
    }
}

extension DataTree {
    /// One node with all below it: in JSON `{"module:name":...}`, an entry of a list as an array of one.
    func print(_ node: DataNode, _ style: PrintStyle) throws(RESTCONFError) -> Data {
        try text(of: node, style, options: style.options)
    }

    /// All top-level nodes: in JSON an object, in XML one element after the other.
    func printAll(_ style: PrintStyle) throws(RESTCONFError) -> Data {
        guard let first else { return style.encoding == .json ? Data("{}".utf8) : Data() }
        let text = try text(of: first, style, options: style.options | UInt32(LYD_PRINT_WITHSIBLINGS))
        return text.isEmpty && style.encoding == .json ? Data("{}".utf8) : text
    }

    private func text(of node: DataNode, _ style: PrintStyle, options: UInt32) throws(RESTCONFError) -> Data {
        var text: UnsafeMutablePointer<CChar>?
        guard lyd_print_mem(&text, node, style.encoding == .json ? LYD_JSON : LYD_XML, options) == LY_SUCCESS else {
            throw libyangError(schema.context, "data cannot be printed")
        }
        guard let text else { return Data() }
        return Data(bytesNoCopy: text, count: strlen(text), deallocator: .free)
    }
}
