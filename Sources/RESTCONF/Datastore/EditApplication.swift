// Edits on a tree: RFC 8040, sections 4.4 to 4.7.

import CYang

struct EditApplication {
    let edit: Edit
    let body: EditBody?
    /// What the point parameter names.
    let point: ResourcePath?

    init(_ edit: Edit, schema: YANGSchema) throws(RESTCONFError) {
        self.edit = edit
        let needsPoint = edit.insert == .before || edit.insert == .after
        guard needsPoint == (edit.point != nil) else {
            throw RESTCONFError(.protocol, .invalidValue, "the parameter point goes with insert=before and insert=after only")
        }
        if edit.insert != nil, edit.kind != .create, edit.kind != .replace {
            throw RESTCONFError(.protocol, .invalidValue, "the parameter insert is for POST and PUT only")
        }
        let text = edit.point.map { $0.hasPrefix("/") ? String($0.dropFirst()) : $0 }
        point = try text.map { text throws(RESTCONFError) in try ResourcePath(parsing: text, schema: schema) }
        body =
            edit.kind == .remove
            ? nil : try schema.locked { () throws(RESTCONFError) -> EditBody in try EditBody(edit, schema: schema) }
    }

    /// What the edit is about: for POST the new resource, not its parent.
    var subject: ResourcePath? {
        guard edit.kind == .create, let node = body?.node else { return edit.path }
        return ResourcePath(steps: (edit.path?.steps ?? []) + [ResourcePath.Step(node)])
    }

    /// Whether the resource is new.
    func apply(to working: inout WorkingTree) throws(RESTCONFError) -> Bool {
        let tree = working.after
        switch edit.kind {
        case .create:
            try create(in: tree)
            return true
        case .replace:
            guard edit.path != nil else {
                if let body { working.after = body.tree }
                return false
            }
            return try replace(in: tree)
        case .merge:
            try merge(into: tree)
            return false
        case .remove:
            try remove(from: tree)
            return false
        }
    }

    // MARK: POST (section 4.4.1)

    private func create(in tree: DataTree) throws(RESTCONFError) {
        guard let body, let node = body.node else { return }
        let parent = try edit.path.map { path throws(RESTCONFError) in try existing(path, in: tree) }
        if let old = sibling(like: node, of: parent, in: tree) {
            guard old.isDefault else {
                throw RESTCONFError(.application, .dataExists, "the resource exists already", path: old.instancePath)
            }
            tree.remove(old)
        }
        try insert(node, under: parent, of: tree)
        try place(node, in: tree)
    }

    // MARK: PUT (section 4.5)

    private func replace(in tree: DataTree) throws(RESTCONFError) -> Bool {
        guard let body, let node = body.node, let path = edit.path else { return false }
        let old = try tree.find(path)
        let created = old?.isDefault ?? true
        if let old, node.schema.isOrderedByUser, edit.insert == nil {
            unlink(node)
            guard lyd_insert_before(old, node) == LY_SUCCESS else { throw libyangError(tree.schema.context, "data cannot be put in place") }
            if tree.first == old { tree.first = node }
            tree.remove(old)
            return created
        }
        let parent = try path.parent.map { parent throws(RESTCONFError) in try existing(parent, in: tree, missing: .dataMissing) }
        if let old { tree.remove(old) }
        try insert(node, under: parent, of: tree)
        try place(node, in: tree)
        return created
    }

    // MARK: Plain PATCH (section 4.6.1)

    private func merge(into tree: DataTree) throws(RESTCONFError) {
        guard let body else { return }
        if let path = edit.path { _ = try existing(path, in: tree) }
        try tree.merge(body.tree)
    }

    // MARK: DELETE (section 4.7)

    /// What is not there is data-missing, as for the operation "delete" that DELETE stands for (section 4; RFC 6241, section 7.2), and
    /// section 7 has 409 for that, 404 only for invalid-value.
    private func remove(from tree: DataTree) throws(RESTCONFError) {
        guard let path = edit.path, let node = try tree.find(path), !node.isDefault else {
            throw RESTCONFError(.application, .dataMissing, "there is no such resource", path: edit.path?.xpath)
        }
        guard !node.schema.isKey else {
            throw RESTCONFError(.protocol, .invalidValue, "the key of a list entry cannot be deleted", path: path.xpath)
        }
        tree.remove(node)
    }

    // MARK: Places

    private func existing(_ path: ResourcePath, in tree: DataTree, missing tag: ErrorTag = .invalidValue) throws(RESTCONFError) -> DataNode
    {
        if let node = try tree.find(path) { return node }
        let status = tag == .invalidValue ? 404 : tag.status
        throw RESTCONFError(.application, tag, "there is no such resource", path: path.xpath, status: status)
    }

    private func sibling(like node: DataNode, of parent: DataNode?, in tree: DataTree) -> DataNode? {
        var match: DataNode?
        guard let siblings = parent.map({ lyd_child($0) }) ?? tree.first else { return nil }
        return lyd_find_sibling_first(siblings, node, &match) == LY_SUCCESS ? match : nil
    }

    private func unlink(_ node: DataNode) {
        if let body, body.tree.first == node { body.tree.first = node.pointee.next }
        lyd_unlink_tree(node)
    }

    private func insert(_ node: DataNode, under parent: DataNode?, of tree: DataTree) throws(RESTCONFError) {
        unlink(node)
        let result = parent.map { lyd_insert_child($0, node) } ?? lyd_insert_sibling(tree.first, node, &tree.first)
        guard result == LY_SUCCESS else {
            lyd_free_tree(node)
            throw libyangError(tree.schema.context, "data cannot be put in place")
        }
    }

    /// The insert and point parameters (sections 4.8.5 and 4.8.6).
    private func place(_ node: DataNode, in tree: DataTree) throws(RESTCONFError) {
        guard let insert = edit.insert else { return }
        guard node.schema.isOrderedByUser else {
            throw RESTCONFError(.protocol, .invalidValue, "the parameter insert is for lists that their users order")
        }
        var result = LY_SUCCESS
        switch insert {
        case .first:
            let others = node.parentNode.map { Array($0.children) } ?? tree.roots
            if let first = others.first(where: { $0.schema == node.schema && $0 != node }) { result = lyd_insert_before(first, node) }
        case .last: break
        case .before: result = lyd_insert_before(try point(for: node, in: tree), node)
        case .after: result = lyd_insert_after(try point(for: node, in: tree), node)
        }
        guard result == LY_SUCCESS else { throw libyangError(tree.schema.context, "data cannot be put in place") }
        tree.first = tree.first.flatMap { lyd_first_sibling($0) }
    }

    private func point(for node: DataNode, in tree: DataTree) throws(RESTCONFError) -> DataNode {
        guard let path = self.point, let point = try tree.find(path), point.schema == node.schema,
            point.parentNode == node.parentNode, point != node
        else { throw RESTCONFError(.protocol, .invalidValue, "the parameter point names no other entry of the same list") }
        return point
    }
}
