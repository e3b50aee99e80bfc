internal import PostProcessingKernels

/// Sums over pairs of sent (x) and received (y) quadratures, in SNU: all that estimation needs of a block.
///
/// Every symbol of the block goes in, those of failed frames too: leaving them out would favour good frames.
public struct CorrelationSums: Codable, Hashable, Sendable {
    /// Quadratures, two per symbol.
    public private(set) var count: Int = 0
    public private(set) var x: Double = 0
    public private(set) var y: Double = 0
    public private(set) var xx: Double = 0
    public private(set) var xy: Double = 0
    public private(set) var yy: Double = 0
    /// Received samples at the converter's ends.
    public var saturated: Int = 0

    public init() {}

    /// Sums that were computed elsewhere.
    public init(count: Int, x: Double = 0, y: Double = 0, xx: Double, xy: Double, yy: Double, saturated: Int = 0) {
        (self.count, self.x, self.y, self.xx, self.xy, self.yy, self.saturated) = (count, x, y, xx, xy, yy, saturated)
    }

    /// - Precondition: as many x as y.
    public mutating func add(x sent: UnsafeBufferPointer<Float>, y received: UnsafeBufferPointer<Float>) {
        precondition(sent.count == received.count, "as many sent as received quadratures")
        guard let a = sent.baseAddress, let b = received.baseAddress else { return }
        var sums = [x, y, xx, xy, yy]
        symbols_correlations(a, b, sent.count, &sums)
        (x, y, xx, xy, yy) = (sums[0], sums[1], sums[2], sums[3], sums[4])
        count += sent.count
    }

    public mutating func merge(_ other: CorrelationSums) {
        count += other.count
        x += other.x
        y += other.y
        xx += other.xx
        xy += other.xy
        yy += other.yy
        saturated += other.saturated
    }

    public var saturatedShare: Double { count > 0 ? Double(saturated) / Double(count) : 0 }
}
