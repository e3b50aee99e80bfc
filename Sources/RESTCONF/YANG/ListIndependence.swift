// Which entries of lists can be checked without their siblings.
//
// libyang validates whole trees only. An edit of one entry among a thousand is checked a thousand times quicker if the
// others are left out of the tree; that gives the same answer exactly when no constraint of the schema joins what is
// inside an entry with anything beyond it. So: a keyed list is independent unless
// - it has a unique statement or limits on the number of its entries, or is ordered by the user,
// - some when, must or leafref (RFC 7950, sections 7.21.5, 7.5.3, 9.9) touches nodes inside and outside of its entries,
// - the schema has an instance-identifier that must point to something.
// Lists inside an independent list need no thought: its entries are checked whole.

import CYang

struct ListIndependence {
    private(set) var lists: Set<SchemaNode> = []
    private var pointsAnywhere = false
    private var constraints: [Set<SchemaNode>] = []

    init(context: OpaquePointer) {
        var index: UInt32 = 0
        while let module = ly_ctx_get_module_iter(context, &index) {
            guard module.pointee.implemented != 0 else { continue }
            var node = module.pointee.compiled?.pointee.data.map { SchemaNode($0) }
            while let top = node {
                collect(top, context, insideList: false)
                node = top.pointee.next.map { SchemaNode($0) }
            }
        }
        if pointsAnywhere { lists = [] }
        for nodes in constraints {
            lists = lists.filter { list in
                let inside = nodes.filter { Self.isInside($0, list) }.count
                return inside == 0 || inside == nodes.count
            }
        }
    }

    private mutating func collect(_ node: SchemaNode, _ context: OpaquePointer, insideList: Bool) {
        note(node)
        var isCandidate = false
        if node.hasType(LYS_LIST), !insideList {
            isCandidate = Self.isCandidate(node)
            if isCandidate { lists.insert(node) }
        }
        var child = lysc_node_child(node)
        while let next = child {
            collect(next, context, insideList: insideList || isCandidate)
            child = UnsafePointer(next.pointee.next)
        }
        ly_err_clean(context, nil)
    }

    private static func isCandidate(_ node: SchemaNode) -> Bool {
        guard !node.isOrderedByUser, !node.keys.isEmpty else { return false }
        return node.withMemoryRebound(to: lysc_node_list.self, capacity: 1) { list in
            list.pointee.min == 0 && (list.pointee.max == 0 || list.pointee.max == UInt32.max)
                && cyang_unique_count(list.pointee.uniques) == 0
        }
    }

    /// Strictly inside an entry, or the entry itself.
    private static func isInside(_ node: SchemaNode, _ list: SchemaNode) -> Bool {
        var place: SchemaNode? = node
        while let here = place {
            if here == list { return true }
            place = here.pointee.parent.map { SchemaNode($0) }
        }
        return false
    }

    private mutating func note(_ node: SchemaNode) {
        let mutable = UnsafeMutablePointer(mutating: node)
        if let whens = lysc_node_when(mutable) {
            for index in 0..<Int(cyang_when_count(whens)) {
                guard let when = whens[index] else { continue }
                var set: UnsafeMutablePointer<ly_set>?
                add(node, cyang_when_atoms(when, mutable, &set), set)
            }
        }
        if let musts = lysc_node_musts(mutable) {
            for index in 0..<Int(cyang_must_count(musts)) {
                var set: UnsafeMutablePointer<ly_set>?
                add(node, cyang_must_atoms(musts + index, mutable, &set), set)
            }
        }
        if node.hasType(LYS_LEAF, LYS_LEAFLIST) {
            node.withMemoryRebound(to: lysc_node_leaf.self, capacity: 1) { note(type: $0.pointee.type, of: node) }
        }
    }

    private mutating func note(type: UnsafeMutablePointer<lysc_type>?, of node: SchemaNode) {
        guard let type else { return }
        switch type.pointee.basetype {
        case LY_TYPE_LEAFREF:
            var set: UnsafeMutablePointer<ly_set>?
            add(node, cyang_leafref_atoms(type, node, &set), set)
        case LY_TYPE_INST:
            type.withMemoryRebound(to: lysc_type_instanceid.self, capacity: 1) {
                if $0.pointee.require_instance != 0 { pointsAnywhere = true }
            }
        case LY_TYPE_UNION:
            let members = type.withMemoryRebound(to: lysc_type_union.self, capacity: 1) { union -> [UnsafeMutablePointer<lysc_type>?] in
                guard let types = union.pointee.types else { return [] }
                return (0..<Int(cyang_type_count(types))).map { types[$0] }
            }
            for member in members { note(type: member, of: node) }
        default: break
        }
    }

    private mutating func add(_ node: SchemaNode, _ result: LY_ERR, _ set: UnsafeMutablePointer<ly_set>?) {
        guard result == LY_SUCCESS, let set else {
            // Not understood: nothing can be said of any list.
            pointsAnywhere = true
            return
        }
        defer { ly_set_free(set, nil) }
        var nodes: Set<SchemaNode> = [node]
        for index in 0..<Int(set.pointee.count) {
            if let atom = set.pointee.snodes[index] { nodes.insert(SchemaNode(atom)) }
        }
        constraints.append(nodes)
    }
}
