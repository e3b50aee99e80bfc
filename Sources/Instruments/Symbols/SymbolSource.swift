/// Symbol frames of one device, in order, each checked.
///
/// One consumer at a time calls `next`. Frames stay in the device's ring until released, so a lost connection loses nothing.
public protocol SymbolSource: AnyObject, Sendable {
    /// Waits for the next frame.
    /// - Returns: `nil` when the acquisition was stopped and its last frame has been delivered, and after `close`.
    /// - Throws: `InstrumentError.streamFailed`, `TransportError`, `CancellationError`.
    func next() async throws -> SymbolFrame?

    /// Frees all frames up to and including `number` in the device's ring.
    func release(through number: UInt64) async throws

    var statistics: StreamStatistics { get }

    /// An acquisition or a calibration starts: frames before this number are of an earlier one; they are freed and not delivered.
    func begin(at number: UInt64)

    /// It ended: no frame from this number on is waited for, until `begin`.
    func end(at number: UInt64)

    /// The work is over and the device's ring is empty: frames below this number that have not come are lost, and the stream ends
    /// behind those that have.
    func cutShort(at number: UInt64)

    /// Ends waiting calls: `next` returns `nil`.
    func close()
}

extension SymbolSource {
    /// A source that looks into the ring itself needs no telling.
    public func cutShort(at number: UInt64) {}
}

/// Counts of one stream since it was opened.
public struct StreamStatistics: Sendable, Equatable, Codable {
    public var frames: UInt64 = 0
    public var bytes: UInt64 = 0
    /// Frames that came with a wrong checksum.
    public var corrupt: UInt64 = 0
    /// Frames that were asked for again and came.
    public var refetched: UInt64 = 0
    /// Frames that are missing in the numbering for good.
    public var lost: UInt64 = 0
    /// Of these, frames that failed their checksum as often as they were fetched.
    public var spoiled: UInt64 = 0
    /// Times the data connection was opened again.
    public var reconnections: UInt64 = 0

    public init() {}
}
