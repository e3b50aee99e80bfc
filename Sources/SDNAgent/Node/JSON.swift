// JSON of RFC 7951 as a value: what the state machine makes and reads.

import Foundation

/// 64-bit integers and decimals are strings in RFC 7951, so that `number` needs no more than an Int holds exactly.
public enum JSON: Sendable, Equatable {
    case object([String: JSON])
    case array([JSON])
    case string(String)
    case number(Int)
    case bool(Bool)
    case null

    /// `null` for what is no JSON.
    public init(parsing text: String) {
        let value = try? JSONSerialization.jsonObject(with: Data(text.utf8), options: [.fragmentsAllowed])
        self = value.map(JSON.init(any:)) ?? .null
    }

    private init(any value: Any) {
        switch value {
        case let value as [String: Any]: self = .object(value.mapValues(JSON.init(any:)))
        case let value as [Any]: self = .array(value.map(JSON.init(any:)))
        case let value as String: self = .string(value)
        case let value as NSNumber:
            self = CFBooleanLike.isBoolean(value) ? .bool(value.boolValue) : .number(value.intValue)
        default: self = .null
        }
    }

    public subscript(_ key: String) -> JSON {
        if case .object(let members) = self { members[key] ?? .null } else { .null }
    }

    public var array: [JSON] { if case .array(let values) = self { values } else { [] } }
    public var string: String? { if case .string(let value) = self { value } else { nil } }
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    /// Numbers as they are, and 64-bit numbers in their string form.
    public var int: Int? {
        switch self {
        case .number(let value): value
        case .string(let value): Int(value)
        default: nil
        }
    }
    public var double: Double? {
        switch self {
        case .number(let value): Double(value)
        case .string(let value): Double(value)
        default: nil
        }
    }
    public var isNull: Bool { self == .null }
    public var isEmpty: Bool {
        switch self {
        case .object(let members): members.isEmpty
        case .array(let values): values.isEmpty
        case .null: true
        default: false
        }
    }

    /// Keys in order, no spaces: the same value has the same text.
    public var text: String {
        var text = ""
        write(to: &text)
        return text
    }

    private func write(to text: inout String) {
        switch self {
        case .object(let members):
            text += "{"
            for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { text += "," }
                Self.write(member.key, to: &text)
                text += ":"
                member.value.write(to: &text)
            }
            text += "}"
        case .array(let values):
            text += "["
            for (index, value) in values.enumerated() {
                if index > 0 { text += "," }
                value.write(to: &text)
            }
            text += "]"
        case .string(let value): Self.write(value, to: &text)
        case .number(let value): text += "\(value)"
        case .bool(let value): text += value ? "true" : "false"
        case .null: text += "null"
        }
    }

    private static func write(_ value: String, to text: inout String) {
        text += "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\t": text += "\\t"
            case "\r": text += "\\r"
            case _ where scalar.value < 0x20: text += "\\u" + String(format: "%04x", scalar.value)
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}

private enum CFBooleanLike {
    static func isBoolean(_ value: NSNumber) -> Bool { String(cString: value.objCType) == "c" }
}

extension JSON {
    /// An object of the members that have a value; containers without content are left out.
    static func made(_ members: [String: JSON?]) -> JSON {
        .object(members.compactMapValues { $0 }.filter { !$0.value.isEmpty })
    }

    /// decimal64 with so many fraction digits.
    static func decimal(_ value: Double?, _ digits: Int) -> JSON? {
        guard let value, value.isFinite, abs(value) < 9e17 / pow(10, Double(digits)) else { return nil }
        return .string(String(format: "%.\(digits)f", value))
    }

    /// uint32, held within its range.
    static func count32(_ value: Double?) -> JSON? {
        value.flatMap { $0.isFinite ? .number(Int(min(max($0.rounded(), 0), Double(UInt32.max)))) : nil }
    }

    static func count32(_ value: Int?) -> JSON? { value.map { .number(min(max($0, 0), Int(UInt32.max))) } }
    /// uint64 and counters.
    static func count64(_ value: Int?) -> JSON? { value.map { .string("\(max($0, 0))") } }
    static func text(_ value: String?) -> JSON? { value.map { .string($0) } }
    static func uuid(_ value: UUID?) -> JSON? { value.map { .string($0.uuidString.lowercased()) } }

    /// yang:date-and-time, whole seconds, UTC.
    static func date(_ value: Date?) -> JSON? {
        value.map { .string(YANGNames.text($0)) }
    }
}
