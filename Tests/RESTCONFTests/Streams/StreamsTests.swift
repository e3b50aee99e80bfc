// Event streams: RFC 8040, section 6, with curl and raw connections as subscribers.

import Foundation
import RESTCONF
import Testing

private let changed = "lab-bench:link-changed"

private func contents(_ name: String, _ state: String = "up") -> String { "{\"name\":\"\(name)\",\"state\":\"\(state)\"}" }

@Suite(.serialized) struct StreamsTests {
    /// Publishes when the subscriber is there; gives what curl got within its time.
    private func listen(
        _ rig: ServerRig, _ target: String, seconds: Double = 4, _ more: [String] = [],
        publishing: @escaping @Sendable () async throws -> Void
    ) async throws -> ServerRig.Answer {
        let before = await rig.streams.subscribers
        async let answer = rig.curl(target, as: "operator", ["-N", "-m", "\(seconds)", "-H", "Accept: text/event-stream"] + more)
        #expect(await serverEventually { await rig.streams.subscribers > before })
        try await publishing()
        return try await answer
    }

    /// Section 6.4: both encodings.
    @Test func notificationsInJSONAndXML() async throws {
        try await ServerRig.serving { rig in
            // Both at once, each for long enough on a busy machine.
            async let first = rig.curl("/streams/NETCONF/json", as: "operator", ["-N", "-m", "5"])
            async let second = rig.curl("/streams/NETCONF/xml", as: "operator", ["-N", "-m", "5"])
            #expect(await serverEventually { await rig.streams.subscribers == 2 })
            try await rig.streams.publish(changed, contents("a"), time: Date(timeIntervalSince1970: 1_795_428_000))
            try await rig.streams.publish(changed, contents("b & c"))
            let (json, xml) = try await (first, second)
            #expect(json.status == 200 && json.headers["content-type"] == "text/event-stream", "\(json)")
            let line = try #require(json.text.split(separator: "\n").first { $0.hasPrefix("data: ") }, "\(json)")
            let document = try #require(try JSONSerialization.jsonObject(with: Data(line.dropFirst(6).utf8)) as? [String: Any])
            let body = try #require(document["ietf-restconf:notification"] as? [String: Any], "\(line)")
            #expect((body["eventTime"] as? String).flatMap(DateAndTime.parse)?.timeIntervalSince1970 == 1_795_428_000, "\(line)")
            #expect(body[changed] as? [String: String] == ["name": "a", "state": "up"], "\(line)")
            #expect(xml.text.contains("data: <notification xmlns=\"urn:ietf:params:xml:ns:netconf:notification:1.0\">"), "\(xml)")
            #expect(xml.text.contains("<eventTime>") && xml.text.contains("<link-changed xmlns=\"urn:sdqkd:test:lab-bench\">"), "\(xml)")
            #expect(xml.text.contains("<name>b &amp; c</name>"))
            #expect(await serverEventually { await rig.streams.subscribers == 0 })
        }
    }

    /// What the schema does not know is not published.
    @Test func notificationsAreChecked() async throws {
        let rig = try await ServerRig()
        for (name, contents) in [
            (changed, "{\"state\":\"sideways\"}"), (changed, "{\"none\":1}"), ("lab-bench:none", "{}"), (changed, "{"),
        ] {
            await #expect(throws: RESTCONFError.self, "\(name) \(contents)") { try await rig.streams.publish(name, contents) }
        }
        let stream = try await rig.streams.subscribe(from: .distantPast, until: Date() - 1)
        for await _ in stream { Issue.record("something was published") }
    }

    /// Sections 4.8.7 and 4.8.8: replay.
    @Test func replay() async throws {
        try await ServerRig.serving { rig in
            let start = Date(timeIntervalSince1970: (Date().timeIntervalSince1970 - 100).rounded())
            for second in 0..<10 { try await rig.streams.publish(changed, contents("n\(second)"), time: start + Double(second)) }
            func names(_ answer: ServerRig.Answer) -> [String] {
                answer.text.split(separator: "\n").compactMap { line in
                    (0..<12).map { "n\($0)" }.first { line.contains("\"\($0)\"") }
                }
            }
            let (from, to) = (DateAndTime.text(start + 3), DateAndTime.text(start + 6))
            // Both in the past: the stream ends by itself.
            let past = try await rig.curl("/streams/NETCONF/json?start-time=\(from)&stop-time=\(to)", as: "operator")
            #expect(past.status == 200 && names(past) == ["n3", "n4", "n5", "n6"] && past.errors.isEmpty, "\(past)")
            let rest = try await listen(rig, "/streams/NETCONF/json?start-time=\(DateAndTime.text(start + 8))") {
                try await rig.streams.publish(changed, contents("n10"))
            }
            #expect(names(rest) == ["n8", "n9", "n10"], "\(rest)")
            // A stop-time in the future ends a stream that is open.
            let soon = DateAndTime.text(Date() + 3)
            let stopped = try await listen(
                rig, "/streams/NETCONF/json?start-time=\(DateAndTime.text(Date() - 1))&stop-time=\(soon)", seconds: 10
            ) {
                try await rig.streams.publish(changed, contents("n11"))
            }
            #expect(names(stopped).last == "n11" && stopped.errors.isEmpty, "\(stopped)")
            let refused = [
                "start-time=yesterday", "stop-time=\(to)", "start-time=\(to)&stop-time=\(from)", "start-time=\(from)&stop-time=\(from)",
                "start-time=2999-01-01T00:00:00Z", "filter=%2Fx", "depth=1",
            ]
            for query in refused {
                let answer = try await rig.curl("/streams/NETCONF/json?\(query)", as: "operator")
                #expect(answer.status == 400 && answer.tag == "invalid-value", "\(query): \(answer)")
            }
            let other = try await listen(rig, "/streams/nothing/json?start-time=\(from)", seconds: 1) {}
            #expect(other.status == 200 && names(other).isEmpty)
        }
    }

    @Test func theOldestAreForgotten() async throws {
        let rig = try await ServerRig(replayCapacity: 8)
        for index in 0..<50 { try await rig.streams.publish(changed, contents("n\(index)"), time: Date() - 60 + Double(index)) }
        var seen: [String] = []
        for await one in try await rig.streams.subscribe(from: .distantPast, until: Date() - 1) { seen.append(one.contents) }
        #expect((8...10).contains(seen.count) && seen.last == contents("n49"), "\(seen)")
    }

    @Test func commentsKeepTheLineAndGraspLoss() async throws {
        var limits = RESTCONFLimits()
        limits.keepAliveSeconds = 0.2
        try await ServerRig.serving(limits: limits) { rig in
            let answer = try await listen(rig, "/streams/NETCONF/json", seconds: 3) {}
            #expect(answer.text.components(separatedBy: ": keep-alive\n\n").count > 4, "\(answer)")
            #expect(await serverEventually { await rig.streams.subscribers == 0 })
            #expect(await serverEventually { serverSockets(rig.port) == 1 })
        }
    }

    /// Of two subscribers one reads nothing: it is dropped, the other gets everything, and publishing never waits.
    @Test func aSlowSubscriberIsDropped() async throws {
        var limits = RESTCONFLimits()
        limits.subscriberBacklog = 200
        try await ServerRig.serving(limits: limits) { rig in
            let files = rig.pki.files("operator")
            let request = "GET /streams/NETCONF/json HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
            let slow = try await ServerRawClient(port: rig.port, files: files, receiveBuffer: 8192)
            try await slow.send(request)
            let quick = try await ServerRawClient(port: rig.port, files: files)
            try await quick.send(request)
            #expect(await serverEventually { await rig.streams.subscribers == 2 })
            try await slow.pause()
            let long = String(repeating: "x", count: 20_000)
            let began = ContinuousClock.now
            var longest = Duration.zero
            // As fast as the quick one follows, until what is between the server and the slow one is full.
            for index in 1...1000 {
                guard await rig.streams.subscribers == 2 else { break }
                let before = ContinuousClock.now
                try await rig.streams.publish(changed, contents("\(long)\(index)"))
                longest = max(longest, ContinuousClock.now - before)
                if index % 50 == 0 { #expect(await serverEventually { quick.count > index * long.utf8.count }) }
            }
            #expect(longest < .seconds(1), "publishing took \(longest) once, \(ContinuousClock.now - began) in all")
            #expect(await serverEventually { await rig.streams.subscribers == 1 })
            try await rig.streams.publish(changed, contents("the last"))
            #expect(await serverEventually { quick.text.contains("the last") })
            try await slow.resume()
            #expect(await slow.ended())
            await quick.close()
            await slow.close()
            #expect(await serverEventually { await rig.streams.subscribers == 0 })
        }
    }

    @Test func placesForSubscribers() async throws {
        var limits = RESTCONFLimits()
        (limits.subscribers, limits.subscribersPerClient) = (3, 2)
        try await ServerRig.serving(limits: limits) { rig in
            func open(_ name: String) async throws -> ServerRawClient {
                let raw = try await ServerRawClient(port: rig.port, files: rig.pki.files(name))
                try await raw.send("GET /streams/NETCONF/json HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
                #expect(await serverEventually { raw.text.contains("keep-alive") }, "\(raw.text)")
                return raw
            }
            let first = try await open("operator")
            let others = [try await open("operator")]
            let own = try await rig.curl("/streams/NETCONF/json", as: "operator")
            #expect(own.status == 503 && own.message.contains("'operator' has its 2") && own.headers["retry-after"] == "10", "\(own)")
            let last = try await open("controller")
            let all = try await rig.curl("/streams/NETCONF/json", as: "controller")
            #expect(all.status == 503 && all.message.contains("its 3 event streams"), "\(all)")
            await first.close()
            #expect(await serverEventually { await rig.streams.subscribers == 2 })
            let again = try await open("operator")
            for raw in others + [last, again] { await raw.close() }
        }
    }

    @Test func eventsInParts() {
        var parser = EventParser()
        let text = ": comment\r\n\r\ndata: a\ndata:b\n\nid: 7\nevent: x\ndata:  c\n\n\n\ndata\n\ndata: d"
        var events: [String] = []
        for byte in text.utf8 { events += parser.feed([byte])?.map { String(decoding: $0, as: UTF8.self) } ?? ["too long"] }
        #expect(events == ["a\nb", " c", ""])
        #expect(parser.feed(Array(repeating: UInt8(ascii: "x"), count: EventParser.longest + 1)) == nil)
    }
}
