/// A data resource's place: the `api-path` of RFC 8040, section 3.5.3, checked against the schema.
public struct ResourcePath: Sendable, Hashable {
    public enum NodeKind: String, Sendable { case container, list, leaf, leafList, anydata, rpc, action }

    /// One node of the path; names are qualified by `module` whether the text was or not.
    public struct Step: Sendable, Hashable {
        public var module: String
        public var name: String
        public var kind: NodeKind
        /// Key leafs and canonical values in the schema's order; empty for a list as a whole (POST and OPTIONS only).
        public var keys: [Key]
        /// The instance of a leaf-list.
        public var value: String?
    }

    public struct Key: Sendable, Hashable {
        public var name: String
        public var value: String
    }

    public private(set) var steps: [Step]
    /// The instance identifier with module names on every step.
    public private(set) var xpath: String

    /// - Parameter apiPath: what follows `{+restconf}/data/` or `{+restconf}/operations/`, still percent-encoded.
    /// - Throws: 400 `unknown-element`, `unknown-namespace`, `missing-element`, `invalid-value`; 404 never (the datastore knows what exists).
    public init(parsing apiPath: String, schema: YANGSchema) throws(RESTCONFError) {
        throw RESTCONFError(.protocol, .operationNotSupported, "paths are not read yet")
    }

    /// Nil for a top-level node, whose parent is the datastore.
    public var parent: ResourcePath? { nil }

    /// The percent-encoded text that `init(parsing:)` takes.
    public func apiPath() -> String { "" }
}
