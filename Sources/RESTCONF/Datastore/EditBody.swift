// The body of an edit: one data node, in a tree of its own with all its ancestors.

import CYang
import Foundation

struct EditBody {
    let tree: DataTree
    /// Nil only for a body that stands for the whole datastore.
    let node: DataNode?

    /// - Throws: 400 with what the parser says; 400 `malformed-message` for no or several nodes; 400 `invalid-value` for a node
    ///   that is not the one that the request is about.
    init(_ edit: Edit, schema: YANGSchema) throws(RESTCONFError) {
        guard let body = edit.body, !body.isEmpty else {
            throw RESTCONFError(.protocol, .malformedMessage, "the request needs a body")
        }
        tree = DataTree(schema: schema)
        if edit.path == nil, edit.kind != .create {
            try TextLimits.standard.check(body, edit.encoding, single: true)
            try tree.parse(try Self.datastore(body, edit.encoding), edit.encoding)
            node = nil
            return
        }
        let steps = edit.path?.steps ?? []
        let parent = try tree.build(edit.kind == .create ? steps[...] : steps.dropLast())
        let keys = parent.map { Array($0.children).count } ?? 0
        try tree.parse(body, edit.encoding, under: parent)
        let nodes = parent.map { Array(Array($0.children).dropFirst(keys)) } ?? tree.roots
        guard nodes.count == 1, let only = nodes.first, parent.map({ Array($0.children).prefix(keys).allSatisfy(\.schema.isKey) }) ?? true
        else {
            throw RESTCONFError(.protocol, .malformedMessage, "the body has \(nodes.count) data nodes instead of one")
        }
        node = only
        if edit.kind != .create, let path = edit.path, try tree.find(path) != only {
            throw RESTCONFError(.protocol, .invalidValue, "the body is not about the resource of the request", path: path.xpath)
        }
        try refuseKey(only)
    }

    private func refuseKey(_ node: DataNode) throws(RESTCONFError) {
        if node.schema.isKey {
            throw RESTCONFError(.protocol, .invalidValue, "the key of a list entry cannot be edited", path: node.instancePath)
        }
    }

    /// What stands inside `{"ietf-restconf:data":...}` or `<data>...</data>`.
    private static func datastore(_ body: Data, _ encoding: DataEncoding) throws(RESTCONFError) -> Data {
        let named = try MessageText.rename(body, encoding, from: "data", to: "data", module: "ietf-restconf")
        if encoding == .json { return Data(MessageText.inside(named).utf8) }
        let text = String(decoding: named, as: UTF8.self)
        guard let start = text.range(of: "<data"), let open = text[start.upperBound...].firstIndex(of: ">") else { return Data() }
        guard text[text.index(before: open)] != "/", let close = text.range(of: "</data", options: .backwards),
            open < close.lowerBound
        else { return Data() }
        return Data(text[text.index(after: open)..<close.lowerBound].utf8)
    }
}

extension ResourcePath.Step {
    /// The step that leads to a node.
    init(_ node: DataNode) {
        let schema = node.schema
        let kind: ResourcePath.NodeKind =
            switch Int32(schema.pointee.nodetype) {
            case LYS_CONTAINER: .container
            case LYS_LIST: .list
            case LYS_LEAF: .leaf
            case LYS_LEAFLIST: .leafList
            default: .anydata
            }
        self.init(
            module: schema.moduleName, name: schema.name, kind: kind, isConfiguration: schema.isConfiguration,
            keys: kind == .list
                ? node.children.prefix { $0.schema.isKey }.map { ResourcePath.Key(name: $0.schema.name, value: $0.value) } : [],
            value: kind == .leafList ? node.value : nil)
    }
}
