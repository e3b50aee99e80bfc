// Log lines: one per event, on standard error, where systemd, a terminal and a test all find them.
//
//     2026-11-23T06:10:41.512Z info qkd-linkd: slot opened link=almagro-norte path=NORTE
//
// Under systemd (JOURNAL_STREAM is set) the time is left to journald and the level becomes its `<N>` prefix.
// Who logs what: programs and services info and above; libraries debug only; nobody a key, a pad or a symbol.

package import Foundation
public import Logging

public enum Logs {
    /// Sends every logger of this process to standard error. Once per process, first thing in a program.
    ///
    /// - Parameter level: what is below is not written; `SDQKD_LOG` (trace, debug, info, ...) overrides it.
    public static func bootstrap(program: String, level: Logger.Level = .info) {
        let environment = ProcessInfo.processInfo.environment
        let chosen = environment["SDQKD_LOG"].flatMap(Logger.Level.init(rawValue:)) ?? level
        let journal = environment["JOURNAL_STREAM"] != nil
        LoggingSystem.bootstrap { label in
            LineHandler(label: label == program ? program : "\(program)/\(label)", logLevel: chosen, journal: journal)
        }
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

    private static func word(_ value: String) -> String {
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
