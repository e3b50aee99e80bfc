// RFC 8040 section by section, asked by curl.

import Foundation
import RESTCONF
import Testing

private let bench = "/restconf/data/lab-bench:bench"

@Suite(.serialized) struct ServerResourceTests {
    /// Section 3.1: root resource discovery.
    @Test func rootDiscovery() async throws {
        try await ServerRig.serving { rig in
            let xrd = try await rig.curl("/.well-known/host-meta", as: "operator")
            #expect(xrd.status == 200 && xrd.headers["content-type"] == "application/xrd+xml", "\(xrd)")
            #expect(xrd.text.contains("<Link rel='restconf' href='/restconf'/>"))
            let json = try await rig.curl("/.well-known/host-meta", as: "operator", ["-H", "Accept: application/json"])
            #expect(
                json.text == #"{"links":[{"rel":"restconf","href":"/restconf"}]}"# && json.headers["content-type"] == "application/json")
            #expect(try await rig.curl("/.well-known/host-meta.json", as: "operator").json.count == 1)
            #expect(try await rig.curl("/.well-known/host-meta", as: "operator", ["-H", "Accept: text/html"]).status == 406)
        }
    }

    /// Sections 3.3, 3.3.2 and 3.3.3: the API resource and what it has. Section 3.7: the modules' texts.
    @Test func theAPIResource() async throws {
        try await ServerRig.serving { rig in
            let root = try await rig.curl("/restconf", as: "operator")
            let content = try #require(root.json["ietf-restconf:restconf"] as? [String: Any], "\(root)")
            #expect(Set(content.keys) == ["data", "operations", "yang-library-version"])
            #expect(content["yang-library-version"] as? String == "2019-01-04")
            let xml = try await rig.curl("/restconf", as: "operator", ["-H", "Accept: application/yang-data+xml"])
            #expect(
                xml.headers["content-type"] == "application/yang-data+xml" && xml.text.hasPrefix("<restconf xmlns=\"urn:ietf"), "\(xml)")
            let version = try await rig.curl("/restconf/yang-library-version", as: "operator")
            #expect(version.text == #"{"ietf-restconf:yang-library-version":"2019-01-04"}"#)
            let operations = try await rig.curl("/restconf/operations", as: "operator")
            let names = try #require(operations.json["ietf-restconf:operations"] as? [String: Any], "\(operations)")
            #expect(names["lab-bench:echo"] as? [NSNull] == [NSNull()] && names["lab-bench:ping"] != nil)
            let elements = try await rig.curl("/restconf/operations", as: "operator", ["-H", "Accept: application/yang-data+xml"])
            #expect(elements.text.contains("<ping xmlns=\"urn:sdqkd:test:lab-bench\"/>"), "\(elements)")
            let module = try await rig.curl("/yang/lab-bench@2026-11-23", as: "operator")
            #expect(module.status == 200 && module.headers["content-type"] == "application/yang", "\(module)")
            #expect(module.text.hasPrefix("module lab-bench {") && module.text.contains("notification link-changed"))
            #expect(try await rig.curl("/yang/lab-bench@2000-01-01", as: "operator").status == 404)
        }
    }

    /// Sections 9 and 10: ietf-restconf-monitoring and the YANG library.
    @Test func theServerDescribesItself() async throws {
        try await ServerRig.serving { rig in
            let answer = try await rig.curl("/restconf/data/ietf-restconf-monitoring:restconf-state", as: "operator")
            let state = try #require(answer.json["ietf-restconf-monitoring:restconf-state"] as? [String: Any], "\(answer)")
            let capabilities = try #require((state["capabilities"] as? [String: Any])?["capability"] as? [String])
            for name in ["defaults:1.0?basic-mode=explicit", "depth:1.0", "fields:1.0", "with-defaults:1.0", "replay:1.0"] {
                #expect(capabilities.contains("urn:ietf:params:restconf:capability:\(name)"), "\(name)")
            }
            let streams = try #require((state["streams"] as? [String: Any])?["stream"] as? [[String: Any]])
            let netconf = try #require(streams.first { $0["name"] as? String == "NETCONF" })
            #expect(netconf["replay-support"] as? Bool == true && netconf["replay-log-creation-time"] != nil)
            let places = (netconf["access"] as? [[String: Any]])?.compactMap { $0["location"] as? String }
            #expect(Set(places ?? []) == ["\(rig.base)/streams/NETCONF/json", "\(rig.base)/streams/NETCONF/xml"])
            let library = try await rig.curl("/restconf/data/ietf-yang-library:yang-library", as: "operator")
            #expect(library.status == 200 && library.text.contains("\"lab-bench\""), "\(library)")
        }
    }

    /// Sections 4.4.1 (POST), 4.3 (GET), 4.2 (HEAD), 4.5 (PUT), 4.6.1 (PATCH) and 4.7 (DELETE).
    @Test func theLifeOfAResource() async throws {
        try await ServerRig.serving { rig in
            let created = try await rig.curl("/restconf/data", as: "controller", ServerRig.json(ServerRig.content))
            #expect(created.status == 201 && created.body.isEmpty, "\(created)")
            #expect(created.headers["location"] == "\(rig.base)\(bench)", "\(created)")
            #expect(created.headers["etag"] != nil && created.headers["last-modified"] != nil)
            let again = try await rig.curl("/restconf/data", as: "controller", ServerRig.json(ServerRig.content))
            #expect(again.status == 409 && again.tag == "data-exists", "\(again)")

            let child = try await rig.curl(bench, as: "controller", ServerRig.json(#"{"lab-bench:link":[{"name":"x,y","loss":"3.0"}]}"#))
            #expect(child.status == 201 && child.headers["location"] == "\(rig.base)\(bench)/link=x%2Cy", "\(child)")
            let entry = try await rig.curl(bench + "/link=x%2Cy", as: "operator")
            #expect(entry.status == 200 && entry.headers["content-type"] == "application/yang-data+json", "\(entry)")
            let links = try #require(entry.json["lab-bench:link"] as? [[String: Any]])
            #expect(links.count == 1 && links[0]["name"] as? String == "x,y" && links[0]["loss"] as? String == "3.0", "\(entry)")
            #expect(entry.headers["cache-control"] == "no-cache")

            let head = try await rig.curl(bench + "/link=x%2Cy", as: "operator", ["--head"])
            #expect(head.status == 200 && head.headers["content-length"] == "\(entry.body.count)", "\(head)")
            #expect(head.headers["etag"] == entry.headers["etag"])

            let put = try await rig.curl(
                bench + "/link=x%2Cy", as: "controller",
                ["-X", "PUT"] + ServerRig.json(#"{"lab-bench:link":[{"name":"x,y","loss":"4.0"}]}"#))
            #expect(put.status == 204 && put.body.isEmpty, "\(put)")
            let putNew = try await rig.curl(
                bench + "/link=new", as: "controller", ["-X", "PUT"] + ServerRig.json(#"{"lab-bench:link":[{"name":"new"}]}"#))
            #expect(putNew.status == 201 && putNew.headers["location"] == "\(rig.base)\(bench)/link=new", "\(putNew)")
            let patch = try await rig.curl(
                bench, as: "controller", ["-X", "PATCH"] + ServerRig.json(#"{"lab-bench:bench":{"title":"second"}}"#))
            #expect(patch.status == 204, "\(patch)")
            #expect(try await rig.curl(bench + "/title", as: "operator").text == #"{"lab-bench:title":"second"}"#)
            #expect(try await rig.curl(bench + "/link=new", as: "controller", ["-X", "DELETE"]).status == 204)
            let gone = try await rig.curl(bench + "/link=new", as: "controller", ["-X", "DELETE"])
            #expect(gone.tag == "data-missing" && gone.status == 409, "\(gone)")
            let absent = try await rig.curl(bench + "/link=new", as: "operator")
            #expect(absent.status == 404 && absent.tag == "invalid-value", "\(absent)")
        }
    }

    /// Section 5.2: the same data in XML.
    @Test func theSameInXML() async throws {
        try await ServerRig.serving { rig in
            let xml =
                "<bench xmlns='urn:sdqkd:test:lab-bench'><title>in &amp; out</title><link><name>a</name><loss>1.5</loss></link></bench>"
            let put = try await rig.curl(bench, as: "controller", ["-X", "PUT"] + ServerRig.xml(xml))
            #expect(put.status == 201, "\(put)")
            #expect(try await rig.curl(bench + "/title", as: "operator").text == #"{"lab-bench:title":"in & out"}"#)
            let link = try await rig.curl(bench + "/link=a", as: "operator", ["-H", "Accept: application/yang-data+xml"])
            #expect(link.headers["content-type"] == "application/yang-data+xml")
            #expect(link.text.contains("<link xmlns=\"urn:sdqkd:test:lab-bench\">") && link.text.contains("<name>a</name>"), "\(link)")
            let error = try await rig.curl(bench + "/link=b", as: "operator", ["-H", "Accept: application/yang-data+xml"])
            #expect(
                error.headers["content-type"] == "application/yang-data+xml" && error.text.contains("<error-tag>invalid-value</error-tag>"))
            #expect(error.text.hasPrefix("<errors xmlns=\"urn:ietf:params:xml:ns:yang:ietf-restconf\">"), "\(error)")
        }
    }

    /// Section 4.1: OPTIONS; RFC 5789, section 3.1: Accept-Patch; section 4: 405 with Allow.
    @Test func methodsThatAreAllowed() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            let cases = [
                ("/restconf", "GET, HEAD, OPTIONS"), ("/restconf/data", "GET, HEAD, POST, PUT, PATCH, OPTIONS"),
                (bench, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"), (bench + "/title", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
                ("/restconf/data/lab-bench:status", "GET, HEAD, OPTIONS"), ("/restconf/operations/lab-bench:ping", "POST, OPTIONS"),
                ("/streams/NETCONF/json", "GET, HEAD, OPTIONS"), ("/.well-known/host-meta", "GET, HEAD, OPTIONS"),
            ]
            for (path, allow) in cases {
                let options = try await rig.curl(path, as: "operator", ["-X", "OPTIONS"])
                #expect(options.status == 200 && options.headers["allow"] == allow, "\(path): \(options)")
                let patch = allow.contains("PATCH") ? "application/yang-data+json, application/yang-data+xml" : nil
                #expect(options.headers["accept-patch"] == patch, "\(path)")
                for method in ["POST", "PUT", "DELETE", "TRACE"] where !allow.contains(method) {
                    let refused = try await rig.curl(path, as: "controller", ["-X", method])
                    #expect(
                        refused.status == (method == "TRACE" ? 501 : 405) && refused.tag == "operation-not-supported",
                        "\(path) \(method) \(refused)")
                    #expect(refused.headers["allow"] == allow)
                }
            }
            let rpc = try await rig.curl("/restconf/data/lab-bench:ping", as: "controller")
            #expect(rpc.status == 400 || rpc.status == 404 || rpc.headers["allow"] == "OPTIONS", "\(rpc)")
        }
    }

    /// RFC 9110, section 15.5.6: also where not the server but what stands behind it does not support the method.
    @Test func whatTheTargetDoesNotAllow() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            for (path, method, body, allow) in [
                (bench + "/title", "PUT", #"{"lab-bench:title":"my-own"}"#, "GET, HEAD, OPTIONS"),
                (bench + "/title", "PATCH", #"{"lab-bench:title":"my-own"}"#, "GET, HEAD, OPTIONS"),
                (bench, "PATCH", #"{"lab-bench:bench":{"title":"my-own"}}"#, "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
                (
                    "/restconf/data", "PATCH", #"{"ietf-restconf:data":{"lab-bench:bench":{"title":"my-own"}}}"#,
                    "GET, HEAD, POST, PUT, OPTIONS"
                ),
            ] {
                let refused = try await rig.curl(path, as: "controller", ["-X", method] + ServerRig.json(body))
                #expect(refused.status == 405 && refused.tag == "operation-not-supported", "\(method) \(path): \(refused)")
                #expect(refused.headers["allow"] == allow, "\(method) \(path): \(refused)")
            }
        }
    }

    /// RFC 7951, section 1: I-JSON; RFC 7493, section 2.3. Also where names without a module are taken.
    @Test(arguments: [false, true]) func membersThatComeTwice(isLenient: Bool) async throws {
        try await ServerRig.serving(compatibility: isLenient) { rig in
            try await rig.fill()
            for (path, method, body) in [
                (bench + "/title", "PUT", #"{"lab-bench:title":"a","lab-bench:title":"b"}"#),
                (bench, "PATCH", #"{"lab-bench:bench":{"title":"a","title":"b"}}"#),
                ("/restconf/operations/lab-bench:echo", "POST", #"{"lab-bench:input":{"text":"a","text":"b"}}"#),
            ] {
                let refused = try await rig.curl(path, as: "controller", ["-X", method] + ServerRig.json(body))
                #expect(refused.status == 400 && refused.tag == "malformed-message", "\(path): \(refused)")
            }
            #expect(try await rig.curl(bench + "/title", as: "operator").text.contains(#"title":"first""#))
        }
    }

    /// Section 4.8: query parameters.
    @Test func queryParameters() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            try await rig.datastore.setState(#"{"lab-bench:status":{"uptime":7}}"#)
            let config = try await rig.curl("/restconf/data?content=config", as: "operator")
            #expect(config.status == 200 && config.text.contains("almagro-norte") && !config.text.contains("uptime"), "\(config)")
            let state = try await rig.curl("/restconf/data?content=nonconfig", as: "operator")
            #expect(state.text.contains("uptime") && !state.text.contains("\"loss\""), "\(state)")
            let shallow = try await rig.curl(bench + "?depth=1", as: "operator")
            #expect(shallow.status == 200 && !shallow.text.contains("almagro-norte"), "\(shallow)")
            let fields = try await rig.curl(bench + "?fields=title;link(name)", as: "operator")
            #expect(fields.text.contains("almagro-norte") && fields.text.contains("title") && !fields.text.contains("loss"), "\(fields)")
            let defaults = try await rig.curl(bench + "/link=almagro-norte?with-defaults=report-all", as: "operator")
            #expect(defaults.text.contains("\"enabled\":true"), "\(defaults)")
            let refused = [
                "content=some", "depth=0", "depth=65536", "depth=x", "depth=+1", "with-defaults=all", "fields=", "fields=(", "unknown=1",
                "depth=1&depth=2", "insert=first", "start-time=2026-01-01T00:00:00Z", "filter=x", "Depth=1",
            ]
            for query in refused {
                let answer = try await rig.curl("\(bench)?\(query)", as: "operator")
                #expect(answer.status == 400 && answer.tag == "invalid-value", "\(query): \(answer)")
            }
        }
    }

    /// Sections 4.8.5 and 4.8.6: where a new entry goes.
    @Test func insertAndPoint() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            func names() async throws -> [String] {
                let routes = (try await rig.curl(bench, as: "operator").json["lab-bench:bench"] as? [String: Any])?["route"]
                return (routes as? [[String: Any]])?.compactMap { $0["name"] as? String } ?? []
            }
            let first = try await rig.curl(
                bench + "?insert=first", as: "controller", ServerRig.json(#"{"lab-bench:route":[{"name":"r0"}]}"#))
            #expect(first.status == 201, "\(first)")
            #expect(try await names() == ["r0", "r1", "r2", "r3"])
            let after = try await rig.curl(
                bench + "?insert=after&point=%2Flab-bench%3Abench%2Froute%3Dr1", as: "controller",
                ServerRig.json(#"{"lab-bench:route":[{"name":"r1b"}]}"#))
            #expect(after.status == 201, "\(after)")
            #expect(try await names() == ["r0", "r1", "r1b", "r2", "r3"])
            for query in ["insert=after", "insert=between", "point=%2Flab-bench%3Abench%2Froute%3Dr1", "insert=first&point=%2Fx"] {
                let refused = try await rig.curl(
                    "\(bench)?\(query)", as: "controller", ServerRig.json(#"{"lab-bench:route":[{"name":"q"}]}"#))
                #expect(refused.status == 400, "\(query): \(refused)")
            }
        }
    }

    /// Sections 3.4.1, 3.5.1 and 3.5.2; RFC 9110, section 13.
    @Test func entityTagsAndTimes() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            let get = try await rig.curl(bench, as: "operator")
            let etag = try #require(get.headers["etag"])
            let modified = try #require(get.headers["last-modified"])
            #expect(etag.hasPrefix("\"") && etag.hasSuffix("\"") && HTTPDate.parse(modified) != nil)
            let same = try await rig.curl(bench, as: "operator", ["-H", "If-None-Match: \"x\", \(etag)"])
            #expect(same.status == 304 && same.body.isEmpty && same.headers["etag"] == etag, "\(same)")
            #expect(try await rig.curl(bench, as: "operator", ["-H", "If-None-Match: \"x\""]).status == 200)
            #expect(try await rig.curl(bench, as: "operator", ["-H", "If-Modified-Since: \(modified)"]).status == 304)
            #expect(try await rig.curl(bench, as: "operator", ["-H", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"]).status == 200)
            func patch(_ title: String, _ condition: String) async throws -> ServerRig.Answer {
                try await rig.curl(
                    bench, as: "controller",
                    ["-X", "PATCH", "-H", condition] + ServerRig.json("{\"lab-bench:bench\":{\"title\":\"\(title)\"}}"))
            }
            let stale = try await patch("no", "If-Match: \"stale\"")
            #expect(stale.status == 412 && stale.tag == "operation-failed", "\(stale)")
            #expect(try await patch("no", "If-Match: W/\(etag)").status == 412)
            #expect(try await patch("no", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT").status == 412)
            let changed = try await patch("yes", "If-Match: \(etag)")
            #expect(changed.status == 204 && changed.headers["etag"] != etag, "\(changed)")
            #expect(try await patch("again", "If-Match: \(etag)").status == 412)
            #expect(try await patch("any", "If-Match: *").status == 204)
            let exists = try await rig.curl(
                bench, as: "controller", ["-X", "PUT", "-H", "If-None-Match: *"] + ServerRig.json(ServerRig.content))
            #expect(exists.status == 412, "\(exists)")
        }
    }

    /// Sections 3.6 and 4.4.2: operations.
    @Test func operations() async throws {
        try await ServerRig.serving { rig in
            let input = ServerRig.json(#"{"lab-bench:input":{"text":"hello"}}"#)
            let echo = try await rig.curl("/restconf/operations/lab-bench:echo", as: "controller", input)
            let output = echo.json["lab-bench:output"] as? [String: Any]
            #expect(echo.status == 200 && output?["text"] as? String == "hello", "\(echo)")
            let ping = try await rig.curl("/restconf/operations/lab-bench:ping", as: "controller", ["-X", "POST"])
            #expect(ping.status == 204 && ping.body.isEmpty, "\(ping)")
            let missing = try await rig.curl(
                "/restconf/operations/lab-bench:echo", as: "controller", ServerRig.json(#"{"lab-bench:input":{}}"#))
            #expect(missing.status == 409 && missing.tag == "data-missing", "\(missing)")
            #expect(try await rig.curl("/restconf/operations/lab-bench:none", as: "controller", ["-X", "POST"]).status == 400)
            #expect(try await rig.curl("/restconf/operations/lab-bench:ping", as: "operator").status == 405)
            #expect(try await rig.curl("/restconf/operations/lab-bench:ping", as: "operator", ["-X", "POST"]).status == 403)
        }
    }

    /// For one public controller's driver: unqualified names, slashes at the end, application/json, wrapped bodies.
    @Test func theCompatibilityMode() async throws {
        let body = ["-H", "Content-Type: application/json", "-d", #"{"bench":{"link":[{"name":"c1","loss":"1.0"}]}}"#]
        try await ServerRig.serving(compatibility: true) { rig in
            try await rig.fill()
            let plain = try await rig.curl(bench + "/", as: "operator")
            #expect((plain.json["bench"] as? [String: Any])?["title"] as? String == "first", "\(plain)")
            #expect(plain.headers["content-type"] == "application/json")
            let exact = try await rig.curl(bench + "/", as: "operator", ["-H", "Accept: application/yang-data+json"])
            #expect(exact.json["lab-bench:bench"] != nil && exact.headers["content-type"] == "application/yang-data+json", "\(exact)")
            let post = try await rig.curl(bench + "/", as: "controller", body)
            #expect(post.status == 201, "\(post)")
            #expect(try await rig.curl(bench + "/link=c1/", as: "operator").status == 200)
            // The first name without its module, too.
            let bare = try await rig.curl("/restconf/data/bench/link=c1/", as: "operator")
            #expect((bare.json["link"] as? [[String: Any]])?.first?["name"] as? String == "c1", "\(bare)")
            let put = try await rig.curl(
                bench + "/link=c1", as: "controller",
                ["-X", "PUT", "-H", "Content-Type: application/json", "-d", #"{"link":[{"name":"c1","loss":"2.0"}]}"#])
            #expect(put.status == 204, "\(put)")
        }
        try await ServerRig.serving { rig in
            try await rig.fill()
            #expect(try await rig.curl(bench + "/", as: "operator").status == 400)
            #expect(try await rig.curl("/restconf/data/bench", as: "operator").tag == "unknown-element")
            #expect(try await rig.curl(bench, as: "operator").json["lab-bench:bench"] != nil)
            #expect(try await rig.curl(bench, as: "controller", body).status == 415)
        }
    }
}
