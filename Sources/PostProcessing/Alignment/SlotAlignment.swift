internal import Foundation
internal import PostProcessingKernels

/// Where a receiver's symbols lie against the transmitter's, found from disclosed positions.
public struct SlotAlignment: Codable, Hashable, Sendable {
    /// Receiver's counter minus transmitter's counter of the same symbol.
    public let offset: Int
    /// The receiver's symbols are turned by this angle [rad]; `SymbolConverter.phase` turns them back.
    public let phase: Double
    /// One standard deviation of `phase` [rad].
    public let phaseError: Double
    /// Height of the correlation over its noise floor. Without correlation its distribution is exponential with mean 1.
    public let significance: Double
    /// The probability that noise alone reaches this height anywhere in the window.
    public let falseAlarm: Double

    /// Noise alone is taken for an alignment less often than this.
    public static let maximumFalseAlarm = 1e-9

    /// Looks for the offset inside a window.
    ///
    /// - Parameters:
    ///   - samples: the receiver's samples, interleaved x, p in LSB. They should cover the disclosed positions at every offset; what is missing
    ///     counts as zero and costs significance.
    ///   - firstSymbol: the receiver's counter of the first of them.
    ///   - searchRange: offsets to try, at most 2^22 of them.
    /// - Returns: `nil` where no peak stands clearly above the noise: no correlation, no slot.
    /// - Throws: `PostProcessingError` for a window or samples that cannot be searched.
    public static func correlate(
        _ disclosure: SlotDisclosure, received samples: UnsafeBufferPointer<Int16>, firstSymbol: UInt64, searchRange: ClosedRange<Int>
    ) throws(PostProcessingError) -> SlotAlignment? {
        let window = searchRange.upperBound.subtractingReportingOverflow(searchRange.lowerBound)
        guard !window.overflow, window.partialValue < 1 << 22 else {
            throw .outOfRange(
                quantity: "search window", value: Double(searchRange.upperBound) - Double(searchRange.lowerBound), allowed: "below 2^22")
        }
        guard samples.count >= 2 * 1000 else { throw .tooFewSamples(what: "slot", found: samples.count / 2, needed: 1000) }
        guard firstSymbol < 1 << 62, abs(searchRange.lowerBound) < 1 << 62 else {
            throw .outOfRange(quantity: "first symbol", value: Double(firstSymbol), allowed: "below 2^62")
        }
        let offsets = window.partialValue + 1
        let span = Int(disclosure.positions.last ?? 0) + 1
        // Index 0 of the search is the receiver's symbol for position 0 at the lowest offset.
        let start = Int(disclosure.firstSymbol) + searchRange.lowerBound - Int(firstSymbol)
        let received = Planes(samples, start: start, count: span + offsets)
        return Search(disclosure, received, offsets: offsets).peak(lowest: searchRange.lowerBound)
    }
}

/// A stretch of received symbols without their mean, x and p apart; zeros where nothing was received.
private struct Planes {
    var x: [Float]
    var p: [Float]

    init(_ samples: UnsafeBufferPointer<Int16>, start: Int, count: Int) {
        x = [Float](repeating: 0, count: count)
        p = x
        let known = (0..<count).clamped(to: -start..<samples.count / 2 - start)
        guard !known.isEmpty else { return }
        var mean = (x: 0.0, p: 0.0)
        for index in known {
            mean.x += Double(samples[2 * (start + index)])
            mean.p += Double(samples[2 * (start + index) + 1])
        }
        let (meanX, meanP) = (Float(mean.x / Double(known.count)), Float(mean.p / Double(known.count)))
        for index in known {
            x[index] = Float(samples[2 * (start + index)]) - meanX
            p[index] = Float(samples[2 * (start + index) + 1]) - meanP
        }
    }
}

private struct Search {
    /// Squared correlation at every offset, and the correlation itself.
    private var re: [Float]
    private var im: [Float]

    init(_ disclosure: SlotDisclosure, _ received: Planes, offsets: Int) {
        re = [Float](repeating: 0, count: offsets)
        im = re
        symbols_correlate(
            received.x, received.p, disclosure.positions, disclosure.x, disclosure.p, disclosure.positions.count, offsets, &re, &im)
    }

    private func power(_ index: Int) -> Double {
        let (a, b) = (Double(re[index]), Double(im[index]))
        return a * a + b * b
    }

    func peak(lowest: Int) -> SlotAlignment? {
        var best = (index: 0, power: -1.0)
        var total = 0.0
        for index in re.indices {
            let power = power(index)
            total += power
            if power > best.power { best = (index, power) }
        }
        guard re.count > 1, best.power > 0, total > best.power else { return nil }
        let floor = (total - best.power) / Double(re.count - 1)
        let height = best.power / floor
        let falseAlarm = Double(re.count) * exp(-height)
        guard falseAlarm <= SlotAlignment.maximumFalseAlarm else { return nil }
        return SlotAlignment(
            offset: lowest + best.index, phase: atan2(Double(im[best.index]), Double(re[best.index])),
            phaseError: 1 / (2 * height).squareRoot(),
            significance: height, falseAlarm: falseAlarm)
    }
}
