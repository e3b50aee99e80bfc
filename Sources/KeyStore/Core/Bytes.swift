// Reading and writing numbers and words in network order, with checks at every step.

import Foundation
import QKDModel

/// Takes fields off the front of a byte string.
struct ByteReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    var isAtEnd: Bool { rest.isEmpty }

    mutating func bytes(_ count: Int) throws(KeyStoreError) -> [UInt8] {
        guard rest.count >= count else { throw .badMessage("it ends too early") }
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
    }

    mutating func number<T: FixedWidthInteger>(_ type: T.Type) throws(KeyStoreError) -> T {
        try bytes(MemoryLayout<T>.size).reduce(0) { $0 << 8 | T(truncatingIfNeeded: $1) }
    }

    mutating func text() throws(KeyStoreError) -> String {
        let count = Int(try number(UInt8.self))
        guard let text = String(validating: try bytes(count), as: UTF8.self) else { throw .badMessage("text that is not UTF-8") }
        return text
    }

    mutating func word<T: Identifier>(_ type: T.Type) throws(KeyStoreError) -> T {
        guard let word = T(rawValue: try text()) else { throw .badMessage("no \(T.self) where one is due") }
        return word
    }

    mutating func uuid() throws(KeyStoreError) -> UUID {
        let bytes = try bytes(16)
        var raw: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        withUnsafeMutableBytes(of: &raw) { $0.copyBytes(from: bytes) }
        return UUID(uuid: raw)
    }
}

/// Builds a byte string.
struct ByteWriter {
    private(set) var bytes: [UInt8] = []

    mutating func put(_ number: some FixedWidthInteger) { withUnsafeBytes(of: number.bigEndian) { bytes += $0 } }
    mutating func put(_ uuid: UUID) { withUnsafeBytes(of: uuid.uuid) { bytes += $0 } }
    mutating func put(raw: [UInt8]) { bytes += raw }
    /// At most 255 bytes; words of the model have 64.
    mutating func put(_ text: String) {
        let utf8 = Array(text.utf8.prefix(255))
        bytes.append(UInt8(utf8.count))
        bytes += utf8
    }
}
