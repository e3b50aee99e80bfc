// What an edit has changed.

import CYang

/// The topmost nodes that differ between two trees.
struct Differences {
    struct Change {
        enum Kind: String { case create, delete, replace }
        var kind: Kind
        var path: String
        var segments: [String]
    }

    private(set) var changes: [Change] = []
    private let diff: DataTree
    /// What reported data must not overrule any more.
    private var stale: [DataNode] = []

    init(from before: DataTree, to after: DataTree) throws(RESTCONFError) {
        diff = DataTree(schema: before.schema)
        guard lyd_diff_siblings(before.first, after.first, UInt16(LYD_DIFF_DEFAULTS), &diff.first) == LY_SUCCESS else {
            throw libyangError(before.schema.context, "the change cannot be told")
        }
        for root in DataSiblings(diff.first) { collect(root, [], inherited: nil) }
    }

    private mutating func collect(_ node: DataNode, _ above: [String], inherited: String?) {
        let operation = Self.operation(of: node) ?? inherited
        let segments = above + [ResourcePath(steps: [ResourcePath.Step(node)]).xpath]
        // A leaf in the difference that did not change: a default became explicit, or the other way.
        let isLeaf = node.schema.hasType(LYS_LEAF, LYS_LEAFLIST)
        if let kind = operation.flatMap(Change.Kind.init(rawValue:)) ?? (isLeaf && !node.schema.isKey ? .replace : nil) {
            changes.append(Change(kind: kind, path: node.instancePath, segments: segments))
            if kind == .delete || isLeaf { stale.append(node) }
            return
        }
        for child in node.children { collect(child, segments, inherited: operation) }
    }

    private static func operation(of node: DataNode) -> String? {
        var meta = node.pointee.meta
        while let here = meta {
            if String(cString: here.pointee.name) == "operation" { return lyd_get_meta_value(here).map { String(cString: $0) } }
            meta = here.pointee.next
        }
        return nil
    }

    /// State data of what is gone go, too, and values that overruled what was configured anew.
    func removeStale(from state: DataTree) {
        for node in stale {
            if let ours = state.counterpart(of: node) { state.remove(ours) }
        }
    }
}
