// Values of the agent's configuration file with their ranges: what is outside is refused where it stands.

import Foundation

/// A time span of the thresholds, in seconds: 0 to a week.
public struct ThresholdSeconds: Decodable, Sendable, Equatable {
    public static let range = 0.0...604_800
    public var value: Double

    public init(from decoder: any Decoder) throws {
        value = try checked(decoder, Self.range, "s")
    }
}

/// The share by which a figure has to move: 0 (every change) to 100 (a hundredfold).
public struct ThresholdShare: Decodable, Sendable, Equatable {
    public static let range = 0.0...100
    public var value: Double

    public init(from decoder: any Decoder) throws {
        value = try checked(decoder, Self.range, "times")
    }
}

private func checked(_ decoder: any Decoder, _ range: ClosedRange<Double>, _ unit: String) throws -> Double {
    let container = try decoder.singleValueContainer()
    let value = try container.decode(Double.self)
    guard range.contains(value) else {
        throw DecodingError.dataCorruptedError(
            in: container, debugDescription: "\(value) is not from \(Int(range.lowerBound)) to \(Int(range.upperBound)) \(unit)")
    }
    return value
}

/// Text as a YANG string may have it: no control characters but tab and ends of lines, no noncharacters (RFC 7950 section 9.4).
public struct YANGText: Decodable, Sendable, Equatable {
    public var value: String

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        value = try container.decode(String.self)
        guard let wrong = value.unicodeScalars.first(where: { !Self.isAllowed($0.value) }) else { return }
        throw DecodingError.dataCorruptedError(
            in: container, debugDescription: "character U+\(String(format: "%04X", wrong.value)) is none that YANG has in text")
    }

    private static func isAllowed(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x09, 0x0A, 0x0D: true
        case 0..<0x20, 0xFDD0...0xFDEF: false
        default: scalar & 0xFFFE != 0xFFFE
        }
    }
}
