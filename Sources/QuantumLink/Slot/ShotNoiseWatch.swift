// What a receiver's noise was over a long time, against which every new window is held. A value.
//
// Light behind the closed shutter makes an eavesdropper's noise look like vacuum. Within a block the step is seen because windows
// disagree; once all windows that count were lit they agree again. So the level is kept for longer than any block: it follows the
// receiver slowly (1 % in an hour of device time), and a step beyond that stays until a person has acknowledged it.

package import PostProcessing

/// A receiver's noise as it was, durable.
package struct NoiseReference: Codable, Sendable, Equatable {
    /// N0 and the dark variance, LSB^2, with their standard errors.
    package var shotNoise: Double
    package var shotNoiseError: Double
    package var dark: Double
    package var darkError: Double
    /// A step that nobody has acknowledged.
    package var step: String?
}

package struct ShotNoiseWatch: Sendable {
    /// A step that counts, as a share of N0, beyond what statistics explain.
    package static let stepLimit = 0.005
    /// How fast the level may follow the receiver, share of N0 in an hour of device time.
    package static let slewPerHour = 0.01
    /// Symbols that are compared at once, at least; a longer window is compared by itself.
    package static let enough = 1_000_000

    package private(set) var reference: NoiseReference?
    /// Short windows, together.
    private var pool: CalibrationSums?
    private var lastTime: UInt64?
    /// The level that was kept last.
    private var kept: Double?

    package init(_ reference: NoiseReference? = nil) { (self.reference, kept) = (reference, reference?.shotNoise) }

    package var step: String? { reference?.step }

    /// A window was measured.
    /// - Parameters:
    ///   - dark: the newest dark window.
    ///   - time: device time at its end, ns.
    /// - Returns: whether the reference should be kept anew: it is the first one, has moved, or the noise has stepped.
    package mutating func saw(shot window: CalibrationSums, dark: CalibrationSums, time: UInt64) -> Bool {
        guard reference?.step == nil else { return false }
        var sums = window
        if let pool { sums.merge(pool) }
        guard sums.symbols >= Self.enough else {
            pool = sums
            return false
        }
        pool = nil
        guard let noise = try? NoiseCalibration(dark: dark, shot: sums) else { return false }
        defer { lastTime = time }
        let now = NoiseReference(
            shotNoise: noise.shotNoiseVariance, shotNoiseError: noise.shotNoiseError, dark: dark.variance, darkError: dark.varianceError)
        guard let reference else {
            (self.reference, kept) = (now, now.shotNoise)
            return true
        }
        // After a restart nobody knows how long it was: an hour.
        let hours = lastTime.map { time > $0 ? Double(time - $0) / 3.6e12 : 0 } ?? 1
        let slew = Self.slewPerHour * min(hours, 1)
        if let text = Self.compare(now, reference, slew: slew) {
            self.reference?.step = text
            return true
        }
        return follow(now, by: slew * reference.shotNoise)
    }

    private static func compare(_ now: NoiseReference, _ then: NoiseReference, slew: Double) -> String? {
        func error(_ a: Double, _ b: Double) -> Double { CalibrationLog.agreement * (a * a + b * b).squareRoot() / then.shotNoise }
        let changes = [
            ("shot", (now.shotNoise - then.shotNoise) / then.shotNoise, error(now.shotNoiseError, then.shotNoiseError)),
            ("electronic", (now.dark - then.dark) / then.shotNoise, error(now.darkError, then.darkError)),
        ]
        guard let (name, change, _) = changes.first(where: { abs($0.1) > stepLimit + slew + $0.2 }) else { return nil }
        let percent = (1000 * change).rounded() / 10
        return "the receiver's \(name) noise stepped by \(percent) % of the shot noise against its long-term level: light behind its "
            + "shutter, or the receiver was changed; no block until somebody acknowledges it"
    }

    /// - Returns: whether it has gone far enough to be kept anew.
    private mutating func follow(_ now: NoiseReference, by most: Double) -> Bool {
        guard var next = reference else { return false }
        func toward(_ from: Double, _ to: Double) -> Double { from + min(max(to - from, -most), most) }
        (next.shotNoise, next.dark) = (toward(next.shotNoise, now.shotNoise), toward(next.dark, now.dark))
        reference = next
        guard abs(next.shotNoise / (kept ?? next.shotNoise) - 1) > 1e-3 else { return false }
        kept = next.shotNoise
        return true
    }

    /// The receiver is right as it is now: the next windows make the level.
    package mutating func acknowledge() { (reference, pool, lastTime) = (nil, nil, nil) }

    /// The device restarted: its clock began again.
    package mutating func restarted() { (pool, lastTime) = (nil, nil) }
}
