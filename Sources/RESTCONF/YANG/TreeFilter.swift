// What of a resource a GET shows (RFC 8040, sections 4.8.1 to 4.8.3). Works on a copy that belongs to the answer.

import CYang

/// Keys of list entries always stay: without them an entry says nothing, and is no data of the schema.
struct TreeFilter {
    var content: ReadQuery.Content
    var depth: Int
    var fields: FieldSelection?

    /// - Throws: what `FieldSelection` throws, 400 `invalid-value` for a depth outside 1 to 65535.
    init(_ query: ReadQuery, schema: YANGSchema, target: SchemaNode?) throws(RESTCONFError) {
        content = query.content
        if let depth = query.depth, !(1...65535).contains(depth) {
            throw RESTCONFError(.protocol, .invalidValue, "the parameter depth is 'unbounded' or 1 to 65535")
        }
        depth = query.depth ?? .max
        if let text = query.fields { fields = try FieldSelection(parsing: text, schema: schema, target: target) }
    }

    var isNeeded: Bool { content != .all || depth != .max || fields != nil }

    /// Prunes below `node`, the target, which is level 1 itself.
    func apply(below node: DataNode, in tree: DataTree) {
        if let fields { select(node, fields, in: tree) }
        if depth != .max { cut(node, level: 1, in: tree) }
        if content != .all { keep(node, in: tree) }
    }

    /// Prunes the datastore: it is level 1, its top-level nodes are level 2.
    func applyToDatastore(_ tree: DataTree) {
        for root in tree.roots {
            if let fields {
                guard let selection = fields.children[root.schema] else {
                    tree.remove(root)
                    continue
                }
                select(root, selection, in: tree)
            }
            guard depth > 1 else {
                tree.remove(root)
                continue
            }
            if depth != .max { cut(root, level: 2, in: tree) }
            if content != .all, !keep(root, in: tree) { tree.remove(root) }
        }
    }

    private func select(_ node: DataNode, _ selection: FieldSelection, in tree: DataTree) {
        guard !selection.isWhole else { return }
        for child in Array(node.children) where !child.schema.isKey {
            guard let below = selection.children[child.schema] else {
                tree.remove(child)
                continue
            }
            select(child, below, in: tree)
        }
    }

    private func cut(_ node: DataNode, level: Int, in tree: DataTree) {
        for child in Array(node.children) where !child.schema.isKey {
            if level >= depth { tree.remove(child) } else { cut(child, level: level + 1, in: tree) }
        }
    }

    /// Whether something is left of `node`.
    @discardableResult private func keep(_ node: DataNode, in tree: DataTree) -> Bool {
        if content == .config, !node.schema.isConfiguration { return false }
        if content == .nonconfig, !node.schema.isConfiguration { return true }
        guard !node.schema.hasType(LYS_LEAF, LYS_LEAFLIST, LYS_ANYDATA, LYS_ANYXML) else { return content == .config }
        var left = content == .config
        for child in Array(node.children) where !child.schema.isKey {
            if keep(child, in: tree) { left = true } else { tree.remove(child) }
        }
        return left
    }
}
