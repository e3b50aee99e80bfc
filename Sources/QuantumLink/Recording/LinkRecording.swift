// A recording as a file: a head that says what it is, then entries one behind the other.

internal import Foundation
internal import Glibc
internal import NIOCore
internal import Synchronization

/// What stands at the head of a recording.
public struct LinkRecordingHead: Codable, Sendable, Equatable {
    public var format = "sdqkd link recording"
    public var version = 1
    public var keyMaterial = true
    public var warning = """
        holds symbols and random words of a link: whoever has this file has its key. Nothing was deposited while it was written. \
        Treat it like a key and delete it when it has served.
        """
    public var settings: LinkSettings

    public init(settings: LinkSettings) { self.settings = settings }
}

/// Writes a recording while a link runs.
public final class LinkRecorder: LinkTap {
    static let magic = Array("SDQKLREC".utf8)
    private static let chunk = 1 << 20

    private struct State {
        var descriptor: Int32
        var buffer = ByteBuffer()
        var trouble: String?
    }

    private let clock: any LinkClock
    private let state: Mutex<State>

    /// - Parameter path: a file that is not there yet; it gets mode 0600.
    /// - Throws: `QuantumLinkError.configuration`.
    public init(path: String, settings: LinkSettings, clock: any LinkClock = MonotonicClock()) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw QuantumLinkError.configuration("cannot make the recording \(path): \(String(cString: strerror(errno)))")
        }
        self.clock = clock
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let head = try encoder.encode(LinkRecordingHead(settings: settings))
        var buffer = ByteBuffer(bytes: Self.magic)
        buffer.put(UInt32(head.count))
        buffer.writeBytes(head)
        state = Mutex(State(descriptor: descriptor, buffer: buffer))
    }

    deinit { finish() }

    public func take(_ record: LinkRecord) {
        let time = UInt64(max(0, clock.now / .nanoseconds(1)))
        state.withLock { state in
            guard state.trouble == nil else { return }
            let start = state.buffer.writerIndex
            state.buffer.put(UInt32(0))
            LinkRecordCodec.write(record, at: time, to: &state.buffer)
            state.buffer.setInteger(UInt32(state.buffer.writerIndex - start - 4), at: start, endianness: .little)
            if state.buffer.readableBytes >= Self.chunk { Self.flush(&state) }
        }
    }

    /// Writes what is left and closes the file.
    public func finish() {
        state.withLock { state in
            guard state.descriptor >= 0 else { return }
            Self.flush(&state)
            Glibc.close(state.descriptor)
            state.descriptor = -1
            state.trouble = state.trouble ?? "it is finished"
        }
    }

    /// Why nothing is recorded any more, or nil.
    public var trouble: String? { state.withLock { $0.trouble } }

    private static func flush(_ state: inout State) {
        state.buffer.withUnsafeReadableBytes { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = write(state.descriptor, rest.baseAddress, rest.count)
                guard count > 0 else { return state.trouble = String(cString: strerror(errno)) }
                rest = rest.dropFirst(count)
            }
        }
        state.buffer.clear()
    }
}

extension Slice<UnsafeRawBufferPointer> {
    fileprivate var baseAddress: UnsafeRawPointer? { UnsafeRawBufferPointer(rebasing: self).baseAddress }
}

/// Reads a recording, entry by entry.
struct LinkRecordingReader {
    private static let longest = 1 << 28

    let head: LinkRecordingHead
    private let handle: FileHandle

    /// - Throws: `QuantumLinkError.badMessage` for a file that is none.
    init(path: String) throws {
        guard let handle = FileHandle(forReadingAtPath: path) else {
            throw QuantumLinkError.configuration("cannot read \(path): \(String(cString: strerror(errno)))")
        }
        self.handle = handle
        guard try handle.read(upToCount: 8).map(Array.init) == LinkRecorder.magic, let count = try Self.word(handle), count <= 1 << 20,
            let text = try handle.read(upToCount: count), text.count == count
        else { throw QuantumLinkError.badMessage("\(path) is no recording of a link") }
        do { head = try JSONDecoder().decode(LinkRecordingHead.self, from: text) } catch {
            throw QuantumLinkError.badMessage("\(path) has a head that cannot be read")
        }
        guard head.version == 1 else { throw QuantumLinkError.badMessage("\(path) is of version \(head.version), 1 can be read") }
    }

    /// - Returns: nil at the end.
    /// - Throws: `badMessage` for an entry that is cut short or malformed.
    func next() throws -> LinkRecord? {
        guard let count = try Self.word(handle) else { return nil }
        guard count <= Self.longest, let body = try handle.read(upToCount: count), body.count == count else {
            throw QuantumLinkError.badMessage("the recording is cut short")
        }
        return try LinkRecordCodec.read(ByteBuffer(bytes: body))
    }

    private static func word(_ handle: FileHandle) throws -> Int? {
        guard let data = try handle.read(upToCount: 4), data.count == 4 else { return nil }
        return data.reversed().reduce(0) { $0 << 8 | Int($1) }
    }
}
