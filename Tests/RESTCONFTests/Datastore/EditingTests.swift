import Foundation
import RESTCONF
import Testing

@Suite("RFC 8040, sections 4.4 to 4.7: POST, PUT, PATCH, DELETE") struct EditingTests {
    let rig: DatastoreRig

    init() throws { rig = try DatastoreRig(YANGRig.shopSchema(), initial: ReadingTests.shop) }

    private func refusal(
        _ kind: EditKind, _ path: String?, _ body: String? = nil, insert: Edit.Insert? = nil, point: String? = nil,
        conditions: Preconditions = Preconditions()
    ) async -> RESTCONFError? {
        await YANGRig.refusal { try await rig.edit(kind, path, body, insert: insert, point: point, conditions: conditions) }
    }

    // MARK: POST

    @Test("section 4.4.1: POST creates a child and says where") func post() async throws {
        let result = try await rig.edit(.create, "test-shop:shop", #"{"test-shop:shelf":[{"row":"a/b","column":3}]}"#)
        #expect(result.created)
        #expect(result.location == "test-shop:shop/shelf=a%2Fb,3")
        #expect(try await rig.get("test-shop:shop/shelf=a%2Fb,3") == #"{"test-shop:shelf":[{"row":"a/b","column":3}]}"#)
    }

    @Test("section 4.4.1: POST of what is there is 409 data-exists") func postTwice() async {
        for body in [#"{"test-shop:shelf":[{"row":"a","column":1}]}"#, #"{"test-shop:motto":"x"}"#, #"{"test-shop:tag":["a"]}"#] {
            let error = await refusal(.create, "test-shop:shop", body)
            #expect(error?.tag == .dataExists)
            #expect(error?.status == 409)
        }
        #expect(await refusal(.create, nil, #"{"test-shop:shop":{}}"#)?.tag == .dataExists)
        #expect(rig.target.calls.isEmpty)
    }

    @Test("section 4.4.1: a default is no resource yet") func postDefault() async throws {
        #expect(try await rig.edit(.create, "test-shop:shop/shelf=a,2", #"{"test-shop:label":"none"}"#).created)
        #expect(try await rig.get("test-shop:shop/shelf=a,2").contains("none"))
    }

    @Test("section 4.4.1: the parent must exist") func postOrphan() async {
        #expect(await refusal(.create, "test-shop:shop/shelf=z,1", #"{"test-shop:label":"x"}"#)?.status == 404)
    }

    @Test(
        "section 4.4.1: the body is one child",
        arguments: [
            (nil, ErrorTag.malformedMessage), ("", .malformedMessage), ("{}", .malformedMessage), ("[]", .malformedMessage),
            ("{", .malformedMessage),
            (#"{"test-shop:motto":"x","test-shop:tag":["y"]}"#, .malformedMessage), (#"{"test-shop:nothing":1}"#, .unknownElement),
            (#"{"nowhere:motto":"x"}"#, .unknownElement), (#"{"test-shop:shelf":[{"row":"q"}]}"#, .missingElement),
            (#"{"test-shop:shelf":[{"row":"q","column":300}]}"#, .invalidValue),
            (#"{"test-shop:figures":{"visitors":"1"}}"#, .invalidValue),
            (#"{"test-shop:motto":"\u0000"}"#, .malformedMessage), (#"{"test-shop:motto":{"a":1}}"#, .invalidValue),
        ])
    func postBodies(_ body: String?, _ tag: ErrorTag) async {
        let error = await refusal(.create, "test-shop:shop", body)
        #expect(error?.status == 400)
        #expect(error?.tag == tag || error?.tag == .malformedMessage || error?.tag == .invalidValue, "\(String(describing: error))")
    }

    // MARK: PUT

    @Test("section 4.5: PUT creates (201) or replaces (204)") func put() async throws {
        let new = #"{"test-shop:shelf":[{"row":"b","column":1,"label":"new"}]}"#
        #expect(try await rig.edit(.replace, "test-shop:shop/shelf=b,1", new).created)
        #expect(try await !rig.edit(.replace, "test-shop:shop/shelf=b,1", #"{"test-shop:shelf":[{"row":"b","column":1}]}"#).created)
        #expect(try await rig.get("test-shop:shop/shelf=b,1") == #"{"test-shop:shelf":[{"row":"b","column":1}]}"#)
        #expect(try await !rig.edit(.replace, "test-shop:shop/motto", #"{"test-shop:motto":"new"}"#).created)
        #expect(try await rig.edit(.replace, "test-shop:shop/shelf=b,1/label", #"{"test-shop:label":"l"}"#).created)
    }

    @Test("section 4.5: the body must be the resource of the URI, keys included") func putOther() async {
        for (path, body) in [
            ("test-shop:shop/shelf=b,1", #"{"test-shop:shelf":[{"row":"b","column":2}]}"#),
            ("test-shop:shop/motto", #"{"test-shop:tag":["x"]}"#),
            ("test-shop:shop/shelf=b,1", #"{"test-shop:shelf":[{"row":"b","column":1},{"row":"c","column":1}]}"#),
            ("test-shop:shop/shelf=a,1/row", #"{"test-shop:row":"a"}"#),
        ] {
            #expect(await refusal(.replace, path, body)?.status == 400)
        }
        #expect(await refusal(.replace, "test-shop:shop/shelf=z,1/label", #"{"test-shop:label":"x"}"#)?.tag == .dataMissing)
    }

    @Test("section 4.5: PUT on the datastore replaces everything") func putDatastore() async throws {
        try await rig.edit(.replace, nil, #"{"ietf-restconf:data":{"test-shop:shop":{"motto":"only"}}}"#)
        #expect(try await rig.store.configuration() == #"{"test-shop:shop":{"motto":"only"}}"#)
        let xml =
            #"<data xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf"><shop xmlns="urn:sdqkd:test:shop"><motto>x</motto></shop></data>"#
        try await rig.edit(.replace, nil, xml, encoding: .xml)
        #expect(try await rig.store.configuration() == #"{"test-shop:shop":{"motto":"x"}}"#)
        #expect(await refusal(.replace, nil, #"{"test-shop:shop":{}}"#)?.status == 400)
    }

    // MARK: PATCH

    @Test("section 4.6.1: plain PATCH merges") func patch() async throws {
        try await rig.edit(
            .merge, "test-shop:shop",
            #"{"test-shop:shop":{"tag":["c"],"shelf":[{"row":"a","column":1,"capacity":5},{"row":"n","column":1}]}}"#)
        let shop = try await rig.get("test-shop:shop")
        #expect(shop.contains(#""tag":["a","b","c"]"#))
        #expect(shop.contains(#"{"row":"a","column":1,"label":"x","capacity":5}"#))
        #expect(shop.contains(#"{"row":"n","column":1}"#))
        try await rig.edit(.merge, nil, #"{"ietf-restconf:data":{"test-shop:shop":{"motto":"patched"}}}"#)
        #expect(try await rig.get("test-shop:shop/motto") == #"{"test-shop:motto":"patched"}"#)
        let xml = #"<shelf xmlns="urn:sdqkd:test:shop"><row>a</row><column>1</column><used>2</used></shelf>"#
        try await rig.edit(.merge, "test-shop:shop/shelf=a,1", xml, encoding: .xml)
        #expect(try await rig.get("test-shop:shop/shelf=a,1/used") == #"{"test-shop:used":2}"#)
    }

    @Test("section 4.6.1: PATCH does not create its target") func patchAbsent() async {
        let error = await refusal(.merge, "test-shop:shop/shelf=z,1", #"{"test-shop:shelf":[{"row":"z","column":1}]}"#)
        #expect(error?.status == 404)
    }

    // MARK: DELETE

    @Test("section 4.7: DELETE removes, and once only") func delete() async throws {
        try await rig.edit(.remove, "test-shop:shop/shelf=a,1")
        try await rig.edit(.remove, "test-shop:shop/tag=a")
        try await rig.edit(.remove, "test-shop:shop/motto")
        #expect(try await rig.get("test-shop:shop/motto") == #"{"test-shop:motto":"open"}"#)
        for path in ["test-shop:shop/shelf=a,1", "test-shop:shop/tag=a", "test-shop:shop/motto", "test-shop:shop/shelf=a,2/label"] {
            let error = await refusal(.remove, path)
            #expect(error?.tag == .dataMissing)
            #expect(error?.status == 409)
        }
        #expect(await refusal(.remove, "test-shop:shop/shelf=a,2/row")?.status == 400)
        #expect(await refusal(.remove, nil)?.status == 405)
    }

    @Test("section 4: state data and operations cannot be edited") func notEditable() async {
        for path in ["test-shop:shop/figures", "test-shop:shop/figures/visitors", "test-shop:greet"] {
            for kind in [EditKind.replace, .merge, .remove] {
                let error = await refusal(kind, path, "{}")
                #expect(error?.status == 405)
                #expect(error?.tag == .operationNotSupported)
            }
        }
    }

    // MARK: insert and point

    private func steps() async throws -> [String] {
        let json = try YANGRig.json(await rig.get("test-shop:shop", ReadQuery(fields: "step(name)")))
        let shop = json["test-shop:shop"] as? NSDictionary
        return (shop?["step"] as? [NSDictionary] ?? []).compactMap { $0["name"] as? String }
    }

    @Test("sections 4.8.5 and 4.8.6: insert and point") func insert() async throws {
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:step":[{"name":"zero"}]}"#, insert: .first)
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:step":[{"name":"three"}]}"#, insert: .last)
        let two = "/test-shop:shop/step=two"
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:step":[{"name":"before"}]}"#, insert: .before, point: two)
        try await rig.edit(.replace, "test-shop:shop/step=after", #"{"test-shop:step":[{"name":"after"}]}"#, insert: .after, point: two)
        #expect(try await steps() == ["zero", "one", "before", "two", "after", "three"])
        try await rig.edit(.replace, "test-shop:shop/step=two", #"{"test-shop:step":[{"name":"two","note":"x"}]}"#)
        #expect(try await steps() == ["zero", "one", "before", "two", "after", "three"])
        try await rig.edit(.replace, "test-shop:shop/step=three", #"{"test-shop:step":[{"name":"three"}]}"#, insert: .first)
        #expect(try await steps() == ["three", "zero", "one", "before", "two", "after"])
        let again = try DatastoreRig(rig.schema, folder: rig.folder)
        #expect(try await again.get("test-shop:shop") == rig.get("test-shop:shop"))
    }

    @Test("sections 4.8.5 and 4.8.6: what is refused") func badInsert() async {
        let step = #"{"test-shop:step":[{"name":"new"}]}"#
        #expect(await refusal(.create, "test-shop:shop", #"{"test-shop:tag":["n"]}"#, insert: .first)?.status == 400)
        #expect(await refusal(.create, "test-shop:shop", step, insert: .before)?.status == 400)
        #expect(await refusal(.create, "test-shop:shop", step, insert: .first, point: "/test-shop:shop/step=one")?.status == 400)
        #expect(await refusal(.create, "test-shop:shop", step, insert: .before, point: "/test-shop:shop/step=none")?.status == 400)
        #expect(await refusal(.create, "test-shop:shop", step, insert: .before, point: "/test-shop:shop/shelf=a,1")?.status == 400)
        #expect(await refusal(.merge, "test-shop:shop/motto", #"{"test-shop:motto":"x"}"#, insert: .first)?.status == 400)
    }

    // MARK: Constraints

    @Test("RFC 7950, section 15: constraints, their tags and paths") func constraints() async throws {
        let full = await refusal(.merge, "test-shop:shop/shelf=a,1", #"{"test-shop:shelf":[{"row":"a","column":1,"capacity":1,"used":2}]}"#)
        #expect(full?.tag == .operationFailed)
        #expect(full?.appTag == "full")
        #expect(full?.path == "/test-shop:shop/shelf[row='a'][column='1']/used")
        let order = await refusal(.create, "test-shop:shop", #"{"test-shop:order":[{"id":1,"customer":5}]}"#)
        #expect(order?.tag == .dataMissing)
        #expect(order?.appTag == "instance-required")
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:customer":[{"id":5,"mail":"m"}]}"#)
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:order":[{"id":1,"customer":5}]}"#)
        #expect(await refusal(.remove, "test-shop:shop/customer=5")?.tag == .dataMissing)
        #expect(await refusal(.create, "test-shop:shop", #"{"test-shop:customer":[{"id":6,"mail":"m"}]}"#)?.appTag == "data-not-unique")
        #expect(await refusal(.create, "test-shop:shop", #"{"test-shop:open":{}}"#)?.tag == .dataMissing)
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:cash":[null]}"#)
        try await rig.edit(.replace, "test-shop:shop/card", #"{"test-shop:card":"c"}"#)
        #expect(await refusal(.remove, "test-shop:shop/cash")?.tag == .dataMissing)
    }

    // MARK: Preconditions and versions

    @Test("sections 3.4.1 and 3.5: tags and times per resource") func versions() async throws {
        func version(_ path: String?) async throws -> String {
            try await rig.store.version(of: path.map { try rig.path($0) }).etag
        }
        let places = ["test-shop:shop/shelf=a,1", "test-shop:shop/shelf=a,2", "test-shop:shop", "test-shop:shop/motto"]
        var before: [String] = []
        for place in places { before.append(try await version(place)) }
        rig.clock.advance(100)
        let result = try await rig.edit(.merge, "test-shop:shop/shelf=a,1", #"{"test-shop:shelf":[{"row":"a","column":1,"label":"v"}]}"#)
        #expect(result.lastModified == rig.clock.now)
        var changed: [Bool] = []
        for (place, old) in zip(places, before) { changed.append(try await version(place) != old) }
        #expect(changed == [true, false, true, false])
        #expect(try await version("test-shop:shop/shelf=a,1/label") == result.etag)
        #expect(try await version(nil) == result.etag)
    }

    @Test("section 3.4.1.2 and RFC 9110, section 13.1: preconditions") func conditions() async throws {
        let motto = "test-shop:shop/motto"
        let (tag, time) = try await rig.store.version(of: rig.path(motto))
        #expect(await refusal(.replace, motto, #"{"test-shop:motto":"x"}"#, conditions: Preconditions(ifMatch: ["other"]))?.status == 412)
        #expect(
            await refusal(.replace, motto, #"{"test-shop:motto":"x"}"#, conditions: Preconditions(ifUnmodifiedSince: time - 10))?.status
                == 412)
        #expect(await refusal(.replace, motto, #"{"test-shop:motto":"x"}"#, conditions: Preconditions(ifNoneMatch: ["*"]))?.status == 412)
        let conditions = Preconditions(ifMatch: ["other", tag], ifUnmodifiedSince: time)
        let result = try await rig.edit(.replace, motto, #"{"test-shop:motto":"x"}"#, conditions: conditions)
        #expect(result.etag != tag)
        #expect(await refusal(.remove, motto, conditions: conditions)?.status == 412)
        let shelf = "test-shop:shop/shelf=new,1"
        let body = #"{"test-shop:shelf":[{"row":"new","column":1}]}"#
        #expect(await refusal(.replace, shelf, body, conditions: Preconditions(ifMatch: ["*"]))?.status == 412)
        #expect(try await rig.edit(.replace, shelf, body, conditions: Preconditions(ifNoneMatch: ["*"])).created)
    }

    // MARK: Operations

    @Test("sections 3.6 and 4.4.2: rpc, JSON and XML") func operations() async throws {
        await rig.store.handle("test-shop:greet") { input throws(RESTCONFError) in
            input == #"{"name":"Ana"}"# ? #"{"answer":"hello"}"# : "{}"
        }
        await rig.store.handle("test-shop:ring") { _ throws(RESTCONFError) in nil }
        let greet = try rig.path("test-shop:greet")
        let json = try await rig.store.invoke(greet, input: Data(#"{"test-shop:input":{"name":"Ana"}}"#.utf8), encoding: .json)
        #expect(json.map { String(decoding: $0, as: UTF8.self) } == #"{"test-shop:output":{"answer":"hello"}}"#)
        let body = Data(#"<input xmlns="urn:sdqkd:test:shop"><name>Ana</name></input>"#.utf8)
        let xml = try await rig.store.invoke(greet, input: body, encoding: .xml)
        #expect(xml.map { String(decoding: $0, as: UTF8.self) } == #"<output xmlns="urn:sdqkd:test:shop"><answer>hello</answer></output>"#)
        #expect(try await rig.store.invoke(try rig.path("test-shop:ring"), input: nil, encoding: .json) == nil)
        for body in [nil, "{}", #"{"test-shop:input":{}}"#, #"{"test-shop:input":{"name":1}}"#, #"{"x:input":{}}"#, "<input/>"] {
            let error = await YANGRig.refusal { try await rig.store.invoke(greet, input: body.map { Data($0.utf8) }, encoding: .json) }
            #expect(error != nil && (error?.status ?? 500) < 500, "\(String(describing: error))")
        }
        #expect(rig.schema.operations().contains("test-shop:greet"))
    }

    @Test("section 3.6: an action, on an instance that is there") func action() async throws {
        await rig.store.handle("/test-shop:shop/shelf/tidy") { input throws(RESTCONFError) in
            #expect(input == #"{"depth":3}"#)
            return #"{"found":"dust"}"#
        }
        let input = Data(#"{"test-shop:input":{"depth":3}}"#.utf8)
        let output = try await rig.store.invoke(try rig.path("test-shop:shop/shelf=a,1/tidy"), input: input, encoding: .json)
        #expect(output.map { String(decoding: $0, as: UTF8.self) } == #"{"test-shop:output":{"found":"dust"}}"#)
        let absent = await YANGRig.refusal {
            try await rig.store.invoke(try rig.path("test-shop:shop/shelf=z,1/tidy"), input: input, encoding: .json)
        }
        #expect(absent?.status == 404)
    }
}
