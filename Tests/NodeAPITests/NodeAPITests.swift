// What scripts, `qkdctl` and the agent read off the local sockets: the names in the JSON are a promise.

import Foundation
import NodeAPI
import QKDModel
import Testing

@Suite("Messages of the local sockets")
struct NodeAPITests {
    private func object(_ value: some Encodable) throws -> [String: Any] {
        let encoder = JSONEncoder()
        encoder.dateEncodingStrategy = .iso8601
        return try #require(try JSONSerialization.jsonObject(with: encoder.encode(value)) as? [String: Any])
    }

    private func link() throws -> LinkStatus {
        LinkStatus(
            link: try LinkID("almagro-norte"), peer: try NodeID("norte"), role: .transmitter, device: "tx", state: .pending,
            reason: "waits for its peer")
    }

    @Test("A link's status carries the names that scripts rely on, and bare words for ids and states")
    func linkNames() throws {
        let json = try object(try link())
        for name in ["link", "peer", "role", "device", "state", "reason", "progress", "keyRate", "wallRate", "bitsDeposited", "alarms"] {
            #expect(json[name] != nil, "\(name) is missing")
        }
        #expect(json["link"] as? String == "almagro-norte")
        #expect(json["role"] as? String == "TRANSMITTER")
        #expect(json["state"] as? String == "PENDING")
    }

    @Test("What was not measured yet is absent, not zero")
    func absent() throws {
        let json = try object(try link())
        for name in ["snr", "last", "modulationVariance", "shotNoise", "padForward"] { #expect(json[name] == nil, "\(name)") }
    }

    @Test("A whole status reads back as it was")
    func roundTrip() throws {
        var one = try link()
        one.snr = 0.163
        one.alarms = [LinkAlarmStatus(kind: "pad", severity: .major, text: "reserve reached", since: Date(timeIntervalSince1970: 1000))]
        let device = LinkDevice(name: "tx", uri: "tcp:127.0.0.1:5025", role: .transmitter, state: .ready, reason: "", serial: "ALM-TX-1")
        let status = LinkServiceStatus(node: try NodeID("almagro"), uptimeSeconds: 1.5, devices: [device], links: [one], sharing: [])
        #expect(try JSONDecoder().decode(LinkServiceStatus.self, from: JSONEncoder().encode(status)) == status)
    }

    @Test(
        "No route and no message has a place for key: not even its name", arguments: ["key", "keys", "keybits", "secret", "pad", "symbols"])
    func noKey(word: String) throws {
        // Counts and rates may be named after key; a field of just this name would be the thing itself.
        let json = try object(try link())
        #expect(json.keys.allSatisfy { $0.lowercased() != word })
    }

    @Test("A message of another shape is refused, not half understood")
    func otherShape() {
        #expect(throws: DecodingError.self) { try JSONDecoder().decode(LinkStatus.self, from: Data("{\"link\":\"a\"}".utf8)) }
        #expect(throws: (any Error).self) {
            try JSONDecoder().decode(
                LinkDevice.self, from: Data("{\"name\":\"a\",\"uri\":\"b\",\"role\":\"BOTH\",\"state\":\"OFF\",\"reason\":\"\"}".utf8))
        }
    }
}
