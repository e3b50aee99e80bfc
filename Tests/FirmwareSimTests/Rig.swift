// What the tests of the emulator share: a booted testbed in virtual time, a reader of frames that owes nothing to the
// emulator's writer, and the estimates that a host would make.

import FirmwareSim
import Foundation
import Testing

/// The project's folder.
let packageFolder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path

/// The repository's own testbed files.
func testbedFile(_ name: String) -> String { "\(packageFolder)/firmware-sim/testbeds/\(name).yaml" }

/// A symbol frame as docs/wire/instrument-protocol.md, section 2, lays it out.
struct Frame: Equatable {
    var number: UInt64
    var first: UInt64
    var deviceTime: UInt64
    var utc: UInt64
    var kind: UInt32
    var flags: UInt32
    var scale: Float
    var saturated: UInt32
    var samples: [Int16]

    static let overrun: UInt32 = 1
    static let saturatedFlag: UInt32 = 2
    static let unlocked: UInt32 = 4
    static let unsettled: UInt32 = 8
    static let stale: UInt32 = 16
    static let emulated: UInt32 = 1 << 31

    enum Wrong: Error { case magic, length, payloadCheck, headerCheck }

    init(_ bytes: [UInt8]) throws {
        func word(_ offset: Int, _ count: Int) -> UInt64 {
            (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * UInt64($1)) }
        }
        guard bytes.count >= 72, bytes[0..<4] == [0x51, 0x53, 0x59, 0x4D], word(4, 2) == 1, word(6, 2) == 72 else { throw Wrong.magic }
        guard bytes.count == 72 + Int(word(8, 4)), word(8, 4) == 4 * word(12, 4) else { throw Wrong.length }
        guard word(68, 4) == UInt64(crc32c(bytes[..<68])) else { throw Wrong.headerCheck }
        guard word(64, 4) == UInt64(crc32c(bytes[72...])) else { throw Wrong.payloadCheck }
        number = word(16, 8)
        first = word(24, 8)
        deviceTime = word(32, 8)
        utc = word(40, 8)
        kind = UInt32(word(48, 4))
        flags = UInt32(word(52, 4))
        scale = Float(bitPattern: UInt32(word(56, 4)))
        saturated = UInt32(word(60, 4))
        samples = bytes[72...].withUnsafeBytes { raw in
            (0..<raw.count / 2).map { Int16(littleEndian: raw.loadUnaligned(fromByteOffset: 2 * $0, as: Int16.self)) }
        }
    }
}

private let crcTable: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
}

/// CRC-32C, one byte at a time.
func crc32c(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    bytes.withUnsafeBufferPointer { buffer in
        ~buffer.reduce(~0 as UInt32) { crcTable[Int(($0 ^ UInt32($1)) & 255)] ^ $0 >> 8 }
    }
}

/// Mean and variance of the samples of many frames.
func variance(_ frames: [Frame]) -> Double {
    var sum = 0.0
    var squares = 0.0
    var count = 0.0
    for frame in frames {
        for sample in frame.samples {
            sum += Double(sample)
            squares += Double(sample) * Double(sample)
        }
        count += Double(frame.samples.count)
    }
    return squares / count - sum * sum / (count * count)
}

/// A transmitter and a receiver of a testbed, booted, in virtual time.
struct Rig {
    let testbed: VirtualTestbed
    let transmitter: VirtualDevice
    let receiver: VirtualDevice

    /// The small testbed unless told otherwise; `change` may edit its configuration first.
    init(
        _ name: String = "small", transmitter: String = "SMALL-TX-1", receiver: String = "SMALL-RX-1",
        _ change: (inout TestbedConfiguration) -> Void = { _ in }
    ) throws {
        var configuration = try TestbedConfiguration(file: testbedFile(name))
        change(&configuration)
        testbed = VirtualTestbed(configuration)
        self.transmitter = try testbed.device(transmitter)
        self.receiver = try testbed.device(receiver)
        testbed.advance(seconds: configuration.devices.reduce(0) { max($0, $1.bootS + $1.warmupS) } + 0.05)
        for device in [self.transmitter, self.receiver] { device.control("*CLS") }
    }

    /// Light on, receiver open and locked.
    func light(variance: Double = 0.54, path: String = "BETA") throws {
        try transmitter.order("SOUR:MOD:VAR \(variance);:ROUT:PATH \"\(path)\";:OUTP:STAT ON")
        try receiver.order("INP:LOSC:STAT ON;:INP:SHUT:STAT OFF")
        for _ in 0..<400 where receiver.control("INP:PIL:LOCK?") == "0" { testbed.step() }
        #expect(receiver.control("INP:PIL:LOCK?") == "1")
    }

    /// Runs a calibration and returns its frames.
    func calibrate(_ kind: String, frames count: Int) throws -> [Frame] {
        try receiver.order("CAL:STAR \(kind),\(count * 65_536)")
        return try collect([receiver], count)[0]
    }

    /// Acquires `count` frames of both devices.
    func acquire(_ count: Int) throws -> (sent: [Frame], received: [Frame]) {
        try transmitter.order("ACQ:STAR")
        try receiver.order("ACQ:STAR")
        let frames = try collect([transmitter, receiver], count)
        try transmitter.order("ACQ:STOP")
        try receiver.order("ACQ:STOP")
        for device in [transmitter, receiver] { device.release(through: .max) }
        return (frames[0], frames[1])
    }

    /// Steps until each device has given `count` frames.
    func collect(_ devices: [VirtualDevice], _ count: Int) throws -> [[Frame]] {
        var frames = devices.map { _ in [Frame]() }
        for _ in 0..<4 * count + 40 where frames.contains(where: { $0.count < count }) {
            testbed.step()
            for (index, device) in devices.enumerated() {
                for bytes in device.frames(most: count - frames[index].count) {
                    let frame = try Frame(bytes)
                    frames[index].append(frame)
                    device.release(through: frame.number)
                }
            }
        }
        #expect(frames.allSatisfy { $0.count == count })
        return frames
    }

    func difference() throws -> UInt64 {
        try testbed.counterDifference(transmitter: transmitter.serial, receiver: receiver.serial)
    }
}

/// Sums over symbols that both ends have, aligned by counters.
struct Correlation {
    var count = 0.0
    var sent = 0.0
    var received = 0.0
    var inPhase = 0.0
    var quadrature = 0.0

    /// - Parameter difference: the transmitter's counter minus the receiver's for the same light.
    init(sent frames: [Frame], received: [Frame], difference: UInt64) {
        let start = frames[0].first
        let x = frames.flatMap(\.samples)
        let scale = Double(frames[0].scale)
        for frame in received {
            let offset = Int(Int64(bitPattern: frame.first &+ difference &- start))
            for index in max(0, -offset)..<max(max(0, -offset), min(frame.samples.count / 2, x.count / 2 - offset)) {
                let at = 2 * (offset + index)
                add(
                    Double(x[at]) * scale, Double(x[at + 1]) * scale, Double(frame.samples[2 * index]), Double(frame.samples[2 * index + 1])
                )
            }
        }
    }

    private mutating func add(_ x: Double, _ p: Double, _ y: Double, _ q: Double) {
        count += 1
        sent += x * x + p * p
        received += y * y + q * q
        inPhase += x * y + p * q
        quadrature += x * q - p * y
    }

    var modulationVariance: Double { sent / (2 * count) }
    /// Receiver LSB per sqrt(SNU) at the input.
    var amplitude: Double { (inPhase * inPhase + quadrature * quadrature).squareRoot() / sent }
    var phase: Double { atan2(quadrature, inPhase) }
    /// LSB^2 per quadrature.
    var noise: Double { (received - amplitude * amplitude * sent) / (2 * count) }
    /// Correlation coefficient; 0 within 1/sqrt(count) where nothing arrives.
    var coefficient: Double { (inPhase * inPhase + quadrature * quadrature).squareRoot() / (sent * received).squareRoot() }

    /// Transmittance and excess noise at the input, from calibrated variances (LSB^2) and the efficiency.
    func channel(shot: Double, dark: Double, efficiency: Double) -> (transmittance: Double, excessNoise: Double) {
        let unit = shot - dark
        let transmittance = 2 * amplitude * amplitude / (efficiency * unit)
        return (transmittance, 2 * (noise - shot) / (unit * efficiency * transmittance))
    }
}
