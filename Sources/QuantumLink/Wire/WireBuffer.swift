// Reading and writing the little-endian fields of docs/wire/classical-channel.md. Every length is checked against
// the bytes that are there before anything is allocated.

internal import Foundation
internal import NIOCore
internal import QKDModel

/// Takes fields from the front of a body; throws `badMessage` where they do not fit.
struct WireReader {
    private var buffer: ByteBuffer
    private let name: String

    init(_ buffer: ByteBuffer, message name: String) {
        self.buffer = buffer
        self.name = name
    }

    var remaining: Int { buffer.readableBytes }

    mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) throws -> T {
        guard let value = buffer.readInteger(endianness: .little, as: type) else { throw short() }
        return value
    }

    /// A 64-bit count that a sum of this machine can hold.
    mutating func size() throws -> Int {
        let value: UInt64 = try integer()
        guard value < 1 << 53 else { throw QuantumLinkError.badMessage("\(name) counts \(value) of something") }
        return Int(value)
    }

    mutating func double() throws -> Double { Double(bitPattern: try integer()) }
    mutating func float() throws -> Float { Float(bitPattern: try integer()) }

    /// A number that must be finite.
    mutating func finite() throws -> Double {
        let value = try double()
        guard value.isFinite else { throw QuantumLinkError.badMessage("\(name) carries a number that is not finite") }
        return value
    }

    /// A number within what its field can mean.
    mutating func number(_ field: String, in range: ClosedRange<Double>) throws -> Double {
        let value = try finite()
        guard range.contains(value) else { throw QuantumLinkError.badMessage("\(name) has \(value) as \(field)") }
        return value
    }

    mutating func flag() throws -> Bool {
        switch try integer(UInt8.self) {
        case 0: return false
        case 1: return true
        case let other: throw QuantumLinkError.badMessage("\(name) has \(other) where 0 or 1 belongs")
        }
    }

    mutating func bytes(_ count: Int) throws -> [UInt8] {
        guard let bytes = buffer.readBytes(length: count) else { throw short() }
        return bytes
    }

    mutating func slice(_ count: Int) throws -> ByteBuffer {
        guard let slice = buffer.readSlice(length: count) else { throw short() }
        return slice
    }

    mutating func string() throws -> String {
        let count = Int(try integer(UInt16.self))
        guard count <= 1024 else { throw QuantumLinkError.badMessage("\(name) has a string of \(count) bytes, 1024 is the most") }
        guard let text = String(validating: try bytes(count), as: UTF8.self) else {
            throw QuantumLinkError.badMessage("\(name) has a string that is not UTF-8")
        }
        return text
    }

    mutating func block() throws -> BlockID {
        let raw = try bytes(16)
        return raw.withUnsafeBytes { BlockID(UUID(uuid: $0.loadUnaligned(as: uuid_t.self))) }
    }

    /// The count of a list whose elements take `size` bytes each, checked against what is there.
    mutating func count(elementSize size: Int) throws -> Int {
        let count = Int(try integer(UInt32.self))
        guard count <= buffer.readableBytes / size else { throw short() }
        return count
    }

    func end() throws {
        guard buffer.readableBytes == 0 else {
            throw QuantumLinkError.badMessage("\(name) has \(buffer.readableBytes) bytes left over")
        }
    }

    private func short() -> QuantumLinkError { .badMessage("\(name) is shorter than its fields") }
}

extension ByteBuffer {
    mutating func put<T: FixedWidthInteger>(_ value: T) { writeInteger(value, endianness: .little) }
    mutating func put(_ value: Double) { put(value.bitPattern) }
    mutating func put(_ value: Float) { put(value.bitPattern) }
    mutating func put(_ value: Bool) { put(UInt8(value ? 1 : 0)) }

    /// Cut at 1024 bytes: reasons are for people.
    mutating func put(_ text: String) {
        let bytes = text.utf8.count <= 1024 ? Array(text.utf8) : Array(text.prefix(256).utf8.prefix(1024))
        put(UInt16(bytes.count))
        writeBytes(bytes)
    }

    mutating func put(_ block: BlockID) {
        withUnsafeBytes(of: block.uuid.uuid) { _ = writeBytes($0) }
    }
}
