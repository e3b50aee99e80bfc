// Channels of the DWDM grid, as controllers and plans of fibres number them.

/// A channel of the grid with 100 GHz between channels, by its usual number: n is at 190 THz + n x 100 GHz, so that 34 is 193.4 THz or
/// 1550.12 nm.
///
/// Source: ITU-T G.694.1, in which the same grid is counted from 193.1 THz.
public struct GridChannel: Hashable, Sendable, Comparable, CustomStringConvertible {
    public static let spacing = 100e9
    private static let origin = 190e12
    private static let lightSpeed = 299_792_458.0

    public var number: Int
    public init(_ number: Int) { self.number = number }

    /// Hz, of its middle.
    public var frequency: Double { Self.origin + Double(number) * Self.spacing }
    /// nm, in vacuum.
    public var wavelength: Double { Self.lightSpeed / frequency * 1e9 }

    /// - Parameter nanometres: a wavelength.
    /// - Returns: the channel whose middle is nearest.
    public static func nearest(nanometres: Double) -> GridChannel {
        guard nanometres > 1 else { return GridChannel(0) }
        return GridChannel(Int(((lightSpeed / nanometres * 1e9 - origin) / spacing).rounded()))
    }

    /// - Parameter nanometres: shortest and longest wavelength.
    /// - Returns: numbers of the channels whose middle lies between them; nil where there is none.
    public static func numbers(between shortest: Double, and longest: Double) -> ClosedRange<Int>? {
        guard shortest > 100, longest >= shortest, longest < 1e6 else { return nil }
        let low = ((lightSpeed / longest * 1e9 - origin) / spacing).rounded(.up)
        let high = ((lightSpeed / shortest * 1e9 - origin) / spacing).rounded(.down)
        guard high >= low, high >= 1 else { return nil }
        return Int(max(1, low))...Int(high)
    }

    public static func < (left: Self, right: Self) -> Bool { left.number < right.number }
    public var description: String { "\(number)" }
}
