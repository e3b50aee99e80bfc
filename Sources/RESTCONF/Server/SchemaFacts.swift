// What the server itself says of its schema.

import CYang
import Foundation
import Glibc

struct SchemaFacts: Sendable {
    let schema: YANGSchema
    let libraryVersion: String

    init(schema: YANGSchema) {
        self.schema = schema
        libraryVersion = schema.yangLibraryVersion
    }

    /// The operations resource (section 3.3.2).
    func operations(_ encoding: DataEncoding) -> String {
        let names = schema.operations()
        guard encoding == .xml else {
            return "{\"ietf-restconf:operations\":{" + names.map { "\"\($0)\":[null]" }.joined(separator: ",") + "}}"
        }
        let elements = names.map { name in
            let parts = name.split(separator: ":").map(String.init)
            return "<\(parts[1]) xmlns=\"\(XMLText.escape(schema.namespace(of: parts[0]) ?? ""))\"/>"
        }
        return "<operations xmlns=\"urn:ietf:params:xml:ns:yang:ietf-restconf\">\(elements.joined())</operations>"
    }

    /// - Parameter name: `name` or `name@revision`.
    func text(of name: String) -> String? {
        let parts = name.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let module =
            parts.count > 1
            ? ly_ctx_get_module(schema.context, parts[0], parts[1])
            : schema.implementedModule(parts[0]) ?? ly_ctx_get_module_latest(schema.context, parts[0])
        guard let module else { return nil }
        var text: UnsafeMutablePointer<CChar>?
        let isPrinted = try? schema.locked { lys_print_mem(&text, module, LYS_OUT_YANG, 0) == LY_SUCCESS }
        defer { free(text) }
        return isPrinted == true ? text.map { String(cString: $0) } : nil
    }
}
