// Requests and notifications per second with 1,000 links in the datastore. `SDQKD_BENCH=seconds` measures longer and prints.

import Foundation
import RESTCONF
import Testing

@Suite(.serialized) struct ServerBenchTests {
    @Test func aThousandLinks() async throws {
        let asked = ProcessInfo.processInfo.environment["SDQKD_BENCH"].flatMap(Double.init)
        var limits = RESTCONFLimits()
        (limits.requestsPerSecond, limits.requestBurst) = (1e6, 1e6)
        try await ServerRig.serving(limits: limits) { rig in
            let links = (0..<1000).map { "{\"name\":\"link-\($0)\",\"loss\":\"\(Double($0 % 300) / 10)\"}" }.joined(separator: ",")
            let client = try rig.client()
            try await client.put("lab-bench:bench", Data("{\"lab-bench:bench\":{\"link\":[\(links)]}}".utf8))
            let figures = try await RESTCONFBench(base: rig.base, files: rig.pki.files("controller")).run(
                get: "lab-bench:bench/link=link-500",
                patch: (
                    "lab-bench:bench/link=link-500",
                    { Data("{\"lab-bench:link\":[{\"name\":\"link-500\",\"loss\":\"\($0 % 90).5\"}]}".utf8) }
                ),
                publish: { try await rig.streams.publish("lab-bench:link-changed", "{\"name\":\"link-\($0)\",\"state\":\"up\"}") },
                connections: 4, subscribers: 8, seconds: asked ?? 0.5)
            #expect(figures.gets > 20 && figures.patches > 1 && figures.delivered > 100, "\(figures)")
            if asked != nil {
                print("bench:", figures)
                let began = ContinuousClock.now
                let whole = try await client.get("lab-bench:bench")
                print("bench: GET of all links:", whole.body.count, "bytes in", ContinuousClock.now - began)
            }
        }
    }
}
