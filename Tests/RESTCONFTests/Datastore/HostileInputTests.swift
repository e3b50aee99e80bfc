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

    @Test(
        "an operation that goes on behind its end, or does not end (libyang 2.1.30 leaks over them)",
        arguments: [
            #"{"test-shop:input":{"name":"x"}1e9}"#, #"{"test-shop:input":{"name":"x"},"test-shop:ring":{}}"#,
            #"{"test-shop:input":{"name":"x"}"#, #"{"test-shop:input":{"name":"x"}}{}"#,
        ])
    func operationsThatDoNotEnd(_ body: String) async {
        let error = await YANGRig.refusal {
            try await rig.store.invoke(rig.path("test-shop:greet"), input: Data(body.utf8), encoding: .json)
        }
        #expect(error?.tag == .malformedMessage && error?.status == 400)
    }

    @Test(
        "RFC 8259: what is no JSON is refused, with the place",
        arguments: [
            ("", 1, 1), ("[]", 1, 1), ("{", 1, 2), ("{\n  \"a\" 1}", 2, 7), ("{\"a\":01}", 1, 7), ("{\"a\":1.}", 1, 8),
            ("{\"a\":1e}", 1, 8),
            ("{\"a\":-}", 1, 6), ("{\"a\":+1}", 1, 6), ("{\"a\":tru}", 1, 6), ("{\"a\":[1,]}", 1, 9), ("{\"a\":1,}", 1, 8),
            ("{\"a\":\"\t\"}", 1, 7), ("{\"a\":\"\\x\"}", 1, 8), ("{\"a\":\"\\u12g4\"}", 1, 9), ("{\"a\":\"", 1, 7), ("{\"a\":1}{}", 1, 8),
            ("{a:1}", 1, 2), ("{\"a\":'b'}", 1, 6), ("{\"a\":NaN}", 1, 6), ("{\"a\":\u{0}}", 1, 6), ("{\"a\":{]}", 1, 7),
        ])
    func noJSON(_ body: String, _ line: Int, _ column: Int) {
        let error = #expect(throws: RESTCONFError.self) { try JSONText.members(of: Data(body.utf8), depth: 8) }
        #expect(
            error?.tag == .malformedMessage && error?.message.hasSuffix("(line \(line), column \(column))") == true,
            "\(String(describing: error))")
    }

    @Test(
        "RFC 7493, section 2.3: a member that comes twice in one object is refused, whatever it is and however it is written",
        arguments: [
            (#"{"a":1,"a":2}"#, 8), (#"{"a":1,"b":{"c":1,"c":1}}"#, 19), (#"{"a":[{"b":1},{"b":1, "b":1}]}"#, 23),
            (#"{"ab":1,"a\u0062":2}"#, 9), (#"{"a\u0062":1,"a\u0062":2}"#, 14), (#"{"a\u0062":1,"c":1,"ab":2}"#, 20),
        ])
    func twice(_ body: String, _ column: Int) {
        let error = #expect(throws: RESTCONFError.self) { try JSONText.members(of: Data(body.utf8), depth: 8) }
        #expect(error?.tag == .malformedMessage && error?.status == 400)
        #expect(error?.message.hasSuffix("a member comes twice in one object (line 1, column \(column))") == true, "\(error as Any)")
    }

    @Test("an object may have many members, but none of them twice") func many() throws {
        let names = (0..<5000).map { "\"n\($0)\":0" }
        func text(_ names: [String]) -> Data { Data("{\(names.joined(separator: ","))}".utf8) }
        #expect(try JSONText.members(of: text(names), depth: 8) == 5000)
        #expect(try JSONText.members(of: Data(#"{"a":{"b":1},"b":{"a":1}}"#.utf8), depth: 8) == 2)
        for place in [1, 31, 32, 33, 34, 4999] {
            #expect(throws: RESTCONFError.self) { try JSONText.members(of: text(names + [names[place]]), depth: 8) }
            #expect(throws: RESTCONFError.self) { try JSONText.members(of: text(Array(names[...place]) + [names[0]]), depth: 8) }
        }
    }

    @Test("a body with a member twice changes nothing") func twiceInABody() async throws {
        let before = try await rig.store.configuration()
        for (kind, path, body) in [
            (EditKind.replace, "test-shop:shop/motto", #"{"test-shop:motto":"a","test-shop:motto":"b"}"#),
            (.merge, "test-shop:shop/shelf=a,1", #"{"test-shop:shelf":[{"row":"a","column":1,"label":"x","label":"y"}]}"#),
        ] {
            let error = await YANGRig.refusal { try await rig.edit(kind, path, body) }
            #expect(error?.tag == .malformedMessage && error?.status == 400, "\(error as Any)")
        }
        let greeting = await YANGRig.refusal {
            try await rig.store.invoke(
                rig.path("test-shop:greet"), input: Data(#"{"test-shop:input":{"name":"a","name":"b"}}"#.utf8), encoding: .json)
        }
        #expect(greeting?.tag == .malformedMessage, "\(greeting as Any)")
        #expect(try await rig.store.configuration() == before)
    }

    @Test("RFC 8259: what is JSON passes, and Foundation's parser agrees over mutations of it") func json() throws {
        let text = #" {"a" : [1, -0.5e+3, {"b":[]}, "\u00e9\ud83d\ude00\n", true, false, null], "c":{}, "":"@" } "#
        #expect(try JSONText.members(of: Data(text.utf8), depth: 8) == 3)
        #expect(throws: RESTCONFError.self) { try JSONText.members(of: Data(text.utf8), depth: 2) }
        var random = SeededGenerator()
        let alphabet = Array("{}[]:,\"0123456789-+.eEtrufalsn\\ @x".utf8)
        for _ in 0..<20_000 {
            var bytes = Array(text.utf8)
            for _ in 0...Int.random(in: 0...2, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                if Bool.random(using: &random) {
                    bytes.remove(at: place)
                } else {
                    bytes[place] = alphabet.randomElement(using: &random) ?? 0
                }
            }
            let theirs = (try? JSONSerialization.jsonObject(with: Data(bytes))) is [String: Any]
            var ours = true
            do { _ = try JSONText.members(of: Data(bytes), depth: 8) } catch {
                if error.tag == .unknownAttribute { continue }
                ours = false
            }
            // Foundation takes a few things that RFC 8259 does not; what we take it must take.
            if ours { #expect(theirs, "seed \(random.seed): \(String(decoding: bytes, as: UTF8.self))") }
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
        var random = SeededGenerator()
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
            #expect((error?.status ?? 0) < 500, "seed \(random.seed): \(body): \(String(describing: error))")
        }
        let kept = try await rig.store.configuration()
        let again = try DatastoreRig(rig.schema, folder: rig.folder)
        #expect(again.store.origin == .restored)
        #expect(try await YANGRig.json(again.store.configuration()) == YANGRig.json(kept))
    }

    @Test("mutations of a real body") func mutations() async throws {
        let rig = try DatastoreRig(YANGRig.nodeSchema(), initial: YANGRig.vector("config.json"))
        let text = Array("{\"ietf-restconf:data\":\(try YANGRig.vector("config.json"))}".utf8)
        var random = SeededGenerator()
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
