// A recording as a file: a head that says what it is, entries one behind the other, and a last one that says that it is whole.

internal import Foundation
internal import Glibc
internal import KeyMaterial
internal import NIOCore
internal import Synchronization

/// What stands at the head of a recording.
public struct LinkRecordingHead: Codable, Sendable, Equatable {
    public var format = "sdqkd link recording"
    public static let newest = 2

    public var version = LinkRecordingHead.newest
    public var keyMaterial = true
    public var warning = """
        holds symbols and random words of a link: whoever has this file has its key. Nothing was deposited while it was written. \
        Treat it like a key and delete it when it has served.
        """
    public var settings: LinkSettings

    public init(settings: LinkSettings) { self.settings = settings }
}

/// What is hashed for the last entry: every byte before it. The key is no secret; this shows damage, not a forger.
private func recordingHash() -> RunningHash {
    var key = Array("SDQKL recording.".utf8)
    return RunningHash(key: SecretBytes(consuming: &key))
}

/// Writes a recording while a link runs.
public final class LinkRecorder: LinkTap {
    static let magic = Array("SDQKLREC".utf8)
    private static let chunk = 1 << 20

    private struct State {
        var descriptor: Int32
        var buffer = ByteBuffer()
        var hash = recordingHash()
        var entries: UInt64 = 0
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
            Self.put(record, at: time, &state)
            if state.buffer.readableBytes >= Self.chunk { Self.flush(&state) }
        }
    }

    private static func put(_ record: LinkRecord, at time: UInt64, _ state: inout State) {
        let start = state.buffer.writerIndex
        state.buffer.put(UInt32(0))
        LinkRecordCodec.write(record, at: time, to: &state.buffer)
        state.buffer.setInteger(UInt32(state.buffer.writerIndex - start - 4), at: start, endianness: .little)
        state.entries += 1
    }

    /// Writes what is left and the entry that says that nothing is missing, and closes the file.
    public func finish() {
        state.withLock { state in
            guard state.descriptor >= 0 else { return }
            Self.flush(&state)
            if state.trouble == nil {
                let hash = state.hash.value().withBytes(Array.init)
                // Its own time stands outside the hash.
                Self.put(.whole(entries: state.entries, hash: hash), at: 0, &state)
                Self.flush(&state)
            }
            Glibc.close(state.descriptor)
            state.descriptor = -1
            state.trouble = state.trouble ?? "it is finished"
        }
    }

    /// Why nothing is recorded any more, or nil.
    public var trouble: String? { state.withLock { $0.trouble } }

    private static func flush(_ state: inout State) {
        state.buffer.withUnsafeReadableBytes { bytes in
            state.hash.update(bytes)
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

extension LinkSettings {
    /// What a configuration would be refused for, and what no configuration sets; nil: a link may have run so.
    fileprivate var recordingTrouble: String? {
        if let trouble = LinkService.trouble(with: self) { return trouble }
        guard (1...10_000).contains(maximumPasses) else { return "the decoder's passes are \(maximumPasses): 1 to 10000 are possible" }
        guard (0...1).contains(driftLimit) else { return "the drift limit is \(driftLimit): 0 to 1 are possible" }
        return nil
    }
}

/// Reads a recording, entry by entry.
struct LinkRecordingReader {
    private static let longest = 1 << 28

    let head: LinkRecordingHead
    private let path: String
    private let handle: FileHandle
    /// Reads up to where the file breaks off or stops making sense.
    private let anyway: Bool
    private var hash = recordingHash()
    private(set) var entries: UInt64 = 0

    /// - Throws: `QuantumLinkError.recording` for a file that is not there, is no recording or is of another version.
    init(path: String, anyway: Bool = false) throws {
        (self.path, self.anyway) = (path, anyway)
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw QuantumLinkError.recording(path: path, problem: "is not there")
        }
        guard !isFolder.boolValue, let handle = FileHandle(forReadingAtPath: path) else {
            let reason = isFolder.boolValue ? "it is a folder" : String(cString: strerror(errno))
            throw QuantumLinkError.recording(path: path, problem: "cannot be read: \(reason)")
        }
        self.handle = handle
        guard let magic = try handle.read(upToCount: 8), Array(magic) == LinkRecorder.magic, let size = try handle.read(upToCount: 4),
            let count = Self.word(size), count <= 1 << 20, let text = try handle.read(upToCount: count), text.count == count
        else { throw QuantumLinkError.recording(path: path, problem: "is no recording of a link") }
        struct Version: Decodable { var version: Int }
        if let version = try? JSONDecoder().decode(Version.self, from: text).version, version != LinkRecordingHead.newest {
            throw QuantumLinkError.recording(
                path: path, problem: "is of version \(version); this program reads version \(LinkRecordingHead.newest)")
        }
        do { head = try JSONDecoder().decode(LinkRecordingHead.self, from: text) } catch {
            throw QuantumLinkError.recording(path: path, problem: "has a head that cannot be read: it was altered or damaged")
        }
        if let trouble = head.settings.recordingTrouble {
            throw QuantumLinkError.recording(path: path, problem: "has a head that no link has: \(trouble)")
        }
        for part in [magic, size, text] { hash.update(part) }
    }

    /// Reads all of it and looks at nothing but whether it is whole and as it was written.
    /// - Throws: `QuantumLinkError.recording`.
    static func check(path: String) throws {
        var reader = try LinkRecordingReader(path: path)
        while try reader.entry() != nil {}
    }

    /// - Returns: nil at the end.
    /// - Throws: `QuantumLinkError.recording` for a file that is cut short or altered, `badMessage` for an entry that is malformed.
    mutating func next() throws -> LinkRecord? {
        guard let body = try entry() else { return nil }
        return try LinkRecordCodec.read(ByteBuffer(bytes: body))
    }

    /// Bytes of the next entry; nil at the end of a recording that is whole.
    private mutating func entry() throws -> Data? {
        guard let size = try handle.read(upToCount: 4), let count = Self.word(size) else { return try cutShort() }
        guard count <= Self.longest else {
            if anyway { return nil }
            throw altered("entry \(entries + 1) has a length that cannot be")
        }
        guard let body = try handle.read(upToCount: count), body.count == count else { return try cutShort() }
        if body.first == LinkRecordCodec.whole {
            try finish(body)
            return nil
        }
        entries += 1
        hash.update(size)
        hash.update(body)
        return body
    }

    private func finish(_ body: Data) throws {
        if anyway { return }
        guard case .whole(let count, let recorded) = try? LinkRecordCodec.read(ByteBuffer(bytes: body)), count == entries,
            recorded == hash.value().withBytes(Array.init), body.dropFirst().prefix(8).allSatisfy({ $0 == 0 })
        else { throw altered("its bytes do not have the hash that stands at its end") }
        if let more = try handle.read(upToCount: 1), !more.isEmpty { throw altered("something stands behind its end") }
    }

    private func cutShort() throws -> Data? {
        if anyway { return nil }
        throw QuantumLinkError.recording(
            path: path,
            problem: "is cut short after \(entries) entries: its end is missing (a killed service, a full disk, or still being written)")
    }

    private func altered(_ what: String) -> QuantumLinkError { .recording(path: path, problem: "was altered or damaged: \(what)") }

    private static func word(_ data: Data) -> Int? {
        data.count == 4 ? data.reversed().reduce(0) { $0 << 8 | Int($1) } : nil
    }
}
