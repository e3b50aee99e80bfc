// What a lab found, as `--json` writes it and as its last table says it.

import Foundation

struct LabResult: Codable, Sendable {
    struct Link: Codable, Sendable {
        var name: String
        var lossDB: Double
        var symbols: Int
        var transmittance: Double
        var excessNoiseSNU: Double
        var snrPerQuadrature: Double
        var frameErrorRate: Double
        var reconciliationEfficiency: Double
        var epsilon: Double
        var secretBitsStored: Int
        /// Per second of device time, over whole blocks.
        var keyRateBps: Double
        /// Per second on the wall.
        var wallRateBps: Double
        var keysEqual: Bool
        /// null where the testbed names none.
        @ExplicitNull var referenceKeyRateBps: Double?
        var limitedBy: String
        /// What the applications found, in words.
        var keys: String?
        var figures: LabFigures

        enum CodingKeys: String, CodingKey {
            case name, symbols, transmittance, epsilon, keys, figures
            case lossDB = "loss_db"
            case excessNoiseSNU = "excess_noise_snu"
            case snrPerQuadrature = "snr_per_quadrature"
            case frameErrorRate = "frame_error_rate"
            case reconciliationEfficiency = "reconciliation_efficiency"
            case secretBitsStored = "secret_bits_stored"
            case keyRateBps = "key_rate_bps"
            case wallRateBps = "wall_rate_bps"
            case keysEqual = "keys_equal"
            case referenceKeyRateBps = "reference_key_rate_bps"
            case limitedBy = "limited_by"
        }
    }

    static let notFetched = "keys not fetched"

    var links: [Link]
    var sharing: [LabSharing]
    /// Device time over wall time; 1 or more keeps up with the hardware.
    var realTimeFactor: Double
    var seconds: Double
    /// What came of the recordings, where the lab made any.
    var recordings: [LabRecording]?

    enum CodingKeys: String, CodingKey {
        case links, sharing, seconds, recordings
        case realTimeFactor = "real_time_factor"
    }

    func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        return try encoder.encode(self) + Data("\n".utf8)
    }

    /// The comparison with the paper, for people.
    var summary: [String] {
        var lines: [String] = []
        for link in links {
            let reference = link.referenceKeyRateBps.map { " (reference \(LabTable.rate($0)))" } ?? ""
            lines.append(
                "\(link.name): \(String(format: "%.1f", link.lossDB)) dB, \(LabTable.bits(link.secretBitsStored)) stored, "
                    + "\(LabTable.rate(link.keyRateBps)) of device time\(reference), \(LabTable.rate(link.wallRateBps)) on the wall, "
                    + (link.keys ?? Self.notFetched))
            lines += link.figures.lines
        }
        lines += sharingLines(sharing, links)
        lines.append(String(format: "real-time factor %.2f, %.0f s", realTimeFactor, seconds))
        return lines
    }
}

/// Absent values as null: readers find every name.
@propertyWrapper struct ExplicitNull: Codable, Sendable {
    var wrappedValue: Double?
    init(wrappedValue: Double?) { self.wrappedValue = wrappedValue }
    init(from decoder: any Decoder) throws { wrappedValue = try Double?(from: decoder) }
    func encode(to encoder: any Encoder) throws { try wrappedValue.encode(to: encoder) }
}
