// Server-sent events (HTML standard, section 9.2), both directions. RFC 8040 uses nothing of them but `data`.

package import Foundation
import NIOCore

enum EventText {
    static let mediaType = "text/event-stream"
    /// Keeps an idle stream alive; readers ignore it.
    static let keepAlive = ByteBuffer(string: ": keep-alive\n\n")

    static func event(_ body: Data) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: body.count + 8)
        for line in body.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: true) {
            buffer.writeString("data: ")
            buffer.writeBytes(line)
            buffer.writeString("\n")
        }
        buffer.writeString("\n")
        return buffer
    }
}

/// The data of events out of bytes that arrive in parts of any size. Comments and other fields are skipped.
package struct EventParser: Sendable {
    /// The longest event that is kept.
    package static let longest = 4 << 20

    private var line: [UInt8] = []
    private var data: [UInt8] = []
    private var hasData = false
    private var sawReturn = false

    package init() {}

    /// - Returns: the data of the events that `bytes` completed, or nil for an event beyond `longest`.
    package mutating func feed(_ bytes: some Sequence<UInt8>) -> [Data]? {
        var events: [Data] = []
        for byte in bytes {
            defer { sawReturn = byte == UInt8(ascii: "\r") }
            switch byte {
            case UInt8(ascii: "\n") where sawReturn: continue
            case UInt8(ascii: "\n"), UInt8(ascii: "\r"):
                if let event = take() { events.append(event) }
                line.removeAll(keepingCapacity: true)
            default:
                line.append(byte)
                guard line.count + data.count <= Self.longest else { return nil }
            }
        }
        return events
    }

    private mutating func take() -> Data? {
        guard !line.isEmpty else {
            defer { (data, hasData) = ([], false) }
            return hasData ? Data(data) : nil
        }
        let field = line.prefix { $0 != UInt8(ascii: ":") }
        guard field.elementsEqual("data".utf8) else { return nil }
        var value = line.dropFirst(field.count + 1)
        if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
        if hasData { data.append(UInt8(ascii: "\n")) }
        data += value
        hasData = true
        return nil
    }
}
