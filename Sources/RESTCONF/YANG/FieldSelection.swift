// The fields parameter (RFC 8040, section 4.8.3):
//
//   fields-expr = path "(" fields-expr ")" / path ";" fields-expr / path        path = api-identifier [ "/" path ]

import CYang

/// What of a node a client wants to see.
struct FieldSelection {
    /// Everything below, too.
    var isWhole = false
    var children: [SchemaNode: FieldSelection] = [:]

    static let longest = 8192
    static let deepest = 32

    /// - Parameter target: what the names start from; nil is the datastore.
    /// - Throws: 400 `invalid-value` for what breaks the grammar, 400 `unknown-element` for unknown names.
    init(parsing text: String, schema: YANGSchema, target: SchemaNode?) throws(RESTCONFError) {
        guard text.utf8.count <= Self.longest else { throw FieldParser.bad("it has more than \(Self.longest) bytes") }
        var parser = FieldParser(text: text.utf8[...], schema: schema)
        try parser.expression(into: &self, at: target, level: 0)
        guard parser.text.isEmpty else { throw FieldParser.bad("it goes on after its end") }
    }

    private init() {}

    fileprivate static var nothing: FieldSelection { FieldSelection() }
}

private struct FieldParser {
    var text: Substring.UTF8View
    let schema: YANGSchema

    mutating func expression(into selection: inout FieldSelection, at node: SchemaNode?, level: Int) throws(RESTCONFError) {
        guard level <= FieldSelection.deepest else { throw Self.bad("it nests deeper than \(FieldSelection.deepest) levels") }
        repeat {
            try path(into: &selection, at: node, level: level)
        } while take(0x3b)
    }

    private mutating func path(into selection: inout FieldSelection, at node: SchemaNode?, level: Int) throws(RESTCONFError) {
        guard level <= FieldSelection.deepest else { throw Self.bad("it nests deeper than \(FieldSelection.deepest) levels") }
        let child = try identifier(at: node)
        var below = selection.children[child] ?? .nothing
        if take(0x2f) {
            try path(into: &below, at: child, level: level + 1)
        } else if take(0x28) {
            try expression(into: &below, at: child, level: level + 1)
            guard take(0x29) else { throw Self.bad("a parenthesis is not closed") }
        } else {
            below.isWhole = true
        }
        selection.children[child] = below
    }

    private mutating func identifier(at node: SchemaNode?) throws(RESTCONFError) -> SchemaNode {
        let word = text.prefix { ![0x2f, 0x28, 0x29, 0x3b].contains($0) }
        text = text.dropFirst(word.count)
        let names = word.split(separator: 0x3a, maxSplits: 1, omittingEmptySubsequences: false).compactMap { String(Substring($0)) }
        guard let name = names.last, !name.isEmpty else { throw Self.bad("a name is missing") }
        let module = names.count == 2 ? schema.implementedModule(names[0]) : node?.pointee.module
        guard let module, let child = lys_find_child(node, module, name, 0, 0, 0),
            child.hasType(LYS_CONTAINER, LYS_LIST, LYS_LEAF, LYS_LEAFLIST, LYS_ANYDATA, LYS_ANYXML)
        else {
            throw RESTCONFError(
                .protocol, .unknownElement, "the parameter fields names '\(String(Substring(word)).prefix(80))', which is not there")
        }
        return child
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard text.first == byte else { return false }
        text = text.dropFirst()
        return true
    }

    static func bad(_ what: String) -> RESTCONFError {
        RESTCONFError(.protocol, .invalidValue, "the parameter fields cannot be used: \(what)")
    }
}
