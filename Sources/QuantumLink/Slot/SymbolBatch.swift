// What the link needs of a device, apart from any driver: symbols as they come, and the few things that a slot asks for.
// `Runtime/ManagedDevices.swift` joins it to Instruments; tests join it to synthetic channels.

/// Samples that stay where the device's frame put them.
public protocol SampleStorage: Sendable {
    /// x0, p0, x1, ... in steps of the converter.
    func withSamples(_ body: (UnsafeBufferPointer<Int16>) -> Void)
}

extension [Int16]: SampleStorage {
    public func withSamples(_ body: (UnsafeBufferPointer<Int16>) -> Void) { withUnsafeBufferPointer(body) }
}

/// A run of symbols without a gap inside.
public struct SymbolBatch: Sendable {
    public enum Kind: Sendable { case signal, shot, dark }

    public var kind: Kind
    /// Symbols; twice as many samples.
    public var count: Int
    /// ns of the device's own clock, and UTC, of the first symbol.
    public var deviceTime: UInt64
    public var utc: UInt64
    /// Transmitter: sqrt(SNU) per LSB at the fibre input.
    public var scale: Float
    public var saturated: Int
    /// Symbols were lost, or the device's counter jumped, before this batch.
    public var afterGap: Bool
    /// The device says that its pilot or path was not in order.
    public var disturbed: Bool
    public var storage: any SampleStorage

    public init(
        kind: Kind, count: Int, deviceTime: UInt64, utc: UInt64, scale: Float, saturated: Int = 0, afterGap: Bool = false,
        disturbed: Bool = false, storage: any SampleStorage
    ) {
        self.kind = kind
        self.count = count
        self.deviceTime = deviceTime
        self.utc = utc
        self.scale = scale
        self.saturated = saturated
        self.afterGap = afterGap
        self.disturbed = disturbed
        self.storage = storage
    }
}
