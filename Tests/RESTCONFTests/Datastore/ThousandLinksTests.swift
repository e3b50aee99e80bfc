import Foundation
import RESTCONF
import Testing

/// A node with a thousand links: what one request costs, and that thousands of edits leave nothing behind.
@Suite("a node with 1,000 links", .serialized) struct ThousandLinksTests {
    static let node = "11111111-1111-4111-8111-111111111111"

    static func id(_ index: Int) -> String { String(format: "33333333-3333-4333-8333-%012d", index) }

    static func link(_ index: Int, attenuation: String = "6.0") -> String {
        """
        {"qkdl_id":"\(id(index))","qkdl_enable":true,"qkdl_type":"etsi-qkd-node-types:PHYS",
        "qkdl_local":{"qkdn_id":"\(node)","qkdi_id":\(index)},"qkdl_remote":{"qkdn_id":"\(id(index))","qkdi_id":1},
        "phys_channel_att":"\(attenuation)","phys_wavelength":"34","phys_qkd_role":"etsi-qkd-node-types:TRANSMITTER",
        "sdqkd-cv-qkd:cv-qkd":{"link-name":"link-\(index)","device":"tx","slot-weight":"2.5"}}
        """
    }

    static func configuration(_ count: Int = 1000) -> String {
        let links = (0..<count).map { link($0) }.joined(separator: ",")
        return #"{"etsi-qkd-sdn-node:qkd_node":{"qkdn_id":"\#(node)","qkd_links":{"qkd_link":[\#(links)]}}}"#
    }

    static func state(_ count: Int = 1000) -> String {
        let links = (0..<count).map { index in
            """
            {"qkdl_id":"\(id(index))","qkdl_status":"etsi-qkd-node-types:ACTIVE","qkdl_performance":{"skr":\(index),"eskr":1,
            "phys_perf":[{"perf_type":"etsi-qkd-node-types:SNR","value":"0.163"}]},
            "sdqkd-cv-qkd:cv-qkd-state":{"connected":true,"transmittance":"0.25","excess-noise":"0.005","slot-share":"0.35"}}
            """
        }
        return #"{"etsi-qkd-sdn-node:qkd_node":{"qkd_links":{"qkd_link":[\#(links.joined(separator: ","))]}}}"#
    }

    static let links = "etsi-qkd-sdn-node:qkd_node/qkd_links"
    let rig: DatastoreRig

    init() throws { rig = try DatastoreRig(YANGRig.nodeSchema(), initial: Self.configuration()) }

    private func residentKilobytes() throws -> Int {
        let line = try String(contentsOfFile: "/proc/self/status", encoding: .utf8).split(separator: "\n").first { $0.hasPrefix("VmRSS") }
        return line.flatMap { Int($0.split(separator: " ").dropFirst().first ?? "") } ?? 0
    }

    private func rate(_ what: String, _ count: Int, _ body: (Int) async throws -> Void) async rethrows -> Double {
        let start = ContinuousClock.now
        for index in 0..<count { try await body(index) }
        let took = ContinuousClock.now - start
        let seconds = Double(took.components.seconds) + Double(took.components.attoseconds) * 1e-18
        print("  \(what): \(Int(Double(count) / seconds)) per second")
        return Double(count) / seconds
    }

    @Test("rates: a request for one link costs what one link costs") func rates() async throws {
        _ = try await rate("state of all links", 5) { _ in try await rig.store.setState(Self.state()) }
        let read = try await rate("GET of one link", 2000) { index in
            _ = try await rig.get(Self.links + "/qkd_link=\(Self.id(index % 1000))")
        }
        _ = try await rate("GET of everything, unchanged", 20) { _ in _ = try await rig.get(nil) }
        _ = try await rate("GET of the links with fields", 5) { _ in
            _ = try await rig.get(Self.links, ReadQuery(fields: "qkd_link(qkdl_id;qkdl_status)"))
        }
        let patch = try await rate("PATCH of one link", 500) { index in
            let path = Self.links + "/qkd_link=\(Self.id(index % 1000))"
            try await rig.edit(.merge, path, #"{"etsi-qkd-sdn-node:qkd_link":[\#(Self.link(index % 1000, attenuation: "\(index).5"))]}"#)
        }
        _ = try await rate("POST and DELETE of one link", 50) { index in
            try await rig.edit(.create, Self.links, #"{"etsi-qkd-sdn-node:qkd_link":[\#(Self.link(2000 + index))]}"#)
            try await rig.edit(.remove, Self.links + "/qkd_link=\(Self.id(2000 + index))")
        }
        _ = try await rate("PATCH of a leaf of the node", 10) { index in
            try await rig.edit(
                .merge, "etsi-qkd-sdn-node:qkd_node", #"{"etsi-qkd-sdn-node:qkd_node":{"qkdn_location_id":"\#(index)"}}"#)
        }
        _ = try await rate("state of one link", 500) { index in
            let path = try rig.path(Self.links + "/qkd_link=\(Self.id(index))")
            try await rig.store.setState(
                #"{"etsi-qkd-sdn-node:qkd_link":[{"qkdl_id":"\#(Self.id(index))","qkdl_status":"etsi-qkd-node-types:ACTIVE","qkdl_performance":{"skr":7}}]}"#,
                at: path)
        }
        // Far below what an idle machine does, and far above what copying a thousand links each time would give.
        #expect(read > 500)
        #expect(patch > 50)
    }

    @Test("5,000 edits: memory and files do not grow with them, and all of it is there after a restart") func manyEdits() async throws {
        func edits(_ count: Int) async throws {
            for index in 0..<count {
                let place = index % 10
                let path = Self.links + "/qkd_link=\(Self.id(place))"
                try await rig.edit(.replace, path + "/phys_channel_att", #"{"etsi-qkd-sdn-node:phys_channel_att":"\#(index % 50).25"}"#)
                if index % 10 == 9 { _ = await YANGRig.refusal { try await rig.edit(.create, path, #"{"x:y":1}"#) } }
            }
        }
        try await edits(1000)
        // Other tests run beside this one: what grows every time is a leak, what grows once is theirs.
        var growth: [Int] = []
        for _ in 0..<4 {
            let before = try residentKilobytes()
            try await edits(1000)
            growth.append(try residentKilobytes() - before)
        }
        print("  memory: 1,000 edits, four times: \(growth) KiB more")
        #expect((growth.min() ?? .max) < 2048, "\(growth)")
        let size = try FileManager.default.attributesOfItem(atPath: rig.folder.path + "/running.journal")[.size] as? Int ?? 0
        #expect(size < 4 << 20)
        let again = try DatastoreRig(rig.schema, folder: rig.folder)
        #expect(try await YANGRig.json(again.store.configuration()) == YANGRig.json(rig.store.configuration()))
    }
}
