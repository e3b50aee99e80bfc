// Conditions, queries in combination, places of errors, the library's locations: RFC 8040 where several of its sections meet.

import Foundation
import RESTCONF
import Testing

private let bench = "/restconf/data/lab-bench:bench"
private let link = bench + "/link=almagro-norte"
private let xml = ["-H", "Accept: application/yang-data+xml"]

@Suite(.serialized) struct ServerConditionTests {
    /// Sections 3.4.1.2 and 3.5.2: every resource has a tag, and an edit changes those of what it touches and of all above.
    @Test func tagsOfResources() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            let places = [link, bench + "/link=a%2Fb%20c", bench, "/restconf/data"]
            func tags() async throws -> [String] {
                var tags: [String] = []
                for place in places { tags.append(try #require(try await rig.curl(place, as: "operator", ["--head"]).headers["etag"])) }
                return tags
            }
            let before = try await tags()
            let patch = ["-X", "PATCH"] + ServerRig.json(#"{"lab-bench:link":[{"name":"almagro-norte","loss":"7.0"}]}"#)
            let several = try await rig.curl(link, as: "controller", patch + ["-H", "If-Match: \"x\", \(before[0])"])
            #expect(several.status == 204, "\(several)")
            let after = try await tags()
            #expect(zip(before, after).map { $0 == $1 } == [false, true, false, false], "\(before) \(after)")
            // Who read the datastore before somebody else's edit does not overwrite it.
            let late = try await rig.curl(
                "/restconf/data", as: "controller",
                ["-X", "PATCH", "-H", "If-Match: \(before[3])"] + ServerRig.json("{\"ietf-restconf:data\":{}}"))
            #expect(late.status == 412 && late.tag == "operation-failed", "\(late)")
        }
    }

    /// Sections 4.4 to 4.7 with the conditions of section 3.4.1 and RFC 9110, section 13.1.
    @Test func conditionsOfEveryMethod() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            let long = "Sun, 06 Nov 1994 08:49:37 GMT"
            let post = ServerRig.json(#"{"lab-bench:link":[{"name":"p"}]}"#)
            let put = ["-X", "PUT"] + ServerRig.json(#"{"lab-bench:link":[{"name":"new"}]}"#)
            let cases: [(String, [String], Int)] = [
                (link, ["-X", "DELETE", "-H", "If-Match: \"stale\""], 412),
                (link, ["-X", "DELETE", "-H", "If-Unmodified-Since: \(long)"], 412),
                (link, ["-X", "DELETE", "-H", "If-None-Match: *"], 412), (bench, post + ["-H", "If-Match: \"stale\""], 412),
                (bench, post + ["-H", "If-Match: *"], 201), (bench + "/link=new", put + ["-H", "If-Match: *"], 412),
                (bench + "/link=new", put + ["-H", "If-None-Match: *"], 201), (bench + "/link=new", put + ["-H", "If-None-Match: *"], 412),
                (link, ["-H", "If-Match: \"stale\""], 412), (link, ["-H", "If-Unmodified-Since: \(long)"], 412),
                // A date that cannot be read is ignored.
                (link, ["-H", "If-Unmodified-Since: yesterday"], 200),
            ]
            for (path, more, status) in cases {
                let answer = try await rig.curl(path, as: "controller", more)
                #expect(answer.status == status, "\(path) \(more): \(answer)")
                if status == 412 { #expect(answer.tag == "operation-failed", "\(answer)") }
            }
            let etag = try #require(try await rig.curl(link, as: "operator").headers["etag"])
            #expect(try await rig.curl(link, as: "controller", ["-X", "DELETE", "-H", "If-Match: \(etag)"]).status == 204)
            #expect(try await rig.curl(link, as: "operator").status == 404)
        }
    }

    /// Section 4.8: parameters together; sections 4.2 and 4.8: HEAD and OPTIONS with them.
    @Test func queriesInCombination() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            let state = #"{"lab-bench:bench":{"link":[{"name":"almagro-norte","state":{"snr":"0.163"}}]},"lab-bench:status":{"uptime":7}}"#
            try await rig.datastore.setState(state)
            let cases: [(String, [String], [String])] = [
                (bench + "?content=nonconfig&fields=link(state)", ["snr", "almagro-norte"], ["loss", "title"]),
                (bench + "?content=config&depth=2", ["title", "almagro-norte"], ["snr"]),
                (bench + "?content=all&depth=2", ["title", "almagro-norte"], ["snr", "loss"]),
                (bench + "?fields=link(name;loss)&depth=3&content=config", ["loss", "almagro-norte"], ["title", "snr", "route"]),
                (bench + "?fields=link/state/snr", ["0.163"], ["loss", "title"]),
                (link + "?with-defaults=trim", ["loss"], ["enabled"]), (link + "?with-defaults=explicit", ["loss"], ["enabled"]),
                (link + "?with-defaults=report-all&fields=enabled", ["\"enabled\":true", "almagro-norte"], ["loss"]),
                (
                    link + "?with-defaults=report-all-tagged&content=config",
                    ["\"@enabled\":{\"ietf-netconf-with-defaults:default\":true}"], ["snr"]
                ),
                ("/restconf/data?fields=lab-bench:status;lab-bench:bench/title", ["uptime", "first"], ["almagro", "yang-library"]),
                ("/restconf/data?content=nonconfig&depth=3&fields=lab-bench:status", ["uptime"], ["bench\"", "yang-library"]),
            ]
            for (target, with, without) in cases {
                let answer = try await rig.curl(target, as: "operator")
                #expect(answer.status == 200 && with.allSatisfy(answer.text.contains), "\(target): \(answer)")
                #expect(!without.contains { answer.text.contains($0) }, "\(target): \(answer)")
                let head = try await rig.curl(target, as: "operator", ["--head"])
                #expect(
                    head.status == 200 && head.headers["content-length"] == "\(answer.body.count)",
                    "\(target): \(head)")
            }
            let tagged = try await rig.curl(link + "?with-defaults=report-all-tagged", as: "operator", xml)
            #expect(tagged.text.contains("default=\"true\">true</enabled>"), "\(tagged)")
            let selected = try await rig.curl(bench + "?fields=title", as: "operator", xml)
            #expect(selected.text == #"<bench xmlns="urn:sdqkd:test:lab-bench"><title>first</title></bench>"#, "\(selected)")
            #expect(try await rig.curl(bench + "?depth=1", as: "operator", ["-X", "OPTIONS"]).status == 400)
            #expect(try await rig.curl(bench + "?content=config", as: "controller", ["-X", "DELETE"]).status == 400)
            // Section 4.2: HEAD has the status and fields of GET, and never a body.
            let absent = try await rig.curl(bench + "/link=none", as: "operator", ["--head"])
            #expect(
                absent.status == 404 && absent.headers["content-type"] == "application/yang-data+json", "\(absent)")
            let raw = try await ServerRawClient(port: rig.port, files: rig.pki.files("operator"))
            try await raw.send("HEAD \(bench)/link=none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(
                await raw.ended() && raw.text.hasSuffix("\r\n\r\n") && raw.text.lowercased().contains("content-length: "), "\(raw.text)")
        }
    }

    /// Sections 7.1 and 3.9: the place of an error, in the form of each encoding.
    @Test func placesOfErrors() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            let wrong = ["-X", "PATCH"] + ServerRig.json(#"{"lab-bench:bench":{"link":[{"name":"x","loss":"much"}]}}"#)
            let json = try await rig.curl(bench, as: "controller", wrong)
            #expect(json.error["error-path"] as? String == "/lab-bench:bench/link[name='x']/loss", "\(json)")
            #expect(json.error["error-type"] as? String == "application" && json.tag == "invalid-value")
            let other = try await rig.curl(bench, as: "controller", wrong + xml)
            #expect(
                other.text.contains(
                    "<error-path xmlns:lab-bench=\"urn:sdqkd:test:lab-bench\">"
                        + "/lab-bench:bench/lab-bench:link[lab-bench:name='x']/lab-bench:loss</error-path>"), "\(other)")
            let absent = try await rig.curl(bench + "/link=it%27s", as: "operator")
            #expect(absent.error["error-path"] as? String == "/lab-bench:bench/link[name=\"it's\"]", "\(absent)")
            let quoted = try await rig.curl(bench + "/link=it%27s", as: "operator", xml)
            #expect(quoted.text.contains("/lab-bench:link[lab-bench:name=&quot;it's&quot;]</error-path>"), "\(quoted)")
            let exists = try await rig.curl(bench, as: "controller", ServerRig.json(#"{"lab-bench:route":[{"name":"r1"}]}"#))
            #expect(
                exists.tag == "data-exists" && exists.error["error-path"] as? String == "/lab-bench:bench/route[name='r1']", "\(exists)")
            let refused = try await rig.curl(
                bench, as: "controller", ["-X", "PATCH"] + ServerRig.json(#"{"lab-bench:bench":{"title":"refuse-me"}}"#))
            #expect(refused.error["error-type"] as? String == "application" && refused.message == "the device is in use elsewhere")
        }
    }

    /// Sections 3.7 and 10.1, RFC 8525: every module's text is where the library says, and no file of the server's is named.
    @Test func modulesAreWhereTheLibrarySays() async throws {
        try await ServerRig.serving { rig in
            let answer = try await rig.curl("/restconf/data/ietf-yang-library:yang-library", as: "operator")
            let sets = (answer.json["ietf-yang-library:yang-library"] as? [String: Any])?["module-set"] as? [[String: Any]]
            let modules =
                (sets?.first?["module"] as? [[String: Any]] ?? []) + (sets?.first?["import-only-module"] as? [[String: Any]] ?? [])
            #expect(modules.count > 5 && !answer.text.contains("file:"), "\(answer)")
            for module in modules {
                let name = try #require(module["name"] as? String)
                let place = try #require((module["location"] as? [String])?.first, "\(name)")
                #expect(place.hasPrefix(rig.base + "/yang/"))
                let text = try await rig.curl(String(place.dropFirst(rig.base.count)), as: "operator")
                #expect(text.status == 200 && text.text.hasPrefix("module \(name) {"), "\(place): \(text)")
            }
            // What RFC 8040 itself knows: the older library.
            let old = try await rig.curl(
                "/restconf/data/ietf-yang-library:modules-state/module=lab-bench,2026-11-23/schema", as: "operator")
            #expect(old.text == "{\"ietf-yang-library:schema\":\"\(rig.base)/yang/lab-bench@2026-11-23\"}", "\(old)")
        }
    }

    /// Section 4.4.1 and 4.5: the location of what was created, with the names and keys encoded.
    @Test func locations() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            let body = "<link xmlns='urn:sdqkd:test:lab-bench'><name>50% &lt;é&gt;/=,</name></link>"
            let post = try await rig.curl(bench, as: "controller", ServerRig.xml(body) + xml)
            let place = try #require(post.headers["location"], "\(post)")
            #expect(post.status == 201 && place == "\(rig.base)\(bench)/link=50%25%20%3C%C3%A9%3E%2F%3D%2C", "\(post)")
            let found = try await rig.curl(String(place.dropFirst(rig.base.count)), as: "operator")
            #expect((found.json["lab-bench:link"] as? [[String: Any]])?.first?["name"] as? String == "50% <é>/=,", "\(found)")
            let put = try await rig.curl(
                bench + "/route=q", as: "controller",
                ["-X", "PUT", "-H", "Host: node.example"] + ServerRig.json(#"{"lab-bench:route":[{"name":"q"}]}"#))
            #expect(put.status == 201 && put.headers["location"] == "https://node.example\(bench)/route=q", "\(put)")
        }
    }
}
