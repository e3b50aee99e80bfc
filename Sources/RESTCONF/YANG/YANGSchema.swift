// YANG for the rest of the target: everything that touches libyang lies in this folder and in ../Datastore.
//
//   YANGSchema     the modules: one libyang context and one lock
//   ResourcePath   a place in the schema, with list keys: api-path in, instance identifier out
//   DataTree       an owned tree of data: parsed, printed, copied, merged, validated
//   TreeFilter     what of a tree a GET shows (content, depth, fields)
//   ListIndependence   which list entries may be checked without their siblings
//
// libyang keeps errors per context and per thread. So every call that may fail, and the reading of its errors, happens
// inside `locked`, which is synchronous: no await can change the thread between them. Trees are read inside the lock too.
// The context is complete after `init` and never changed again.
//
// Sources: RFC 7950 (YANG 1.1), RFC 7951 (JSON), RFC 8525 (YANG library), libyang 2.1.

import CYang
import Foundation

typealias SchemaNode = UnsafePointer<lysc_node>
typealias DataNode = UnsafeMutablePointer<lyd_node>

/// The YANG modules that a server implements.
public final class YANGSchema: Sendable {
    nonisolated(unsafe) let context: OpaquePointer
    private let lock = NSLock()
    /// Keyed lists whose entries can be checked one by one.
    nonisolated(unsafe) private(set) var independentLists: Set<SchemaNode> = []
    /// Changes with the set of modules (RFC 8525, leaf content-id).
    public let contentID: String

    /// Where an installed system has the modules of yang/; programs have a key in their configuration for another place.
    public static let installedFolder = "/usr/share/sdqkd/yang"

    /// Reads the modules.
    /// - Parameters:
    ///   - folders: where `name.yang` and `name@revision.yang` files lie.
    ///   - modules: what is implemented, with all features: `name` or `name@revision`. What they import is found in the
    ///     folders, or is one of libyang's own (ietf-yang-types, ietf-inet-types, ietf-yang-library and what that needs).
    /// - Throws: `operation-failed` with libyang's words, and the module it is about.
    public init(folders: [String], modules: [String]) throws(RESTCONFError) {
        _ = Self.quiet
        var made: OpaquePointer?
        guard ly_ctx_new(nil, UInt16(LY_CTX_DISABLE_SEARCHDIR_CWD), &made) == LY_SUCCESS, let made else {
            throw RESTCONFError(.application, .operationFailed, "libyang cannot be used")
        }
        context = made
        contentID = Self.checksum(modules.joined(separator: "\n"))
        // All properties have their values: if this throws, deinit runs and destroys the context.
        try Self.load(folders: folders, modules: modules, into: made)
        independentLists = ListIndependence(context: made).lists
        ly_err_clean(made, nil)
    }

    deinit { ly_ctx_destroy(context) }

    /// libyang says nothing by itself: errors are kept, in full, and asked for.
    private static let quiet: Void = {
        ly_log_options(UInt32(LY_LOSTORE))
        ly_log_level(LY_LLERR)
    }()

    private static func load(folders: [String], modules: [String], into context: OpaquePointer) throws(RESTCONFError) {
        for folder in folders {
            let result = ly_ctx_set_searchdir(context, folder)
            guard result == LY_SUCCESS || result == LY_EEXIST else {
                throw RESTCONFError(.application, .operationFailed, "the folder of YANG modules \(folder) cannot be read")
            }
        }
        for module in modules {
            let parts = module.split(separator: "@", maxSplits: 1).map(String.init)
            guard let name = parts.first else { continue }
            let all = strdup("*")
            defer { free(all) }
            var features: [UnsafePointer<CChar>?] = [UnsafePointer(all), nil]
            guard ly_ctx_load_module(context, name, parts.count > 1 ? parts[1] : nil, &features) != nil else {
                let why = libyangError(context, "it was not found in \(folders.joined(separator: ", "))").message
                throw RESTCONFError(.application, .operationFailed, "the YANG module \(module) cannot be used: \(why)")
            }
        }
    }

    /// Runs `body` with libyang to itself. Not re-entrant.
    func locked<R>(_ body: () throws(RESTCONFError) -> R) throws(RESTCONFError) -> R {
        lock.lock()
        defer {
            if ly_err_first(context) != nil { ly_err_clean(context, nil) }
            lock.unlock()
        }
        return try body()
    }

    /// FNV-1a, 64 bits, as hexadecimal digits.
    static func checksum(_ text: String) -> String { checksum(bytes: text.utf8) }

    static func checksum(bytes: some Sequence<UInt8>) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return String(hash, radix: 16)
    }
}

// MARK: - What it consists of

extension YANGSchema {
    /// One module of the schema.
    public struct Module: Sendable, Hashable {
        public var name: String
        public var revision: String?
        public var namespace: String
        public var implemented: Bool
    }

    public func modules() -> [Module] {
        var index: UInt32 = 0
        var found: [Module] = []
        while let module = ly_ctx_get_module_iter(context, &index) {
            found.append(
                Module(
                    name: String(cString: module.pointee.name), revision: module.pointee.revision.map { String(cString: $0) },
                    namespace: String(cString: module.pointee.ns), implemented: module.pointee.implemented != 0))
        }
        return found
    }

    /// All operations as `module:rpc`, for the operations resource (RFC 8040, section 3.3.2).
    public func operations() -> [String] {
        eachImplemented { module in
            var names: [String] = []
            var rpc = UnsafeRawPointer(module.pointee.compiled?.pointee.rpcs)
            while let node = rpc?.assumingMemoryBound(to: lysc_node.self) {
                names.append(node.qualifiedName)
                rpc = UnsafeRawPointer(node.pointee.next)
            }
            return names
        }
    }

    /// All top-level notifications as `module:name`.
    public func notifications() -> [String] {
        eachImplemented { module in
            var names: [String] = []
            var notification = UnsafeRawPointer(module.pointee.compiled?.pointee.notifs)
            while let node = notification?.assumingMemoryBound(to: lysc_node.self) {
                names.append(node.qualifiedName)
                notification = UnsafeRawPointer(node.pointee.next)
            }
            return names
        }
    }

    /// The namespace of a module that is implemented.
    public func namespace(of module: String) -> String? { implementedModule(module).map { String(cString: $0.pointee.ns) } }

    /// The revision of ietf-yang-library (RFC 8040, section 3.3.3).
    public var yangLibraryVersion: String {
        ly_ctx_get_module_implemented(context, "ietf-yang-library")?.pointee.revision.map { String(cString: $0) } ?? ""
    }

    private func eachImplemented(_ body: (UnsafeMutablePointer<lys_module>) -> [String]) -> [String] {
        var index: UInt32 = 0
        var found: [String] = []
        while let module = ly_ctx_get_module_iter(context, &index) {
            guard module.pointee.implemented != 0 else { continue }
            found += body(module)
        }
        return found
    }

    func implementedModule(_ name: String) -> UnsafeMutablePointer<lys_module>? {
        ly_ctx_get_module_implemented(context, name)
    }

    /// The YANG library (RFC 8525) of this schema, as state data.
    /// - Parameter url: below which a server has the modules' texts (RFC 8040, section 3.7): `url/name@revision`.
    func yangLibrary(textsAt url: String? = nil) throws(RESTCONFError) -> DataTree {
        var root: DataNode?
        guard cyang_yang_library(context, &root, contentID) == LY_SUCCESS else {
            throw libyangError(context, "the YANG library cannot be written")
        }
        let tree = DataTree(schema: self, first: root)
        for node in tree.roots { try locate(node, url) }
        return tree
    }

    /// libyang names files of this machine, which are nobody's business and can be read by nobody.
    private func locate(_ node: DataNode, _ url: String?) throws(RESTCONFError) {
        var name: String?
        var revision: String?
        var old: [DataNode] = []
        for child in Array(node.children) {
            switch child.schema.name {
            case "location",
                "schema" where child.schema.hasType(LYS_LEAF, LYS_LEAFLIST):
                old.append(child)
            case "name": name = child.value
            case "revision": revision = child.value
            default: try locate(child, url)
            }
        }
        old.forEach { lyd_free_tree($0) }
        // Modules have names and revisions, and so have submodules, whose texts are not served.
        guard let url, let name, let revision, ly_ctx_get_module(context, name, revision.isEmpty ? nil : revision) != nil else { return }
        let isNew = ["module", "import-only-module"].contains(node.schema.name) && node.parentNode?.schema.name == "module-set"
        guard isNew || node.parentNode?.schema.name == "modules-state" else { return }
        let place = "\(url)/\(name)\(revision.isEmpty ? "" : "@" + revision)"
        guard lyd_new_term(node, nil, isNew ? "location" : "schema", place, 0, nil) == LY_SUCCESS else {
            throw libyangError(context, "the YANG library cannot be written")
        }
    }
}

extension SchemaNode {
    var name: String { String(cString: pointee.name) }
    var moduleName: String { String(cString: pointee.module.pointee.name) }
    var qualifiedName: String { "\(moduleName):\(name)" }
    var isConfiguration: Bool { Int32(pointee.flags) & LYS_CONFIG_W != 0 }
    var isKey: Bool { pointee.nodetype == LYS_LEAF && Int32(pointee.flags) & LYS_KEY != 0 }
    var isOrderedByUser: Bool { Int32(pointee.flags) & LYS_ORDBY_USER != 0 }
    var isPresenceContainer: Bool { pointee.nodetype == LYS_CONTAINER && Int32(pointee.flags) & LYS_PRESENCE != 0 }
    /// The nearest ancestor that data have, too: no choice, no case.
    var dataParent: SchemaNode? { lysc_data_node(pointee.parent).map { SchemaNode($0) } }

    /// Key leafs in the order of the key statement.
    var keys: [SchemaNode] {
        var found: [SchemaNode] = []
        var child = lysc_node_child(self)
        while let leaf = child, leaf.isKey {
            found.append(leaf)
            child = UnsafePointer(leaf.pointee.next)
        }
        return found
    }

    func hasType(_ types: Int32...) -> Bool { types.contains(Int32(pointee.nodetype)) }
}
