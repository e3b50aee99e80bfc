// POST, PUT, PATCH and DELETE (RFC 8040, sections 4.4 to 4.7): each a transaction.

import CYang
import Foundation

extension Datastore {
    /// Carries out one edit, wholly or not at all.
    /// - Throws: 404 or 409 where something is missing or there already, 412 for preconditions, 400 for bodies and parameters, what
    ///   validation and the target say, 500 `operation-failed` where it was undone, 500 `rollback-failed` where undoing failed.
    public func edit(_ edit: Edit) async throws(RESTCONFError) -> EditResult {
        try refuse(edit)
        await takeTurn()
        defer { endTurn() }
        let path = edit.path
        try check(edit.conditions, path)
        let application = try EditApplication(edit, schema: schema)
        let subject = application.subject
        let draft = try draft(subject) { tree throws(RESTCONFError) in try application.apply(to: &tree) }
        try await put(draft, asking: target)
        let version = version(of: edit.kind == .create ? subject : edit.kind == .remove ? path?.parent : path)
        return EditResult(
            created: draft.created, location: draft.created ? subject?.apiPath() : nil, etag: version.etag,
            lastModified: version.lastModified)
    }

    /// Merges configuration of the server's own making (what appeared by hot plug), without asking the target.
    /// - Parameter etag: nothing is merged where the whole configuration has another tag by now.
    /// - Returns: the new tag; nil where nothing was merged.
    @discardableResult
    public func apply(_ json: String, ifMatch etag: String? = nil) async throws(RESTCONFError) -> String? {
        await takeTurn()
        defer { endTurn() }
        if let etag, etag != version(of: nil).etag { return nil }
        let draft = try draft(nil) { tree throws(RESTCONFError) in
            let new = DataTree(schema: schema)
            try new.parse(Data(json.utf8), .json)
            try tree.after.merge(new)
            return false
        }
        try await put(draft, asking: nil)
        return version(of: nil).etag
    }

    /// As apply, for one resource: replaces it, or removes it where `json` is nil.
    public func apply(_ json: String?, at path: ResourcePath) async throws(RESTCONFError) {
        await takeTurn()
        defer { endTurn() }
        let edit = Edit(json == nil ? .remove : .replace, path, body: json.map { Data($0.utf8) })
        let application = try EditApplication(edit, schema: schema)
        let draft = try draft(path) { tree throws(RESTCONFError) in
            if json == nil, try tree.after.find(path) == nil { return false }
            return try application.apply(to: &tree)
        }
        try await put(draft, asking: nil)
    }

    // MARK: - Before

    private func refuse(_ edit: Edit) throws(RESTCONFError) {
        guard let last = edit.path?.steps.last else {
            if edit.kind == .remove {
                throw RESTCONFError(.protocol, .operationNotSupported, "the datastore cannot be deleted", status: 405)
            }
            return
        }
        if last.kind == .rpc || last.kind == .action || !last.isConfiguration {
            throw RESTCONFError(.protocol, .operationNotSupported, "this resource cannot be edited", path: edit.path?.xpath, status: 405)
        }
        if edit.kind == .create, last.kind != .container, last.kind != .list {
            throw RESTCONFError(
                .protocol, .operationNotSupported, "nothing can be created below a leaf", path: edit.path?.xpath, status: 405)
        }
    }

    /// RFC 9110, section 13.1; entity tags are compared strongly.
    private func check(_ conditions: Preconditions, _ path: ResourcePath?) throws(RESTCONFError) {
        guard conditions != Preconditions() else { return }
        let node = try schema.locked { () throws(RESTCONFError) -> DataNode? in
            try path.flatMap { path throws(RESTCONFError) in try running.find(path) }
        }
        let exists = path == nil || node != nil
        let (etag, time) = version(of: path)
        let holds = [
            conditions.ifMatch.map { exists && ($0 == ["*"] || $0.contains(etag)) } ?? true,
            conditions.ifNoneMatch.map { !exists || ($0 != ["*"] && !$0.contains(etag)) } ?? true,
            conditions.ifUnmodifiedSince.map { exists && floor(time.timeIntervalSince1970) <= $0.timeIntervalSince1970 } ?? true,
        ]
        guard holds.allSatisfy({ $0 }) else {
            throw RESTCONFError(
                .protocol, .operationFailed, "the resource is not what the request's conditions say", path: path?.xpath, status: 412)
        }
    }

    // MARK: - The transaction

    /// An edit that was tried and found valid.
    struct Draft {
        var tree: WorkingTree
        var differences: Differences
        var created: Bool
    }

    private func draft(
        _ subject: ResourcePath?, _ apply: (inout WorkingTree) throws(RESTCONFError) -> Bool
    ) throws(RESTCONFError) -> Draft {
        try schema.locked { () throws(RESTCONFError) -> Draft in
            var tree = try WorkingTree(of: running, for: subject)
            let created = try apply(&tree)
            try tree.after.validate(configurationOnly: true)
            return Draft(tree: tree, differences: try Differences(from: tree.before, to: tree.after), created: created)
        }
    }

    private func put(_ draft: Draft, asking target: (any ConfigurationTarget)?) async throws(RESTCONFError) {
        // Nothing to tell and nothing to keep; but an explicit value may have taken the place of an equal default.
        guard !draft.differences.changes.isEmpty else { return try install(draft) }
        let change = try describe(draft)
        if let target {
            try await target.prepare(change)
            do throws(RESTCONFError) { try await target.commit() } catch {
                try await goBack(change, target, because: error)
            }
        }
        do throws(RESTCONFError) { try keep(draft, change) } catch {
            guard let target else { throw error }
            try await goBack(change, target, because: error)
        }
        try install(draft)
    }

    private func describe(_ draft: Draft) throws(RESTCONFError) -> ConfigurationChange {
        let (before, after) = try schema.locked { () throws(RESTCONFError) -> (Data, Data) in
            (try draft.tree.before.printAll(PrintStyle()), try draft.tree.after.printAll(PrintStyle()))
        }
        return ConfigurationChange(
            before: String(decoding: before, as: UTF8.self), after: String(decoding: after, as: UTF8.self),
            isWhole: draft.tree.scope == nil, changedPaths: draft.differences.changes.map(\.path))
    }

    /// Applies the reverse of what was applied, wholly or in part, and tells why.
    private func goBack(
        _ change: ConfigurationChange, _ target: any ConfigurationTarget, because cause: RESTCONFError
    ) async throws(RESTCONFError) {
        do throws(RESTCONFError) {
            try await target.prepare(change.reversed)
            try await target.commit()
        } catch {
            let message = "the change failed (\(cause.message)), and undoing it failed too: \(error.message)"
            throw RESTCONFError(.application, .rollbackFailed, message, path: cause.path, appTag: cause.appTag)
        }
        var error = cause
        error.message = "the change was undone: \(cause.message)"
        throw error
    }

    /// On disk, before it counts.
    private func keep(_ draft: Draft, _ change: ConfigurationChange) throws(RESTCONFError) {
        guard let scope = draft.tree.scope else { return try file.write(Data(change.after.utf8)) }
        let entry = try schema.locked { () throws(RESTCONFError) -> Data? in
            guard let node = try draft.tree.after.find(scope) else { return nil }
            return try draft.tree.after.print(node, PrintStyle())
        }
        try file.append(RunningFile.Change(path: scope.apiPath(), data: entry.map { String(decoding: $0, as: UTF8.self) }))
    }

    private func install(_ draft: Draft) throws(RESTCONFError) {
        try schema.locked { () throws(RESTCONFError) in
            try draft.tree.install(in: &running)
            draft.differences.removeStale(from: state)
            try dropImpossibleState(draft)
        }
        generation += 1
        if !draft.differences.changes.isEmpty { versions.note(draft.differences.changes, at: now()) }
        if file.isJournalLong {
            // What is lost if this fails is only time at the next start: the journal is complete.
            let text = try? schema.locked { () throws(RESTCONFError) -> Data in try running.printAll(PrintStyle()) }
            if let text { try? file.write(text) }
        }
    }

    /// State data of an entry that its new configuration forbids go, until they are reported anew.
    private func dropImpossibleState(_ draft: Draft) throws(RESTCONFError) {
        guard let scope = draft.tree.scope, let reported = try state.find(scope), try running.find(scope) != nil else { return }
        let part = try running.copy(keeping: scope)
        let other = DataTree(schema: schema)
        try other.takeCopy(of: reported)
        try part.merge(other)
        do throws(RESTCONFError) { try part.validate(configurationOnly: false) } catch { state.remove(reported) }
    }
}
