// Trees of data, owned.

import CYang
import Foundation

/// A tree of YANG data: the first of its top-level nodes, and all that hangs on them.
///
/// Not thread-safe: an actor owns it. Functions that may fail are called inside `YANGSchema.locked`.
final class DataTree {
    let schema: YANGSchema
    var first: DataNode?

    init(schema: YANGSchema, first: DataNode? = nil) {
        self.schema = schema
        self.first = first
    }

    deinit { lyd_free_all(first) }

    var isEmpty: Bool { first == nil }

    /// A copy of its own.
    func copy() throws(RESTCONFError) -> DataTree {
        let twin = DataTree(schema: schema)
        guard let first else { return twin }
        guard lyd_dup_siblings(first, nil, copying, &twin.first) == LY_SUCCESS else {
            throw libyangError(schema.context, "data cannot be copied")
        }
        return twin
    }

    /// Joins a top-level node that belongs to no tree.
    func join(_ node: DataNode) throws(RESTCONFError) {
        guard lyd_insert_sibling(first, node, &first) == LY_SUCCESS else {
            throw libyangError(schema.context, "data cannot be joined")
        }
    }

    /// Takes a node out and frees it.
    func remove(_ node: DataNode) {
        if node == first { first = node.pointee.next }
        lyd_free_tree(node)
    }

    /// Every leaf of `other` goes over ours; list entries meet by their keys.
    func merge(_ other: DataTree) throws(RESTCONFError) {
        guard let source = other.first else { return }
        guard lyd_merge_siblings(&first, source, 0) == LY_SUCCESS else {
            throw libyangError(schema.context, "data cannot be merged")
        }
    }

    /// Checks everything and adds defaults.
    func validate(configurationOnly: Bool) throws(RESTCONFError) {
        let options = configurationOnly ? UInt32(LYD_VALIDATE_NO_STATE) : UInt32(LYD_VALIDATE_PRESENT)
        guard lyd_validate_all(&first, schema.context, options, nil) == LY_SUCCESS else {
            throw libyangError(schema.context, "the data are not valid")
        }
    }

    /// Top-level nodes in order.
    var roots: [DataNode] { Array(DataSiblings(first)) }
}

/// Keep the marks for defaults and for what was validated.
let copying = UInt32(LYD_DUP_RECURSIVE | LYD_DUP_WITH_FLAGS)

/// A node and the siblings after it.
struct DataSiblings: Sequence, IteratorProtocol {
    private var node: DataNode?

    init(_ first: DataNode?) { node = first }

    mutating func next() -> DataNode? {
        defer { node = node?.pointee.next }
        return node
    }
}

extension DataNode {
    var schema: SchemaNode { pointee.schema }
    var parentNode: DataNode? { lyd_parent(self) }
    var children: DataSiblings { DataSiblings(lyd_child(self)) }
    /// It stands for a default that nobody has set, or for a container without any meaning of its own.
    var isDefault: Bool { pointee.flags & UInt32(LYD_DEFAULT) != 0 }
    var isListEntry: Bool { pointee.schema.pointee.nodetype == LYS_LIST }
    /// The canonical value of a leaf.
    var value: String { lyd_get_value(self).map { String(cString: $0) } ?? "" }

    /// `/module:container/list[key='value']/leaf`
    var instancePath: String {
        guard let text = lyd_path(self, LYD_PATH_STD, nil, 0) else { return "" }
        defer { free(text) }
        return String(cString: text)
    }
}
