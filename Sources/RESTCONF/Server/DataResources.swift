// The datastore, data resources and operations (RFC 8040, sections 3.4 to 3.6 and 4).

import Foundation
import HTTPTypes
import HummingbirdCore
import NIOCore

extension Responder {
    /// - Parameter path: nil is the datastore.
    func data(_ exchange: Exchange, _ path: ResourcePath?) async throws -> Response {
        if path?.steps.last?.kind == .action { return try await operation(exchange, path) }
        let methods = methods(on: path)
        try exchange.only(methods)
        switch exchange.method {
        case .options:
            _ = try QueryParameters(exchange.target, known: [])
            return options(methods)
        case .get, .head: return try await read(exchange, path)
        case .post: return try await edit(exchange, Edit(.create, path))
        case .put: return try await edit(exchange, Edit(.replace, path))
        case .patch: return try await edit(exchange, Edit(.merge, path))
        default: return try await edit(exchange, Edit(.remove, path))
        }
    }

    private func methods(on path: ResourcePath?) -> [HTTPRequest.Method] {
        guard let last = path?.steps.last else { return [.get, .head, .post, .put, .patch] }
        if last.kind == .rpc { return [] }
        guard last.isConfiguration else { return [.get, .head] }
        return [.get, .head] + (last.kind == .container || last.kind == .list ? [.post] : []) + [.put, .patch, .delete]
    }

    // MARK: GET and HEAD

    private func read(_ exchange: Exchange, _ path: ResourcePath?) async throws -> Response {
        let wanted = try exchange.wanted()
        let query = try QueryParameters(exchange.target, known: QueryParameters.reading).readQuery()
        let result = try await datastore.read(path, query, wanted.encoding)
        let headers: HTTPFields = [.eTag: "\"\(result.etag)\"", .lastModified: HTTPDate.text(result.lastModified)]
        switch Self.condition(exchange.conditions(), result) {
        case .unchanged: return Response(status: .notModified, headers: headers)
        case .failed: throw RESTCONFError(.protocol, .operationFailed, "the resource is not the one of the precondition", status: 412)
        case .holds: break
        }
        let body = wanted.isUnqualified ? Compatibility.unqualified(result.body) : result.body
        return document(body, type: wanted.type, headers)
    }

    private enum Condition { case holds, unchanged, failed }

    /// RFC 9110, section 13.2.2, in its order. Tags and times are those of the configuration (RFC 8040, section 3.5): where there
    /// is state in the answer they do not say that it is the same.
    private static func condition(_ conditions: Preconditions, _ result: ReadResult) -> Condition {
        let modified = result.lastModified.timeIntervalSince1970.rounded(.down)
        if let tags = conditions.ifMatch {
            if !tags.contains("*"), !tags.contains(result.etag) { return .failed }
        } else if let since = conditions.ifUnmodifiedSince, modified > since.timeIntervalSince1970 {
            return .failed
        }
        if result.hasState { return .holds }
        if let tags = conditions.ifNoneMatch {
            return tags.contains("*") || tags.contains(result.etag) ? .unchanged : .holds
        }
        if let since = conditions.ifModifiedSince, modified <= since.timeIntervalSince1970 { return .unchanged }
        return .holds
    }

    // MARK: POST, PUT, PATCH, DELETE

    private func edit(_ exchange: Exchange, _ blank: Edit) async throws -> Response {
        var edit = blank
        let isPlacing = edit.kind == .create || edit.kind == .replace
        // Before anything is changed it is known whether an answer could be read.
        _ = try exchange.wanted()
        try QueryParameters(exchange.target, known: isPlacing ? QueryParameters.placing : []).place(&edit)
        edit.conditions = exchange.conditions()
        if edit.kind != .remove {
            guard let body = try await exchange.body() else {
                throw RESTCONFError(.protocol, .malformedMessage, "\(exchange.method.rawValue) needs a body")
            }
            (edit.body, edit.encoding) = (body.data, body.encoding)
            if exchange.isLenient, body.encoding == .json {
                // Before it is written again by what does not tell members that come twice.
                try TextLimits.standard.check(body.data, .json)
                // What PUT and PATCH carry is the resource itself, so its own module names it.
                edit.body = Compatibility.qualified(body.data, for: edit.kind, target: edit.path?.steps.last)
            }
        }
        let result = try await carryOut(edit, exchange.method)
        var headers: HTTPFields = [.lastModified: HTTPDate.text(result.lastModified)]
        if edit.kind != .remove { headers[.eTag] = "\"\(result.etag)\"" }
        guard edit.kind == .create || (edit.kind == .replace && result.created) else {
            return Response(status: .noContent, headers: headers)
        }
        if let location = result.location { headers[.location] = absolute(exchange, "/restconf/data/" + location) }
        return Response(status: .created, headers: headers)
    }

    /// - Throws: 405 with `Allow` (RFC 9110, section 15.5.6) where the datastore or its target refuses the method.
    private func carryOut(_ edit: Edit, _ method: HTTPRequest.Method) async throws -> EditResult {
        do throws(RESTCONFError) { return try await datastore.edit(edit) } catch {
            guard error.status == 405 else { throw error }
            let place = edit.path?.xpath ?? "/"
            // What may only be read, or something inside of it; else it is something in the body, and other methods may do.
            let isDatum = error.path.map { place == $0 || place.hasPrefix($0 + "/") || place.hasPrefix($0 + "[") } ?? false
            let methods = isDatum ? [.get, .head] : methods(on: edit.path).filter { $0 != method }
            throw Refusal(error: error, headers: [.allow: Exchange.allow(methods)])
        }
    }

    private func absolute(_ exchange: Exchange, _ path: String) -> String {
        exchange.request.head.authority.map { "https://\($0)\(path)" } ?? path
    }

    // MARK: Operations

    func operations(_ exchange: Exchange) throws -> Response {
        try exchange.only([.get, .head])
        if exchange.method == .options { return options([.get, .head]) }
        let wanted = try exchange.wanted()
        _ = try QueryParameters(exchange.target, known: [])
        return document(facts.operations(wanted.encoding), type: wanted.type)
    }

    /// An rpc below `/restconf/operations`, or an action in the data (sections 3.6 and 4.4.2).
    func operation(_ exchange: Exchange, _ path: ResourcePath?) async throws -> Response {
        guard let path, let kind = path.steps.last?.kind, kind == .rpc || kind == .action else {
            throw RESTCONFError(.protocol, .invalidValue, "there is no such operation", status: 404)
        }
        try exchange.only([.post])
        if exchange.method == .options { return options([.post]) }
        let wanted = try exchange.wanted()
        _ = try QueryParameters(exchange.target, known: [])
        let body = try await exchange.body()
        let output = try await datastore.invoke(path, input: body?.data, encoding: body?.encoding ?? wanted.encoding)
        guard let output else { return Response(status: .noContent) }
        return document(output, type: (body?.encoding ?? wanted.encoding).mediaType)
    }
}
