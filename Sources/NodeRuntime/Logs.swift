// Log lines: one per event, on standard error, where systemd, a terminal and a test all find them.
//
//     2026-11-23T06:10:41.512Z info qkd-linkd: slot opened link=almagro-norte path=NORTE
//
// Where standard error is the journal (JOURNAL_STREAM names its device and inode), an event goes there with fields
// instead: MESSAGE as above without time and program, PRIORITY, SYSLOG_IDENTIFIER, and QKD_LINK, QKD_DEVICE, QKD_NODE, ...
// out of what was logged with it (docs/names.md). If journald does not take it, it goes to standard error with the `<N>` prefix.
// Who logs what: programs and services info and above; libraries debug only; nobody a key, a pad or a symbol.

import CSystemd
package import Foundation
public import Logging
import Synchronization

public enum Logs {
    /// Sends every logger of this process to standard error or the journal. Once per process, first thing in a program.
    ///
    /// - Parameter level: what is below is not written; `SDQKD_LOG` (trace, debug, info, ...) overrides it.
    public static func bootstrap(program: String, level: Logger.Level = .info) {
        let environment = ProcessInfo.processInfo.environment
        let chosen = environment["SDQKD_LOG"].flatMap(Logger.Level.init(rawValue:)) ?? level
        let stream = environment["JOURNAL_STREAM"]
        let isJournal = stream.map { Journal.isStream($0, STDERR_FILENO) } ?? false
        LoggingSystem.bootstrap { label in
            let line = LineHandler(
                label: label == program ? program : "\(program)/\(label)", logLevel: chosen, journal: stream != nil)
            return isJournal ? JournalHandler(program: program, label: label, line: line) : line
        }
    }

    /// Says why a program cannot go on: each line of the error is a line of its own.
    /// - Parameter plainly: on standard error as it is, for programs that were only asked to look.
    public static func report(_ error: any Error, _ logger: Logger, plainly: Bool = false) {
        for line in "\(error)".split(whereSeparator: \.isNewline) {
            if plainly { FileHandle.standardError.write(Data("\(line)\n".utf8)) } else { logger.error("\(line)") }
        }
    }

    /// Said with every event from now on, for example the node's name once the configuration is read. In the journal only:
    /// on a terminal it would say the same in every line.
    public static func always(_ metadata: Logger.Metadata) { Journal.common.withLock { $0.merge(metadata) { _, new in new } } }
}

/// The journal's native protocol, by libsystemd.
package enum Journal {
    static let common = Mutex<Logger.Metadata>([:])

    /// Whether a descriptor is the stream that `JOURNAL_STREAM` ("device:inode") names.
    package static func isStream(_ text: String, _ descriptor: Int32) -> Bool {
        var (device, inode): (UInt64, UInt64) = (0, 0)
        guard sdqkd_descriptor(descriptor, &device, &inode) == 0 else { return false }
        return text == "\(device):\(inode)"
    }

    /// - Returns: the entry's fields, each `NAME=value`. Values may hold anything, line breaks too.
    package static func fields(
        program: String, label: String, level: Logger.Level, message: String, metadata: Logger.Metadata
    ) -> [String] {
        var fields = ["PRIORITY=\(level.journalPriority)", "SYSLOG_IDENTIFIER=\(program)"]
        if label != program { fields.append("LOGGER=\(label)") }
        var text = message
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
            text += " \(key)=\(LineHandler.word("\(value)"))"
        }
        fields.append("MESSAGE=\(text)")
        for (key, value) in common.withLock({ $0 }).merging(metadata, uniquingKeysWith: { _, new in new }).sorted(by: { $0.key < $1.key }) {
            fields.append("\(fieldName(key))=\(value)")
        }
        return fields
    }

    /// `code-rate` becomes QKD_CODE_RATE: capitals, digits and underscores, 64 bytes at most.
    package static func fieldName(_ key: String) -> String {
        let word = key.uppercased().unicodeScalars.map { ("A"..."Z").contains($0) || ("0"..."9").contains($0) ? Character($0) : "_" }
        return String(("QKD_" + String(word)).prefix(64))
    }

    /// - Returns: whether journald took the entry.
    static func send(_ fields: [String]) -> Bool {
        let buffers = fields.map { field -> iovec in
            let bytes = Array(field.utf8)
            let copy = UnsafeMutableRawPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
            bytes.withUnsafeBytes { copy.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(copy), byteCount: bytes.count) }
            return iovec(iov_base: copy, iov_len: bytes.count)
        }
        defer { for buffer in buffers { buffer.iov_base?.deallocate() } }
        return buffers.withUnsafeBufferPointer { sd_journal_sendv($0.baseAddress, Int32($0.count)) } == 0
    }
}

/// Writes events to the journal; to standard error where that fails.
package struct JournalHandler: LogHandler {
    private let program: String
    private let label: String
    private var line: LineHandler
    private let send: @Sendable ([String]) -> Bool

    package init(program: String, label: String, line: LineHandler, send: (@Sendable ([String]) -> Bool)? = nil) {
        (self.program, self.label, self.line) = (program, label, line)
        self.send = send ?? { Journal.send($0) }
    }

    package var logLevel: Logger.Level {
        get { line.logLevel }
        set { line.logLevel = newValue }
    }
    package var metadata: Logger.Metadata {
        get { line.metadata }
        set { line.metadata = newValue }
    }
    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { line.metadata[key] }
        set { line.metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let merged = metadata.merging(event.metadata ?? [:]) { _, new in new }
        let fields = Journal.fields(
            program: program, label: label, level: event.level, message: "\(event.message)", metadata: merged)
        if !send(fields) { line.log(event: event) }
    }
}

/// Writes one line per event with a single `write(2)`, so that lines of several threads do not mix.
package struct LineHandler: LogHandler {
    package let label: String
    package var logLevel: Logger.Level
    package let journal: Bool
    package var metadata: Logger.Metadata = [:]

    package init(label: String, logLevel: Logger.Level, journal: Bool) {
        self.label = label
        self.logLevel = logLevel
        self.journal = journal
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let merged = metadata.merging(event.metadata ?? [:]) { _, new in new }
        let text = line(event.level, "\(event.message)", merged, at: Date())
        _ = text.utf8.withContiguousStorageIfAvailable { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    /// The line with its line break; breaks inside the message become `\n` in words.
    package func line(_ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata, at time: Date) -> String {
        let head = journal ? "<\(level.journalPriority)>" : "\(LineHandler.stamp(time)) \(level.rawValue) "
        let tail = metadata.sorted { $0.key < $1.key }.map { " \($0.key)=\(LineHandler.word("\($0.value)"))" }.joined()
        let text = "\(head)\(label): \(message)\(tail)"
        var line = text.split(whereSeparator: \.isNewline).joined(separator: "\\n") + "\n"
        line.makeContiguousUTF8()
        return line
    }

    private static func stamp(_ time: Date) -> String {
        time.formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true)) + "Z"
    }

    static func word(_ value: String) -> String {
        value.contains(where: { $0 == " " || $0 == "=" || $0 == "\"" }) ? "\"\(value.replacing("\"", with: "'"))\"" : value
    }
}

extension Logger.Level {
    /// Priorities of sd-daemon(3).
    fileprivate var journalPriority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
