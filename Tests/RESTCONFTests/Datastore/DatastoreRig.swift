import Foundation
import RESTCONF
import Synchronization

/// A datastore with a scripted target, and short words for requests.
final class DatastoreRig: Sendable {
    let folder: YANGRig.Folder
    let schema: YANGSchema
    let target: ScriptedTarget
    let store: Datastore
    let clock: ManualTime

    init(
        _ schema: YANGSchema, initial: String = "{}", folder: YANGRig.Folder? = nil, target: ScriptedTarget = ScriptedTarget()
    ) throws {
        self.folder = try folder ?? YANGRig.Folder()
        self.schema = schema
        self.target = target
        let clock = ManualTime()
        self.clock = clock
        store = try Datastore(schema: schema, folder: self.folder.path, initial: initial, target: target, now: { clock.now })
    }

    func path(_ text: String) throws -> ResourcePath { try ResourcePath(parsing: text, schema: schema) }

    @discardableResult func edit(
        _ kind: EditKind, _ path: String?, _ body: String? = nil, insert: Edit.Insert? = nil, point: String? = nil,
        conditions: Preconditions = Preconditions(), encoding: DataEncoding = .json
    ) async throws -> EditResult {
        try await store.edit(
            Edit(
                kind, try path.map { try self.path($0) }, body: body.map { Data($0.utf8) }, encoding: encoding, insert: insert,
                point: point, conditions: conditions))
    }

    func get(_ path: String?, _ query: ReadQuery = ReadQuery(), _ encoding: DataEncoding = .json) async throws -> String {
        let result = try await store.read(try path.map { try self.path($0) }, query, encoding)
        return String(decoding: result.body, as: UTF8.self)
    }
}

/// Notes what it is asked, and refuses when told to.
final class ScriptedTarget: ConfigurationTarget {
    struct Script {
        var calls: [String] = []
        var changes: [ConfigurationChange] = []
        var refusePrepare: [String?] = []
        var refuseCommit: [String?] = []
    }

    let script = Mutex(Script())

    func prepare(_ change: ConfigurationChange) async throws(RESTCONFError) {
        let refusal = script.withLock { script -> String? in
            script.calls.append("prepare")
            script.changes.append(change)
            return script.refusePrepare.isEmpty ? nil : script.refusePrepare.removeFirst()
        }
        if let refusal { throw RESTCONFError(.application, .operationFailed, refusal) }
    }

    func commit() async throws(RESTCONFError) {
        let refusal = script.withLock { script -> String? in
            script.calls.append("commit")
            return script.refuseCommit.isEmpty ? nil : script.refuseCommit.removeFirst()
        }
        if let refusal { throw RESTCONFError(.application, .operationFailed, refusal) }
    }

    func abort() async { script.withLock { $0.calls.append("abort") } }

    var calls: [String] { script.withLock { $0.calls } }
    var changes: [ConfigurationChange] { script.withLock { $0.changes } }
}

final class ManualTime: Sendable {
    private let time = Mutex(Date(timeIntervalSince1970: 1_790_000_000))
    var now: Date { time.withLock { $0 } }
    func advance(_ seconds: TimeInterval) { time.withLock { $0 += seconds } }
}
