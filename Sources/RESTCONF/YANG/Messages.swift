// Messages that are no data of a datastore: notifications, and the input and output of operations.

import CYang
public import Foundation

extension YANGSchema {
    /// The body of a notification (RFC 8040, section 6.4), validated.
    /// - Parameters:
    ///   - name: `module:notification`.
    ///   - contents: what stands inside the notification, as a JSON object with the names of RFC 7951.
    /// - Throws: 400 `unknown-element` for a notification that the schema does not have, and what validation says.
    public func notification(_ name: String, contents: String, time: Date, encoding: DataEncoding) throws(RESTCONFError) -> Data {
        let event = try locked { () throws(RESTCONFError) -> Data in
            try requireNotification(name)
            let tree = DataTree(schema: self)
            let text = Data("{\"\(name)\":\(contents)}".utf8)
            try TextLimits.standard.check(text, .json, single: true)
            let node = try tree.parseOperation(text, .json, LYD_TYPE_NOTIF_YANG, under: nil)
            guard node == tree.first, node.pointee.next == nil, lyd_validate_op(node, nil, LYD_TYPE_NOTIF_YANG, nil) == LY_SUCCESS else {
                throw libyangError(context, "the notification is not valid")
            }
            return try tree.print(node, PrintStyle(encoding: encoding, emptyContainers: lyd_child(node) == nil))
        }
        return Self.envelope(event, time: time, encoding)
    }

    private func requireNotification(_ name: String) throws(RESTCONFError) {
        let names = name.split(separator: ":", maxSplits: 1).map(String.init)
        guard names.count == 2, let module = implementedModule(names[0]),
            lys_find_child(nil, module, names[1], 0, UInt16(LYS_NOTIF), 0) != nil
        else { throw RESTCONFError(.application, .unknownElement, "there is no notification '\(name.prefix(200))'", status: 400) }
    }

    private static func envelope(_ event: Data, time: Date, _ encoding: DataEncoding) -> Data {
        let time = time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        switch encoding {
        case .json:
            return Data("{\"ietf-restconf:notification\":{\"eventTime\":\"\(time)\",".utf8) + event.dropFirst() + Data("}".utf8)
        case .xml:
            let head = "<notification xmlns=\"urn:ietf:params:xml:ns:netconf:notification:1.0\"><eventTime>\(time)</eventTime>"
            return Data(head.utf8) + event + Data("</notification>".utf8)
        }
    }
}

/// One rpc or action being carried out.
struct OperationMessage {
    let schema: YANGSchema
    let path: ResourcePath

    private var operation: (module: String, name: String) {
        (path.steps.last?.module ?? "", path.steps.last?.name ?? "")
    }

    /// The validated input as a JSON object of what stands inside `input` (RFC 8040, section 3.6.1).
    func input(_ body: Data?, _ encoding: DataEncoding) throws(RESTCONFError) -> String {
        let text: Data
        if let body, !body.isEmpty {
            try TextLimits.standard.check(body, encoding, single: true)
            text = try MessageText.rename(body, encoding, from: "input", to: operation.name, module: operation.module)
        } else {
            text = Data("{\"\(operation.module):\(operation.name)\":{}}".utf8)
        }
        return try schema.locked { () throws(RESTCONFError) -> String in
            let json = try printed(text, body?.isEmpty == false ? encoding : .json, LYD_TYPE_RPC_YANG, as: .json)
            return MessageText.inside(json)
        }
    }

    /// The body of the answer from a JSON object of what stands inside `output`; nil if there is nothing (section 3.6.2).
    func output(_ json: String?, _ encoding: DataEncoding) throws(RESTCONFError) -> Data? {
        guard let json else { return nil }
        let text = Data("{\"\(operation.module):\(operation.name)\":\(json)}".utf8)
        let whole = try schema.locked { () throws(RESTCONFError) -> Data in
            try printed(text, .json, LYD_TYPE_REPLY_YANG, as: encoding)
        }
        return try MessageText.rename(whole, encoding, from: operation.name, to: "output", module: operation.module)
    }

    private func printed(
        _ text: Data, _ encoding: DataEncoding, _ type: lyd_type, as printing: DataEncoding
    ) throws(RESTCONFError) -> Data {
        let tree = DataTree(schema: schema)
        let parent = try tree.build(path.steps.dropLast())
        let operation = try tree.parseOperation(text, encoding, type, under: parent)
        guard lyd_validate_op(operation, nil, type, nil) == LY_SUCCESS else {
            throw libyangError(schema.context, "the operation's data are not valid")
        }
        return try tree.print(operation, PrintStyle(encoding: printing, emptyContainers: true))
    }
}

extension DataTree {
    /// Parses a notification, or the input or output of an operation; what was parsed belongs to the tree.
    fileprivate func parseOperation(
        _ text: Data, _ encoding: DataEncoding, _ type: lyd_type, under parent: DataNode?
    ) throws(RESTCONFError) -> DataNode {
        var bytes = [UInt8](text)
        bytes.append(0)
        var whole: DataNode?
        var operation: DataNode?
        let result = bytes.withUnsafeBufferPointer { buffer -> LY_ERR in
            var input: OpaquePointer?
            let start = UnsafeRawPointer(buffer.baseAddress)?.assumingMemoryBound(to: CChar.self)
            guard ly_in_new_memory(start, &input) == LY_SUCCESS else { return LY_EMEM }
            defer { ly_in_free(input, 0) }
            let format = encoding == .json ? LYD_JSON : LYD_XML
            return parent == nil
                ? lyd_parse_op(schema.context, nil, input, format, type, &whole, &operation)
                : lyd_parse_op(schema.context, parent, input, format, type, nil, &operation)
        }
        if parent == nil { first = whole }
        guard result == LY_SUCCESS, let operation else {
            throw libyangError(schema.context, "the text cannot be parsed")
        }
        return operation
    }
}

/// Envelopes of messages, as text.
enum MessageText {
    /// Gives the outermost member or element another name, after checking the one it has.
    static func rename(_ text: Data, _ encoding: DataEncoding, from old: String, to new: String, module: String) throws(RESTCONFError)
        -> Data
    {
        let string = String(decoding: text, as: UTF8.self)
        let renamed = encoding == .json ? renameMember(string, "\(module):\(old)", "\(module):\(new)") : renameElement(string, old, new)
        guard let renamed else {
            throw RESTCONFError(.protocol, .malformedMessage, "the body is not one '\(module):\(old)'")
        }
        return Data(renamed.utf8)
    }

    private static func renameMember(_ text: String, _ old: String, _ new: String) -> String? {
        guard let brace = text.firstIndex(where: { !$0.isWhitespace }), text[brace] == "{",
            let quote = text[text.index(after: brace)...].firstIndex(where: { !$0.isWhitespace }), text[quote] == "\"",
            text[quote...].hasPrefix("\"\(old)\"")
        else { return nil }
        let end = text.index(quote, offsetBy: old.count + 2)
        return text[..<quote] + "\"\(new)\"" + text[end...]
    }

    private static func renameElement(_ text: String, _ old: String, _ new: String) -> String? {
        var start = text.startIndex
        while let open = text[start...].firstIndex(of: "<") {
            let name = text.index(after: open)
            guard name < text.endIndex else { return nil }
            if text[name] == "?" || text[name] == "!" {
                start = name
                continue
            }
            let end = text[name...].firstIndex { " \t\r\n/>".contains($0) } ?? text.endIndex
            let tag = text[name..<end]
            let prefix = tag.split(separator: ":").count == 2 ? tag.prefix { $0 != ":" } + ":" : ""
            guard tag == prefix + old else { return nil }
            let renamed = text[..<name] + prefix + new + text[end...]
            guard let close = renamed.range(of: "</\(tag)", options: .backwards) else { return String(renamed) }
            return renamed.replacingCharacters(in: close, with: "</\(prefix)\(new)")
        }
        return nil
    }

    /// `{"name":X}` -> `X`.
    static func inside(_ json: Data) -> String {
        let text = String(decoding: json, as: UTF8.self)
        guard let quote = text.firstIndex(of: "\""), let second = text[text.index(after: quote)...].firstIndex(of: "\""),
            let colon = text[second...].firstIndex(of: ":"), let end = text.lastIndex(of: "}")
        else { return "{}" }
        return text[text.index(after: colon)..<end].trimmingCharacters(in: .whitespacesAndNewlines)
    }
}
