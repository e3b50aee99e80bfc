// The grammar of RFC 8040, section 3.5.3.1:
//
//   api-path        = root / ("/" api-identifier ...)      api-identifier = [module-name ":"] identifier
//   list-instance   = api-identifier "=" key-value *("," key-value)

import CYang

/// One segment of an api-path, percent-decoded.
struct APIPathSegment {
    var module: String?
    var name: String
    /// Nil without "="; a key may be empty.
    var values: [String]?

    static let longest = 16_384
    static let most = 64

    static func parse(_ text: String) throws(RESTCONFError) -> [APIPathSegment] {
        guard text.utf8.count <= longest else { throw bad("the path has more than \(longest) bytes", status: 414) }
        let pieces = text.split(separator: "/", omittingEmptySubsequences: false)
        guard pieces.count <= most else { throw bad("the path has more than \(most) segments", status: 414) }
        var segments: [APIPathSegment] = []
        for piece in pieces { segments.append(try APIPathSegment(piece)) }
        return segments
    }

    private init(_ text: Substring) throws(RESTCONFError) {
        let halves = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let identifier = try Self.decoded(halves.first ?? "")
        let names = identifier.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let last = names.last, names.allSatisfy(Self.isIdentifier) else {
            throw Self.bad("'\(identifier.prefix(80))' is no name of a data node")
        }
        name = last
        module = names.count == 2 ? names[0] : nil
        guard halves.count == 2 else { return }
        var found: [String] = []
        for value in halves[1].split(separator: ",", omittingEmptySubsequences: false) { found.append(try Self.decoded(value)) }
        values = found
    }

    /// RFC 7950, section 6.2.
    private static func isIdentifier(_ text: String) -> Bool {
        guard let first = text.utf8.first, text.utf8.count <= 256 else { return false }
        let isLetter = { (byte: UInt8) in (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte) || byte == 0x5f }
        return isLetter(first) && text.utf8.allSatisfy { isLetter($0) || (0x30...0x39).contains($0) || $0 == 0x2d || $0 == 0x2e }
    }

    private static func decoded(_ text: Substring) throws(RESTCONFError) -> String {
        guard text.utf8.contains(0x25) else { return String(text) }
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == 0x25 else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(hexadecimal), let low = rest.popFirst().flatMap(hexadecimal) else {
                throw bad("a percent sign is not followed by two hexadecimal digits")
            }
            bytes.append(high << 4 | low)
        }
        guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
            throw bad("percent-encoded text is not UTF-8")
        }
        return text
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x37
        case 0x61...0x66: byte - 0x57
        default: nil
        }
    }

    private static func bad(_ message: String, status: Int = 400) -> RESTCONFError {
        RESTCONFError(.protocol, .invalidValue, message, status: status)
    }
}

/// Finds an api-path's nodes in the schema.
struct APIPathResolver {
    let schema: YANGSchema
    let qualified: Bool

    func steps(_ segments: [APIPathSegment]) throws(RESTCONFError) -> [ResourcePath.Step] {
        var steps: [ResourcePath.Step] = []
        var parent: SchemaNode?
        for segment in segments {
            let node = try find(segment, under: parent)
            steps.append(try step(segment, node, isLast: steps.count == segments.count - 1))
            parent = node
        }
        return steps
    }

    private func find(_ segment: APIPathSegment, under parent: SchemaNode?) throws(RESTCONFError) -> SchemaNode {
        if let parent, parent.hasType(LYS_RPC, LYS_ACTION, LYS_LEAF, LYS_LEAFLIST) {
            throw unknown(segment, "'\(parent.name)' has nothing below it")
        }
        guard let node = try candidate(segment, parent), !node.hasType(LYS_NOTIF) else {
            throw unknown(segment, "there is no node '\(segment.name)'" + (parent.map { " in '\($0.name)'" } ?? ""))
        }
        return node
    }

    private func candidate(_ segment: APIPathSegment, _ parent: SchemaNode?) throws(RESTCONFError) -> SchemaNode? {
        if let name = segment.module {
            guard let module = schema.implementedModule(name) else { throw unknown(segment, "there is no module '\(name)'") }
            return child(of: parent, in: module, segment.name)
        }
        if let parent { return child(of: parent, in: parent.pointee.module, segment.name) }
        guard !qualified else { throw unknown(segment, "the first name of a path needs its module's name and a colon") }
        var index: UInt32 = 0
        while let module = ly_ctx_get_module_iter(schema.context, &index) {
            if module.pointee.implemented != 0, let node = child(of: nil, in: module, segment.name) { return node }
        }
        return nil
    }

    private func child(of parent: SchemaNode?, in module: UnsafePointer<lys_module>?, _ name: String) -> SchemaNode? {
        lys_find_child(parent, module, name, 0, 0, 0) ?? action(of: parent, module, name)
    }

    private func action(of parent: SchemaNode?, _ module: UnsafePointer<lys_module>?, _ name: String) -> SchemaNode? {
        var action = parent.flatMap { lysc_node_actions($0) }.map { UnsafeRawPointer($0) }
        while let node = action?.assumingMemoryBound(to: lysc_node.self) {
            if UnsafePointer(node.pointee.module) == module, node.name == name { return node }
            action = UnsafeRawPointer(node.pointee.next)
        }
        return nil
    }

    private func step(_ segment: APIPathSegment, _ node: SchemaNode, isLast: Bool) throws(RESTCONFError) -> ResourcePath.Step {
        var step = ResourcePath.Step(
            module: node.moduleName, name: node.name, kind: kind(of: node), isConfiguration: node.isConfiguration, keys: [], value: nil)
        switch step.kind {
        case .list: step.keys = try keys(segment, node)
        case .leafList:
            guard let values = segment.values, values.count == 1, let value = values.first else {
                throw RESTCONFError(.protocol, .missingElement, "the leaf-list '\(node.name)' needs '=' and one value")
            }
            step.value = try canonical(value, node)
        default:
            guard segment.values == nil else {
                throw RESTCONFError(.protocol, .invalidValue, "'\(node.name)' is no list and takes no key")
            }
        }
        return step
    }

    private func keys(_ segment: APIPathSegment, _ node: SchemaNode) throws(RESTCONFError) -> [ResourcePath.Key] {
        let leafs = node.keys
        guard let values = segment.values else {
            let names = leafs.map(\.name).joined(separator: ", ")
            throw RESTCONFError(.protocol, .missingElement, "the list '\(node.name)' needs '=' and its keys: \(names)")
        }
        guard values.count == leafs.count, !leafs.isEmpty else {
            throw RESTCONFError(.protocol, .invalidValue, "the list '\(node.name)' has \(leafs.count) keys, the path \(values.count)")
        }
        var keys: [ResourcePath.Key] = []
        for (leaf, value) in zip(leafs, values) {
            keys.append(ResourcePath.Key(name: leaf.name, value: try canonical(value, leaf)))
        }
        return keys
    }

    private func canonical(_ value: String, _ node: SchemaNode) throws(RESTCONFError) -> String {
        var text: UnsafePointer<CChar>?
        let result = lyd_value_validate(schema.context, node, value, value.utf8.count, nil, nil, &text)
        guard result == LY_SUCCESS || result == LY_EINCOMPLETE else {
            var error = libyangError(schema.context, "the value is not of the type of '\(node.name)'")
            error.type = .protocol
            throw error
        }
        guard let text else { return value }
        defer { lydict_remove(schema.context, text) }
        return String(cString: text)
    }

    private func kind(of node: SchemaNode) -> ResourcePath.NodeKind {
        switch Int32(node.pointee.nodetype) {
        case LYS_CONTAINER: .container
        case LYS_LIST: .list
        case LYS_LEAF: .leaf
        case LYS_LEAFLIST: .leafList
        case LYS_RPC: .rpc
        case LYS_ACTION: .action
        default: .anydata
        }
    }

    private func unknown(_ segment: APIPathSegment, _ message: String) -> RESTCONFError {
        RESTCONFError(.protocol, .unknownElement, message)
    }
}
