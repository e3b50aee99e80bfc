// What the server tells of itself: ietf-restconf-monitoring (RFC 8040, section 9).

import Foundation

struct Monitoring: Codable {
    struct State: Codable {
        var capabilities: Capabilities
        var streams: Streams
    }
    struct Capabilities: Codable { var capability: [String] }
    struct Streams: Codable { var stream: [Stream] }
    struct Stream: Codable {
        var name: String
        var description: String
        var replaySupport: Bool
        var created: String
        var access: [Access]

        enum CodingKeys: String, CodingKey {
            case name
            case description
            case replaySupport = "replay-support"
            case created = "replay-log-creation-time"
            case access
        }
    }
    struct Access: Codable {
        var encoding: String
        var location: String
    }

    var state: State

    enum CodingKeys: String, CodingKey { case state = "ietf-restconf-monitoring:restconf-state" }

    /// Section 9.1. `filter` is not supported, so it is not here.
    static let capabilities = [
        "urn:ietf:params:restconf:capability:defaults:1.0?basic-mode=explicit",
        "urn:ietf:params:restconf:capability:depth:1.0",
        "urn:ietf:params:restconf:capability:fields:1.0",
        "urn:ietf:params:restconf:capability:replay:1.0",
        "urn:ietf:params:restconf:capability:with-defaults:1.0",
    ]

    /// - Parameter url: where clients reach the server, without a slash at the end.
    init(_ streams: EventStreams, url: String) {
        let described = streams.streams.map { stream in
            let place = url + "/streams/" + (stream.name.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? stream.name)
            return Stream(
                name: stream.name, description: stream.description, replaySupport: true, created: DateAndTime.text(streams.created),
                access: DataEncoding.allCases.map { Access(encoding: $0.rawValue, location: "\(place)/\($0.rawValue)") })
        }
        state = State(capabilities: Capabilities(capability: Self.capabilities), streams: Streams(stream: described))
    }

    var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
    }
}
