// GET and HEAD (RFC 8040, sections 4.2 and 4.3), and the state data that they show.

import CYang
import Foundation

extension Datastore {
    /// GET and HEAD; nil is the datastore resource.
    /// - Throws: 404 `invalid-value` where there is no instance; 400 for parameters that cannot be used; 405 for operations. 304 is the
    ///   server's to tell from `etag`, `lastModified` and `hasState`.
    public func read(_ path: ResourcePath?, _ query: ReadQuery, _ encoding: DataEncoding) async throws(RESTCONFError) -> ReadResult {
        if let kind = path?.steps.last?.kind, kind == .rpc || kind == .action {
            throw RESTCONFError(.protocol, .operationNotSupported, "an operation cannot be read", path: path?.xpath, status: 405)
        }
        let (etag, time) = version(of: path)
        let body = try schema.locked { () throws(RESTCONFError) -> (Data, Bool) in
            if let path { try readResource(path, query, encoding) } else { try readDatastore(query, encoding) }
        }
        return ReadResult(body: body.0, etag: etag, lastModified: time, hasState: body.1)
    }

    private func readResource(_ path: ResourcePath, _ query: ReadQuery, _ encoding: DataEncoding) throws(RESTCONFError) -> (Data, Bool) {
        let configured = try running.find(path)
        let reported = try query.content == .config ? nil : state.find(path)
        let target = configured ?? reported
        guard let target else {
            throw RESTCONFError(.application, .invalidValue, "there is no such resource", path: path.xpath, status: 404)
        }
        let filter = try TreeFilter(query, schema: schema, target: target.schema)
        try refuseEmpty(target, query, path)
        let style = try style(query, encoding, for: target)
        if !filter.isNeeded || (query.content == .config && filter.depth == .max && filter.fields == nil) {
            if reported == nil { return (try running.printTarget(target, style), false) }
            if configured == nil || target.schema.hasType(LYS_LEAF, LYS_LEAFLIST) {
                return (try state.printTarget(reported ?? target, style), true)
            }
            let tree = try view(of: path)
            return (try tree.printTarget(try tree.find(path) ?? target, style), true)
        }
        let tree = try compose(path, configured, reported)
        guard let node = try tree.find(path) else { return (Data("{}".utf8), false) }
        filter.apply(below: node, in: tree)
        return (try tree.printTarget(node, style), reported != nil)
    }

    /// A resource of the other kind is not there for content=config and content=nonconfig.
    private func refuseEmpty(_ target: DataNode, _ query: ReadQuery, _ path: ResourcePath) throws(RESTCONFError) {
        let isLeaf = target.schema.hasType(LYS_LEAF, LYS_LEAFLIST)
        let wrong =
            query.content == .config
            ? !target.schema.isConfiguration : query.content == .nonconfig && isLeaf && target.schema.isConfiguration
        if wrong {
            throw RESTCONFError(
                .application, .invalidValue, "there is nothing of this content at the resource", path: path.xpath, status: 404)
        }
    }

    private func readDatastore(_ query: ReadQuery, _ encoding: DataEncoding) throws(RESTCONFError) -> (Data, Bool) {
        let filter = try TreeFilter(query, schema: schema, target: nil)
        let style = try style(query, encoding, for: nil)
        let tree: DataTree
        if query.content == .config {
            tree = filter.depth == .max && filter.fields == nil ? running : try running.copy()
            if tree !== running { filter.applyToDatastore(tree) }
        } else if filter.isNeeded {
            tree = try compose(nil, nil, nil)
            filter.applyToDatastore(tree)
        } else {
            tree = try view(of: nil)
        }
        let text = try tree.printAll(style)
        switch encoding {
        case .json: return (Data("{\"ietf-restconf:data\":".utf8) + text + Data("}".utf8), query.content != .config)
        case .xml:
            let head = "<data xmlns=\"urn:ietf:params:xml:ns:yang:ietf-restconf\">"
            return (Data(head.utf8) + text + Data("</data>".utf8), query.content != .config)
        }
    }

    private func style(_ query: ReadQuery, _ encoding: DataEncoding, for target: DataNode?) throws(RESTCONFError) -> PrintStyle {
        if query.withDefaults == .reportAllTagged, schema.implementedModule("ietf-netconf-with-defaults") == nil {
            throw RESTCONFError(.protocol, .invalidValue, "this server has no with-defaults=report-all-tagged")
        }
        var style = PrintStyle(encoding: encoding, defaults: query.withDefaults)
        // RFC 8040, section 3.5.4: a GET of a leaf that has a default shows the default.
        if let target, target.schema.hasType(LYS_LEAF, LYS_LEAFLIST), query.withDefaults == nil || query.withDefaults == .explicit {
            style.defaults = .reportAll
        }
        return style
    }

    /// Configuration and state together; kept until one of them changes, because what was asked once is asked again.
    private func view(of path: ResourcePath?) throws(RESTCONFError) -> DataTree {
        if let composed, composed.path == path, composed.generation == generation { return composed.tree }
        let tree = try compose(
            path, try path.flatMap { path throws(RESTCONFError) in try running.find(path) },
            try path.flatMap { path throws(RESTCONFError) in try state.find(path) })
        if (path?.steps.count ?? 0) <= 2 { composed = (path, generation, tree) }
        return tree
    }

    /// A tree of the caller's own: below `path` everything, above it only what leads there.
    private func compose(_ path: ResourcePath?, _ configured: DataNode?, _ reported: DataNode?) throws(RESTCONFError) -> DataTree {
        guard path != nil else {
            let tree = try running.copy()
            try tree.merge(state)
            return tree
        }
        let tree = DataTree(schema: schema)
        if let configured { try tree.takeCopy(of: configured) }
        if let reported {
            let other = DataTree(schema: schema)
            try other.takeCopy(of: reported)
            try tree.merge(other)
        }
        return tree
    }

    // MARK: - State

    /// Replaces all state data below the top-level nodes that `json` names.
    ///
    /// Values of configuration nodes may stand in it, too: they overrule the configured ones in answers (not with content=config, and
    /// not in what is kept), and entries of configuration lists that exist without having been configured.
    /// - Throws: what parsing and validation (together with the configuration) say; then nothing was changed.
    public func setState(_ json: String) throws(RESTCONFError) {
        try schema.locked { () throws(RESTCONFError) in
            let new = DataTree(schema: schema)
            try new.parse(Data(json.utf8), .json, state: true)
            let whole = try running.copy()
            try whole.merge(new)
            try whole.validate(configurationOnly: false)
            for root in new.roots {
                if let old = state.counterpart(of: root) { state.remove(old) }
            }
            try state.merge(new)
        }
        generation += 1
    }

    /// Says in the YANG library where a server has the modules' texts (RFC 8040, section 3.7; RFC 8525, leaf-list location).
    func locateModules(at url: String) throws(RESTCONFError) {
        try schema.locked { () throws(RESTCONFError) in
            let new = try schema.yangLibrary(textsAt: url)
            for root in new.roots {
                if let old = state.counterpart(of: root) { state.remove(old) }
            }
            try state.merge(new)
        }
        generation += 1
    }

    /// Replaces the state data of one resource, as setState does for all; nil removes them.
    /// - Parameter json: as GET shows the resource: `{"module:name":...}`.
    public func setState(_ json: String?, at path: ResourcePath) throws(RESTCONFError) {
        try schema.locked { () throws(RESTCONFError) in
            let new = DataTree(schema: schema)
            if let json {
                let parent = try new.build(path.steps.dropLast())
                try new.parse(Data(json.utf8), .json, under: parent, state: true)
                let part = try WorkingTree(of: running, for: path).after
                try part.merge(new)
                try part.validate(configurationOnly: false)
            }
            if let old = try state.find(path) { state.remove(old) }
            try state.merge(new)
        }
        generation += 1
    }
}

extension DataTree {
    /// Prints what a request was about: also a container with nothing in it.
    func printTarget(_ node: DataNode, _ style: PrintStyle) throws(RESTCONFError) -> Data {
        let text = try print(node, style)
        guard text.count <= 2 else { return text }
        var style = style
        style.emptyContainers = true
        return try print(node, style)
    }

    /// Joins a copy of a node of another tree, with copies of what leads to it.
    func takeCopy(of node: DataNode) throws(RESTCONFError) {
        var copy: DataNode?
        guard lyd_dup_single(node, nil, copying | UInt32(LYD_DUP_WITH_PARENTS), &copy) == LY_SUCCESS, var top = copy else {
            throw libyangError(schema.context, "data cannot be copied")
        }
        while let parent = top.parentNode { top = parent }
        try join(top)
    }
}
