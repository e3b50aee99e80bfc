// The part of the configuration that an edit is tried on.
//
// An edit inside an entry of an independent list (ListIndependence) is tried on a tree without the other entries of
// such lists; any other edit on a copy of everything. The running tree is touched only when all has gone well.

import CYang

struct WorkingTree {
    /// The entry of an independent list that the edit stays inside of; nil: the edit may touch everything.
    let scope: ResourcePath?
    /// As it is.
    let before: DataTree
    /// As it shall be.
    var after: DataTree

    init(of running: DataTree, for path: ResourcePath?) throws(RESTCONFError) {
        scope = try running.independentEntry(on: path)
        if let scope {
            before = try running.copy(keeping: scope)
            after = try before.copy()
        } else {
            before = running
            after = try running.copy()
        }
    }

    /// Puts what was tried in the place of what is; no call can fail that has not been tried before.
    func install(in running: inout DataTree) throws(RESTCONFError) {
        guard let scope else {
            running = after
            return
        }
        let old = try running.find(scope)
        guard let new = try after.find(scope) else {
            if let old { running.remove(old) }
            return
        }
        if let old {
            try running.replaceContents(of: old, by: new)
        } else {
            try running.adopt(new, at: scope, from: after)
        }
    }
}

extension DataTree {
    /// The outermost entry of an independent list on the way to `path`.
    func independentEntry(on path: ResourcePath?) throws(RESTCONFError) -> ResourcePath? {
        var parent: SchemaNode?
        for (index, step) in (path?.steps ?? []).enumerated() {
            let node = try schemaNode(step, under: parent)
            if schema.independentLists.contains(node) { return path.map { ResourcePath(steps: Array($0.steps[...index])) } }
            parent = node
        }
        return nil
    }

    /// A copy without the entries of independent lists, but for one.
    func copy(keeping path: ResourcePath) throws(RESTCONFError) -> DataTree {
        let kept = try find(path)
        let twin = DataTree(schema: schema)
        for root in DataSiblings(first) {
            if let copy = try prunedCopy(root, under: nil, keeping: kept) { try twin.join(copy) }
        }
        return twin
    }

    private func prunedCopy(_ node: DataNode, under parent: DataNode?, keeping kept: DataNode?) throws(RESTCONFError) -> DataNode? {
        if node != kept, node.isListEntry, schema.independentLists.contains(node.schema) { return nil }
        let inner = parent.map { UnsafeMutableRawPointer($0).assumingMemoryBound(to: lyd_node_inner.self) }
        let isWhole = node == kept || node.schema.hasType(LYS_LEAF, LYS_LEAFLIST, LYS_ANYDATA, LYS_ANYXML)
        var copy: DataNode?
        let options = isWhole ? copying : UInt32(LYD_DUP_WITH_FLAGS)
        guard lyd_dup_single(node, inner, options, &copy) == LY_SUCCESS, let copy else {
            throw libyangError(schema.context, "data cannot be copied")
        }
        if isWhole { return copy }
        for child in node.children where !child.schema.isKey {
            _ = try prunedCopy(child, under: copy, keeping: kept)
        }
        return copy
    }

    /// Gives a list entry the contents of another; its place among its siblings stays.
    func replaceContents(of old: DataNode, by new: DataNode) throws(RESTCONFError) {
        for child in Array(old.children) where !child.schema.isKey { lyd_free_tree(child) }
        for child in Array(new.children) where !child.schema.isKey {
            lyd_unlink_tree(child)
            guard lyd_insert_child(old, child) == LY_SUCCESS else {
                lyd_free_tree(child)
                throw libyangError(schema.context, "data cannot be moved")
            }
        }
        old.pointee.flags = new.pointee.flags
    }

    /// Takes a node over from another tree.
    func adopt(_ node: DataNode, at path: ResourcePath, from other: DataTree) throws(RESTCONFError) {
        if other.first == node { other.first = node.pointee.next }
        lyd_unlink_tree(node)
        guard let parentPath = path.parent else { return try join(node) }
        guard let parent = try find(parentPath), lyd_insert_child(parent, node) == LY_SUCCESS else {
            lyd_free_tree(node)
            throw libyangError(schema.context, "data cannot be moved")
        }
    }

    /// Our node in the place of another tree's node.
    func counterpart(of node: DataNode) -> DataNode? {
        var siblings = first
        if let parent = node.parentNode {
            guard let ours = counterpart(of: parent) else { return nil }
            siblings = lyd_child(ours)
        }
        var match: DataNode?
        guard let siblings, lyd_find_sibling_first(siblings, node, &match) == LY_SUCCESS else { return nil }
        return match
    }
}
