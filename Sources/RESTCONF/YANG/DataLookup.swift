// Instances of paths in trees: found by libyang's hashes, so that a list of a thousand entries costs no more than one.

import CYang
import Foundation

extension DataTree {
    /// The instance of `path`, or nil.
    func find(_ path: ResourcePath) throws(RESTCONFError) -> DataNode? {
        var siblings = first
        var found: DataNode?
        for step in path.steps {
            found = try find(step, schemaNode(step, under: found?.schema), among: siblings)
            guard let found else { return nil }
            siblings = lyd_child(found)
        }
        return found
    }

    private func find(_ step: ResourcePath.Step, _ node: SchemaNode, among siblings: DataNode?) throws(RESTCONFError) -> DataNode? {
        guard let siblings else { return nil }
        var match: DataNode?
        switch step.kind {
        case .list:
            guard let predicate = Self.predicate(step.keys) else { return search(step.keys, node, among: siblings) }
            _ = lyd_find_sibling_val(siblings, node, predicate, 0, &match)
        case .leafList:
            _ = lyd_find_sibling_val(siblings, node, step.value ?? "", 0, &match)
        default:
            _ = lyd_find_sibling_val(siblings, node, nil, 0, &match)
        }
        return match
    }

    /// Nil where a value has both kinds of quotes: XPath cannot write it.
    private static func predicate(_ keys: [ResourcePath.Key]) -> String? {
        var text = ""
        for key in keys {
            let quote = key.value.contains("'") ? "\"" : "'"
            guard !key.value.contains(quote) else { return nil }
            text += "[\(key.name)=\(quote)\(key.value)\(quote)]"
        }
        return text
    }

    private func search(_ keys: [ResourcePath.Key], _ node: SchemaNode, among siblings: DataNode) -> DataNode? {
        DataSiblings(siblings).first { entry in
            entry.schema == node && zip(entry.children, keys).allSatisfy { $0.value == $1.value }
        }
    }

    func schemaNode(_ step: ResourcePath.Step, under parent: SchemaNode?) throws(RESTCONFError) -> SchemaNode {
        let module = schema.implementedModule(step.module)
        guard let node = lys_find_child(parent, module, step.name, 0, 0, 0) else {
            throw RESTCONFError(.protocol, .unknownElement, "there is no node '\(step.name)'")
        }
        return node
    }

    /// Makes all nodes of `steps`, each in the one before; the innermost is the answer. The tree must be empty.
    func build(_ steps: some Sequence<ResourcePath.Step>) throws(RESTCONFError) -> DataNode? {
        var innermost: DataNode?
        for step in steps {
            let node = try makeNode(step, under: innermost)
            if innermost == nil { first = node }
            innermost = node
        }
        return innermost
    }

    private func makeNode(_ step: ResourcePath.Step, under parent: DataNode?) throws(RESTCONFError) -> DataNode {
        let module = schema.implementedModule(step.module)
        var made: DataNode?
        let result: LY_ERR
        switch step.kind {
        case .list:
            let texts = step.keys.map { strdup($0.value) }
            defer { texts.forEach { free($0) } }
            let values = texts.map { UnsafePointer($0) }
            result = cyang_new_list(parent, module, step.name, values, Int32(values.count), &made)
        case .leaf, .leafList:
            result = lyd_new_term(parent, module, step.name, step.value ?? "", 0, &made)
        default:
            result = lyd_new_inner(parent, module, step.name, 0, &made)
        }
        guard result == LY_SUCCESS, let made else { throw libyangError(schema.context, "'\(step.name)' cannot be made") }
        return made
    }
}
