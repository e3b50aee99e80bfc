import Foundation
import RESTCONF
import Testing

@Suite("bad input: a clear error each, no crash") struct HostileInputTests {
    let rig: DatastoreRig
    init() throws { rig = try DatastoreRig(YANGRig.shopSchema(), initial: ReadingTests.shop) }

    @Test(
        "ten thousand levels are refused at once, JSON and XML",
        arguments: [
            (DataEncoding.json, String(repeating: "[", count: 10_000)), (.json, String(repeating: #"{"test-shop:shop":"#, count: 10_000)),
            (.json, #"{"test-shop:shelf":"# + String(repeating: "[", count: 10_000) + String(repeating: "]", count: 10_000) + "}"),
            (.xml, String(repeating: "<a>", count: 10_000)),
            (.xml, String(repeating: #"<shop xmlns="urn:sdqkd:test:shop">"#, count: 10_000)),
        ])
    func deep(_ encoding: DataEncoding, _ body: String) async throws {
        let start = ContinuousClock.now
        for kind in [EditKind.create, .replace, .merge] {
            let error = await YANGRig.refusal { try await rig.edit(kind, "test-shop:shop", body, encoding: encoding) }
            #expect(error?.tag == .malformedMessage)
        }
        let input = await YANGRig.refusal {
            try await rig.store.invoke(rig.path("test-shop:greet"), input: Data(body.utf8), encoding: encoding)
        }
        #expect(input?.tag == .malformedMessage)
        #expect(ContinuousClock.now - start < .seconds(2))
    }

    @Test(
        "RFC 7952 metadata are refused before libyang sees them (malformed ones crash its 2.1.30)",
        arguments: [#"{"@label":{}null"test-shop:cash":[\ud800\}"#, #"{"@":{"x:y":1}}"#, #"{ "\u0040label" : {}}"#])
    func metadata(_ body: String) async {
        for kind in [EditKind.create, .replace, .merge] {
            #expect(await YANGRig.refusal { try await rig.edit(kind, "test-shop:shop/shelf=a,1", body) }?.tag == .unknownAttribute)
        }
    }

    @Test("an at sign in a value is a value") func atSign() async throws {
        try await rig.edit(.replace, "test-shop:shop/motto", #"{"test-shop:motto":"@home \"@x\": \\"}"#)
        #expect(try await rig.get("test-shop:shop/motto") == #"{"test-shop:motto":"@home \"@x\": \\"}"#)
    }

    @Test("a value of 16 MB where a number belongs is refused, with a short message") func huge() async {
        let body = #"{"test-shop:shelf":[{"row":"a","column":""# + String(repeating: "9", count: 16 << 20) + #""}]}"#
        let error = await YANGRig.refusal { try await rig.edit(.create, "test-shop:shop", body) }
        #expect(error?.status == 400)
        #expect((error?.message.count ?? .max) < 1000)
        #expect((error?.path?.count ?? 0) < 1000)
    }

    @Test("random bodies: errors below 500, or edits that leave a valid configuration") func fuzz() async throws {
        var random = SystemRandomNumberGenerator()
        let pieces = [
            "{", "}", "[", "]", ":", ",", "\"", "\\", "\\u0000", "\\ud800", "null", "true", "-1", "1e999", "0x", "é", "\u{1}",
            "\"test-shop:shelf\":",
            "\"row\":\"q\"", "\"column\":7", "\"test-shop:motto\":\"x\"", "\"@label\":{}", "\"test-shop:tag\":[\"t\"]", "[null]",
            "\"test-shop:cash\":",
            "<motto xmlns=\"urn:sdqkd:test:shop\">", "</motto>", "<!--", "-->", "&lt;", "&x;", "<?xml?>", " a=\"b\"",
            "<motto xmlns=\"urn:sdqkd:test:shop\" x:y=\"z\">", "xmlns:x=\"urn:x\"", "\"@\":{\"x:y\":1}", "\"\\u0040label\":{}", "<![CDATA[",
            "]]>", "<", ">",
            "/>",
        ]
        let paths = ["test-shop:shop", "test-shop:shop/motto", "test-shop:shop/shelf=a,1", "test-shop:shop/tag=a", nil]
        for round in 0..<4000 {
            var body = (0..<Int.random(in: 0...10, using: &random)).compactMap { _ in pieces.randomElement(using: &random) }.joined()
            if round % 3 == 0 { body = "{" + body + "}" }
            let kind = [EditKind.create, .replace, .merge].randomElement(using: &random) ?? .merge
            let path = paths.randomElement(using: &random) ?? nil
            let error = await YANGRig.refusal {
                try await rig.edit(kind, path, body, encoding: round % 2 == 0 ? .json : .xml)
            }
            #expect((error?.status ?? 0) < 500, "\(body): \(String(describing: error))")
        }
        let kept = try await rig.store.configuration()
        let again = try DatastoreRig(rig.schema, folder: rig.folder)
        #expect(again.store.origin == .restored)
        #expect(try await YANGRig.json(again.store.configuration()) == YANGRig.json(kept))
    }

    @Test("mutations of a real body") func mutations() async throws {
        let rig = try DatastoreRig(YANGRig.nodeSchema(), initial: YANGRig.vector("config.json"))
        let text = Array("{\"ietf-restconf:data\":\(try YANGRig.vector("config.json"))}".utf8)
        var random = SystemRandomNumberGenerator()
        for _ in 0..<1500 {
            var bytes = text
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0...3, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: place)
                case 2: bytes.insert(bytes[Int.random(in: 0..<bytes.count, using: &random)], at: place)
                default: bytes.removeSubrange(place..<min(bytes.count, place + 40))
                }
            }
            let body = Data(bytes)
            let error = await YANGRig.refusal { try await rig.store.edit(Edit(.merge, nil, body: body)) }
            #expect((error?.status ?? 0) < 500, "\(String(describing: error))")
        }
    }
}
