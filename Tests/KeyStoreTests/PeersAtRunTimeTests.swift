// Peers that are added and removed while the store runs.

import Foundation
import KeyStore
import QKDModel
import Testing

@Suite(.serialized) struct PeersAtRunTimeTests {
    /// Norte is configured as ever; Almagro knows no peer at first.
    private func pair() throws -> (StorePair, PeerPlan) {
        let pair = try StorePair { configuration in
            guard configuration.node == almagro else { return }
            configuration.secrets = (configuration.peers[0].secret as NSString).deletingLastPathComponent
            configuration.peers = []
            configuration.applications = [sae("app-almagro"): almagro]
        }
        let plan = PeerPlan(
            node: norte, address: try HostPort("127.0.0.1:\(pair.kmPorts[1])"), certificateName: "kme-norte", secret: "almagro-km",
            applications: [sae("app-norte")])
        return (pair, plan)
    }

    @Test func anAddedPeerServesAtOnceAndAfterARestart() async throws {
        let (pair, plan) = try pair()
        var stores = [try pair.start(0), try pair.start(1)]
        let port = try await stores[0].apiPort()
        #expect(try await curl(pair, port, "app-norte/enc_keys", as: "app-almagro").status == 400)
        await #expect(throws: KeyStoreError.unknownPeer(norte)) { try await pair.deposit(noise(5000, 1), at: [stores[0]]) }
        try await stores[0].service.add(plan)
        #expect(await pair.isUp(stores[0], stores[1]))
        try await pair.deposit(noise(5000, 1), at: stores)
        #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [40_000, 40_000] })
        let key = try #require(try await curl(pair, port, "app-norte/enc_keys", as: "app-almagro").keys().first)
        let fetched = try await curl(
            pair, try await stores[1].apiPort(), "app-almagro/dec_keys?key_ID=\(key.key_ID)", as: "app-norte")
        #expect(try fetched.keys() == [key])
        // The same again changes nothing: the link stays up.
        let connections = await stores[0].service.peerReports()[0].connections
        try await stores[0].service.add(plan)
        #expect(await stores[0].service.peerReports()[0].connections == connections)

        await stores[0].stop()
        stores[0] = try pair.start(0)
        #expect(await pair.isUp(stores[0], stores[1]))
        let report = await stores[0].service.peerReports()[0]
        #expect(report.addedAtRunTime && report.applications == [sae("app-norte")] && report.storedBits > 0)
        #expect(try await curl(pair, try await stores[0].apiPort(), "app-norte/enc_keys", as: "app-almagro").status == 200)
        for store in stores { await store.stop() }
    }

    @Test func aRemovedPeerIsGoneForGoodAndItsKeyWaits() async throws {
        let (pair, plan) = try pair()
        var stores = [try pair.start(0), try pair.start(1)]
        try await stores[0].service.add(plan)
        #expect(await pair.isUp(stores[0], stores[1]))
        try await pair.deposit(noise(5000, 1), at: stores)
        #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [40_000, 40_000] })
        try await stores[0].service.removePeer(norte)
        #expect(await eventually { await stores[1].service.peerReports()[0].state == .down })
        let port = try await stores[0].apiPort()
        #expect(try await curl(pair, port, "app-norte/enc_keys", as: "app-almagro").status == 400)
        await #expect(throws: KeyStoreError.unknownPeer(norte)) { try await stores[0].service.removePeer(norte) }
        await stores[0].stop()
        stores[0] = try pair.start(0)
        #expect(await stores[0].service.peerReports().isEmpty)
        // Back with the secret that it had: the pads go on, and so does the key.
        try await stores[0].service.add(plan)
        #expect(await pair.isUp(stores[0], stores[1]))
        #expect(try await pair.keys(1, from: stores[0], index: 0).count == 1)
        for store in stores { await store.stop() }
    }

    @Test func whatCannotBeIsRefusedAndChangesNothing() async throws {
        let (pair, plan) = try pair()
        let store = try pair.start(0)
        func refusal(_ change: (inout PeerPlan) -> Void) async -> String {
            var plan = plan
            change(&plan)
            do { try await store.service.add(plan) } catch { return "\(error)" }
            return "accepted"
        }
        #expect(await refusal { $0.node = almagro }.contains("own peer"))
        #expect(await refusal { $0.secret = "../almagro-km" }.contains("no plain file name"))
        #expect(await refusal { $0.secret = "" }.contains("no plain file name"))
        #expect(await refusal { $0.secret = "nothing" }.contains("No such file"))
        #expect(await refusal { $0.applications = [sae("app-almagro")] }.contains("lives at almagro already"))
        #expect(await refusal { $0.certificateName = "" }.contains("certificate name"))
        #expect(await store.service.peerReports().isEmpty)
        // A good one, then a change of it that cannot be: the good one stays.
        try await store.service.add(plan)
        #expect(await refusal { $0.applications = [sae("app-almagro")] }.contains("lives at almagro already"))
        #expect(await refusal { $0.secret = "nothing" }.contains("No such file"))
        let report = await store.service.peerReports()
        #expect(report.count == 1 && report[0].applications == [sae("app-norte")])
        await store.stop()

        let closed = try StorePair()
        let fixed = try closed.start(0)
        await #expect(throws: KeyStoreError.self) { try await fixed.service.add(plan) }
        await #expect(throws: KeyStoreError.self) { try await fixed.service.removePeer(norte) }
        #expect(await fixed.service.peerReports().count == 1)
        await fixed.stop()
    }
}
