// The datastore of a RESTCONF server (RFC 8040, section 3.4): one unified view of configuration and state.
//
//   running   the configuration, always valid, with defaults marked as such
//   state     what the server's own parts report: config false data, and values that overrule configured ones in answers
//             (a link's status is writable in ETSI's model, and what is shown is what is)
//
// An edit goes: turn -> preconditions -> body parsed -> tried on a copy of what it touches -> validated -> target prepares
// -> target commits -> kept on disk -> put into running. Whatever fails on the way leaves everything as it was; after the
// target's commit that takes a second, reversed change. Edits wait for each other, reads do not wait for edits.

public import Foundation

/// The running configuration of a server and its state data.
public actor Datastore {
    /// Carries out an rpc or action: input and output are JSON objects of what stands inside `input` and `output`.
    public typealias Operation = @Sendable (_ input: String) async throws(RESTCONFError) -> String?

    /// What became of the configuration that was kept on disk.
    public enum Origin: Sendable, Equatable {
        /// Nothing was kept.
        case fresh
        case restored
        /// It could not be used: the initial configuration is in force, the files have these names now.
        case setAside(files: [String], reason: String)
        /// A part was lost: what came before the damage is in force, the damaged journal has this name now.
        case damaged(files: [String], reason: String)
    }

    public nonisolated let schema: YANGSchema
    public nonisolated let origin: Origin

    var running: DataTree
    var state: DataTree
    /// Counts every change of `running` or `state`.
    var generation = 0
    var versions: Versions
    var file: RunningFile
    let target: any ConfigurationTarget
    let now: @Sendable () -> Date
    var operations: [String: Operation] = [:]
    var composed: (path: ResourcePath?, generation: Int, tree: DataTree)?
    var isBusy = false
    var waiting: [CheckedContinuation<Void, Never>] = []

    /// - Parameters:
    ///   - folder: where the running configuration is kept; made if it is not there.
    ///   - initial: the configuration where none was kept, as JSON. It need not be valid yet; edits must make it so.
    ///   - now: the clock.
    /// - Throws: 500 `operation-failed` where the folder cannot be used or written (what is in it stays as it is); what the parser says of `initial`.
    public init(
        schema: YANGSchema, folder: String, initial: String = "{}", target: any ConfigurationTarget,
        now: @escaping @Sendable () -> Date = { Date() }
    ) throws(RESTCONFError) {
        self.schema = schema
        self.target = target
        self.now = now
        var file = try RunningFile(folder: folder)
        let restored = try Restoration(schema: schema, file: &file, initial: initial, now: now())
        self.file = file
        running = restored.tree
        origin = restored.origin
        versions = Versions(epoch: Self.epoch(), start: restored.time)
        state = try schema.locked { () throws(RESTCONFError) -> DataTree in try schema.yangLibrary() }
    }

    private static func epoch() -> String {
        String(UInt64(Date().timeIntervalSince1970 * 1000), radix: 36) + String(UInt16.random(in: 0...UInt16.max), radix: 36)
    }

    /// The whole running configuration as JSON, without defaults that were not set.
    public func configuration() throws(RESTCONFError) -> String {
        String(decoding: try schema.locked { () throws(RESTCONFError) -> Data in try running.printAll(PrintStyle()) }, as: UTF8.self)
    }

    /// The same, with the tag that it has at this moment.
    public func taggedConfiguration() throws(RESTCONFError) -> (text: String, etag: String) {
        (try configuration(), version(of: nil).etag)
    }

    /// Tag and time of a resource's configuration.
    public func version(of path: ResourcePath?) -> (etag: String, lastModified: Date) {
        let version = versions.version(of: path)
        return (versions.tag(version), version.time)
    }

    // MARK: - Turns

    /// One edit at a time, in the order of arrival.
    func takeTurn() async {
        guard isBusy else {
            isBusy = true
            return
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    func endTurn() {
        guard !waiting.isEmpty else {
            isBusy = false
            return
        }
        waiting.removeFirst().resume()
    }

    // MARK: - Operations

    /// Says who carries out `module:rpc`, or the action with the schema path `/module:a/b/action`.
    public func handle(_ operation: String, by handler: @escaping Operation) {
        operations[operation] = handler
    }

    /// POST on an operation resource (RFC 8040, section 4.4.2): the body of the answer, nil for 204.
    public func invoke(_ path: ResourcePath, input: Data?, encoding: DataEncoding) async throws(RESTCONFError) -> Data? {
        guard let last = path.steps.last, last.kind == .rpc || last.kind == .action else {
            throw RESTCONFError(.protocol, .operationNotSupported, "this is no operation", path: path.xpath, status: 405)
        }
        if let above = path.parent {
            _ = try await read(above, ReadQuery(depth: 1), .json)
        }
        let message = OperationMessage(schema: schema, path: path)
        let input = try message.input(input, encoding)
        let schemaPath = path.steps.count == 1 ? "\(last.module):\(last.name)" : path.withoutKeys
        guard let handler = operations[schemaPath] else {
            throw RESTCONFError(.application, .operationNotSupported, "nothing carries out '\(schemaPath)' here")
        }
        return try message.output(try await handler(input), encoding)
    }
}

extension ResourcePath {
    /// The schema path: no keys, no values.
    var withoutKeys: String {
        ResourcePath(
            steps: steps.map {
                var step = $0
                (step.keys, step.value) = ([], nil)
                return step
            }
        ).xpath
    }
}
