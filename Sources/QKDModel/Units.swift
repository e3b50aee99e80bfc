// Physical quantities: where a bare number crosses a boundary, its name carries the unit; losses have a type
// of their own because decibels and ratios are the classic mix-up.

internal import Foundation

/// A loss in decibels, 0 or more for a passive element.
public struct Decibels: Codable, Hashable, Sendable, Comparable, CustomStringConvertible {
    public var value: Double
    public init(_ value: Double) { self.value = value }

    /// The share of power that gets through: `10^(-value/10)`.
    public var transmittance: Double { pow(10, -value / 10) }

    /// - Parameter transmittance: power ratio in (0, 1].
    public init(transmittance: Double) { value = -10 * log10(transmittance) }

    public static func < (left: Self, right: Self) -> Bool { left.value < right.value }
    public static func + (left: Self, right: Self) -> Self { Self(left.value + right.value) }
    public var description: String { "\(value) dB" }

    public init(from decoder: any Decoder) throws { value = try decoder.singleValueContainer().decode(Double.self) }
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(value)
    }
}
