// The parts of messages as values: media types, targets, queries, times, shapes of bodies.

import Foundation
import RESTCONF
import Testing

@Suite struct ServerMessageTests {
    /// RFC 8040, section 5.2, and RFC 9110, section 12.5.1.
    @Test(
        arguments: [
            (nil, "json"), ("*/*", "json"), ("application/*", "json"), ("application/yang-data+json", "json"),
            ("application/yang-data+xml", "xml"), ("Application/YANG-Data+XML", "xml"), ("application/yang-data", "json"),
            ("application/yang-data+json;q=0.2, application/yang-data+xml;q=0.8", "xml"),
            ("application/yang-data+json;q=0, */*", "xml"), ("text/html, application/yang-data+xml;q=0.1", "xml"),
            ("application/yang-data+xml, application/yang-data+json", "json"), ("*/*;q=0.1, application/yang-data+xml;q=0.05", "json"),
            ("text/html", "406"), ("application/yang-data+json;q=0", "406"), ("application/json", "406"), ("application", "malformed"),
            ("application/yang-data+json;q=2", "malformed"), ("*/json", "malformed"),
        ] as [(String?, String)]) func theWantedEncoding(_ field: String?, _ expected: String)
    {
        let found: String
        do { found = try DataMedia.wanted(Accept(field), plain: false).rawValue } catch {
            found = error.status == 406 ? "406" : error.tag == .malformedMessage ? "malformed" : "\(error)"
        }
        #expect(found == expected)
    }

    @Test(
        arguments: [
            ("application/yang-data+json", "json"), ("application/yang-data+xml; charset=UTF-8", "xml"), ("application/yang-data", "json"),
            ("application/yang-data+json; charset=latin1", "415"), ("application/json", "415"), ("text/plain", "415"), ("x", "415"),
            (nil, "415"),
        ] as [(String?, String)]) func theSentEncoding(_ field: String?, _ expected: String)
    {
        let found: String
        do { found = try DataMedia.sent(field, plain: false, first: nil).rawValue } catch { found = "\(error.status)" }
        #expect(found == expected)
    }

    @Test(arguments: [
        ("/restconf/data/a:b=%2F?depth=3&content=config", "/restconf/data/a:b=%2F", ["depth": "3", "content": "config"]),
        ("/x?start-time=2026-11-23T10%3A00%3A00%2B01:00", "/x", ["start-time": "2026-11-23T10:00:00+01:00"]),
        // A plus is a plus (RFC 3986), not a blank.
        ("/x?fields=a+b", "/x", ["fields": "a+b"]), ("/x?", "/x", [:]), ("/x?depth", "/x", ["depth": ""]),
    ]) func targets(_ text: String, _ path: String, _ query: [String: String]) throws {
        let target = try RequestTarget(text)
        #expect(target.path == path && Dictionary(uniqueKeysWithValues: target.query.map { ($0.name, $0.value) }) == query)
    }

    @Test(arguments: ["", "x", "*", "/a%", "/a%2", "/a%zz", "/a%00", "/a%ff", "/a b", "/a#b", "/a?x=1&x=2", "/a?x=%", "/\u{7f}", "/é"])
    func brokenTargets(_ text: String) {
        #expect(throws: RESTCONFError.self) { try RequestTarget(text) }
    }

    @Test func longTargetsHaveTheirOwnStatus() {
        let error = #expect(throws: RESTCONFError.self) { try RequestTarget("/" + String(repeating: "a", count: 9000)) }
        #expect(error?.status == 414 && error?.tag == .tooBig)
    }

    /// Whatever bytes come, there is a target or an error.
    @Test func fuzzedTargets() {
        var random = SeededGenerator()
        let alphabet = Array("/%:=,;?&#[]()'\"*+.ab09 \u{0}é~")
        for _ in 0..<20_000 {
            let text = "/" + String((0..<Int.random(in: 0..<40, using: &random)).compactMap { _ in alphabet.randomElement(using: &random) })
            if let target = try? RequestTarget(text) { #expect(target.path.first == "/") }
        }
    }

    /// RFC 9110, section 5.6.7.
    @Test func datesOfHTTP() {
        let date = Date(timeIntervalSince1970: 784_111_777)
        #expect(HTTPDate.text(date) == "Sun, 06 Nov 1994 08:49:37 GMT" && HTTPDate.parse("Sun, 06 Nov 1994 08:49:37 GMT") == date)
        for text in ["", "Sun, 06 Nov 1994 08:49:37", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:61:37 GMT"] {
            #expect(HTTPDate.parse(text) == nil)
        }
        // Every day of two centuries, there and back.
        for day in stride(from: -25_567, to: 50_000, by: 1) {
            let date = Date(timeIntervalSince1970: Double(day) * 86_400 + 4711)
            #expect(HTTPDate.parse(HTTPDate.text(date)) == date)
        }
    }

    /// RFC 6991, section 3.
    @Test func datesOfYANG() {
        #expect(DateAndTime.text(Date(timeIntervalSince1970: 1.25)) == "1970-01-01T00:00:01.250Z")
        let cases: [(String, Double?)] = [
            ("1970-01-01T00:00:00Z", 0), ("1970-01-01T01:00:00+01:00", 0), ("1970-01-01T00:00:00.5-00:30", 1800.5),
            ("2026-11-23T10:00:00Z", 1_795_428_000), ("1970-01-01", nil), ("1970-01-01T00:00:00", nil), ("1970-13-01T00:00:00Z", nil),
            ("1970-01-01T00:00:00+25:00", nil), ("x", nil),
        ]
        for (text, seconds) in cases { #expect(DateAndTime.parse(text)?.timeIntervalSince1970 == seconds, "\(text)") }
    }

    @Test func depthIsMeasuredBeforeAnythingRecurses() throws {
        func refused(_ text: String, _ encoding: DataEncoding) -> ErrorTag? {
            do { try BodyShape.check(Data(text.utf8), encoding, limit: 4) } catch { return error.tag }
            return nil
        }
        #expect(refused("{\"a\":[{\"b\":[1,2]}]}", .json) == nil && refused("[[[[[]]]]]", .json) == .tooBig)
        #expect(refused(#"{"a":"[[[[[[\"[[[[","b":"\\"}"#, .json) == nil)
        #expect(refused("<a><b/><b/><c><d/></c></a>", .xml) == nil && refused("<a><b><c><d><e/></d></c></b></a>", .xml) == .tooBig)
        #expect(refused("<a><!-- <b><c><d><e> --><![CDATA[<b><c><d><e>]]><b/></a>", .xml) == nil)
        // What looks like an end, and is none.
        #expect(refused("<a x='/>'><a x=\"/>\"><a x='/>'><a x='/>'><a>", .xml) == .tooBig)
        #expect(refused("<a><b><c><!-- </c></b></a> --><d><e>", .xml) == .tooBig)
        #expect(refused("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", .xml) == .malformedMessage)
        #expect(refused(String(repeating: "[", count: 1_000_000), .json) == .tooBig)
        for text in ["", "<", "<a", "<a x='", "<!--", "\"", "\"\\", "{"] {
            #expect(refused(text, .xml) == nil && refused(text, .json) == nil)
        }
    }

    @Test func namesWithoutModules() {
        let json = #"{"a:b" : {"c:d":["a:b","x"],"e":"f:g", "@h:i":{"j:k":1},"l\":m":"n"},"":1}"#
        #expect(
            String(decoding: Compatibility.unqualified(Data(json.utf8)), as: UTF8.self)
                == #"{"b" : {"d":["a:b","x"],"e":"f:g", "@h:i":{"k":1},"m":"n"},"":1}"#)
    }
}
