internal import Foundation
internal import PostProcessingKernels

/// Brings samples of one device to shot-noise units, as single-precision pairs x0, p0, x1, p1, ...
public struct SymbolConverter: Sendable {
    /// The converter's offsets [LSB].
    public var offsetX: Double
    public var offsetP: Double
    /// SNU^(1/2) per LSB: one unit of the result has the variance of one vacuum quadrature.
    public var scale: Double
    /// Residual phase of the receiver [rad]; the samples are turned back by it.
    public var phase: Double

    /// For a receiver: unit and offsets from its calibration.
    public init(calibration: NoiseCalibration, phase: Double = 0) {
        self.init(
            scale: 1 / calibration.shotNoiseVariance.squareRoot(), offsetX: calibration.shot.meanX, offsetP: calibration.shot.meanP,
            phase: phase)
    }

    /// For a transmitter: its symbols carry their own scale.
    public init(scale: Double, offsetX: Double = 0, offsetP: Double = 0, phase: Double = 0) {
        self.scale = scale
        self.offsetX = offsetX
        self.offsetP = offsetP
        self.phase = phase
    }

    /// - Precondition: both hold the same number of values, an even one.
    public func convert(_ samples: UnsafeBufferPointer<Int16>, into out: UnsafeMutableBufferPointer<Float>) {
        precondition(samples.count == out.count && samples.count % 2 == 0, "pairs in, as many pairs out")
        guard let source = samples.baseAddress, let target = out.baseAddress else { return }
        symbols_convert(
            source, samples.count / 2, Float(offsetX), Float(offsetP), Float(scale), Float(cos(phase)), Float(sin(phase)), target)
    }

    public func convert(_ samples: [Int16]) -> [Float] {
        [Float](unsafeUninitializedCapacity: samples.count) { buffer, filled in
            filled = samples.count
            samples.withUnsafeBufferPointer { convert($0, into: UnsafeMutableBufferPointer(rebasing: buffer[0..<samples.count])) }
        }
    }
}
