// Places in the schema: what follows `{+restconf}/data/` in a URI.

import CYang

/// A data resource's place: the `api-path` of RFC 8040, section 3.5.3, checked against the schema.
public struct ResourcePath: Sendable, Hashable {
    public enum NodeKind: String, Sendable { case container, list, leaf, leafList, anydata, rpc, action }

    /// One node of the path; names are qualified by `module` whether the text was or not.
    public struct Step: Sendable, Hashable {
        public var module: String
        public var name: String
        public var kind: NodeKind
        /// False for state data, which no request can edit.
        public var isConfiguration: Bool
        /// Key leafs and canonical values in the schema's order.
        public var keys: [Key]
        /// The instance of a leaf-list.
        public var value: String?
    }

    public struct Key: Sendable, Hashable {
        public var name: String
        public var value: String
    }

    public private(set) var steps: [Step]

    /// - Parameters:
    ///   - apiPath: what follows `{+restconf}/data/` or `{+restconf}/operations/`, still percent-encoded.
    ///   - qualified: whether the first name must have its module's name (RFC 8040 asks for it). If not, the first module
    ///     that has such a node is meant.
    /// - Throws: 400 `unknown-element` for names that the schema does not have, 400 `missing-element` for a list without its
    ///   keys, 400 `invalid-value` for what is no api-path and for keys of the wrong type. Whether the instance exists is
    ///   the datastore's to say.
    public init(parsing apiPath: String, schema: YANGSchema, qualified: Bool = true) throws(RESTCONFError) {
        let segments = try APIPathSegment.parse(apiPath)
        steps = try schema.locked { () throws(RESTCONFError) -> [Step] in
            try APIPathResolver(schema: schema, qualified: qualified).steps(segments)
        }
    }

    init(steps: [Step]) { self.steps = steps }

    /// Nil for a top-level node, whose parent is the datastore.
    public var parent: ResourcePath? { steps.count > 1 ? ResourcePath(steps: Array(steps.dropLast())) : nil }

    /// The instance identifier with module names where they change (RFC 7951, section 6.11).
    public var xpath: String {
        var text = ""
        var module = ""
        for step in steps {
            text += "/" + (step.module == module ? "" : step.module + ":") + step.name
            module = step.module
            for key in step.keys { text += "[\(key.name)=\(Self.quoted(key.value))]" }
            if let value = step.value { text += "[.=\(Self.quoted(value))]" }
        }
        return text
    }

    /// The percent-encoded text that `init(parsing:)` takes.
    public func apiPath() -> String {
        var text: [String] = []
        var module = ""
        for step in steps {
            var segment = (step.module == module ? "" : step.module + ":") + step.name
            module = step.module
            if let value = step.value { segment += "=" + Self.encoded(value) }
            if !step.keys.isEmpty { segment += "=" + step.keys.map { Self.encoded($0.value) }.joined(separator: ",") }
            text.append(segment)
        }
        return text.joined(separator: "/")
    }

    /// XPath 1.0 has no escapes: single quotes, double ones if the value has a single one.
    private static func quoted(_ value: String) -> String { value.contains("'") ? "\"\(value)\"" : "'\(value)'" }

    /// RFC 8040, section 3.5.3: everything reserved in RFC 3986 is percent-encoded, so that commas and slashes are values.
    private static func encoded(_ value: String) -> String {
        let digits = Array("0123456789ABCDEF".unicodeScalars)
        var text = String.UnicodeScalarView()
        for byte in value.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e: text.append(Unicode.Scalar(byte))
            default: text += ["%", digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(text)
    }
}
