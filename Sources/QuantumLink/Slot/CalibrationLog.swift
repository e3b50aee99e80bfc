// Dark and shot-noise windows of one receiver, and what they are worth at a moment. A value.
//
// Windows are merged over a block, because a relative error of 1e-3 in the shot noise already shifts the excess noise by
// .046 SNU at 11 dB: statistics of calibration are as precious as those of the signal. Only windows from shortly before the block's
// start to its end count, so that slow drift of the local oscillator's power averages out over slots and windows alike.

internal import PostProcessing

struct CalibrationLog: Sendable {
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

    mutating func saw(deviceTime: UInt64) { now = max(now, deviceTime) }

    mutating func add(_ window: Window) {
        windows.append(window)
        saw(deviceTime: window.end)
    }

    /// The device restarted: its clock began again and its state is unknown.
    mutating func reset() {
        windows = []
        now = 0
    }

    /// Drops windows that no block can use any more.
    mutating func expire(before time: UInt64) { windows.removeAll { $0.end < time } }

    func symbols(_ kind: NoiseKind, since time: UInt64) -> UInt64 {
        windows.reduce(0) { $0 + ($1.kind == kind && $1.end >= time ? $1.symbols : 0) }
    }

    func merged(_ kind: NoiseKind, since time: UInt64) -> CalibrationSums? {
        let parts = windows.filter { $0.kind == kind && $0.end >= time }
        guard var sums = parts.first?.sums else { return nil }
        for part in parts.dropFirst() { sums.merge(part.sums) }
        return sums
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
