// ETSI GS QKD 014 V1.1.1, clause 6: the data formats, with the standard's names and messages.

import Foundation
import KeyMaterial
import NIOCore
import QKDModel

/// Status (clause 6.1). Sizes in bits.
package struct KMEStatus: Codable, Equatable, Sendable {
    package var source_KME_ID: String
    package var target_KME_ID: String
    package var master_SAE_ID: String
    package var slave_SAE_ID: String
    package var key_size: Int
    package var stored_key_count: Int
    package var max_key_count: Int
    package var max_key_per_request: Int
    package var max_key_size: Int
    package var min_key_size: Int
    package var max_SAE_ID_count: Int
}

/// Key request (clause 6.2); all fields may be missing.
struct KMEKeyRequest: Decodable, Equatable {
    var number: Int?
    var size: Int?
    var additional_slave_SAE_IDs: [String]?
    var extension_mandatory: [Anything]?
    var extension_optional: [Anything]?
}

/// Key IDs (clause 6.4).
struct KMEKeyIDs: Decodable, Equatable {
    struct Entry: Decodable, Equatable { var key_ID: String }
    var key_IDs: [Entry]
}

/// A value of which only the presence matters.
struct Anything: Decodable, Equatable {
    init(from decoder: any Decoder) throws {}
}

/// Error (clause 6.5) with its HTTP status.
package struct KMEError: Error, Equatable {
    package var status: Int
    package var message: String
    /// Seconds after which another try may succeed.
    package var retryAfter: Int?

    static let sizeNotBytes = KMEError(status: 400, message: "size shall be a multiple of 8")
    static let mandatoryExtension = KMEError(status: 400, message: "not all extension_mandatory parameters are supported")
    static let keyNotFound = KMEError(status: 400, message: "one or more keys specified are not found on KME")
    static func badRequest(_ message: String) -> KMEError { KMEError(status: 400, message: message) }
    static func unauthorised(_ message: String) -> KMEError { KMEError(status: 401, message: message) }
    static func unavailable(_ message: String) -> KMEError { KMEError(status: 503, message: message) }

    /// What the store's errors are to an application.
    init(_ error: KeyStoreError) {
        switch error {
        case .noSuchKey: self = .keyNotFound
        case .notForCaller: self = .unauthorised("the calling SAE was not specified as recipient of one or more of the keys")
        case .refusedByPeer("emulated"): self = .unavailable(Self.emulated)
        default: self = .unavailable("\(error)")
        }
    }

    /// What an application hears that is not served: 401 where a person has to act, 503 where waiting helps.
    init(_ refusal: ApplicationRefusal) {
        switch refusal {
        case .disabled, .expired: self = .unauthorised(refusal.message)
        case .provisional, .tooMany: self = .unavailable(refusal.message)
        case .bandwidth(_, let seconds):
            self = .unavailable(refusal.message)
            retryAfter = seconds
        }
    }

    init(status: Int, message: String) {
        self.status = status
        self.message = message
    }

    static let emulated =
        "the keys in store come from an emulated quantum link, and this KME is not configured to deliver them (deliver_emulated)"
}

/// Limits that `status` tells and requests are held to.
struct KMELimits {
    var keySize: Int
    var keyBytes: ClosedRange<Int>
    var perRequest = 128
    var maximumCount: Int

    /// - Returns: how many keys of how many bytes are asked for.
    func check(number: Int?, size: Int?) throws(KMEError) -> (count: Int, bytes: Int) {
        let count = number ?? 1
        guard (1...perRequest).contains(count) else { throw .badRequest("number shall be from 1 to \(perRequest)") }
        let bits = size ?? keySize
        guard bits % 8 == 0 else { throw .sizeNotBytes }
        guard keyBytes.contains(bits / 8) else {
            throw .badRequest("size shall be from \(keyBytes.lowerBound * 8) to \(keyBytes.upperBound * 8)")
        }
        return (count, bits / 8)
    }
}

/// The key container (clause 6.3) as bytes of JSON, written straight from locked pages into one buffer that is
/// overwritten after it was sent: no string and no encoder ever holds key.
struct KeyContainer {
    /// Exactly what `json` writes.
    static func length(_ keys: [DeliveredKey]) -> Int {
        keys.reduce(11 + max(0, keys.count - 1)) { $0 + 58 + ($1.bits.count + 2) / 3 * 4 }
    }

    static func json(_ keys: [DeliveredKey]) -> ByteBuffer {
        // Capacity first: a buffer that grows leaves copies behind.
        var buffer = ByteBufferAllocator().buffer(capacity: length(keys))
        buffer.writeString(#"{"keys":["#)
        for (index, key) in keys.enumerated() {
            buffer.writeString("\(index > 0 ? "," : "")\(#"{"key_ID":""#)\(key.id)\(#"","key":""#)")
            key.bits.withBytes { writeBase64($0, into: &buffer) }
            buffer.writeString(#""}"#)
        }
        buffer.writeString("]}")
        return buffer
    }

    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    private static func writeBase64(_ bytes: UnsafeRawBufferPointer, into buffer: inout ByteBuffer) {
        let equals = UInt8(ascii: "=")
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let left = min(3, bytes.count - start)
            let word = (0..<3).reduce(UInt32(0)) { $0 << 8 | ($1 < left ? UInt32(bytes[start + $1]) : 0) }
            buffer.writeInteger(alphabet[Int(word >> 18 & 63)])
            buffer.writeInteger(alphabet[Int(word >> 12 & 63)])
            buffer.writeInteger(left > 1 ? alphabet[Int(word >> 6 & 63)] : equals)
            buffer.writeInteger(left > 2 ? alphabet[Int(word & 63)] : equals)
        }
    }
}
