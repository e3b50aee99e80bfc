// One request, as the resources see it.

import Foundation
import HTTPTypes
import HummingbirdCore
import NIOCore

/// A refusal with more than its error says: a status that HTTP knows and RFC 8040's table does not, header fields, an end.
struct Refusal: Error {
    var error: RESTCONFError
    var headers = HTTPFields()
    /// The connection is closed behind the answer.
    var closes = false
}

struct Exchange {
    let request: Request
    let target: RequestTarget
    /// Of the client's certificate.
    let client: String
    let role: AccessRole
    let channel: any Channel
    let limits: RESTCONFLimits
    /// See `Compatibility`.
    let isLenient: Bool

    var method: HTTPRequest.Method { request.method }
    var isRead: Bool { method == .get || method == .head }

    /// - Throws: 405 with `Allow`. OPTIONS is always allowed.
    func only(_ methods: [HTTPRequest.Method]) throws {
        guard method == .options || methods.contains(method) else { throw Self.notAllowed(method, methods) }
    }

    static func notAllowed(_ method: HTTPRequest.Method, _ methods: [HTTPRequest.Method]) -> Refusal {
        let known: [HTTPRequest.Method] = [.get, .head, .options, .post, .put, .patch, .delete]
        let error = RESTCONFError(
            .protocol, .operationNotSupported, "\(method.rawValue.prefix(20)) is not for this resource",
            status: known.contains(method) ? 405 : 501)
        return Refusal(error: error, headers: [.allow: allow(methods)])
    }

    static func allow(_ methods: [HTTPRequest.Method]) -> String { (methods + [.options]).map(\.rawValue).joined(separator: ", ") }

    // MARK: What the client wants

    func accept() throws(RESTCONFError) -> Accept { try Accept(request.headers[values: .accept].joined(separator: ",")) }

    /// The encoding and the media type of the answer.
    /// - Throws: 406.
    func wanted() throws -> (encoding: DataEncoding, type: String, isUnqualified: Bool) {
        let accept = try accept()
        let encoding = try DataMedia.wanted(accept, plain: isLenient)
        guard isLenient, accept.choose([encoding.mediaType, DataMedia.bare]) == nil || accept.isAnything else {
            return (encoding, encoding.mediaType, false)
        }
        return (encoding, "application/\(encoding.rawValue)", accept.isAnything && encoding == .json)
    }

    func conditions() -> Preconditions {
        Preconditions(
            ifMatch: tags(.ifMatch, weak: false), ifNoneMatch: tags(.ifNoneMatch, weak: true),
            ifModifiedSince: request.headers[.ifModifiedSince].flatMap(HTTPDate.parse),
            ifUnmodifiedSince: request.headers[.ifUnmodifiedSince].flatMap(HTTPDate.parse))
    }

    /// The entity tags of a field without their quotes (RFC 9110, section 8.8.3). If-Match compares strongly: weak tags match nothing.
    private func tags(_ name: HTTPField.Name, weak: Bool) -> [String]? {
        let fields = request.headers[values: name]
        guard !fields.isEmpty else { return nil }
        let pattern = /\s*(W\/)?"([^"]*)"\s*/
        return fields.joined(separator: ",").split(separator: ",").compactMap { part in
            if part.filter({ $0 != " " }) == "*" { return "*" }
            guard let tag = part.wholeMatch(of: pattern)?.output, weak || tag.1 == nil else { return nil }
            return String(tag.2)
        }
    }

    // MARK: What the client sends

    /// The body with its encoding; nil where there is none.
    /// - Throws: 413, 415, 400.
    func body() async throws -> (data: Data, encoding: DataEncoding)? {
        let contentType = request.headers[.contentType]
        if contentType != nil { _ = try encoding(contentType, first: nil) }
        if let coding = request.headers[.contentEncoding], coding.lowercased() != "identity" {
            let error = RESTCONFError(.protocol, .invalidValue, "the content coding '\(coding.prefix(40))' is not supported", status: 415)
            throw Refusal(error: error, headers: [.acceptEncoding: "identity"], closes: true)
        }
        let data = try await bytes()
        if data.isEmpty { return nil }
        let encoding = try encoding(contentType, first: data.first { ![0x20, 0x09, 0x0A, 0x0D].contains($0) })
        try BodyShape.check(data, encoding, limit: limits.depth)
        return (data, encoding)
    }

    private func encoding(_ contentType: String?, first: UInt8?) throws -> DataEncoding {
        do { return try DataMedia.sent(contentType, plain: isLenient, first: first) } catch {
            let types = DataEncoding.allCases.map(\.mediaType).joined(separator: ", ")
            throw Refusal(error: error, headers: method == .patch ? [.acceptPatch: types] : [.accept: types], closes: true)
        }
    }

    private func bytes() async throws -> Data {
        let tooBig = Refusal(
            error: RESTCONFError(.transport, .tooBig, "the body is larger than \(limits.bodyBytes) bytes", status: 413), closes: true)
        if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > limits.bodyBytes { throw tooBig }
        do {
            return Data(try await request.body.collect(upTo: limits.bodyBytes).readableBytesView)
        } catch is NIOTooManyBytesError {
            throw tooBig
        } catch {
            throw Refusal(error: RESTCONFError(.transport, .malformedMessage, "the body did not arrive whole"), closes: true)
        }
    }
}

extension HTTPField.Name {
    static let acceptPatch = HTTPField.Name("Accept-Patch") ?? .accept
    static let retryAfter = HTTPField.Name("Retry-After") ?? .date
}
