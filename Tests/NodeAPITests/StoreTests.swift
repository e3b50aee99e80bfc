// Applications and peers of the key store as other programs write and read them.

import Foundation
import NodeAPI
import QKDModel
import Testing

@Suite("Messages about applications and peers")
struct StoreMessagesTests {
    @Test("A change names only what it changes")
    func partialChange() throws {
        let json = Data(#"{"qos":{"maxBandwidth":20000},"enabled":true}"#.utf8)
        let change = try JSONDecoder().decode(StoreApplicationChange.self, from: json)
        #expect(change == StoreApplicationChange(qos: .init(maxBandwidth: 20_000), enabled: true))
        #expect(change.appID == nil && change.priority == nil && change.expires == nil)
    }

    @Test("A peer's plan has no place for the secret, only for its file's name")
    func peerPlan() throws {
        let plan = StorePeerPlan(
            node: try NodeID("norte"), km: "127.0.0.1:9002", certificateName: "kme-norte", secret: "km-norte",
            applications: [SAEID(unchecked: "app-norte")])
        let object = try #require(try JSONSerialization.jsonObject(with: JSONEncoder().encode(plan)) as? [String: Any])
        #expect(Set(object.keys) == ["node", "km", "certificateName", "secret", "applications"])
        #expect(object["applications"] as? [String] == ["app-norte"])
    }

    @Test("States are the words that controllers and people read")
    func states() {
        #expect(StoreApplicationState.allCases.map(\.rawValue) == ["PROVISIONAL", "REGISTERED", "DISABLED"])
    }
}
