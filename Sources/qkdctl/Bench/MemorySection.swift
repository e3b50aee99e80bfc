// How much memory the mathematics of a block of 10^9 symbols takes: sums, calibration, frames, raw key, privacy amplification. What a link's service
// needs beside it is seen in a lab (docs/figures).

import Foundation
import KeyMaterial
import PostProcessing
import QKDModel
import QuantumOptics

struct MemorySection: BenchSection {
    static let name = "memory"
    static let onRequest = true

    private static let symbols = 1_000_000_000
    private static let limit = 1.5 * 1024 * 1024 * 1024

    func figures(_ bench: Bench) throws -> [BenchFigure] {
        let start = ContinuousClock.now
        let (sums, calibration) = try Self.estimate()
        let estimated = Self.peak()
        let estimate = try ParameterEstimate.estimate(
            sums: sums, calibration: calibration, efficiency: ReceiverEfficiency(0.8, standardError: 0.001), budget: SecurityBudget())
        let code = try ReconciliationCode.named("r10-n1024000")
        let block = try Self.amplify(rawBits: Self.symbols / code.frameSymbols * code.coreBits, keyBits: 9_600_000)
        let seconds = start.duration(to: .now) / .seconds(1)
        let what = "block of 1e9 symbols"
        return [
            BenchFigure("\(what): excess noise found, baseline the truth", estimate.excessNoise, "SNU", baseline: 0.01),
            BenchFigure("\(what): its standard error", estimate.excessNoiseError, "SNU"),
            BenchFigure("\(what): resident memory after estimation, baseline 1.5 GiB", estimated, "byte", baseline: Self.limit),
            BenchFigure("\(what): resident memory with raw key and its hash, baseline 1.5 GiB", block.peak, "byte", baseline: Self.limit),
            BenchFigure(
                "privacy amplification of \(block.bits / 1_000_000) Mbit: working set, baseline 128 MiB", block.working, "byte",
                baseline: 0x1p27),
            BenchFigure("\(what): time", seconds, "s"),
        ]
    }

    /// Sums of 10^9 symbols and of as many of each calibration, merged window by window.
    private static func estimate() throws -> (CorrelationSums, NoiseCalibration) {
        let window = 1 << 20
        let (variance, gain, electronic, unit) = (1.66, 0.8 * 0.251 / 2, 0.05, 150.0)
        let noise = 1 + electronic + gain * 0.01
        let stream = GaussianStream(seed: 0x1e9, stream: 0)
        var (a, b) = ([Float](repeating: 0, count: window), [Float](repeating: 0, count: window))
        var samples = [Int16](repeating: 0, count: 2 * window)
        var (dark, shot) = (CalibrationSums(), CalibrationSums())
        var drawn: UInt64 = 0
        func normals() {
            a.withUnsafeMutableBufferPointer { x in b.withUnsafeMutableBufferPointer { stream.fill(x: x, p: $0, first: drawn) } }
            drawn += UInt64(window)
        }
        func calibrate(_ sums: inout CalibrationSums, deviation: Double) {
            normals()
            let scale = Float(deviation * unit)
            for i in 0..<window {
                samples[2 * i] = Int16((a[i] * scale).rounded())
                samples[2 * i + 1] = Int16((b[i] * scale).rounded())
            }
            var part = CalibrationSums()
            samples.withUnsafeBufferPointer { part.add(samples: $0) }
            sums.merge(part)
        }
        for _ in 0..<symbols / window {
            calibrate(&shot, deviation: (1 + electronic).squareRoot())
            calibrate(&dark, deviation: electronic.squareRoot())
        }
        let calibration = try NoiseCalibration(dark: dark, shot: shot)
        var sums = CorrelationSums()
        let (send, add) = (Float(variance.squareRoot()), Float(noise.squareRoot()))
        let (slope, scale) = (Float(gain.squareRoot()), Float(unit))
        let converter = SymbolConverter(calibration: calibration)
        for _ in 0..<2 * symbols / window {
            // One quadrature of each pair is what was sent, the other the noise.
            normals()
            for i in 0..<window {
                a[i] *= send
                samples[i] = Int16(max(-2047, min(2047, ((slope * a[i] + add * b[i]) * scale).rounded())))
            }
            var part = CorrelationSums()
            let received = converter.convert(Array(samples[..<window]))
            a.withUnsafeBufferPointer { x in received.withUnsafeBufferPointer { part.add(x: x, y: $0) } }
            sums.merge(part)
        }
        return (sums, calibration)
    }

    private static func amplify(rawBits: Int, keyBits: Int) throws -> (peak: Double, working: Double, bits: Int) {
        let raw = SecretBytes(count: (rawBits + 7) / 8, random: KernelRandom())
        let seed = KernelRandom().bytes(ToeplitzHash.seedBytes(inputBits: rawBits, outputBits: keyBits))
        let before = resident("VmRSS:")
        resetPeak()
        let key = try ToeplitzHash.hash(input: [raw], inputBits: rawBits, outputBits: keyBits, seed: seed)
        let peak = peak()
        return (peak, peak - before, key.count > 0 ? rawBits : 0)
    }

    /// Most memory that this process has had so far, bytes.
    private static func peak() -> Double { resident("VmHWM:") }

    private static func resetPeak() { try? Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs")) }

    private static func resident(_ name: String) -> Double {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix(name) } ?? ""
        return (line.split(separator: " ").dropFirst().first.flatMap { Double($0.filter(\.isNumber)) } ?? 0) * 1024
    }
}
