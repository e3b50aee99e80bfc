// The names of things: nodes, links, devices, applications, keys. Values only.

public import Foundation

/// A word that stands for one thing of its kind and is safe in a file name, a URL path and a log line.
///
/// 1 to 64 characters out of letters, digits, `-`, `_`, `.` and `:`; the first is a letter or a digit.
public protocol Identifier: RawRepresentable<String>, Codable, Hashable, Sendable, Comparable, CustomStringConvertible {
    init(unchecked rawValue: String)
}

extension Identifier {
    /// `nil` where `rawValue` breaks the rule above.
    public init?(rawValue: String) {
        guard isIdentifier(rawValue) else { return nil }
        self.init(unchecked: rawValue)
    }

    /// - Throws: `QKDModelError.badIdentifier`, which names the kind and the text.
    public init(_ text: String) throws(QKDModelError) {
        guard isIdentifier(text) else { throw .badIdentifier(kind: "\(Self.self)", text: text) }
        self.init(unchecked: text)
    }

    public init(from decoder: any Decoder) throws {
        try self.init(decoder.singleValueContainer().decode(String.self))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }

    public var description: String { rawValue }
    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

private func isIdentifier(_ text: String) -> Bool {
    guard (1...64).contains(text.utf8.count), let first = text.unicodeScalars.first else { return false }
    func isAlphanumeric(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "a"..."z", "A"..."Z", "0"..."9": true
        default: false
        }
    }
    return isAlphanumeric(first) && text.unicodeScalars.allSatisfy { isAlphanumeric($0) || "-_.:".unicodeScalars.contains($0) }
}

/// One secure site (ETSI GS QKD 015 `qkdn_id`).
public struct NodeID: Identifier {
    public let rawValue: String
    public init(unchecked rawValue: String) { self.rawValue = rawValue }
}

/// One quantum or virtual link (`qkdl_id`), the same at both ends.
public struct LinkID: Identifier {
    public let rawValue: String
    public init(unchecked rawValue: String) { self.rawValue = rawValue }
}

/// The serial number that a device answers in `*IDN?`.
public struct DeviceSerial: Identifier {
    public let rawValue: String
    public init(unchecked rawValue: String) { self.rawValue = rawValue }
}

/// A secure application entity (ETSI GS QKD 014), as its certificate names it.
public struct SAEID: Identifier {
    public let rawValue: String
    public init(unchecked rawValue: String) { self.rawValue = rawValue }
}

/// One distilled block of key; both ends of a link give it the same id.
public struct BlockID: Hashable, Sendable, Codable, CustomStringConvertible {
    public let uuid: UUID
    public init(_ uuid: UUID) { self.uuid = uuid }
    public var description: String { uuid.uuidString.lowercased() }
}

/// One key as delivered to applications (ETSI GS QKD 014 `key_ID`).
public struct KeyID: Hashable, Sendable, Codable, CustomStringConvertible {
    public let uuid: UUID
    public init(_ uuid: UUID) { self.uuid = uuid }
    public var description: String { uuid.uuidString.lowercased() }
}

/// What can be wrong with a word of the model.
public enum QKDModelError: Error, Equatable, CustomStringConvertible {
    case badIdentifier(kind: String, text: String)

    public var description: String {
        switch self {
        case .badIdentifier(let kind, let text):
            "'\(text.prefix(80))' is no \(kind): use 1 to 64 letters, digits, '-', '_', '.' or ':', a letter or digit first"
        }
    }
}
