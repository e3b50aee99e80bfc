// What is the same for every server: root discovery, the API resource, the modules' texts (RFC 8040, sections 3.1 to 3.3 and 3.7).

import Foundation
import HTTPTypes
import HummingbirdCore

extension Responder {
    private static let namespace = "urn:ietf:params:xml:ns:yang:ietf-restconf"

    /// Section 3.1; RFC 6415 for both forms.
    func hostMeta(_ exchange: Exchange, isJSON: Bool?) throws -> Response {
        try exchange.only([.get, .head])
        if exchange.method == .options { return options([.get, .head]) }
        let xrd = "application/xrd+xml"
        let offers = [xrd, "application/json", "application/jrd+json", "application/xml"]
        let chosen = isJSON == true ? "application/json" : try exchange.accept().choose(offers)
        guard let chosen else {
            throw RESTCONFError(.protocol, .invalidValue, "host-meta is sent as \(xrd) or application/json", status: 406)
        }
        if chosen.hasSuffix("json") { return document(#"{"links":[{"rel":"restconf","href":"/restconf"}]}"#, type: chosen) }
        return document(
            "<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n    <Link rel='restconf' href='/restconf'/>\n</XRD>\n", type: chosen)
    }

    /// Section 3.3.
    func root(_ exchange: Exchange) throws -> Response {
        try fixed(
            exchange, json: #"{"ietf-restconf:restconf":{"data":{},"operations":{},"yang-library-version":"\#(facts.libraryVersion)"}}"#,
            xml: "<restconf xmlns=\"\(Self.namespace)\"><data/><operations/>"
                + "<yang-library-version>\(facts.libraryVersion)</yang-library-version></restconf>")
    }

    /// Section 3.3.3.
    func libraryVersion(_ exchange: Exchange) throws -> Response {
        try fixed(
            exchange, json: #"{"ietf-restconf:yang-library-version":"\#(facts.libraryVersion)"}"#,
            xml: "<yang-library-version xmlns=\"\(Self.namespace)\">\(facts.libraryVersion)</yang-library-version>")
    }

    private func fixed(_ exchange: Exchange, json: String, xml: String) throws -> Response {
        try exchange.only([.get, .head])
        if exchange.method == .options { return options([.get, .head]) }
        let wanted = try exchange.wanted()
        _ = try QueryParameters(exchange.target, known: [])
        guard wanted.encoding == .json else { return document(xml, type: wanted.type) }
        return document(wanted.isUnqualified ? Compatibility.unqualified(Data(json.utf8)) : Data(json.utf8), type: wanted.type)
    }

    /// `name` or `name@revision`: the module's text (section 3.7).
    func schemaText(_ exchange: Exchange, _ name: String) throws -> Response {
        try exchange.only([.get, .head])
        if exchange.method == .options { return options([.get, .head]) }
        guard let text = facts.text(of: name) else {
            throw RESTCONFError(.protocol, .invalidValue, "there is no module '\(name.prefix(80))'", status: 404)
        }
        guard try exchange.accept().choose(["application/yang"]) != nil else {
            throw RESTCONFError(.protocol, .invalidValue, "modules are sent as application/yang", status: 406)
        }
        return document(text, type: "application/yang")
    }
}
