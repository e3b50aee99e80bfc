// What else every symbol or bit of a link passes through.

import Foundation
import KeyMaterial
import PostProcessing
import QKDModel

/// Whole blocks: 2e7 and 2e8 raw bits are those of 1e8 symbols at 6 dB and of a long block at 11 dB, which take 20 s and more to arrive. The
/// transform of the fresh seed is inside the time.
struct PrivacyAmplificationSection: BenchSection {
    static let name = "amplification"

    func figures(_ bench: Bench) throws -> [BenchFigure] {
        var figures: [BenchFigure] = []
        for (input, output) in [(20_000_000, 3_900_000), (200_000_000, 9_600_000)] {
            for method in PrivacyAmplificationBenchmark.transforms {
                let repeats = method.contains("GFNI") ? 5 : 2
                let run = try PrivacyAmplificationBenchmark.run(inputBits: input, outputBits: output, repeats: repeats, method: method)
                figures.append(
                    BenchFigure(
                        "privacy amplification, \(Double(input) / 1e6) to \(Double(output) / 1e6) Mbit, \(run.method)",
                        run.inputBitsPerSecond, "input bit/s", baseline: 1e6))
            }
        }
        return figures
    }
}

/// The running hash over what goes through a link's classical channel: rotations, norms, syndromes, a byte and a half per quadrature.
struct AuthenticationSection: BenchSection {
    static let name = "authentication"

    func figures(_ bench: Bench) -> [BenchFigure] {
        let bytes = [UInt8](repeating: 0x5a, count: 1 << 25)
        return [false, true].map { portable in
            let part = portable ? bytes[..<(1 << 22)] : bytes[...]
            let seconds = Bench.quickest(of: 3) {
                var hash = RunningHash(key: SecretBytes(count: RunningHash.keyBytes, random: KernelRandom()), portable: portable)
                part.withUnsafeBytes { hash.update($0) }
                precondition(hash.value().count == RunningHash.valueBytes, "a hash of the wrong length")
            }
            return BenchFigure(
                "authentication, polynomial hash over GF(2^128), \(portable ? "portable" : "best")", Double(part.count) / seconds, "byte/s",
                baseline: 3 * Bench.symbolRate)
        }
    }
}

/// Samples to quadratures to sums.
struct EstimationSection: BenchSection {
    static let name = "estimation"

    func figures(_ bench: Bench) -> [BenchFigure] {
        let samples = (0..<1 << 20).map { Int16(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 20) / 64 }
        let converter = SymbolConverter(scale: 0.01, phase: 0.1)
        let repeats = 16
        let seconds = Bench.quickest(of: 3) {
            var sums = CorrelationSums()
            for _ in 0..<repeats {
                let quadratures = converter.convert(samples)
                quadratures.withUnsafeBufferPointer { sums.add(x: $0, y: $0) }
            }
            precondition(sums.count == repeats * samples.count, "sums of another count")
        }
        return [
            BenchFigure(
                "estimation, samples to correlation sums", Double(repeats * samples.count / 2) / seconds, "symbol/s",
                baseline: Bench.symbolRate)
        ]
    }
}

struct EmulatorSection: BenchSection {
    static let name = "emulator"

    private struct Answer: Decodable {
        var symbols_per_second: Double
    }

    func figures(_ bench: Bench) async throws -> [BenchFigure] {
        let text = try await bench.output(of: "qkd-emulator", ["--bench", "200000000", "--json"])
        let answer = try JSONDecoder().decode(Answer.self, from: text)
        return [
            BenchFigure("emulator, transmitter and receiver", answer.symbols_per_second, "symbol/s", baseline: Bench.symbolRate)
        ]
    }
}

/// Symbols to stored, confirmed keys by all programs of a lab.
struct LabSection: BenchSection {
    static let name = "lab"

    func figures(_ bench: Bench) async throws -> [BenchFigure] {
        let data = try await bench.withScratch { folder in
            let file = folder + "/result.json"
            _ = try await bench.output(
                of: "qkdctl", ["lab", "run", bench.testbed, "--folder", folder + "/lab", "--json", file])
            return try Data(contentsOf: URL(filePath: file))
        }
        let result = try JSONDecoder().decode(LabResult.self, from: data)
        let name = "end to end, \(result.links.map(\.name).joined(separator: ", "))"
        return [BenchFigure("\(name): real-time factor", result.realTimeFactor, "device s per s", baseline: 1)]
            + result.links.flatMap { link in
                [
                    BenchFigure(
                        "end to end, \(link.name): stored key, baseline the testbed's reference", link.keyRateBps, "bit/s of device time",
                        baseline: link.referenceKeyRateBps),
                    BenchFigure("end to end, \(link.name): stored key on the wall", link.wallRateBps, "bit/s"),
                    BenchFigure("end to end, \(link.name): failed frames", link.frameErrorRate, "of frames"),
                ]
            }
    }
}
