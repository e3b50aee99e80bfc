import Foundation
import RESTCONF
import Testing

private let bench = "lab-bench:bench"

@Suite(.serialized) struct ClientTests {
    @Test func methodsAndTypedErrors() async throws {
        try await ServerRig.serving { rig in
            let client = try rig.client()
            #expect(try await client.put(bench, Data(ServerRig.content.utf8)))
            let location = try await client.post(bench, Data(#"{"lab-bench:link":[{"name":"n","loss":"1.0"}]}"#.utf8))
            #expect(location == "\(rig.base)/restconf/data/lab-bench:bench/link=n")
            let answer = try await client.get(bench + "/link=n", query: "content=config")
            #expect(answer.status == 200 && String(decoding: answer.body, as: UTF8.self).contains("\"loss\":\"1.0\""))
            let etag = try #require(answer.etag)
            #expect(!etag.contains("\"") && answer.lastModified != nil)
            #expect(try await client.get(bench, encoding: .xml).headers["content-type"] == "application/yang-data+xml")
            try await client.patch(bench + "/link=n", Data(#"{"lab-bench:link":[{"name":"n","loss":"2.0"}]}"#.utf8), ifMatch: etag)
            let stale = await #expect(throws: RESTCONFClientError.self) { try await client.delete(bench + "/link=n", ifMatch: etag) }
            #expect(stale?.status == 412)
            try await client.delete(bench + "/link=n")
            let gone = await #expect(throws: RESTCONFClientError.self) { try await client.get(bench + "/link=n") }
            guard case .refused(let error) = gone else {
                Issue.record("\(String(describing: gone))")
                return
            }
            #expect(error.status == 404 && error.tag == .invalidValue)
            let output = try await client.invoke("lab-bench:echo", Data(#"{"lab-bench:input":{"text":"t"}}"#.utf8))
            #expect(output.map { String(decoding: $0, as: UTF8.self) }?.contains("\"t\"") == true)
            #expect(try await client.invoke("lab-bench:ping") == nil)
        }
    }

    @Test func trustAndReach() async throws {
        #expect(throws: RESTCONFSetupError.badURL("http://x")) {
            try RESTCONFClient(base: "http://x", files: TLSFiles(certificate: "a", key: "b", authority: "c"))
        }
        #expect(throws: RESTCONFSetupError.self) {
            try RESTCONFClient(base: "https://x", files: TLSFiles(certificate: "/none", key: "/none", authority: "/none"))
        }
        try await ServerRig.serving { rig in
            // A server that another authority vouches for.
            let foreign = try ServerPKI(rig.scratch, folder: "foreign", names: ["controller"])
            let mixed = TLSFiles(
                certificate: rig.pki.files("controller").certificate, key: rig.pki.files("controller").key,
                authority: foreign.files("controller").authority)
            let wary = try RESTCONFClient(base: rig.base, files: mixed)
            let error = await #expect(throws: RESTCONFClientError.self) { try await wary.get("") }
            guard case .unreachable = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            await rig.stop()
            // Section 2.3: a certificate of the right authority that names another host.
            try rig.pki.issue("elsewhere", onLoopback: false)
            try await rig.start(certificate: "elsewhere")
            for host in ["127.0.0.1", "localhost"] {
                let wrong = try RESTCONFClient(base: "https://\(host):\(rig.port)", files: rig.pki.files("controller"))
                let error = await #expect(throws: RESTCONFClientError.self) { try await wrong.get("") }
                guard case .unreachable = error else {
                    Issue.record("\(host): \(String(describing: error))")
                    continue
                }
            }
            await rig.stop()
            let alone = await #expect(throws: RESTCONFClientError.self) { try await rig.client().get("") }
            #expect(alone?.status == nil)
        }
    }

    /// The server goes and comes back: nothing is lost, nothing comes twice.
    @Test func eventsSurviveTheServer() async throws {
        let rig = try await ServerRig()
        try await rig.start()
        let port = rig.port
        let client = try rig.client("operator")
        let seen = Task {
            var names: [String] = []
            for try await event in client.events(pauses: .init(first: .milliseconds(50), longest: .milliseconds(200))) {
                let body = try #require(JSONSerialization.jsonObject(with: event.json) as? [String: [String: Any]])
                let contents = body["ietf-restconf:notification"]?[event.name] as? [String: String]
                names.append(contents?["name"] ?? "?")
                if names.last == "end" { break }
            }
            return names
        }
        func publish(_ name: String) async throws { try await rig.streams.publish("lab-bench:link-changed", "{\"name\":\"\(name)\"}") }
        #expect(await serverEventually { await rig.streams.subscribers == 1 })
        // Two with the same time: the place in the stream is more than a time.
        let time = Date()
        try await rig.streams.publish("lab-bench:link-changed", #"{"name":"1"}"#, time: time)
        try await rig.streams.publish("lab-bench:link-changed", #"{"name":"2"}"#, time: time)
        try await Task.sleep(for: .milliseconds(100))
        await rig.stop()
        #expect(await serverEventually { await rig.streams.subscribers == 0 })
        try await publish("3")
        try await publish("4")
        try await rig.start(port: port)
        #expect(await serverEventually { await rig.streams.subscribers == 1 })
        try await publish("end")
        #expect(try await seen.value == ["1", "2", "3", "4", "end"])
        await rig.stop()
    }

    @Test func eventsThatWillNeverComeAreAnError() async throws {
        try await ServerRig.serving { rig in
            for (name, stream) in [("stranger", "NETCONF"), ("operator", "none")] {
                let client = try rig.client(name)
                let error = await #expect(throws: RESTCONFClientError.self) { for try await _ in client.events(stream) {} }
                #expect(error?.status == (name == "stranger" ? 403 : 404))
            }
        }
    }
}
