// How often frames do not decode by their message alone, against efficiency. A value.

internal import Foundation
package import PostProcessing

/// The waterfall of a code of finite length: first attempts fail with Q((b - beta) / s), where b is the efficiency at which half of them do.
///
/// s = .0128 sqrt(.1 / rate) for short frames, .57 of it (at least .007) for long ones, and b lies two s above a code's operating
/// efficiency: fitted to the table of docs/reconciliation.md. What frames of earlier blocks did corrects b.
package struct FrameModel: Sendable, Equatable {
    /// Share of its core that a frame is disclosed that is not decoded at once, long and short ones, and what is added per width below the middle of the
    /// waterfall; the share of frames that are given up in the end. Fitted to the table's net beta and to what two links showed in a thousand seconds:
    /// .003 to .008 of the core near the limit, .015 one width below the middle, .035 three, .06 five.
    private static let disclosed = (long: 0.006, short: 0.010)
    private static let deeper = 0.0095
    private static let lost = 0.0005
    /// How much more than `operatingEfficiency` says the middle falls until a code's last step.
    private static let steeper = ["r05": 0.0025, "r07": 0.007, "r10": 0.006, "r15": 0.016]
    private static let mostShift = 0.015
    private static let leastFrames = 60

    /// What was learned: how much later (or earlier) the waterfall comes.
    package private(set) var shift = 0.0

    package init() {}

    package func expectation(_ code: ReconciliationCode, efficiency: Double) -> (first: Double, rounds: Double, lost: Double) {
        let z = (middle(code) - efficiency) / Self.width(code)
        let first = min(1, erfc(z / 2.0.squareRoot()) / 2)
        // Deep in the waterfall a frame takes more rounds, and some take all and fail.
        let share = (Self.isLong(code) ? Self.disclosed.long : Self.disclosed.short) + Self.deeper * max(0, -z)
        let rounds = min(Double(code.disclosureRounds), share * Double(code.coreBits) / Double(code.disclosureBits))
        return (first, first * rounds, Self.lost + (z < -2 ? min(1, first * (-z - 2) / 4) : 0))
    }

    package mutating func learned(_ code: ReconciliationCode, efficiency: Double, decodedAtOnce: Int, frames: Int) {
        guard frames >= Self.leastFrames, (0...frames).contains(decodedAtOnce), (0.5...1).contains(efficiency) else { return }
        // Half a frame more on both sides: none of many says something too.
        let share = (Double(frames - decodedAtOnce) + 0.5) / (Double(frames) + 1)
        let middle = efficiency + Self.quantile(share) * Self.width(code)
        let seen = middle - (self.middle(code) - shift)
        // None failed far from the limit: the waterfall may lie anywhere above.
        if decodedAtOnce == frames, seen < shift { return }
        shift = min(max(shift + (seen - shift) / 3, -Self.mostShift), Self.mostShift)
    }

    private func middle(_ code: ReconciliationCode) -> Double {
        let steps = code.steps > 0 ? Double(code.step) / Double(code.steps) : 0
        return code.operatingEfficiency + 2 * Self.width(code) + shift - (Self.steeper[String(code.base.prefix(3))] ?? 0) * steps
    }

    private static func width(_ code: ReconciliationCode) -> Double {
        let short = 0.0128 * (0.1 / code.rate).squareRoot()
        return isLong(code) ? max(0.007, 0.57 * short) : short
    }

    private static func isLong(_ code: ReconciliationCode) -> Bool { code.frameBits > 500_000 }

    /// z with Q(z) = share.
    private static func quantile(_ share: Double) -> Double {
        var (low, high) = (-6.0, 6.0)
        for _ in 0..<50 {
            let middle = (low + high) / 2
            if erfc(middle / 2.0.squareRoot()) / 2 > share { low = middle } else { high = middle }
        }
        return (low + high) / 2
    }
}
