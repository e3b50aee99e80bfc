public import Foundation

/// The running configuration of a server and its state data.
public actor Datastore {
    /// Carries out an rpc or action: input and output are JSON objects of what stands inside `input` and `output`.
    public typealias Operation = @Sendable (_ input: String) async throws(RESTCONFError) -> String?

    public nonisolated let schema: YANGSchema

    /// - Parameters:
    ///   - folder: where the running configuration is kept.
    ///   - now: the clock.
    public init(
        schema: YANGSchema, folder: String, target: any ConfigurationTarget, now: @escaping @Sendable () -> Date = { Date() }
    ) throws(RESTCONFError) {
        self.schema = schema
        throw RESTCONFError(.application, .operationNotSupported, "the datastore is not there yet")
    }

    /// GET and HEAD; nil is the datastore resource.
    /// - Throws: 404 `invalid-value` where there is no instance; 304 is the server's to tell from `etag` and `lastModified`.
    public func read(_ path: ResourcePath?, _ query: ReadQuery, _ encoding: DataEncoding) async throws(RESTCONFError) -> ReadResult {
        throw RESTCONFError(.application, .operationNotSupported, "the datastore is not there yet")
    }

    public func edit(_ edit: Edit) async throws(RESTCONFError) -> EditResult {
        throw RESTCONFError(.application, .operationNotSupported, "the datastore is not there yet")
    }

    /// Replaces all state data below the top-level nodes that `json` names.
    public func setState(_ json: String) throws(RESTCONFError) {
        throw RESTCONFError(.application, .operationNotSupported, "the datastore is not there yet")
    }

    /// The whole running configuration as JSON.
    public func configuration() throws(RESTCONFError) -> String { "{}" }

    /// Merges configuration of the server's own making (what appeared by hot plug), without asking the target.
    public func apply(_ json: String) async throws(RESTCONFError) {
        throw RESTCONFError(.application, .operationNotSupported, "the datastore is not there yet")
    }

    /// Says who carries out `module:rpc`, or the action with the schema path `/module:a/b/action`.
    public func handle(_ operation: String, by handler: @escaping Operation) {}

    /// POST on an operation resource (RFC 8040, section 4.4.2): the body of the answer, nil for 204.
    public func invoke(_ path: ResourcePath, input: Data?, encoding: DataEncoding) async throws(RESTCONFError) -> Data? {
        throw RESTCONFError(.application, .operationNotSupported, "operations are not there yet")
    }
}
