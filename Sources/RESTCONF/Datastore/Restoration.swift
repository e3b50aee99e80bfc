// The configuration at the start: from disk, or the initial one.

import Foundation

/// Reads what was kept; what cannot be used is put aside and told, never a reason not to start. That the disk takes nothing is one:
/// then nothing on it is touched.
struct Restoration {
    let tree: DataTree
    let origin: Datastore.Origin
    let time: Date

    init(schema: YANGSchema, file: inout RunningFile, initial: String, now: Date) throws(RESTCONFError) {
        guard let contents = try file.load() else {
            self = try Restoration(initial: initial, schema: schema, file: &file, origin: .fresh, now: now)
            return
        }
        switch Self.replayed(contents, schema) {
        case .success(let tree): self = try Restoration(tree, contents, file: &file, now: now)
        case .failure(let error):
            let origin = Datastore.Origin.setAside(files: file.namesAside(of: .both, at: now), reason: error.description)
            self = try Restoration(initial: initial, schema: schema, file: &file, origin: origin, now: now)
        }
    }

    private init(_ tree: DataTree, _ contents: RunningFile.Contents, file: inout RunningFile, now: Date) throws(RESTCONFError) {
        guard let problem = contents.problem else {
            if !contents.changes.isEmpty { try file.write(try Self.text(tree)) }
            self.init(tree: tree, origin: .restored, time: contents.time)
            return
        }
        let origin = Datastore.Origin.damaged(files: file.namesAside(of: .journal, at: now), reason: problem)
        try file.write(try Self.text(tree), settingAside: .journal, at: now)
        self.init(tree: tree, origin: origin, time: contents.time)
    }

    private init(tree: DataTree, origin: Datastore.Origin, time: Date) {
        self.tree = tree
        self.origin = origin
        self.time = time
    }

    private init(
        initial: String, schema: YANGSchema, file: inout RunningFile, origin: Datastore.Origin, now: Date
    ) throws(RESTCONFError) {
        let tree = DataTree(schema: schema)
        try schema.locked { () throws(RESTCONFError) in
            try tree.parse(Data(initial.utf8), .json)
            // An initial configuration may lack what is mandatory: then it has no defaults either, until an edit mends it.
            do throws(RESTCONFError) { try tree.validate(configurationOnly: true) } catch {
                guard error.tag == .dataMissing else { throw error }
            }
        }
        if case .setAside = origin {
            try file.write(try Self.text(tree), settingAside: .both, at: now)
        } else {
            try file.write(try Self.text(tree))
        }
        self.init(tree: tree, origin: origin, time: now)
    }

    private static func text(_ tree: DataTree) throws(RESTCONFError) -> Data {
        try tree.schema.locked { () throws(RESTCONFError) -> Data in try tree.printAll(PrintStyle()) }
    }

    private static func replayed(_ contents: RunningFile.Contents, _ schema: YANGSchema) -> Result<DataTree, RESTCONFError> {
        do throws(RESTCONFError) { return .success(try tree(contents, schema)) } catch { return .failure(error) }
    }

    private static func tree(_ contents: RunningFile.Contents, _ schema: YANGSchema) throws(RESTCONFError) -> DataTree {
        let tree = DataTree(schema: schema)
        var paths: [ResourcePath] = []
        for change in contents.changes { paths.append(try ResourcePath(parsing: change.path, schema: schema)) }
        try schema.locked { () throws(RESTCONFError) in
            guard !contents.snapshot.isEmpty else { throw RESTCONFError(.application, .malformedMessage, "the file is empty") }
            try tree.parse(contents.snapshot, .json)
            for (path, change) in zip(paths, contents.changes) { try replay(change, at: path, in: tree) }
            do throws(RESTCONFError) { try tree.validate(configurationOnly: true) } catch {
                guard error.tag == .dataMissing, tree.isEmpty else { throw error }
            }
        }
        return tree
    }

    private static func replay(_ change: RunningFile.Change, at path: ResourcePath, in tree: DataTree) throws(RESTCONFError) {
        let old = try tree.find(path)
        guard let data = change.data else {
            if let old { tree.remove(old) }
            return
        }
        let single = DataTree(schema: tree.schema)
        let parent = try single.build(path.steps.dropLast())
        try single.parse(Data(data.utf8), .json, under: parent)
        guard let new = try single.find(path) else {
            throw RESTCONFError(.application, .malformedMessage, "a line of the journal is not about the entry that it names")
        }
        if let old { try tree.replaceContents(of: old, by: new) } else { try tree.merge(single) }
    }
}
