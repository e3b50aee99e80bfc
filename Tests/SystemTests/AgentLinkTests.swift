// A controller makes, watches, switches and removes a physical link by RESTCONF alone; the node's data are what its services measured.

import Foundation
import NodeAPI
import QKDModel
import Testing

@Suite(.serialized) struct AgentLinkTests {
    private func controller(_ bed: AgentBed, _ arguments: String...) async throws -> Outcome {
        let script = [Programs.root + "/scripts/sdn-link", bed.folder + "/controller.json"]
        return await (try Running(script + arguments)).end(within: .seconds(200))
    }

    @Test("a link by RESTCONF alone: created, measured, used, switched off and on, deleted", .timeLimit(.minutes(5)))
    func linkByRESTCONFAlone() async throws {
        let bed = try await AgentBed(
            bare: true, agent: "thresholds: { link_down_hold: 0.5 }\n", store: "policy: { accounting_seconds: 2 }\n")
        try bed.startAll()
        let created = try await controller(bed, "create", "alpha-beta")
        try #require(created.status == 0, "\(created)\n\(bed.words)")
        #expect(created.output.contains("PENDING") && created.output.contains("alpha ACTIVE, beta ACTIVE"), "\(created)")
        // Nothing of it stands in a file that a person wrote.
        #expect(try String(contentsOfFile: bed.folder + "/alpha/linkd.yaml", encoding: .utf8).contains("links: []"))

        try await bed.exchange(4)
        for site in AgentBed.sites {
            let store = try await bed.node(site)["sdqkd-cv-qkd:key-store"]
            #expect(store["stored-bits"].number ?? 0 > 0, "\(site): \(store)")
        }
        try await measurementsAgree(bed)
        try await applicationIsAccounted(bed)
        try await refusedChangeLeavesTheLinkAlone(bed)
        try await wavelengthIsSet(bed)
        try await virtualLinkWaits(bed)

        let off = try await controller(bed, "disable", "alpha-beta")
        try #require(off.status == 0, "\(off)\n\(bed.words)")
        try await standsStill(bed)
        let on = try await controller(bed, "enable", "alpha-beta")
        try #require(on.status == 0, "\(on)\n\(bed.words)")

        let gone = try await controller(bed, "delete", "alpha-beta", "--peers")
        try #require(gone.status == 0, "\(gone)\n\(bed.words)")
        for site in AgentBed.sites {
            let status = try await bed.ask(site, "linkd", LinkServiceStatus.self)
            #expect(status.links.isEmpty && status.peers.isEmpty, "\(site)")
            #expect(try await bed.ask(site, "lkmsd", StoreStatus.self).peers.isEmpty, "\(site)")
            #expect(try await bed.link(site).value == nil, "\(site)")
        }
    }

    /// Performance as `qkd-linkd` says it, to the last digit that the model has.
    private func measurementsAgree(_ bed: AgentBed) async throws {
        for site in AgentBed.sites {
            var seen = ""
            // Between two questions a block may end: then they are asked again.
            let agree = try await eventually(within: .seconds(20), every: .milliseconds(300)) {
                guard let link = try await bed.measured(site), let last = link.last else { return false }
                let shown = try await bed.link(site)
                let rows = shown["qkdl_performance"]["phys_perf"].list
                func row(_ type: String) -> String? { rows.first { $0["perf_type"].word == type }?["value"].text }
                func decimal(_ value: Double?) -> String? {
                    value.map { Tree(value: String(format: "%.3f", $0)).number.map { "\($0)" } ?? "" }
                }
                let eskr = link.performance.secretKeyRate ?? 0
                let skr = last.depositedBits > 0 ? eskr * Double(last.secretBits) / Double(last.depositedBits) : eskr
                seen = "\(shown) against \(link.performance)"
                return shown["qkdl_performance"]["eskr"].number == eskr.rounded()
                    && shown["qkdl_performance"]["skr"].number == skr.rounded()
                    && eskr > 0 && skr >= eskr && row("SNR").flatMap(Double.init).map { "\($0)" } == decimal(link.performance.snr)
                    && row("TRANSMITTANCE").flatMap(Double.init).map { "\($0)" } == decimal(link.performance.transmittance)
                    && shown["sdqkd-cv-qkd:cv-qkd-state"]["deposited-bits"].number == Double(link.bitsDeposited)
                    && shown["qkdl_status"].word == link.state.rawValue
            }
            #expect(agree, "\(site): \(seen)")
        }
    }

    /// Provisional at the first request, registered by the controller, accounted by interval.
    private func applicationIsAccounted(_ bed: AgentBed) async throws {
        let consumer = try await bed.node("alpha")["sdqkd-cv-qkd:key-store"]["consumer"][0]
        #expect(consumer["server"].text == "app-alpha" && consumer["standing"].text == "provisional", "\(consumer)")
        let id = UUID().uuidString.lowercased()
        let entry =
            #"{"app_id":"\#(id)","server_app_id":"sae:app-alpha","client_app_id":["sae:app-beta"],"app_qos":{"max_bandwidth":100000}}"#
        let (status, answer) = try await bed.send(
            "POST", "alpha", AgentBed.node + "/qkd_applications", #"{"etsi-qkd-sdn-node:qkd_app":[\#(entry)]}"#)
        try #require(status == 201, "\(answer)")
        try await bed.exchange(2)
        let accounted = try await eventually(within: .seconds(15), every: .milliseconds(300)) {
            let application = try await bed.node("alpha")["qkd_applications"]["qkd_app"][0]
            let bits = application["app_statistics"]["statistics"].list.compactMap { $0["consumed_bits"].number }.reduce(0, +)
            return application["app_id"].text == id && application["app_status"].word == "ON" && bits == 6 * 256
                && application["sdqkd-cv-qkd:consumption"]["consumed-bits"].number == 6 * 256
        }
        let applications = try await bed.node("alpha")["qkd_applications"]
        #expect(accounted, "\(applications)")
        // What nobody may have: an application without a server; nothing of it stays.
        let refused = try await bed.send(
            "POST", "alpha", AgentBed.node + "/qkd_applications",
            #"{"etsi-qkd-sdn-node:qkd_app":[{"app_id":"\#(UUID().uuidString.lowercased())"}]}"#)
        #expect(refused.status == 400 && refused.answer["ietf-restconf:errors"]["error"][0]["error-tag"].text == "invalid-value")
    }

    /// What the model allows and the link service does not: its words are the answer, and the link that runs is not touched.
    private func refusedChangeLeavesTheLinkAlone(_ bed: AgentBed) async throws {
        let id = try await bed.link("alpha")["qkdl_id"].text ?? ""
        let slots = try await bed.measured("alpha")?.slots ?? 0
        let bad: [(terms: String, words: String, leaf: String)] = [
            (#""sdqkd-cv-qkd:cv-qkd":{"code":"r99-n204800"}"#, "r99-n204800", "/sdqkd-cv-qkd:cv-qkd/code"),
            (#""sdqkd-cv-qkd:cv-qkd":{"optical-path":"NOWHERE"}"#, "NOWHERE", "/sdqkd-cv-qkd:cv-qkd/optical-path"),
            (#""phys_channel_att":"500.0""#, "500", "/phys_channel_att"), (#""phys_wavelength":"70""#, "12 to 61", "/phys_wavelength"),
            (#""phys_qkd_role":"etsi-qkd-node-types:RECEIVER""#, "TRANSMITTER", "/phys_qkd_role"),
        ]
        for (terms, words, leaf) in bad {
            let (status, answer) = try await bed.send(
                "PATCH", "alpha", AgentBed.node + "/qkd_links/qkd_link=\(id)",
                #"{"etsi-qkd-sdn-node:qkd_link":[{"qkdl_id":"\#(id)",\#(terms)}]}"#)
            let error = answer["ietf-restconf:errors"]["error"][0]
            #expect(status == 400 && error["error-tag"].text == "invalid-value", "\(status) \(answer)")
            #expect(error["error-message"].text?.contains(words) == true, "\(answer)")
            #expect(error["error-path"].text?.contains(id) == true && error["error-path"].text?.hasSuffix(leaf) == true, "\(answer)")
        }
        #expect(try await bed.link("alpha")["sdqkd-cv-qkd:cv-qkd"]["code"].text == "r10-n204800")
        let after = try await bed.measured("alpha")
        #expect(after?.code == "r10-n204800" && (after?.slots ?? 0) >= slots && after?.state == .active, "it was started anew")
    }

    /// A channel of the grid that the device can do is set: the right one makes key, the neighbour's light never comes through the filter.
    private func wavelengthIsSet(_ bed: AgentBed) async throws {
        let id = try await bed.link("alpha")["qkdl_id"].text ?? ""
        func tune(_ channel: Int) async throws -> Int {
            try await bed.send(
                "PATCH", "alpha", AgentBed.node + "/qkd_links/qkd_link=\(id)",
                #"{"etsi-qkd-sdn-node:qkd_link":[{"qkdl_id":"\#(id)","phys_wavelength":"\#(channel)"}]}"#
            ).status
        }
        let interface = try await bed.node("alpha")["qkd_interfaces"]["qkd_interface"][0]
        #expect(interface["qkdi_capabilities"]["wavelength_range"].text == "12-61", "\(interface)")
        let spectrum = interface["sdqkd-cv-qkd:cv-qkd"]["spectrum"]
        // The testbed's four classical channels: 194.15 to 194.45 THz lie between channels 41 and 45.
        let peaks = spectrum["peak"].list.compactMap { $0["number"].number }
        #expect(peaks.contains { (41...45).contains($0) } && (spectrum["total-power"].number ?? -99) > -20, "\(spectrum)")
        #expect((spectrum["noise-floor"].number ?? 0) < -70, "\(spectrum)")

        #expect(try await tune(35) == 204)
        let isDark = try await eventually(within: .seconds(60)) {
            let link = try await bed.measured("alpha")
            return link?.state == .pending || (link?.slotsFailed ?? 0) > 0 || link?.reason.contains("lock") == true
        }
        #expect(isDark, "\(bed.words)")
        #expect(try await tune(34) == 204)
        let hasKey = try await eventually(within: .seconds(90)) { (try await bed.measured("alpha")?.blocksDeposited ?? 0) > 0 }
        #expect(hasKey, "\(bed.words)")
    }

    /// Key relay is not there yet: a virtual link is kept as configured, PENDING, and the services hear nothing of it.
    private func virtualLinkWaits(_ bed: AgentBed) async throws {
        let (id, far) = (UUID().uuidString.lowercased(), UUID().uuidString.lowercased())
        let hop = try await bed.node("beta")["qkdn_id"].text ?? ""
        let made = try await bed.send(
            "POST", "alpha", AgentBed.node + "/qkd_links",
            """
            {"etsi-qkd-sdn-node:qkd_link":[{"qkdl_id":"\(id)","qkdl_type":"etsi-qkd-node-types:VIRT","qkdl_remote":{"qkdn_id":"\(far)"},
            "virt_next_hop":["\(hop)","\(far)"],"virt_bandwidth":2000}]}
            """)
        try #require(made.status == 201, "\(made)")
        let place = AgentBed.node + "/qkd_links/qkd_link=\(id)"
        let pending = try await eventually(within: .seconds(5)) {
            let link = try await bed.send("GET", "alpha", place).answer["etsi-qkd-sdn-node:qkd_link"][0]
            return link["qkdl_status"].word == "PENDING" && link["virt_bandwidth"].number == 2000 && link["virt_next_hop"].list.count == 2
        }
        #expect(pending)
        #expect(try await bed.ask("alpha", "linkd", LinkServiceStatus.self).links.count == 1)
        #expect(try await bed.send("DELETE", "alpha", place).status == 204)
    }

    /// After the block that was running has ended there are no new ones.
    private func standsStill(_ bed: AgentBed) async throws {
        var before: LinkStatus?
        let rests = try await eventually(within: .seconds(60), every: .seconds(2)) {
            let now = try await bed.measured("alpha")
            defer { before = now }
            return now.map { !$0.enabled && $0.state == .passive && $0.slots == before?.slots && $0.bitsDeposited == before?.bitsDeposited }
                ?? false
        }
        #expect(rests, "\(String(describing: before))")
        try await Task.sleep(for: .seconds(3))
        let after = try await bed.measured("alpha")
        #expect(after?.slots == before?.slots && after?.bitsDeposited == before?.bitsDeposited)
    }

    @Test("whatever starts first: configuration and devices find each other; both survive kills", .timeLimit(.minutes(4)))
    func anyOrder() async throws {
        let bed = try await AgentBed(bare: true, agent: "thresholds: { service_away_grace: 0.5, link_down_hold: 0.5 }\n")
        // The agent alone: it answers, and says that nothing is known yet.
        try bed.start("alpha-agentd", "beta-agentd")
        let alone = try await eventually(within: .seconds(20)) { try await bed.node("alpha")["qkdn_status"].word == "DOWN" }
        #expect(alone, "\(bed.words)")
        let early = try await bed.send(
            "POST", "alpha", AgentBed.node + "/sdqkd-cv-qkd:peers",
            #"{"sdqkd-cv-qkd:peer":[{"qkdn_id":"\#(UUID().uuidString.lowercased())","node-name":"beta","link-address":"127.0.0.1:1"}]}"#)
        #expect(early.status == 503, "\(early)")
        // Then everything else, devices last.
        try bed.start("alpha-linkd", "alpha-lkmsd", "beta-linkd", "beta-lkmsd")
        let here = try await eventually(within: .seconds(20)) { try await bed.node("alpha")["qkdn_status"].word == "OPERATING" }
        #expect(here, "\(bed.words)")
        try bed.start("emulator")
        let created = try await controller(bed, "create", "alpha-beta")
        try #require(created.status == 0, "\(created)\n\(bed.words)")
        let number = try await bed.node("alpha")["qkd_interfaces"]["qkd_interface"][0]["qkdi_id"].number
        let id = try await bed.link("alpha")["qkdl_id"].text
        try #require(number != nil && id != nil)

        // The agents go and come back: the same tree, and the services never noticed.
        await bed.stop("alpha-agentd", "beta-agentd")
        let untouched = try await bed.measured("alpha")
        #expect(untouched?.state == .active)
        try bed.start("alpha-agentd", "beta-agentd")
        #expect(try await eventually(within: .seconds(20)) { try await bed.isEverywhere("ACTIVE") }, "\(bed.words)")
        #expect(try await bed.link("alpha")["qkdl_id"].text == id)
        #expect(try await bed.node("alpha")["qkd_interfaces"]["qkd_interface"][0]["qkdi_id"].number == number)

        // The link services go and come back: meanwhile nothing is accepted that would not be done.
        await bed.stop("alpha-linkd", "beta-linkd")
        #expect(try await eventually(within: .seconds(20)) { try await bed.node("alpha")["qkdn_status"].word == "FAILURE" }, "\(bed.words)")
        let asked = try await bed.send(
            "PATCH", "alpha", AgentBed.node + "/qkd_links/qkd_link=\(id ?? "")",
            #"{"etsi-qkd-sdn-node:qkd_link":[{"qkdl_id":"\#(id ?? "")","qkdl_enable":false}]}"#)
        #expect(asked.status == 503, "\(asked)")
        try bed.start("alpha-linkd", "beta-linkd")
        let again = try await eventually(within: .seconds(60)) { try await bed.isEverywhere("ACTIVE") }
        #expect(again, "\(bed.words)")
        // Reverse: agents last. What was removed while no agent watched is put in force again.
        await bed.stop("alpha-agentd", "beta-agentd")
        let removed = try await run(
            "/usr/bin/curl", "--silent", "--max-time", "20", "--request", "POST", "--unix-socket", "\(bed.folder)/alpha/run/linkd.sock",
            "http://node/links/alpha-beta/remove")
        #expect(removed.status == 0)
        #expect(try await bed.measured("alpha") == nil)
        try bed.start("alpha-agentd", "beta-agentd")
        let restored = try await eventually(within: .seconds(60)) { try await bed.isEverywhere("ACTIVE") }
        #expect(restored, "\(bed.words)")
    }
}
