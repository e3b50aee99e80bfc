// Names of the modules' things, and ids that are derived rather than kept.

import Crypto
public import Foundation
public import QKDModel

enum YANGNames {
    static let node = "etsi-qkd-sdn-node:qkd_node"
    static let cv = "sdqkd-cv-qkd:"

    /// `etsi-qkd-node-types:PHYS`
    static func identity(_ word: String) -> JSON { .string("etsi-qkd-node-types:" + word) }

    /// The word of an identity without its module.
    static func word(_ value: JSON) -> String? { value.string.map { String($0.split(separator: ":").last ?? "") } }

    /// yang:date-and-time, whole seconds, UTC.
    static func text(_ date: Date) -> String {
        ISO8601DateFormatter.string(from: date, timeZone: .gmt, formatOptions: .withInternetDateTime)
    }

    static func date(_ value: JSON) -> Date? { value.string.flatMap { try? Date($0, strategy: .iso8601) } }
}

/// Ids that every node derives alike from names (UUID version 5, RFC 9562 section 5.5), so that nothing has to be kept or agreed on.
public enum DerivedID {
    /// Of this project's names; itself derived from the URL namespace and "urn:sdqkd".
    private static let space = named(
        "urn:sdqkd", in: UUID(uuid: (0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0, 0xc0, 0x4f, 0xd4, 0x30, 0xc8)))

    /// `qkdn_id` of a node whose configuration names none.
    public static func node(_ node: NodeID) -> UUID { named("node:\(node)", in: space) }

    /// `qkdl_id` of a link: its name where that is a UUID, as for links that a controller made.
    public static func link(_ link: LinkID) -> UUID { UUID(uuidString: link.rawValue) ?? named("link:\(link)", in: space) }

    private static func named(_ name: String, in space: UUID) -> UUID {
        var hash = Insecure.SHA1()
        withUnsafeBytes(of: space.uuid) { hash.update(bufferPointer: $0) }
        hash.update(data: Data(name.utf8))
        var bytes = Array(hash.finalize().prefix(16))
        bytes[6] = bytes[6] & 0x0f | 0x50
        bytes[8] = bytes[8] & 0x3f | 0x80
        return bytes.withUnsafeBytes { UUID(uuid: $0.loadUnaligned(as: uuid_t.self)) }
    }
}
