// What a server does not do, and how it says so: RFC 8040, section 7, and the limits of this one.

import Foundation
import RESTCONF
import Testing

private let bench = "/restconf/data/lab-bench:bench"

@Suite(.serialized) struct ServerRefusalTests {
    /// Section 7: the table of error tags and statuses.
    @Test func tagsAndStatuses() async throws {
        try await ServerRig.serving { rig in
            try await rig.fill()
            let json = ServerRig.json
            let cases: [(String, [String], Int, String)] = [
                ("/restconf/data/lab-bench:none", [], 400, "unknown-element"),
                ("/restconf/data/no-module:bench", [], 400, "unknown-element"),
                ("/restconf/data/bench", [], 400, "unknown-element"), (bench + "/link", [], 400, "missing-element"),
                (bench + "/link=a,b", [], 400, "*"), (bench + "/link=none", [], 404, "invalid-value"), ("/other", [], 404, "invalid-value"),
                ("/restconf/", [], 404, "invalid-value"), ("/restconf/data/", [], 404, "invalid-value"),
                ("/restconf/data//", [], 400, "*"), ("/restconf/data/lab-bench:bench%", [], 400, "malformed-message"),
                (bench, ["-H", "Accept: text/html"], 406, "invalid-value"), (bench, ["-H", "Accept: x"], 400, "malformed-message"),
                (bench, ["-X", "PUT", "-H", "Content-Type: text/plain", "-d", "x"], 415, "invalid-value"),
                (bench, ["-X", "PATCH", "-H", "Content-Type: application/yang-patch+json", "-d", "{}"], 415, "invalid-value"),
                (bench, ["-X", "PUT", "-H", "Content-Encoding: gzip"] + json("x"), 415, "invalid-value"),
                (bench, ["-X", "PUT", "-H", "Content-Type:", "-d", "{}"], 415, "invalid-value"),
                (bench, ["-X", "PUT"], 400, "malformed-message"), (bench, ["-X", "PUT"] + json("{"), 400, "malformed-message"),
                (bench, ["-X", "PATCH"] + json(#"{"lab-bench:bench":{"none":1}}"#), 400, "unknown-element"),
                (bench, ["-X", "PATCH"] + json(#"{"lab-bench:bench":{"link":[{"loss":"1.0"}]}}"#), 400, "missing-element"),
                (bench, ["-X", "PATCH"] + json(#"{"lab-bench:bench":{"link":[{"name":"x","loss":"much"}]}}"#), 400, "invalid-value"),
                (bench, ["-X", "PATCH"] + json(#"{"lab-bench:bench":{"title":"refuse-me"}}"#), 409, "resource-denied"),
                (bench, json(#"{"lab-bench:link":[{"name":"almagro-norte"}]}"#), 409, "data-exists"),
                (bench + "/link=none/loss", ["-X", "DELETE"], 409, "data-missing"),
                ("/restconf/data/lab-bench:status", ["-X", "PUT"] + json(#"{"lab-bench:status":{}}"#), 405, "operation-not-supported"),
                ("/streams/none/json", [], 404, "invalid-value"), ("/streams/NETCONF/yaml", [], 404, "invalid-value"),
                ("/streams/NETCONF/json", ["-H", "Accept: application/yang-data+json"], 406, "invalid-value"),
            ]
            for (path, more, status, tag) in cases {
                let answer = try await rig.curl(path, as: "controller", more)
                #expect(answer.status == status && (answer.tag == tag || tag == "*"), "\(path) \(more): \(answer)")
                #expect(answer.headers["content-type"] == "application/yang-data+json", "\(path)")
                #expect(!answer.message.isEmpty && answer.error["error-type"] is String, "\(path)")
            }
            let patch = try await rig.curl(bench, as: "controller", ["-X", "PATCH", "-H", "Content-Type: text/plain", "-d", "x"])
            #expect(patch.headers["accept-patch"] == "application/yang-data+json, application/yang-data+xml")
            // Nothing of all this has changed anything.
            #expect(try await rig.curl(bench + "/title", as: "operator").text == #"{"lab-bench:title":"first"}"#)
        }
    }

    /// Sections 2.4 and 2.5: certificates of both ends.
    @Test func whoIsNotKnown() async throws {
        try await ServerRig.serving { rig in
            let none = try await rig.curl("/restconf", as: nil)
            #expect(none.status <= 0 && !none.errors.isEmpty, "\(none)")
            let foreign = try ServerPKI(rig.scratch, folder: "foreign", names: ["controller"]).files("controller")
            let forged = try await rig.curl("/restconf", as: nil, ["--cert", foreign.certificate, "--key", foreign.key])
            #expect(forged.status <= 0, "\(forged)")
            let old = try await rig.curl("/restconf", as: "controller", ["--tls-max", "1.2"])
            #expect(old.status <= 0, "\(old)")
            let stranger = try await rig.curl("/restconf", as: "stranger")
            #expect(stranger.status == 403 && stranger.tag == "access-denied" && stranger.message.contains("stranger"), "\(stranger)")
            let write = try await rig.curl(bench, as: "operator", ["-X", "PUT"] + ServerRig.json(ServerRig.content))
            #expect(write.status == 403 && write.tag == "access-denied" && write.message.contains("may read"), "\(write)")
            // A name in the subject alternative name counts as well.
            try rig.pki.issue("a person's laptop", alternatives: ["operator"])
            #expect(try await rig.curl("/restconf", as: "a person's laptop").status == 200)
            // New rules hold for connections that are open.
            let client = try rig.client("stranger")
            await #expect(throws: RESTCONFClientError.self) { try await client.get("") }
            try rig.scratch.write("clients: {stranger: controller}", "access.yaml")
            try rig.access.reload()
            #expect(try await client.get("").status == 200)
            #expect(try await rig.curl("/restconf", as: "controller").status == 403)
        }
    }

    @Test func sizesAndDepths() async throws {
        var limits = RESTCONFLimits()
        limits.bodyBytes = 10_000
        limits.depth = 8
        try await ServerRig.serving(limits: limits) { rig in
            try await rig.fill()
            let large = #"{"lab-bench:bench":{"title":"\#(String(repeating: "x", count: 20_000))"}}"#
            let file = try rig.scratch.write(large, "large.json")
            let header = ["-H", "Content-Type: application/yang-data+json"]
            for more in [[], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]] {
                let answer = try await rig.curl(bench, as: "controller", ["-X", "PATCH", "--data-binary", "@\(file)"] + header + more)
                #expect(answer.status == 413 && answer.tag == "too-big", "\(more) \(answer)")
            }
            let deep = String(repeating: #"{"a":"#, count: 2000) + "1" + String(repeating: "}", count: 2000)
            let nested = try await rig.curl(bench, as: "controller", ["-X", "PATCH"] + ServerRig.json(deep))
            #expect(nested.status == 413 && nested.tag == "too-big", "\(nested)")
            let document =
                "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><bench xmlns=\"urn:sdqkd:test:lab-bench\"><title>&b;</title></bench>"
            let entity = try await rig.curl(bench, as: "controller", ["-X", "PATCH"] + ServerRig.xml(document))
            #expect(entity.status == 400 && entity.tag == "malformed-message", "\(entity)")
            let long = try await rig.curl("/restconf/data/" + String(repeating: "a", count: 8300), as: "operator")
            #expect(long.status == 414 && long.tag == "too-big", "\(long)")
            let fields = try await rig.curl(bench, as: "operator", ["-H", "X-Fill: " + String(repeating: "a", count: 90_000)])
            #expect(fields.status == 431 && fields.tag == "too-big", "\(fields)")
            // A body that asks first and is small enough is invited.
            let invited = try await rig.curl(
                bench, as: "controller",
                ["-X", "PATCH", "-H", "Expect: 100-continue"] + ServerRig.json(#"{"lab-bench:bench":{"title":"t"}}"#))
            #expect(invited.status == 204, "\(invited)")
        }
    }

    @Test func requestsPerSecond() async throws {
        var limits = RESTCONFLimits()
        (limits.requestsPerSecond, limits.requestBurst) = (2, 5)
        try await ServerRig.serving(limits: limits) { rig in
            let client = try rig.client("operator")
            var statuses: [Int] = []
            for _ in 0..<8 {
                do { statuses.append(try await client.get("").status) } catch let error as RESTCONFClientError {
                    statuses.append(error.status ?? -1)
                }
            }
            #expect(statuses.prefix(5).allSatisfy { $0 == 200 } && statuses.suffix(2) == [429, 429], "\(statuses)")
            let answer = try await rig.curl("/restconf", as: "operator")
            #expect(answer.status == 429 && answer.tag == "resource-denied" && answer.headers["retry-after"] == "1", "\(answer)")
            // Another client is not held to it.
            #expect(try await rig.curl("/restconf", as: "controller").status == 200)
        }
    }

    @Test func connectionsBeyondTheLimitAreTold() async throws {
        var limits = RESTCONFLimits()
        limits.connections = 3
        try await ServerRig.serving(limits: limits) { rig in
            var open: [ServerRawClient] = []
            for _ in 0..<3 {
                let raw = try await ServerRawClient(port: rig.port, files: rig.pki.files("operator"))
                try await raw.send("GET /restconf HTTP/1.1\r\nHost: x\r\n\r\n")
                #expect(await serverEventually { raw.text.contains("yang-library-version") }, "\(raw.text)")
                open.append(raw)
            }
            let surplus = try await rig.curl("/restconf", as: "operator")
            #expect(surplus.status == 503 && surplus.tag == "resource-denied" && surplus.headers["connection"] == "close", "\(surplus)")
            #expect(surplus.headers["retry-after"] != nil)
            await open[0].close()
            #expect(await serverEventually { (try? await rig.curl("/restconf", as: "operator").status) == 200 })
            for raw in open { await raw.close() }
        }
    }

    /// Handshakes that never end, heads and bodies that trickle, connections that sleep: each has its time, none keeps a descriptor.
    @Test func halfOpenConnections() async throws {
        var limits = RESTCONFLimits()
        (limits.headSeconds, limits.bodySeconds, limits.idleSeconds) = (1, 1, 1)
        try await ServerRig.serving(limits: limits) { rig in
            let files = rig.pki.files("controller")
            let before = serverSockets(rig.port)
            let silent = try await ServerRawClient(port: rig.port, files: nil)
            let babbling = try await ServerRawClient(port: rig.port, files: nil)
            try await babbling.send("GET / HTTP/1.1\r\n\r\n")
            let shaken = try await ServerRawClient(port: rig.port, files: files)
            let slowHead = try await ServerRawClient(port: rig.port, files: files)
            let slowBody = try await ServerRawClient(port: rig.port, files: files)
            try await slowBody.send(
                "PATCH \(bench) HTTP/1.1\r\nHost: x\r\nContent-Type: application/yang-data+json\r\nContent-Length: 1000\r\n\r\n{")
            let idle = try await ServerRawClient(port: rig.port, files: files)
            try await idle.send("GET /restconf HTTP/1.1\r\nHost: x\r\n\r\n")
            let trickle = Task {
                for letter in "GET /restconf HTTP/1.1\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
                    try await slowHead.send(String(letter))
                    try await slowBody.send(" ")
                    try await Task.sleep(for: .milliseconds(50))
                }
            }
            for (name, raw) in [
                ("silent", silent), ("babbling", babbling), ("shaken", shaken), ("slow head", slowHead), ("slow body", slowBody),
                ("idle", idle),
            ] {
                #expect(await raw.ended(within: .seconds(6)), "\(name)")
            }
            trickle.cancel()
            #expect(idle.text.contains("200 OK"))
            #expect(slowBody.text.hasPrefix("HTTP/1.1 408 ") && slowBody.text.contains("did not arrive within 1 s"), "\(slowBody.text)")
            #expect(await serverEventually { serverSockets(rig.port) <= before }, "\(serverSockets(rig.port)) sockets, \(before) before")
            #expect(try await rig.curl("/restconf", as: "controller").status == 200)
        }
    }

    @Test func whatIsNoHTTPIsAnswered() async throws {
        try await ServerRig.serving { rig in
            let files = rig.pki.files("controller")
            for text in ["\u{1}\u{2}\u{3}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nA B: c\r\n\r\n"] {
                let raw = try await ServerRawClient(port: rig.port, files: files)
                try await raw.send(text)
                #expect(await raw.ended(), "\(text)")
                #expect(raw.text.hasPrefix("HTTP/1.1 400 ") && raw.text.contains("malformed-message"), "\(text): \(raw.text)")
            }
            // A chunked body that breaks off in nonsense.
            let raw = try await ServerRawClient(port: rig.port, files: files)
            try await raw.send(
                "PATCH \(bench) HTTP/1.1\r\nHost: x\r\nContent-Type: application/yang-data+json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
            )
            #expect(await raw.ended())
            #expect(raw.text.hasPrefix("HTTP/1.1 400 ") && raw.text.contains("malformed-message"), "\(raw.text)")
            // Two requests in one packet have two answers in order.
            let pair = try await ServerRawClient(port: rig.port, files: files)
            try await pair.send("GET /restconf HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(await serverEventually { pair.text.contains("HTTP/1.1 404") && pair.text.contains("HTTP/1.1 200") }, "\(pair.text)")
            await pair.close()
        }
    }

    /// Bodies and paths out of broken pieces: an answer each, and a server that is still there.
    @Test func fuzz() async throws {
        var limits = RESTCONFLimits()
        (limits.requestsPerSecond, limits.requestBurst) = (100_000, 100_000)
        try await ServerRig.serving(limits: limits) { rig in
            try await rig.fill()
            let client = try rig.client()
            var random = SeededGenerator()
            let pieces = [
                "lab-bench:", "bench", "/", "link", "=", ",", "%2F", "%00", "%", "title", "?depth=1", "&", "?fields=", "(", ")", ";", "*",
                "route", "'", "\"", "[name='x']", "..", "é", "ietf-yang-library:", "%F0%9F%98%80", "status", "=almagro-norte", "?",
            ]
            let parts = [
                "{", "}", "[", "]", ":", ",", "\"lab-bench:bench\"", "\"link\"", "\"name\"", "\"x\"", "\"", "\\", "null", "[null]",
                "-1e999",
                "\"title\"", "\u{0}", "<bench xmlns=\"urn:sdqkd:test:lab-bench\">", "</bench>", "<", "&#0;", "\"@title\"", "true",
                "99999999999999999999",
            ]
            var statuses: [Int: Int] = [:]
            for round in 0..<600 {
                let path = (0..<Int.random(in: 0..<8, using: &random)).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
                let body = (0..<Int.random(in: 0..<12, using: &random)).map { _ in parts.randomElement(using: &random) ?? "" }.joined()
                let method = ["GET", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"][round % 6]
                let type = round % 3 == 0 ? "application/yang-data+xml" : "application/yang-data+json"
                let target = "/restconf/data/" + (path.addingPercentEncoding(withAllowedCharacters: .init(charactersIn: "!"..."~")) ?? "")
                do {
                    let answer = try await client.request(
                        method, target, headers: ["content-type": type, "accept": "application/yang-data+json"],
                        body: ["GET", "OPTIONS", "DELETE"].contains(method) ? nil : Data(body.utf8))
                    statuses[answer.status, default: 0] += 1
                } catch let error as RESTCONFClientError {
                    guard case .refused(let refusal) = error else {
                        Issue.record("\(method) \(target) \(body): \(error)")
                        continue
                    }
                    #expect(refusal.status < 500 || refusal.status == 501, "seed \(random.seed): \(method) \(target) \(body): \(refusal)")
                    statuses[refusal.status, default: 0] += 1
                }
            }
            #expect((statuses[400] ?? 0) > 100, "\(statuses)")
            #expect(try await rig.curl("/restconf", as: "operator").status == 200)
        }
    }
}
