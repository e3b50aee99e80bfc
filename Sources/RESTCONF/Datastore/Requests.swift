// What is asked of the datastore, and what it answers.

public import Foundation

/// The query parameters of a GET (RFC 8040, section 4.8).
public struct ReadQuery: Sendable, Hashable {
    public enum Content: String, Sendable { case all, config, nonconfig }

    /// RFC 6243, as the with-defaults parameter names them (section 4.8.9).
    public enum Defaults: String, Sendable, CaseIterable {
        case reportAll = "report-all"
        case trim
        case explicit
        case reportAllTagged = "report-all-tagged"
    }

    public var content: Content
    /// Nil is unbounded; 1 to 65535.
    public var depth: Int?
    /// The fields expression as it was sent, percent-decoded.
    public var fields: String?
    public var withDefaults: Defaults?

    public init(content: Content = .all, depth: Int? = nil, fields: String? = nil, withDefaults: Defaults? = nil) {
        self.content = content
        self.depth = depth
        self.fields = fields
        self.withDefaults = withDefaults
    }
}

public struct ReadResult: Sendable {
    public var body: Data
    /// Without quotes. Like the time, that of the configuration in the resource (RFC 8040, sections 3.5.1 and 3.5.2).
    public var etag: String
    public var lastModified: Date
    /// The body shows state data, which change without the tag: 304 would be wrong.
    public var hasState: Bool
}

public enum EditKind: String, Sendable {
    /// POST, RFC 8040 section 4.4.1: `path` is the parent (nil: the datastore).
    case create
    /// PUT, section 4.5.
    case replace
    /// Plain PATCH, section 4.6.1.
    case merge
    /// DELETE, section 4.7.
    case remove
}

/// What must hold for a request to be carried out (RFC 8040, section 3.4.1; RFC 9110, section 13.1). Entity tags without quotes.
public struct Preconditions: Sendable, Hashable {
    /// `["*"]` is any.
    public var ifMatch: [String]?
    public var ifNoneMatch: [String]?
    public var ifModifiedSince: Date?
    public var ifUnmodifiedSince: Date?

    public init(ifMatch: [String]? = nil, ifNoneMatch: [String]? = nil, ifModifiedSince: Date? = nil, ifUnmodifiedSince: Date? = nil) {
        self.ifMatch = ifMatch
        self.ifNoneMatch = ifNoneMatch
        self.ifModifiedSince = ifModifiedSince
        self.ifUnmodifiedSince = ifUnmodifiedSince
    }
}

public struct Edit: Sendable {
    /// RFC 8040, section 4.8.5.
    public enum Insert: String, Sendable { case first, last, before, after }

    public var kind: EditKind
    /// Nil is the datastore itself (POST of a top-level node, PUT and PATCH of everything).
    public var path: ResourcePath?
    public var body: Data?
    public var encoding: DataEncoding
    public var insert: Insert?
    /// The point parameter, percent-decoded once: an api-path beginning with a slash (section 4.8.6).
    public var point: String?
    public var conditions: Preconditions

    public init(
        _ kind: EditKind, _ path: ResourcePath?, body: Data? = nil, encoding: DataEncoding = .json, insert: Insert? = nil,
        point: String? = nil, conditions: Preconditions = Preconditions()
    ) {
        self.kind = kind
        self.path = path
        self.body = body
        self.encoding = encoding
        self.insert = insert
        self.point = point
        self.conditions = conditions
    }
}

public struct EditResult: Sendable {
    /// PUT: the resource did not exist (201 rather than 204).
    public var created: Bool
    /// The api-path of what was created, for the Location header.
    public var location: String?
    public var etag: String
    public var lastModified: Date
}

/// A validated change of the configuration, before it is in force.
public struct ConfigurationChange: Sendable {
    /// What is and what shall be: JSON of RFC 7951, without defaults that were not set.
    ///
    /// If `isWhole`, the whole configuration. If not, all of it but the entries of large lists that do not change: an entry
    /// that stands in neither is there as before (`Datastore.configuration()` has everything).
    public var before: String
    public var after: String
    public var isWhole: Bool
    /// Instance identifiers of the topmost nodes that were created, changed or removed.
    public var changedPaths: [String]

    public init(before: String, after: String, isWhole: Bool, changedPaths: [String]) {
        self.before = before
        self.after = after
        self.isWhole = isWhole
        self.changedPaths = changedPaths
    }

    /// The way back.
    public var reversed: ConfigurationChange {
        ConfigurationChange(before: after, after: before, isWhole: isWhole, changedPaths: changedPaths)
    }
}

/// What a configuration is applied to, in two phases.
///
/// `prepare` says whether the change can be applied and reserves what it needs; then either `commit` or `abort` follows.
/// A `commit` that throws leaves it to the datastore to go back: it prepares and commits the reverse change.
public protocol ConfigurationTarget: Sendable {
    func prepare(_ change: ConfigurationChange) async throws(RESTCONFError)
    func commit() async throws(RESTCONFError)
    func abort() async
}
