// Clients that are broken, slow or hostile: a clear answer each, and nothing of them left behind.

import Foundation
import RESTCONF
import Testing

private let bench = "/restconf/data/lab-bench:bench"
private let types = ["content-type": "application/yang-data+json"]

@Suite(.serialized) struct ServerRobustnessTests {
    private static func unlimited() -> RESTCONFLimits {
        var limits = RESTCONFLimits()
        (limits.requestsPerSecond, limits.requestBurst) = (1e6, 1e6)
        return limits
    }

    private func residentKilobytes() throws -> Int {
        let line = try String(contentsOfFile: "/proc/self/status", encoding: .utf8).split(separator: "\n").first { $0.hasPrefix("VmRSS") }
        return line.flatMap { Int($0.split(separator: " ").dropFirst().first ?? "") } ?? 0
    }

    // MARK: Thousands of bad requests

    private static let bodies = [
        "{", "[]", "null", "{\"lab-bench:bench\":{\"none\":1}}", "{\"lab-bench:bench\":{\"link\":[{\"loss\":\"1.0\"}]}}",
        "{\"lab-bench:bench\":{\"link\":[{\"name\":\"x\",\"loss\":\"much\"}]}}", "{\"lab-bench:bench\":{\"title\":\"refuse-me\"}}",
        "{\"lab-bench:bench\":{\"@title\":{}}}", "{\"lab-bench:bench\":[]}", "{\"lab-bench:bench\":{}} {}",
        "{\"lab-bench:input\":{\"text\":\"x\"},\"lab-bench:ping\":{}}", "{\"lab-bench:input\":{\"text\":\"x\"}1e9}",
        "{\"lab-bench:input\":{",
        String(repeating: "{\"a\":", count: 500), "<bench xmlns=\"urn:sdqkd:test:lab-bench\"><none/></bench>", "<a", "<!DOCTYPE a><a/>",
        "{\"lab-bench:link\":[{\"name\":\"\(String(repeating: "n", count: 3000))\"}]}",
    ]
    private static let targets = [
        bench, bench + "/link=none", bench + "/link=almagro-norte", bench + "?depth=0", bench + "?insert=after", "/restconf/data/x:y",
        "/restconf/data/lab-bench:bench/link", "/restconf/operations/lab-bench:echo", "/restconf/operations/lab-bench:none",
        "/streams/none/json", "/streams/NETCONF/json?start-time=never", "/restconf/data/lab-bench:bench/link=%ff",
        "/restconf/data/lab-bench:status",
    ]

    private func badRequests(_ count: Int, _ rig: ServerRig, _ client: RESTCONFClient, _ random: inout SeededGenerator) async throws {
        for index in 0..<count {
            let method = ["PATCH", "POST", "PUT", "PATCH", "POST", "DELETE", "GET"][index % 7]
            let target = Self.targets.randomElement(using: &random) ?? bench
            let body = Self.bodies.randomElement(using: &random) ?? ""
            // What is well-formed but meant for another place may be a deletion: it has to be undone for the next ones.
            if method == "DELETE", target.hasSuffix("almagro-norte") || target == bench { continue }
            var headers = body.hasPrefix("<") ? ["content-type": "application/yang-data+xml"] : types
            if index % 11 == 0 { headers = ["content-type": "text/plain"] }
            headers["accept"] = "application/yang-data+json"
            if index % 13 == 0 { headers["if-match"] = "W/\"x\", \"" }
            do {
                _ = try await client.request(
                    method, target, headers: headers, body: method == "GET" || method == "DELETE" ? nil : Data(body.utf8))
            } catch {
                guard case .refused(let refusal) = error, refusal.status < 500, !refusal.message.isEmpty else {
                    Issue.record("seed \(random.seed): \(method) \(target) \(body.prefix(200)): \(error)")
                    continue
                }
            }
        }
    }

    /// Bare TCP, foreign certificates, requests that break off.
    private func badConnections(_ count: Int, _ rig: ServerRig, _ foreign: TLSFiles) async throws {
        for index in 0..<count {
            let files = [nil, foreign, rig.pki.files("controller")][index % 3]
            guard let raw = try? await ServerRawClient(port: rig.port, files: files) else { continue }
            let text = [
                "", "\u{16}\u{3}\u{1}\u{2}", "GET / HTTP/1.1\r\n", "PATCH \(bench) HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{",
            ][index % 4]
            if !text.isEmpty { try? await raw.send(text) }
            await raw.close()
        }
    }

    @Test func thousandsOfBadRequestsLeaveNothingBehind() async throws {
        try await ServerRig.serving(limits: Self.unlimited()) { rig in
            try await rig.fill()
            let client = try rig.client()
            let own = rig.pki.files("controller")
            let stranger = try ServerPKI(rig.scratch, folder: "foreign", names: ["controller"]).files("controller")
            let foreign = TLSFiles(certificate: stranger.certificate, key: stranger.key, authority: own.authority)
            var random = SeededGenerator()
            var growth: [Int] = []
            for round in 0..<6 {
                let before = try residentKilobytes()
                try await badRequests(600, rig, client, &random)
                try await badConnections(60, rig, foreign)
                // The first round fills caches and pools; other tests run beside this one, so the least growth counts.
                if round > 0 { growth.append(try residentKilobytes() - before) }
            }
            print("  memory: 600 bad requests and 60 bad connections, five times: \(growth) KiB more")
            #expect((growth.min() ?? .max) < 1024, "\(growth)")
            // The listening socket, and both ends of what the client's pool keeps.
            #expect(await serverEventually { serverSockets(rig.port) <= 3 }, "\(serverSockets(rig.port))")
            #expect(await rig.streams.subscribers == 0)
            let titles = try await rig.curl(bench + "/title", as: "operator")
            #expect(titles.status == 200, "\(titles)")
        }
    }

    // MARK: Bodies

    private static func entities() -> String {
        let levels = (1...9).map { "<!ENTITY l\($0) \"\(String(repeating: "&l\($0 - 1);", count: 10))\">" }.joined()
        return
            "<?xml version=\"1.0\"?><!DOCTYPE b [<!ENTITY l0 \"lol\">\(levels)]><bench xmlns=\"urn:sdqkd:test:lab-bench\"><title>&l9;</title></bench>"
    }

    /// Section 12: what costs a parser time or memory is refused, quickly.
    @Test func hugeAndDeepBodies() async throws {
        try await ServerRig.serving(limits: Self.unlimited()) { rig in
            try await rig.fill()
            let client = try rig.client()
            let open = "<bench xmlns=\"urn:sdqkd:test:lab-bench\""
            let cases: [(String, DataEncoding, String, ClosedRange<Int>)] = [
                ("a billion laughs", .xml, Self.entities(), 400...400),
                ("an entity that nobody declared", .xml, open + "><title>&lol;</title></bench>", 400...400),
                ("elements in elements", .xml, String(repeating: "<a>", count: 300_000), 413...413),
                ("attributes", .xml, open + (0..<60_000).map { " a\($0)=\"\"" }.joined() + "/>", 400...400),
                (
                    "namespaces", .xml, open + (0..<30_000).map { " xmlns:n\($0)=\"urn:n\($0)\"" }.joined() + "><title>t</title></bench>",
                    400...400
                ),
                ("a name", .xml, "<" + String(repeating: "n", count: 1_000_000) + "/>", 400...400),
                ("comments", .xml, String(repeating: "<!---->", count: 140_000), 400...400),
                ("arrays in arrays", .json, String(repeating: "[", count: 1_000_000), 413...413),
                ("objects in objects", .json, String(repeating: "{\"a\":", count: 190_000), 413...413),
                ("members", .json, "{\"lab-bench:bench\":{" + (0..<70_000).map { "\"m\($0)\":1" }.joined(separator: ",") + "}}", 400...400),
                (
                    "one entry many times", .json,
                    "{\"lab-bench:bench\":{\"link\":[" + Array(repeating: "{\"name\":\"same\"}", count: 5000).joined(separator: ",")
                        + "]}}", 200...409
                ),
                ("a member's name", .json, "{\"lab-bench:\(String(repeating: "n", count: 1_000_000))\":1}", 400...400),
                ("digits", .json, "{\"lab-bench:bench\":{\"title\":\(String(repeating: "9", count: 1_000_000))}}", 400...400),
                ("blanks", .json, String(repeating: " ", count: 1_000_000), 400...400),
                (
                    "entries", .json,
                    "{\"lab-bench:bench\":{\"link\":[" + (0..<20_000).map { "{\"name\":\"n\($0)\"}" }.joined(separator: ",") + "]}}",
                    204...204
                ),
            ]
            for (name, encoding, body, statuses) in cases {
                #expect(body.utf8.count < 1 << 20)
                let began = ContinuousClock.now
                var status = 0
                do {
                    status = try await client.request("PATCH", bench, headers: ["content-type": encoding.mediaType], body: Data(body.utf8))
                        .status
                } catch let error as RESTCONFClientError {
                    status = error.status ?? -1
                    if case .refused(let refusal) = error { #expect(refusal.message.count < 1000, "\(name)") }
                }
                let took = ContinuousClock.now - began
                #expect(statuses.contains(status) && took < .seconds(5), "\(name): \(status) after \(took)")
                if took > .milliseconds(500) { print("  \(name): \(took)") }
            }
            #expect(try await client.get("lab-bench:bench/title").status == 200)
        }
    }

    // MARK: Slow and many

    /// A client that asks for much and takes nothing is hung up on; others do not notice.
    @Test func whoTakesNoAnswersIsHungUpOn() async throws {
        var limits = Self.unlimited()
        limits.answerSeconds = 1
        try await ServerRig.serving(limits: limits) { rig in
            let links = (0..<3000).map { "{\"name\":\"link-\($0)\",\"loss\":\"1.5\"}" }.joined(separator: ",")
            let client = try rig.client()
            try await client.put("lab-bench:bench", Data("{\"lab-bench:bench\":{\"link\":[\(links)]}}".utf8))
            let slow = try await ServerRawClient(port: rig.port, files: rig.pki.files("operator"), receiveBuffer: 8192)
            try await slow.send("GET /restconf HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(await serverEventually { slow.count > 0 })
            try await slow.pause()
            let whole = try await client.get("lab-bench:bench").body.count
            try await slow.send(String(repeating: "GET \(bench) HTTP/1.1\r\nHost: x\r\n\r\n", count: 100))
            try await Task.sleep(for: .seconds(3))
            // What has arrived meanwhile is read, and then there is an end.
            try await slow.resume()
            #expect(await slow.ended(within: .seconds(5)))
            #expect(slow.count < 100 * whole, "\(slow.count) of \(100 * whole)")
            let began = ContinuousClock.now
            #expect(try await client.get("lab-bench:bench/link=link-7").status == 200)
            #expect(ContinuousClock.now - began < .seconds(2))
            await slow.close()
        }
    }

    /// Connections that never become requests take no place for longer than a head may take; whoever is there already is served.
    @Test func aFloodOfConnections() async throws {
        var limits = Self.unlimited()
        (limits.connections, limits.headSeconds) = (16, 1)
        try await ServerRig.serving(limits: limits) { rig in
            let client = try rig.client("operator")
            #expect(try await client.get("").status == 200)
            var open: [ServerRawClient] = []
            for _ in 0..<80 { open.append(try await ServerRawClient(port: rig.port, files: nil)) }
            for _ in 0..<20 {
                let began = ContinuousClock.now
                #expect(try await client.get("").status == 200)
                #expect(ContinuousClock.now - began < .seconds(2))
            }
            for raw in open { #expect(await raw.ended(within: .seconds(20))) }
            #expect(try await rig.curl("/restconf", as: "operator").status == 200)
            #expect(await serverEventually { serverSockets(rig.port) <= 3 }, "\(serverSockets(rig.port))")
        }
    }
}
