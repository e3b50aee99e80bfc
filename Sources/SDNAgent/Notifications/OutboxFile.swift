// The outbox on disk: an append-only log of what was taken and what has gone, written anew when most of it is history.
//
//     header   8 bytes "SDQKDOB1", 16 bytes that name this outbox
//     record   length u32, CRC-32 u32 of the payload, payload; all little-endian
//     payload  1 | sequence u64 | weight u8 | name length u16 | object length u16 | name | object | body
//              2 | sequence u64                        this entry has gone
//              3 | sequence u64                        all entries up to this one have gone; numbers go on behind it
//
// A tail that was cut off by a crash is cut away at the next start. Writing is immediate, `sync` makes it last.

package import Foundation
import Glibc

package final class OutboxFile {
    package let path: String
    /// Names this outbox for as long as its file lives: the first half of every message id.
    package let identity: UUID
    /// The file's length, in bytes.
    package private(set) var length = 0
    private var handle: Int32 = -1

    private static let magic = Array("SDQKDOB1".utf8)
    private static let longestRecord = 16 << 20

    package enum Record: Equatable {
        case taken(OutboxEntry)
        case gone(UInt64)
        case goneUpTo(UInt64)
    }

    /// Opens or makes the file and hands every sound record to `each`, in order.
    /// - Throws: `SDNAgentError.outbox` where it cannot be used, or is something else.
    package init(path: String, each: (Record) -> Void) throws(SDNAgentError) {
        self.path = path
        let text: Data
        do { text = try Self.read(path) } catch { throw .outbox(path: path, reason: "\(error)") }
        let bytes = [UInt8](text)
        if bytes.count >= 24, Array(bytes[0..<8]) == Self.magic {
            identity = bytes.withUnsafeBytes { UUID(uuid: $0.loadUnaligned(fromByteOffset: 8, as: uuid_t.self)) }
        } else if bytes.count < 24 {
            identity = UUID()
        } else {
            throw .outbox(path: path, reason: "it is no outbox: move it away")
        }
        length = bytes.count < 24 ? 0 : Self.scan(bytes, each)
        try open()
    }

    deinit { if handle >= 0 { close(handle) } }

    private static func read(_ path: String) throws -> Data {
        FileManager.default.fileExists(atPath: path) ? try Data(contentsOf: URL(filePath: path)) : Data()
    }

    private func open() throws(SDNAgentError) {
        handle = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard handle >= 0 else { throw problem() }
        // What follows the last sound record is half of one.
        guard ftruncate(handle, off_t(length)) == 0, lseek(handle, 0, SEEK_END) >= 0 else { throw problem() }
        if length == 0 { try write(header) }
    }

    private var header: [UInt8] { Self.magic + withUnsafeBytes(of: identity.uuid) { Array($0) } }

    package func append(_ records: [Record]) throws(SDNAgentError) {
        try write(records.reduce(into: []) { Self.encode($1, into: &$0) })
    }

    /// Everything appended so far is on the disk when it returns.
    package func sync() throws(SDNAgentError) {
        guard fdatasync(handle) == 0 else { throw problem() }
    }

    /// Writes the log anew with `records` alone: complete on the disk before it takes the old one's place.
    package func rewrite(_ records: [Record]) throws(SDNAgentError) {
        let fresh = path + ".new"
        let other = Glibc.open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard other >= 0 else { throw problem() }
        let (old, oldLength) = (handle, length)
        (handle, length) = (other, 0)
        do throws(SDNAgentError) {
            try write(header + records.reduce(into: []) { Self.encode($1, into: &$0) })
            try sync()
            guard rename(fresh, path) == 0 else { throw problem() }
        } catch {
            close(other)
            (handle, length) = (old, oldLength)
            throw error
        }
        close(old)
        syncFolder()
    }

    private func syncFolder() {
        let folder = (path as NSString).deletingLastPathComponent
        let number = Glibc.open(folder.isEmpty ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard number >= 0 else { return }
        fsync(number)
        close(number)
    }

    private func write(_ bytes: [UInt8]) throws(SDNAgentError) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.write(handle, $0.baseAddress.map { $0 + done }, bytes.count - done) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let problem = problem()
                // Half a record would hide all that follow it.
                ftruncate(handle, off_t(length))
                lseek(handle, 0, SEEK_END)
                throw problem
            }
            done += count
        }
        length += bytes.count
    }

    private func problem() -> SDNAgentError { .outbox(path: path, reason: String(cString: strerror(errno)).lowercased()) }

    // MARK: Records as bytes

    private static func encode(_ record: Record, into bytes: inout [UInt8]) {
        var payload: [UInt8] = []
        func put<T: FixedWidthInteger>(_ value: T, _ out: inout [UInt8]) { withUnsafeBytes(of: value.littleEndian) { out += $0 } }
        switch record {
        case .taken(let entry):
            let (name, object) = (Array(entry.notification.name.utf8), Array(entry.notification.object.utf8))
            payload.reserveCapacity(14 + name.count + object.count + entry.notification.body.count)
            payload.append(1)
            put(entry.sequence, &payload)
            payload.append(entry.notification.weight.rawValue)
            put(UInt16(truncatingIfNeeded: name.count), &payload)
            put(UInt16(truncatingIfNeeded: object.count), &payload)
            payload += name
            payload += object
            payload += entry.notification.body
        case .gone(let sequence):
            payload.append(2)
            put(sequence, &payload)
        case .goneUpTo(let sequence):
            payload.append(3)
            put(sequence, &payload)
        }
        put(UInt32(payload.count), &bytes)
        put(crc32(payload[...]), &bytes)
        bytes += payload
    }

    /// - Returns: where the last sound record ends.
    private static func scan(_ bytes: [UInt8], _ each: (Record) -> Void) -> Int {
        func number<T: FixedWidthInteger>(_ at: Int, _ type: T.Type) -> T {
            T(littleEndian: bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: T.self) })
        }
        var place = 24
        while place + 8 <= bytes.count {
            let count = Int(number(place, UInt32.self))
            guard count >= 9, count <= longestRecord, place + 8 + count <= bytes.count else { break }
            let start = place + 8
            guard crc32(bytes[start..<start + count]) == number(place + 4, UInt32.self) else { break }
            let sequence = number(start + 1, UInt64.self)
            switch bytes[start] {
            case 1:
                guard let entry = entry(bytes, start, count, sequence, number) else { return place }
                each(.taken(entry))
            case 2: each(.gone(sequence))
            case 3: each(.goneUpTo(sequence))
            default: return place
            }
            place = start + count
        }
        return place
    }

    private static func entry(
        _ bytes: [UInt8], _ start: Int, _ count: Int, _ sequence: UInt64, _ number: (Int, UInt16.Type) -> UInt16
    ) -> OutboxEntry? {
        guard count >= 14, let weight = NotificationWeight(rawValue: bytes[start + 9]) else { return nil }
        let (name, object) = (Int(number(start + 10, UInt16.self)), Int(number(start + 12, UInt16.self)))
        guard 14 + name + object <= count else { return nil }
        let text = start + 14
        return OutboxEntry(
            sequence: sequence,
            notification: OutgoingNotification(
                name: String(decoding: bytes[text..<text + name], as: UTF8.self),
                object: String(decoding: bytes[text + name..<text + name + object], as: UTF8.self), weight: weight,
                body: Data(bytes[text + name + object..<start + count])))
    }
}

/// CRC-32 of IEEE 802.3.
private let crcTable: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? 0xedb8_8320 ^ (value >> 1) : value >> 1 }
}

private func crc32(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    ~bytes.reduce(~UInt32(0)) { crcTable[Int(($0 ^ UInt32($1)) & 0xff)] ^ ($0 >> 8) }
}
