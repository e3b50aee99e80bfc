// The capture file, docs/wire/capture-file.md: a header of whole pages with JSON, then frames as they came.

public import Foundation
import QKDModel
import Synchronization

/// What stands in front of the frames.
public struct CaptureMetadata: Codable, Sendable, Equatable {
    public var format = "sdqkd capture 1"
    public var keyEquivalent: Bool
    public var warning: String
    /// UTC, ISO 8601.
    public var created: String
    public var maker: String
    public var model: String
    public var serial: String
    public var firmware: String
    public var role: String
    public var emulated: Bool
    public var kind: String
    public var symbolRateHz: Double
    public var symbolsPerFrame: Int
    public var frames = 0
    public var symbols = 0
    public var firstFrame: UInt64?
    public var lastFrame: UInt64?
    public var lostFrames: UInt64 = 0
    public var saturatedSamples = 0
    public var scale: Float?
    public var scaleUnit: String
    // Transmitters
    public var modulationVarianceSnu: Double?
    public var path: String?
    // Receivers
    public var efficiency: Double?
    public var efficiencySigma: Double?
    public var fullScaleLsb: Int?

    /// What a module says of itself now.
    /// - Parameter created: the moment that the capture begins.
    public init(of module: any QKDModule, kind: SymbolFrame.Kind, created: Date) async throws {
        keyEquivalent = kind == .signal
        warning =
            kind == .signal
            ? "signal symbols are as good as the key that could be distilled from them: keep this file like a key, and delete it when done"
            : "calibration symbols hold no key"
        self.created = created.ISO8601Format()
        maker = module.identity.maker
        model = module.identity.model
        serial = module.identity.serial.rawValue
        firmware = module.identity.firmware
        role = module.role.rawValue
        emulated = module.isEmulated
        self.kind = "\(kind)"
        symbolRateHz = try await module.symbolRate()
        symbolsPerFrame = module.capabilities.symbolsPerFrame
        scaleUnit = module.role == .transmitter ? "sqrt(SNU) at the fibre input" : "V"
        if let transmitter = module as? any QuantumTransmitter {
            modulationVarianceSnu = try await transmitter.modulationVariance()
            path = try await transmitter.path()
        }
        if let receiver = module as? any QuantumReceiver {
            let efficiency = try await receiver.efficiency()
            self.efficiency = efficiency.eta
            efficiencySigma = efficiency.sigma
            fullScaleLsb = try await receiver.fullScale()
        }
    }

    static func encoder() -> JSONEncoder {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        return encoder
    }
}

/// What can be wrong with a capture file.
public enum CaptureError: Error, Equatable, Sendable, CustomStringConvertible {
    case cannotWrite(path: String, reason: String)
    case notACapture(path: String, reason: String)
    case frameSize(path: String, expected: Int, found: Int)

    public var description: String {
        switch self {
        case .cannotWrite(let path, let reason): "cannot write \(path): \(reason)"
        case .notACapture(let path, let reason): "\(path) is no capture file: \(reason)"
        case .frameSize(let path, let expected, let found): "\(path) holds frames of \(expected) symbols and cannot take one of \(found)"
        }
    }
}

enum CaptureLayout {
    static let magic = Array("SDQKDCAP".utf8)
    static let version: UInt32 = 1
    static let page = 4096
    /// Room in front of the frames: what the metadata needs today, many times over.
    static let headerBytes = 2 * page
}
