// Dark and shot-noise windows of one receiver, and what they are worth at a moment. A value.
//
// Windows are merged over a block, because a relative error of 1e-3 in the shot noise already shifts the excess noise by
// .046 SNU at 11 dB: statistics of calibration are as precious as those of the signal. Only windows from shortly before the block's
// start to its end count, so that slow drift of the local oscillator's power averages out over slots and windows alike.

package import PostProcessing

package struct CalibrationLog: Sendable {
    struct Window: Sendable {
        var kind: NoiseKind
        /// Device time of its first symbol, ns.
        var begin: UInt64
        var end: UInt64
        var sums: CalibrationSums
        var symbols: UInt64
    }

    private(set) var windows: [Window] = []
    /// The newest device time that was seen, ns.
    private(set) var now: UInt64 = 0

    /// Counts the restarts of the device: what was measured before one says nothing about what comes after.
    private(set) var generation = 0
    /// How far a device's clock may step back before it counts as a restart, ns: batches are handed on a little out of turn.
    private static let slack: UInt64 = 1_000_000_000

    mutating func saw(deviceTime: UInt64) {
        if now > Self.slack, deviceTime < now - Self.slack { reset() }
        now = max(now, deviceTime)
    }

    mutating func add(_ window: Window) {
        windows.append(window)
        saw(deviceTime: window.end)
    }

    /// The device restarted: its clock began again and its state is unknown.
    mutating func reset() {
        windows = []
        now = 0
        generation += 1
    }

    /// The noise is another one now: no window counts any more. Blocks under way are over already.
    mutating func drop() { windows = [] }

    /// Drops windows that no block can use any more.
    mutating func expire(before time: UInt64) { windows.removeAll { $0.end < time } }

    func symbols(_ kind: NoiseKind, since time: UInt64) -> UInt64 {
        windows.reduce(0) { $0 + ($1.kind == kind && $1.end >= time ? $1.symbols : 0) }
    }

    func merged(_ kind: NoiseKind, since time: UInt64) -> CalibrationSums? { Self.merged(sums(kind, from: time, to: .max)[...]) }

    /// Windows that lie in a stretch of device time at least in part, oldest first.
    func sums(_ kind: NoiseKind, from first: UInt64, to last: UInt64) -> [CalibrationSums] {
        windows.filter { $0.kind == kind && $0.end >= first && $0.begin <= last }.map(\.sums)
    }

    /// Whether a window of the kind lies within so many seconds of a moment.
    func serves(_ time: UInt64, _ kind: NoiseKind, within seconds: Double) -> Bool {
        windows.contains {
            $0.kind == kind && Double($0.begin) <= Double(time) + seconds * 1e9 && Double($0.end) >= Double(time) - seconds * 1e9
        }
    }

    static func merged(_ parts: ArraySlice<CalibrationSums>) -> CalibrationSums? {
        guard var sums = parts.first else { return nil }
        for part in parts.dropFirst() { sums.merge(part) }
        return sums
    }

    /// Standard errors that windows of a noise that stands still may differ by.
    static let agreement = 4.5

    /// How far the noise moved between windows: the largest deviation of a window, or of the older or newer half of them, from
    /// all of them, beyond what statistics explain, as a share of the variance. Means count too: they would widen the merged variance.
    package static func drift(_ windows: [CalibrationSums]) -> Double {
        guard windows.count > 1, let all = merged(windows[...]), all.variance > 0 else { return 0 }
        let half = windows.count / 2
        let parts = windows + [windows[..<half], windows[half...]].compactMap(merged)
        return parts.reduce(0) { largest, part in
            guard part.symbols > 1 else { return largest }
            let moved = abs(part.variance / all.variance - 1) - agreement * (2 / Double(part.count)).squareRoot()
            let (x, p) = (part.meanX - all.meanX, part.meanP - all.meanP)
            let offset = max(x * x, p * p) / all.variance - agreement * agreement / Double(part.symbols)
            return max(largest, moved, offset)
        }
    }

    /// Seconds of device time since the newest window of a kind ended.
    func age(_ kind: NoiseKind) -> Double? {
        windows.last { $0.kind == kind }.map { Double(now &- $0.end) / 1e9 }
    }

    /// `seconds` before now, in device time.
    func time(secondsAgo seconds: Double) -> UInt64 {
        let nanoseconds = min(max(0, seconds), 1e9) * 1e9
        return now > UInt64(nanoseconds) ? now - UInt64(nanoseconds) : 0
    }
}
