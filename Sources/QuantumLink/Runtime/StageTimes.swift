// Where the time of a block goes at one end.

internal import Synchronization

/// What the time of a block is spent on. Stages run side by side: their sum is not the block's duration.
public enum LinkStage: String, Codable, Sendable, CaseIterable {
    /// Waiting for the link's turn on the shared transmitter.
    case turn
    /// Path, light and pilot lock at the start of slots.
    case opening
    /// Waiting for symbols of the own device.
    case acquisition
    case alignment
    /// Receiver's end: frames to messages.
    case encode
    /// Transmitter's end: decoders at work, all together.
    case decode
    /// Waiting for the far end.
    case channel
    case verification
    case estimation
    /// Privacy amplification.
    case amplification
    /// Until the block's key is durable here and in the key store.
    case deposit
}

/// Seconds by stage.
public struct StageTimes: Codable, Sendable, Equatable {
    public private(set) var seconds: [String: Double] = [:]

    public init() {}

    public mutating func add(_ stage: LinkStage, _ time: Duration) { seconds[stage.rawValue, default: 0] += time / .seconds(1) }
}

/// The clock by which stages are measured: a parameter, so that tests can turn it.
public protocol LinkClock: Sendable {
    /// Since any fixed moment.
    var now: Duration { get }
}

/// The machine's monotonic clock.
public struct MonotonicClock: LinkClock {
    private static let origin = ContinuousClock.now
    public init() {}
    public var now: Duration { ContinuousClock.now - Self.origin }
}

/// Stage times that several tasks add to.
final class StageMeter: Sendable {
    private let clock: any LinkClock
    private let times = Mutex(StageTimes())

    init(_ clock: any LinkClock) { self.clock = clock }

    var now: Duration { clock.now }
    var all: StageTimes { times.withLock { $0 } }

    func restart() { times.withLock { $0 = StageTimes() } }
    func add(_ stage: LinkStage, since start: Duration) {
        let time = clock.now - start
        times.withLock { $0.add(stage, time) }
    }

    /// Measures `body`.
    func measure<R>(_ stage: LinkStage, isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> R) async rethrows -> R {
        let start = clock.now
        defer { add(stage, since: start) }
        return try await body()
    }

    func measure<R>(_ stage: LinkStage, _ body: () throws -> R) rethrows -> R {
        let start = clock.now
        defer { add(stage, since: start) }
        return try body()
    }
}
