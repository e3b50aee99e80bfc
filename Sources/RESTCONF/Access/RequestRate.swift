import Synchronization

/// Requests per second of each client: a bucket that fills at `rate` and holds `burst`.
package final class RequestRate: Sendable {
    private struct Bucket {
        var level: Double
        var time: ContinuousClock.Instant
    }

    private let rate: Double
    private let burst: Double
    private let buckets = Mutex<[String: Bucket]>([:])

    package init(rate: Double, burst: Double) {
        self.rate = rate
        self.burst = max(1, burst)
    }

    /// Takes one request out of the client's bucket.
    /// - Returns: nil where there was one, or the seconds until there is.
    package func wait(of client: String, now: ContinuousClock.Instant = .now) -> Int? {
        buckets.withLock { buckets in
            if buckets.count > 4096 { prune(&buckets, now) }
            var bucket = buckets[client] ?? Bucket(level: burst, time: now)
            bucket.level = level(bucket, now)
            bucket.time = now
            defer { buckets[client] = bucket }
            guard bucket.level < 1 else {
                bucket.level -= 1
                return nil
            }
            return max(1, Int(((1 - bucket.level) / rate).rounded(.up)))
        }
    }

    private func level(_ bucket: Bucket, _ now: ContinuousClock.Instant) -> Double {
        let passed = bucket.time.duration(to: now) / .seconds(1)
        return min(burst, bucket.level + max(0, passed) * rate)
    }

    /// A full bucket says nothing.
    private func prune(_ buckets: inout [String: Bucket], _ now: ContinuousClock.Instant) {
        buckets = buckets.filter { level($0.value, now) < burst }
    }
}
