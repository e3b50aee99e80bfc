// How long a device has run, by its own clock, over its restarts.

/// Adds up what goes by while a device's clock goes forward; what it missed while it was off does not count.
package struct RunningClock: Sendable {
    /// Batches are handed on a little out of turn: less than this back is no restart, ns.
    private static let slack: UInt64 = 1_000_000_000

    private var first: UInt64?
    private var last: UInt64 = 0
    private var before = 0.0

    package init() {}

    package var seconds: Double { before + (first.map { Double(last - $0) / 1e9 } ?? 0) }

    package mutating func saw(_ time: UInt64) {
        if let first, time < last, last - time > Self.slack {
            before += Double(last - first) / 1e9
            self.first = nil
        }
        if first == nil { (first, last) = (time, time) }
        last = max(last, time)
    }
}
