import Foundation
import RESTCONF
import Testing

@Suite("RFC 8040, sections 4.3 and 4.8: GET") struct ReadingTests {
    let rig: DatastoreRig
    static let shop = """
        {"test-shop:shop":{"motto":"hi","tag":["a","b"],"shelf":[{"row":"a","column":1,"label":"x"},{"row":"a","column":2}],
        "step":[{"name":"one","note":"n"},{"name":"two"}]}}
        """

    init() throws { rig = try DatastoreRig(YANGRig.shopSchema(), initial: Self.shop) }

    @Test(
        "section 4.3: the resource, with qualified names at the top only",
        arguments: [
            ("test-shop:shop/motto", #"{"test-shop:motto":"hi"}"#),
            ("test-shop:shop/shelf=a,1", #"{"test-shop:shelf":[{"row":"a","column":1,"label":"x"}]}"#),
            ("test-shop:shop/shelf=a,1/label", #"{"test-shop:label":"x"}"#),
            ("test-shop:shop/tag=b", #"{"test-shop:tag":["b"]}"#),
        ])
    func resource(_ path: String, _ body: String) async throws {
        #expect(try await rig.get(path) == body)
    }

    @Test("section 4.3, XML") func xml() async throws {
        #expect(try await rig.get("test-shop:shop/motto", ReadQuery(), .xml) == #"<motto xmlns="urn:sdqkd:test:shop">hi</motto>"#)
        let all = try await rig.get(nil, ReadQuery(content: .config), .xml)
        #expect(all.hasPrefix(#"<data xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf"><shop xmlns="urn:sdqkd:test:shop">"#))
    }

    @Test("section 3.5: what is not there is 404") func absent() async {
        for path in ["test-shop:shop/shelf=b,1", "test-shop:shop/tag=c", "test-shop:shop/open", "test-shop:shop/figures"] {
            let error = await YANGRig.refusal { try await rig.get(path) }
            #expect(error?.status == 404)
            #expect(error?.tag == .invalidValue)
        }
    }

    @Test("section 3.5.4: a leaf shows its default") func defaultLeaf() async throws {
        #expect(try await rig.get("test-shop:shop/shelf=a,2/label") == #"{"test-shop:label":"none"}"#)
    }

    @Test(
        "section 4.8.9: with-defaults",
        arguments: [
            (nil, #"{"test-shop:shelf":[{"row":"a","column":2}]}"#),
            (ReadQuery.Defaults.explicit, #"{"test-shop:shelf":[{"row":"a","column":2}]}"#),
            (.trim, #"{"test-shop:shelf":[{"row":"a","column":2}]}"#),
            (.reportAll, #"{"test-shop:shelf":[{"row":"a","column":2,"label":"none"}]}"#),
            (
                .reportAllTagged,
                #"{"test-shop:shelf":[{"row":"a","column":2,"label":"none","@label":{"ietf-netconf-with-defaults:default":true}}]}"#
            ),
        ])
    func defaults(_ mode: ReadQuery.Defaults?, _ body: String) async throws {
        #expect(try await rig.get("test-shop:shop/shelf=a,2", ReadQuery(withDefaults: mode)) == body)
    }

    @Test(
        "section 4.8.2: depth; keys stay",
        arguments: [
            (1, #"{"test-shop:shop":{}}"#),
            (
                2,
                #"{"test-shop:shop":{"motto":"hi","tag":["a","b"],"shelf":[{"row":"a","column":1},{"row":"a","column":2}],"step":[{"name":"one"},{"name":"two"}]}}"#
            ),
        ])
    func depth(_ depth: Int, _ body: String) async throws {
        #expect(try await YANGRig.json(rig.get("test-shop:shop", ReadQuery(depth: depth))) == YANGRig.json(body))
    }

    @Test("section 4.8.2: depth 3 is everything here, 0 and 65536 are no depths") func depthLimits() async throws {
        #expect(try await YANGRig.json(rig.get("test-shop:shop", ReadQuery(depth: 3))) == YANGRig.json(Self.shop))
        for depth in [0, 65_536] {
            #expect(await YANGRig.refusal { try await rig.get("test-shop:shop", ReadQuery(depth: depth)) }?.tag == .invalidValue)
        }
    }

    @Test(
        "section 4.8.3: fields",
        arguments: [
            ("motto", #"{"test-shop:shop":{"motto":"hi"}}"#),
            ("motto;tag", #"{"test-shop:shop":{"motto":"hi","tag":["a","b"]}}"#),
            ("step/note", #"{"test-shop:shop":{"step":[{"name":"one","note":"n"},{"name":"two"}]}}"#),
            ("test-shop:step(name)", #"{"test-shop:shop":{"step":[{"name":"one"},{"name":"two"}]}}"#),
            ("step(note;name);motto", #"{"test-shop:shop":{"motto":"hi","step":[{"name":"one","note":"n"},{"name":"two"}]}}"#),
        ])
    func fields(_ fields: String, _ body: String) async throws {
        #expect(try await YANGRig.json(rig.get("test-shop:shop", ReadQuery(fields: fields))) == YANGRig.json(body))
    }

    @Test(
        "section 4.8.3: fields that are refused",
        arguments: ["", ";", "motto;", "nothing", "step(", "step(name", "step)", "step/", "(name)", "motto/x", "nowhere:motto", "greet"])
    func badFields(_ fields: String) async {
        let error = await YANGRig.refusal { try await rig.get("test-shop:shop", ReadQuery(fields: fields)) }
        #expect(error?.status == 400)
    }

    @Test("section 4.8.3: a thousand parentheses are refused") func deepFields() async {
        let fields = String(repeating: "step(", count: 1000)
        #expect(await YANGRig.refusal { try await rig.get("test-shop:shop", ReadQuery(fields: fields)) }?.status == 400)
    }

    @Test("section 4.8.1: content") func content() async throws {
        try await rig.store.setState(#"{"test-shop:shop":{"figures":{"visitors":"12"}}}"#)
        #expect(try await rig.get("test-shop:shop", ReadQuery(content: .nonconfig)) == #"{"test-shop:shop":{"figures":{"visitors":"12"}}}"#)
        #expect(try await YANGRig.json(rig.get("test-shop:shop", ReadQuery(content: .config))) == YANGRig.json(Self.shop))
        #expect(try await rig.get("test-shop:shop").contains("figures"))
        #expect(try await rig.get("test-shop:shop/figures/visitors") == #"{"test-shop:visitors":"12"}"#)
        #expect(await YANGRig.refusal { try await rig.get("test-shop:shop/figures", ReadQuery(content: .config)) }?.status == 404)
    }

    @Test("state data change without the tag (section 3.5.2), and replace those of before") func state() async throws {
        let before = try await rig.store.read(try rig.path("test-shop:shop"), ReadQuery(), .json)
        try await rig.store.setState(#"{"test-shop:shop":{"figures":{"visitors":"1"},"motto":"shown"}}"#)
        let after = try await rig.store.read(try rig.path("test-shop:shop"), ReadQuery(), .json)
        #expect(before.etag == after.etag)
        #expect(!before.hasState)
        #expect(after.hasState)
        // What is reported overrules what is configured, and is not kept.
        #expect(try await rig.get("test-shop:shop/motto") == #"{"test-shop:motto":"shown"}"#)
        #expect(try await rig.get("test-shop:shop/motto", ReadQuery(content: .config)) == #"{"test-shop:motto":"hi"}"#)
        let kept = try await rig.store.configuration()
        #expect(!kept.contains("shown"))
        try await rig.store.setState(#"{"test-shop:shop":{"figures":{}}}"#)
        #expect(await YANGRig.refusal { try await rig.get("test-shop:shop/figures/visitors") }?.status == 404)
        #expect(
            await YANGRig.refusal { try await rig.store.setState(#"{"test-shop:shop":{"figures":{"visitors":"x"}}}"#) }?.tag
                == .invalidValue)
    }

    @Test("section 3.4: the datastore resource, with the YANG library (RFC 8525) in it") func datastore() async throws {
        let text = try await rig.get(nil)
        #expect(text.hasPrefix(#"{"ietf-restconf:data":{"#))
        #expect(text.contains(#""ietf-yang-library:yang-library""#))
        #expect(
            try await rig.get("ietf-yang-library:yang-library/module-set=complete/module=test-shop/namespace").contains(
                "urn:sdqkd:test:shop"))
        #expect(try await rig.get(nil, ReadQuery(depth: 1)) == #"{"ietf-restconf:data":{}}"#)
        #expect(
            try await rig.get(nil, ReadQuery(fields: "test-shop:shop/motto"))
                == #"{"ietf-restconf:data":{"test-shop:shop":{"motto":"hi"}}}"#)
    }
}
