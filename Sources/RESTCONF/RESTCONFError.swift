// What a client of a RESTCONF resource is told when something is wrong: the error of RFC 8040, sections 3.9 and 7.

/// Which layer found the error (RFC 8040, section 3.9, leaf error-type).
public enum ErrorType: String, Sendable, Codable, CaseIterable {
    case transport
    case rpc
    case `protocol`
    case application
}

/// The error-tag values of RFC 8040, section 7, with their status codes.
public enum ErrorTag: String, Sendable, Codable, CaseIterable {
    case inUse = "in-use"
    case invalidValue = "invalid-value"
    case tooBig = "too-big"
    case missingAttribute = "missing-attribute"
    case badAttribute = "bad-attribute"
    case unknownAttribute = "unknown-attribute"
    case missingElement = "missing-element"
    case badElement = "bad-element"
    case unknownElement = "unknown-element"
    case unknownNamespace = "unknown-namespace"
    case accessDenied = "access-denied"
    case lockDenied = "lock-denied"
    case resourceDenied = "resource-denied"
    case rollbackFailed = "rollback-failed"
    case dataExists = "data-exists"
    case dataMissing = "data-missing"
    case operationNotSupported = "operation-not-supported"
    case operationFailed = "operation-failed"
    case partialOperation = "partial-operation"
    case malformedMessage = "malformed-message"

    /// The status that goes with the tag where the table of section 7 leaves no choice, and the first one where it does.
    public var status: Int {
        switch self {
        case .inUse, .lockDenied, .resourceDenied, .dataExists, .dataMissing: 409
        case .tooBig: 413
        case .accessDenied: 403
        case .operationNotSupported: 501
        case .operationFailed, .rollbackFailed, .partialOperation: 500
        case .invalidValue, .missingAttribute, .badAttribute, .unknownAttribute, .missingElement, .badElement, .unknownElement,
            .unknownNamespace, .malformedMessage:
            400
        }
    }
}

/// One error of a RESTCONF request, and the status it is answered with.
///
/// The errors of this target are bodies of answers: `path` is an instance identifier as RFC 7951, section 6.11 writes
/// it (`/module:container/list[key='value']`), `message` one lower-case sentence.
public struct RESTCONFError: Error, Sendable, Codable, Equatable, CustomStringConvertible {
    public var type: ErrorType
    public var tag: ErrorTag
    /// The HTTP status; the tag's own unless it was set.
    public var status: Int
    public var path: String?
    public var message: String
    public var appTag: String?

    public init(
        _ type: ErrorType, _ tag: ErrorTag, _ message: String, path: String? = nil, status: Int? = nil, appTag: String? = nil
    ) {
        self.type = type
        self.tag = tag
        self.status = status ?? tag.status
        self.path = path
        self.message = message
        self.appTag = appTag
    }

    public var description: String {
        path.map { "\(message) (\(tag.rawValue), \($0))" } ?? "\(message) (\(tag.rawValue))"
    }
}
