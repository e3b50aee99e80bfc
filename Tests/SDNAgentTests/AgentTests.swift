// The agent between played services and a real datastore: the tree, the notifications (checked by yanglint), the way back.

import Foundation
import Glibc
import NodeAPI
import QKDModel
import RESTCONF
import SDNAgent
import Synchronization
import Testing

private let modules = [
    "etsi-qkd-node-types", "etsi-qkd-sdn-node", "sdqkd-cv-qkd", "ietf-restconf", "ietf-restconf-monitoring", "ietf-netconf-with-defaults",
]
let beta = UUID(uuidString: "b0000000-0000-4000-8000-000000000001") ?? UUID()
let linkID = UUID(uuidString: "c0000000-0000-4000-8000-000000000001") ?? UUID()
let appID = UUID(uuidString: "d0000000-0000-4000-8000-000000000001") ?? UUID()

func low(_ id: UUID) -> String { id.uuidString.lowercased() }

/// An agent with quick thresholds.
final class Bench: Sendable {
    let folder = TemporaryFolder()
    let links = FakeLinks()
    let store = FakeStore()
    let agent: Agent
    let settings: NodeSettings

    init(folder: String? = nil) throws {
        var thresholds = NodeThresholds()
        (thresholds.performanceInterval, thresholds.downHold, thresholds.overloadHold) = (0, 0.1, 0.1)
        (thresholds.outAfter, thresholds.awayGrace) = (0.3, 0.2)
        settings = NodeSettings(node: NodeID(unchecked: "alpha"), version: "1", location: "here", thresholds: thresholds)
        let schema = try YANGSchema(folders: [packageFolder + "/yang"], modules: modules)
        agent = try Agent(
            settings, schema: schema, folder: folder ?? self.folder.path, links: links, store: store, poll: .milliseconds(20))
    }

    func appear(_ state: DeviceState = .ready) {
        links.change {
            var device = LinkDevice(
                name: "tx", uri: "tcp:127.0.0.1:1", role: .transmitter, state: state, reason: "as the test says", serial: "SER-1",
                emulated: true)
            (device.maker, device.model, device.paths, device.symbolRateHz) = ("Maker", "TX-1", ["BETA"], 5e6)
            $0.status.devices = [device]
        }
    }

    func tree() async throws -> JSON {
        let result = try await agent.datastore.read(nil, ReadQuery(), .json)
        let text = String(decoding: result.body, as: UTF8.self)
        return JSON(parsing: text)["ietf-restconf:data"]["etsi-qkd-sdn-node:qkd_node"]
    }

    func edit(_ kind: EditKind, _ path: String, _ body: String?) async throws {
        let path = try ResourcePath(parsing: "etsi-qkd-sdn-node:qkd_node" + path, schema: agent.datastore.schema)
        _ = try await agent.datastore.edit(Edit(kind, path, body: body.map { Data($0.utf8) }))
    }

    static let peer = """
        {"sdqkd-cv-qkd:peer":[{"qkdn_id":"\(low(beta))","node-name":"beta","link-address":"127.0.0.1:7002",
        "key-management-address":"127.0.0.1:9002","key-management-certificate":"kme-beta","application":["sae:app-beta"]}]}
        """

    func link(_ interface: Int = 1) -> String {
        """
        {"etsi-qkd-sdn-node:qkd_link":[{"qkdl_id":"\(low(linkID))","qkdl_type":"etsi-qkd-node-types:PHYS","qkdl_enable":true,
        "qkdl_local":{"qkdn_id":"\(low(settings.id))","qkdi_id":\(interface)},"qkdl_remote":{"qkdn_id":"\(low(beta))","qkdi_id":1},
        "phys_qkd_role":"etsi-qkd-node-types:TRANSMITTER","phys_channel_att":"1.0","phys_wavelength":"34",
        "sdqkd-cv-qkd:cv-qkd":{"optical-path":"BETA","block-symbols":"8000000","slot-symbols":"2000000"}}]}
        """
    }

    func work(_ body: () async throws -> Void) async throws {
        let running = Task { try await agent.run() }
        defer { running.cancel() }
        try await body()
        running.cancel()
        _ = await running.result
    }
}

@Suite(.serialized) struct AgentTests {
    @Test(
        "every notification of the model, from what services say, accepted by yanglint",
        .timeLimit(.minutes(1)))
    func notifications() async throws {
        let bench = try Bench()
        let began = Date() - 1
        try await bench.work {
            bench.appear()
            #expect(await eventually(within: .seconds(5)) { await bench.has("qkd_interfaces", "qkd_interface") })
            try await bench.edit(.create, "/sdqkd-cv-qkd:peers", Bench.peer)
            try await bench.edit(.create, "/qkd_links", bench.link())
            try await bench.linkLives()
            try await bench.applicationLives()
            bench.appear(.fault)
            try await Task.sleep(for: .milliseconds(100))
            bench.appear(.off)
            #expect(await eventually(within: .seconds(5)) { await !bench.has("qkd_interfaces", "qkd_interface") })
        }
        #expect(await bench.agent.status.refused == 0)
        var found: [String: Data] = [:]
        // A replay up to now ends by itself; times of events are rounded to the millisecond.
        for await note in try await bench.agent.streams.subscribe(from: began, until: Date() + 0.01) {
            found[String(note.name.split(separator: ":").last ?? "")] = Data("{\"\(note.name)\":\(note.contents)}".utf8)
        }
        let expected: Set = [
            "sdqkdn_application_new", "sdqkdn_application_qos_update", "sdqkdn_application_disconnected", "sdqkdn_interface_new",
            "sdqkdn_interface_down", "sdqkdn_interface_out", "sdqkdn_link_down", "sdqkdn_link_perf_update", "sdqkdn_link_overloaded",
            "alarm", "event",
        ]
        #expect(Set(found.keys) == expected)
        for (name, text) in found { try bench.yanglint(name, text) }
    }

    @Test(
        "what a service refuses is an error with its words, and nothing of the change stays")
    func refusal() async throws {
        let bench = try Bench()
        try await bench.work {
            bench.appear()
            #expect(await eventually(within: .seconds(5)) { await bench.has("qkd_interfaces", "qkd_interface") })
            try await bench.edit(.create, "/sdqkd-cv-qkd:peers", Bench.peer)
            bench.links.change { $0.refusal["commit"] = "the laser is locked" }
            await #expect { try await bench.edit(.create, "/qkd_links", bench.link()) } throws: { error in
                (error as? RESTCONFError)?.message.contains("the laser is locked") ?? false
            }
            #expect(await !bench.has("qkd_links", "qkd_link"))
            #expect(bench.links.parts.withLock { $0.status.links.isEmpty })
            await #expect(throws: RESTCONFError.self) { try await bench.edit(.create, "/qkd_links", bench.link(7)) }
            bench.links.change { $0.isAway = true }
            await #expect { try await bench.edit(.create, "/qkd_links", bench.link()) } throws: { error in
                (error as? RESTCONFError)?.status == 503
            }
            await #expect {
                try await bench.edit(.merge, "/qkd_interfaces", #"{"etsi-qkd-sdn-node:qkd_interfaces":{"qkd_interface":[{"qkdi_id":9}]}}"#)
            } throws: {
                ($0 as? RESTCONFError)?.status == 405
            }
        }
    }

    @Test(
        "configuration survives a restart and is put in force when a service comes that has lost it")
    func reconciliation() async throws {
        let first = try Bench()
        try await first.work {
            first.appear()
            #expect(await eventually(within: .seconds(5)) { await first.has("qkd_interfaces", "qkd_interface") })
            try await first.edit(.create, "/sdqkd-cv-qkd:peers", Bench.peer)
            try await first.edit(.create, "/qkd_links", first.link())
        }
        #expect(first.links.calls == ["add peer", "prepare", "commit"])
        let second = try Bench(folder: first.folder.path)
        second.links.change { $0.isAway = true }
        second.appear()
        try await second.work {
            #expect(
                await eventually(within: .seconds(5)) {
                    (try? await second.tree()["qkdn_status"].string) == "etsi-qkd-node-types:FAILURE"
                })
            #expect(second.links.calls.isEmpty)
            second.links.change { $0.isAway = false }
            #expect(await eventually(within: .seconds(5)) { second.links.calls == ["add peer", "prepare", "commit"] })
            #expect(
                await eventually(within: .seconds(5)) {
                    (try? await second.tree()["qkdn_status"].string) == "etsi-qkd-node-types:OPERATING"
                })
            #expect(try await second.tree()["qkd_interfaces"]["qkd_interface"].array.first?["qkdi_id"].int == 1)
            try await second.edit(.remove, "/qkd_links/qkd_link=\(low(linkID))", nil)
            #expect(second.links.calls.last == "remove")
        }
    }

    @Test("links and peers of the services' own files come into the tree with their terms")
    func adoption() async throws {
        let bench = try Bench()
        bench.appear()
        let name = LinkID(unchecked: "alpha-beta")
        bench.links.change {
            $0.status.peers = [
                LinkPeer(node: NodeID(unchecked: "beta"), channel: "127.0.0.1:7002", secretName: nil, origin: .file, links: [name])
            ]
            $0.status.links = [
                LinkStatus(link: name, peer: NodeID(unchecked: "beta"), role: .transmitter, device: "tx", state: .pending, reason: "")
            ]
            $0.plans[name] = LinkPlan(
                peer: NodeID(unchecked: "beta"), role: .transmitter, device: "tx", path: "BETA", lossDB: 3, code: "r05-n204800",
                efficiency: 0.9, blockSymbols: 8_000_000, slotSymbols: 2_000_000, weight: 35, epsilon: 1e-10)
        }
        try await bench.work {
            #expect(await eventually(within: .seconds(5)) { await bench.has("qkd_links", "qkd_link") })
            try await Task.sleep(for: .milliseconds(200))
            let link = try await bench.tree()["qkd_links"]["qkd_link"].array.first ?? .null
            #expect(link["qkdl_id"].string == low(DerivedID.link(name)))
            #expect(link["qkdl_status"].string == "etsi-qkd-node-types:PENDING")
            #expect(link["phys_channel_att"].string == "3.0")
            #expect(link["sdqkd-cv-qkd:cv-qkd"]["code"].string == "r05-n204800")
            #expect(link["qkdl_remote"]["qkdn_id"].string == low(DerivedID.node(NodeID(unchecked: "beta"))))
            #expect(try await bench.tree()["sdqkd-cv-qkd:peers"]["peer"].array.first?["node-name"].string == "beta")
            // Nothing was asked of the service: it has all that already.
            #expect(bench.links.calls.isEmpty)
        }
        #expect(await bench.agent.status.refused == 0)
    }

    @Test("terms that the link service refuses are refused before the link that runs is touched, with the datum's place")
    func refusedTerms() async throws {
        let bench = try Bench()
        try await bench.work {
            try await bench.connect()
            let words = "the configuration cannot work: link \(low(linkID)): loss_db is 500.0: 0 to 100 are possible"
            bench.links.change { $0.refusal["check"] = words }
            let before = bench.links.calls
            await #expect { try await bench.merge(#""phys_channel_att":"500.0""#) } throws: { error in
                guard let error = error as? RESTCONFError else { return false }
                return error.status == 400 && error.tag == .invalidValue && error.message == words
                    && error.path?.hasSuffix("/qkd_link[qkdl_id='\(low(linkID))']/phys_channel_att") == true
            }
            #expect(bench.links.calls == before, "nothing was asked for")
            #expect(try await bench.tree()["qkd_links"]["qkd_link"].array.first?["phys_channel_att"].string == "1.0")
            bench.links.change { $0.refusal = [:] }
            try await bench.merge(#""phys_channel_att":"2.0""#)
            #expect(bench.links.calls.suffix(4) == ["check", "remove", "prepare", "commit"])
        }
    }

    @Test("phys_wavelength reaches the link service; an interface says which channels it has, and what its analyser sees")
    func wavelength() async throws {
        let bench = try Bench()
        try await bench.work {
            try await bench.connect()
            #expect(bench.links.parts.withLock { $0.plans.values.first?.gridChannel } == 34)
            try await bench.merge(#""phys_wavelength":"35""#)
            #expect(bench.links.parts.withLock { $0.plans.values.first?.gridChannel } == 35)
            let seen = LinkSpectrum(measured: Date(), totalPower: -3.25, noiseFloor: -74.5, peaks: [.init(channel: 44, power: -9.125)])
            bench.links.change {
                ($0.status.devices[0].wavelengths, $0.status.devices[0].spectrum) = ([1528, 1568], seen)
            }
            #expect(
                await eventually(within: .seconds(5)) {
                    let interface = try? await bench.tree()["qkd_interfaces"]["qkd_interface"].array.first
                    let spectrum = interface?["sdqkd-cv-qkd:cv-qkd"]["spectrum"]
                    return interface?["qkdi_capabilities"]["wavelength_range"].string == "12-61"
                        && spectrum?["total-power"].string == "-3.25"
                        && spectrum?["peak"].array.first?["number"].string == "44"
                        && spectrum?["peak"].array.first?["power"].string == "-9.125"
                })
        }
        #expect(await bench.agent.status.refused == 0)
    }

    @Test("a coexistence plan agrees with itself and with the wavelengths of links")
    func coexistence() async throws {
        let bench = try Bench()
        try await bench.work {
            try await bench.connect()
            func plan(_ quantum: Int, _ data: Int) -> String {
                """
                {"sdqkd-cv-qkd:fibre":[{"name":"BETA","channel":[
                {"number":"\(quantum)","direction":"out","use":"quantum","qkdl_id":"\(low(linkID))"},
                {"number":"\(data)","direction":"in","use":"classical"}]}]}
                """
            }
            let place = "/sdqkd-cv-qkd:wdm-plan/fibre=BETA"
            func refuses(_ path: String, _ body: () async throws -> Void) async {
                await #expect { try await body() } throws: { error in
                    (error as? RESTCONFError).map { $0.status == 400 && $0.tag == .invalidValue && $0.path?.hasSuffix(path) == true }
                        ?? false
                }
            }
            await refuses("/channel[number='34'][direction='out']/use") { try await bench.edit(.replace, place, plan(34, 34)) }
            await refuses("/channel[number='40'][direction='out']/number") { try await bench.edit(.replace, place, plan(40, 44)) }
            try await bench.edit(.replace, place, plan(34, 44))
            await refuses("/phys_wavelength") { try await bench.merge(#""phys_wavelength":"35""#) }
            #expect(bench.links.parts.withLock { $0.plans.values.first?.gridChannel } == 34)
        }
    }

    @Test("intervals for accounting add up, also those that the store's snapshots no longer show and those of before a restart")
    func accounting() async throws {
        let bench = try Bench()
        let (id, start) = (UUID(), Date(timeIntervalSince1970: (Date().timeIntervalSince1970 / 900).rounded(.down) * 900 - 900 * 30))
        let all = (0..<30).map { index in
            let from = start + 900 * Double(index)
            return StoreConsumption(start: from, end: from + 900, bits: 256 * (index + 1), keys: index + 1)
        }
        bench.store.change { parts in
            var application = StoreApplication(
                id: id, appID: appID, server: SAEID(unchecked: "app-alpha"), client: SAEID(unchecked: "app-beta"),
                peer: NodeID(unchecked: "beta"), servesServer: true, state: .registered, created: start, firstRequest: start,
                lastRequest: Date())
            application.consumedBits = all.reduce(0) { $0 + $1.bits }
            application.consumption = Array(all.suffix(8))
            parts.applications = [application]
            parts.accounts[id] = all
            parts.status.peers = [
                StorePeerStatus(peer: NodeID(unchecked: "beta"), state: .up, applications: [SAEID(unchecked: "app-beta")])
            ]
        }
        try await bench.work {
            try await bench.edit(
                .create, "/qkd_applications",
                #"{"etsi-qkd-sdn-node:qkd_app":[{"app_id":"\#(low(appID))","server_app_id":"app-alpha","client_app_id":["app-beta"]}]}"#)
            #expect(
                await eventually(within: .seconds(5)) {
                    let application = try? await bench.tree()["qkd_applications"]["qkd_app"].array.first
                    let bits = application?["app_statistics"]["statistics"].array.compactMap { $0["consumed_bits"].int } ?? []
                    return bits.count == 30 && "\(bits.reduce(0, +))" == application?["sdqkd-cv-qkd:consumption"]["consumed-bits"].string
                })
        }
    }

    /// Alarms and events without a link, as `name message`.
    private func told(_ bench: Bench, since began: Date) async throws -> [String] {
        var told: [String] = []
        // Their times are rounded to the millisecond.
        for await note in try await bench.agent.streams.subscribe(from: began, until: Date() + 0.01) {
            let name = note.name.split(separator: ":").last ?? ""
            told.append("\(name) \(JSON(parsing: note.contents)["link"]["message"].string ?? "-")")
        }
        return told
    }

    @Test("a configuration that cannot be used is told: an alarm with the names that its files have now", arguments: ["", "{\"gone\":1}"])
    func configurationSetAside(_ text: String) async throws {
        let first = try Bench()
        #expect(first.agent.datastore.origin == .fresh)
        let folder = first.folder.path + "/running"
        try text.write(toFile: folder + "/running.json", atomically: true, encoding: .utf8)
        let began = Date() - 1
        let second = try Bench(folder: first.folder.path)
        try await second.work {
            await second.agent.noteAccessRules(problem: nil)
            #expect(
                await eventually(within: .seconds(5)) {
                    ((try? await told(second, since: began)) ?? []).contains { $0.hasPrefix("alarm ") }
                })
        }
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.contains(".unusable-") }
        let said = try await told(second, since: began)
        let alarm = try #require(
            said.first { $0.hasPrefix("alarm the kept configuration could not be used and the initial one is in force") })
        #expect(names.count == 1 && names.allSatisfy { alarm.contains(folder + "/" + $0) }, "\(alarm)")
        #expect(!said.contains { $0.hasPrefix("event over") }, "new access rules do not mend it")
        // The next start is sound and says nothing.
        let third = try Bench(folder: first.folder.path)
        let later = Date()
        try await third.work { try await Task.sleep(for: .milliseconds(100)) }
        #expect(try await told(third, since: later).isEmpty)
    }

    @Test("changes of its own datum are refused with 405, and the place that says which") func ownData() async throws {
        let bench = try Bench()
        try await bench.work {
            await #expect {
                try await bench.edit(.merge, "/qkdn_id", #"{"etsi-qkd-sdn-node:qkdn_id":"\#(low(beta))"}"#)
            } throws: {
                ($0 as? RESTCONFError)?.status == 405 && ($0 as? RESTCONFError)?.path == "/etsi-qkd-sdn-node:qkd_node/qkdn_id"
            }
        }
    }

    @Test("one agent for one state folder: the second is told who has it, and may when the first is gone") func stateFolder() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/new/state"
        var first: StateFolder? = try StateFolder(path: path)
        #expect(first?.path == path)
        #expect(throws: SDNAgentError.inUse(path: path, pid: getpid())) { try StateFolder(path: path) }
        let message = "\(SDNAgentError.inUse(path: path, pid: getpid()))"
        #expect(message.contains(path) && message.contains("(pid \(getpid()))"))
        _ = try StateFolder(path: folder.path)
        first = nil
        _ = try StateFolder(path: path)
    }

    @Test("what became of the access rules is told: an alarm while their file is wrong, events")
    func accessRules() async throws {
        let bench = try Bench()
        let began = Date() - 1
        await bench.agent.noteAccessRules(problem: "rules.yaml:2: the role of 'a' is 'king'")
        await bench.agent.noteAccessRules(problem: "rules.yaml:2: the role of 'a' is 'king'")
        await bench.agent.noteAccessRules(problem: nil)
        #expect(
            try await told(bench, since: began) == [
                "alarm the old access rules stay in force: rules.yaml:2: the role of 'a' is 'king'",
                "event over: the old access rules stay in force: rules.yaml:2: the role of 'a' is 'king'",
                "event new access rules are in force",
            ])
    }
}

extension Bench {
    /// With the device, the peer and the link.
    func connect() async throws {
        appear()
        #expect(await eventually(within: .seconds(5)) { await has("qkd_interfaces", "qkd_interface") })
        try await edit(.create, "/sdqkd-cv-qkd:peers", Bench.peer)
        try await edit(.create, "/qkd_links", link())
    }

    func merge(_ members: String) async throws {
        try await edit(
            .merge, "/qkd_links/qkd_link=\(low(linkID))",
            #"{"etsi-qkd-sdn-node:qkd_link":[{"qkdl_id":"\#(low(linkID))",\#(members)}]}"#)
    }

    func has(_ container: String, _ list: String) async -> Bool {
        guard let tree = try? await tree() else { return false }
        return !tree[container][list].array.isEmpty
    }

    fileprivate func change(_ body: @escaping (inout LinkStatus) -> Void) {
        links.change { parts in
            for index in parts.status.links.indices { body(&parts.status.links[index]) }
        }
    }

    /// Up, measured, overloaded, alarmed, mended, down.
    fileprivate func linkLives() async throws {
        change { link in
            link.state = .active
            (link.performance.secretKeyRate, link.performance.snr) = (1000, 0.163)
            (link.performance.transmittance, link.performance.excessNoise) = (0.25, 0.005)
            link.alarms = [LinkAlarmStatus(kind: "pad", severity: .major, text: "authentication key is low", since: Date())]
        }
        store.change { parts in
            for index in parts.status.peers.indices { parts.status.peers[index].outRate = 5000 }
        }
        try await Task.sleep(for: .milliseconds(300))
        let link = try await tree()["qkd_links"]["qkd_link"].array.first ?? .null
        #expect(link["qkdl_status"].string == "etsi-qkd-node-types:ACTIVE")
        #expect(link["qkdl_performance"]["eskr"].int == 1000)
        #expect(link["qkdl_performance"]["expected_consumption"].int == 5000)
        change { link in
            link.alarms = []
            (link.state, link.reason) = (.pending, "the channel is closed")
        }
        try await Task.sleep(for: .milliseconds(300))
    }

    /// First request, registration by the controller, other terms, silence.
    fileprivate func applicationLives() async throws {
        store.change {
            $0.applications = [
                StoreApplication(
                    id: UUID(), server: SAEID(unchecked: "app-alpha"), client: SAEID(unchecked: "app-beta"),
                    peer: NodeID(unchecked: "beta"),
                    servesServer: true, state: .provisional, created: Date(), firstRequest: Date(), lastRequest: Date(), connected: true)
            ]
        }
        #expect(
            await eventually(within: .seconds(5)) {
                (try? await tree()["sdqkd-cv-qkd:key-store"]["consumer"].array.first?["standing"].string) == "provisional"
            })
        try await edit(
            .create, "/qkd_applications",
            """
            {"etsi-qkd-sdn-node:qkd_app":[{"app_id":"\(low(appID))","server_app_id":"sae:app-alpha","client_app_id":["sae:app-beta"],
            "app_qos":{"max_bandwidth":2000}}]}
            """)
        #expect(store.calls.last == "register")
        #expect(
            await eventually(within: .seconds(5)) {
                (try? await tree()["qkd_applications"]["qkd_app"].array.first?["app_status"].string) == "etsi-qkd-node-types:ON"
            })
        store.change { $0.applications[0].qos.maxBandwidth = 3000 }
        try await Task.sleep(for: .milliseconds(150))
        store.change { $0.applications[0].connected = false }
        #expect(
            await eventually(within: .seconds(5)) {
                (try? await tree()["qkd_applications"]["qkd_app"].array.first?["app_status"].string) == "etsi-qkd-node-types:DISCONNECTED"
            })
    }

    /// The notification as the validator of another program reads it.
    fileprivate func yanglint(_ name: String, _ text: Data) throws {
        let file = folder.path + "/\(name).json"
        try text.write(to: URL(filePath: file))
        let command =
            ["/usr/bin/env", "yanglint", "-f", "json", "-t", "notif", "-p", packageFolder + "/yang"]
            + ["etsi-qkd-node-types", "etsi-qkd-sdn-node", "sdqkd-cv-qkd"].map { packageFolder + "/yang/\($0).yang" } + [file]
        let pid = try start(command, output: file + ".out")
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        #expect(status == 0, "yanglint refuses \(name): \((try? String(contentsOfFile: file + ".out", encoding: .utf8)) ?? "")")
    }
}
