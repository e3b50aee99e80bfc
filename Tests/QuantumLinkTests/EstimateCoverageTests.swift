// The product's estimate of an emulated link against the truth, over a hundred seeds: calibration, alignment, conversion, sums and
// bounds are those that the link service uses; the symbols come out of the emulator's receiver and transmitter.

import FirmwareSim
import Foundation
import Instruments
import PostProcessing
import QKDTesting
import Testing

@Suite struct EstimateCoverageTests {
    /// The Norte link: 6 dB of fibre; noise of the transmitter, of Raman scattering, and what the phase leaves.
    private enum Truth {
        static let transmittance = pow(10, -0.6)
        static let excessNoise = 0.00438
        static let efficiency = 0.8
        static let modulationVariance = 1.7
    }

    /// One confidence bound fails once in a thousand runs: 99 of 100 runs inside is what must be seen, and what vacuous bounds would show too,
    /// so the errors themselves are held against the standard errors.
    @Test func transmittanceAndExcessNoiseLieInsideTheirBounds() throws {
        let budget = try SecurityBudget(smoothing: 1e-3, hashing: 1e-3, correctness: 1e-3, authentication: 1e-3, parameterEstimation: 1e-3)
        var inside = (transmittance: 0, excessNoise: 0, electronicNoise: 0)
        var squares = (transmittance: 0.0, excessNoise: 0.0)
        let runs = 100
        for seed in 1...runs {
            let estimate = try EmulatedLink(seed: UInt64(seed)).estimate(budget)
            if (estimate.minimalTransmittance...estimate.maximalTransmittance).contains(Truth.transmittance) { inside.transmittance += 1 }
            if estimate.maximalExcessNoise >= Truth.excessNoise { inside.excessNoise += 1 }
            if estimate.electronicNoiseRange.contains(0.05) { inside.electronicNoise += 1 }
            let errors = (
                (estimate.transmittance - Truth.transmittance) / estimate.transmittanceError,
                (estimate.excessNoise - Truth.excessNoise) / estimate.excessNoiseError
            )
            squares.transmittance += errors.0 * errors.0
            squares.excessNoise += errors.1 * errors.1
        }
        #expect(inside.transmittance >= 99 && inside.excessNoise >= 99 && inside.electronicNoise >= 99, "\(inside)")
        // The mean of 100 squares of one standard error each is 1 +- .14.
        for sum in [squares.transmittance, squares.excessNoise] { #expect((0.5...1.6).contains(sum / Double(runs)), "\(squares)") }
    }

    /// Two devices of the Madrid testbed in virtual time.
    private struct EmulatedLink {
        private let testbed: VirtualTestbed
        private let transmitter: VirtualDevice
        private let receiver: VirtualDevice
        private static let frames = 4

        init(seed: UInt64) throws {
            let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            var configuration = try TestbedConfiguration(file: package.path(percentEncoded: false) + "firmware-sim/testbeds/madrid.yaml")
            configuration.seed = seed
            for index in configuration.devices.indices {
                configuration.devices[index].bootS = 0
                configuration.devices[index].warmupS = 0
            }
            testbed = VirtualTestbed(configuration)
            transmitter = try testbed.device("ALM-TX-1")
            receiver = try testbed.device("NOR-RX-1")
            testbed.advance(seconds: 0.1)
        }

        func estimate(_ budget: SecurityBudget) throws -> ParameterEstimate {
            let calibration = try NoiseCalibration(dark: calibrate("DARK"), shot: calibrate("SHOT"))
            try light()
            try transmitter.order("ACQ:STAR")
            try receiver.order("ACQ:STAR")
            let frames = try collect([transmitter, receiver], Self.frames)
            let sums = try correlate(frames[0], frames[1], calibration)
            return try .estimate(
                sums: sums, calibration: calibration, efficiency: ReceiverEfficiency(Truth.efficiency, standardError: 0), budget: budget)
        }

        private func calibrate(_ kind: String) throws -> CalibrationSums {
            try receiver.order("CAL:STAR \(kind),\(Self.frames * 65_536)")
            var sums = CalibrationSums()
            for frame in try collect([receiver], Self.frames)[0] {
                frame.samples.withInt16 { sums.add(samples: $0, saturated: frame.saturated) }
            }
            return sums
        }

        private func light() throws {
            try transmitter.order("SOUR:MOD:VAR \(Truth.modulationVariance);:ROUT:PATH \"NORTE\";:OUTP:STAT ON")
            try receiver.order("INP:LOSC:STAT ON;:INP:SHUT:STAT OFF")
            for _ in 0..<400 where receiver.control("INP:PIL:LOCK?") == "0" { testbed.step() }
            try #require(receiver.control("INP:PIL:LOCK?") == "1")
        }

        /// Steps until each device has given so many frames.
        private func collect(_ devices: [VirtualDevice], _ count: Int) throws -> [[SymbolFrame]] {
            var frames = devices.map { _ in [SymbolFrame]() }
            for _ in 0..<100 where frames.contains(where: { $0.count < count }) {
                testbed.step()
                for (index, device) in devices.enumerated() {
                    for bytes in device.frames(most: count - frames[index].count) {
                        let frame = try bytes.withUnsafeBytes { try SymbolFrame(copying: $0) }
                        frames[index].append(frame)
                        device.release(through: frame.number)
                    }
                }
            }
            try #require(frames.allSatisfy { $0.count == count })
            return frames
        }

        /// Aligns by disclosed positions and adds up what both ends have.
        private func correlate(_ sent: [SymbolFrame], _ received: [SymbolFrame], _ calibration: NoiseCalibration) throws -> CorrelationSums
        {
            let x = sent.flatMap { frame in SymbolConverter(scale: Double(frame.scale)).convert(frame.samples.withInt16 { Array($0) }) }
            let samples = received.flatMap { $0.samples.withInt16 { Array($0) } }
            // Where the receiver's first symbol lies among those sent: known here, so that only a narrow window need be searched.
            let difference = try testbed.counterDifference(transmitter: transmitter.serial, receiver: receiver.serial)
            let start = Int(Int64(bitPattern: received[0].firstSymbol &+ difference &- sent[0].firstSymbol))
            let zero = 1 << 40
            let first = max(0, start)
            let count = min(x.count / 2, start + samples.count / 2) - first
            try #require(count > 2 * 65_536)
            let positions = SlotDisclosure.choosePositions(count: 20_000, span: count, random: SeededRandom(7))
            let disclosure = try SlotDisclosure(
                firstSymbol: UInt64(zero + first), positions: positions, x: positions.map { x[2 * (first + Int($0))] },
                p: positions.map { x[2 * (first + Int($0)) + 1] })
            let found = try samples.withUnsafeBufferPointer {
                try SlotAlignment.correlate(disclosure, received: $0, firstSymbol: UInt64(zero + start), searchRange: -100...100)
            }
            let alignment = try #require(found)
            #expect(alignment.offset == 0)
            let y = SymbolConverter(calibration: calibration, phase: alignment.phase).convert(samples)
            var sums = CorrelationSums()
            x.withUnsafeBufferPointer { x in
                y.withUnsafeBufferPointer { y in
                    sums.add(
                        x: UnsafeBufferPointer(rebasing: x[(2 * first)..<(2 * (first + count))]),
                        y: UnsafeBufferPointer(rebasing: y[(2 * (first - start))..<(2 * (first - start + count))]))
                }
            }
            sums.saturated = received.reduce(0) { $0 + $1.saturated }
            return sums
        }
    }
}
