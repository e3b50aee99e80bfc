// The running configuration on disk.
//
//   running.json      the configuration, RFC 7951: replaced as a whole (temporary file, fsync, rename, fsync of the folder)
//   running.journal   what has changed since: first line the checksum of the running.json that it belongs to, then one
//                     line for each change: its checksum, a space, {"path": api-path of a list entry, "data": it or null}
//
// A journal of another running.json is an old one that a crash left behind, and is ignored. A last line that breaks off
// was never answered for, and is dropped. Anything else that cannot be read is put aside under another name and told.

import Foundation

struct RunningFile {
    struct Change: Codable {
        var path: String
        /// JSON of the entry as PUT takes it; nil: it was deleted.
        var data: String?
    }

    struct Contents {
        var snapshot: Data
        var changes: [Change]
        var time: Date
        /// The journal was damaged before its last line.
        var problem: String?
    }

    let folder: String
    private var snapshotID = ""
    private var journalBytes = 0
    private var snapshotBytes = 0
    private var isJournalOpen = false

    init(folder: String) throws(RESTCONFError) {
        self.folder = folder
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        } catch {
            throw Self.failed("the folder \(folder) cannot be made")
        }
    }

    private var snapshotPath: String { folder + "/running.json" }
    private var journalPath: String { folder + "/running.journal" }

    // MARK: In

    /// Nil where nothing was kept yet.
    mutating func load() throws(RESTCONFError) -> Contents? {
        guard FileManager.default.fileExists(atPath: snapshotPath) else { return nil }
        guard let snapshot = FileManager.default.contents(atPath: snapshotPath) else {
            throw Self.failed("\(snapshotPath) cannot be read")
        }
        snapshotID = YANGSchema.checksum(bytes: snapshot)
        snapshotBytes = snapshot.count
        var contents = Contents(snapshot: snapshot, changes: [], time: Self.time(of: snapshotPath) ?? Date())
        guard let journal = FileManager.default.contents(atPath: journalPath) else {
            guard access(journalPath, F_OK) != 0 else { throw Self.failed("\(journalPath) cannot be read") }
            return contents
        }
        read(journal, into: &contents)
        if !contents.changes.isEmpty { contents.time = Self.time(of: journalPath) ?? contents.time }
        return contents
    }

    private func read(_ journal: Data, into contents: inout Contents) {
        let isWhole = journal.last == 0x0a
        var lines = journal.split(separator: 0x0a).map { String(decoding: $0, as: UTF8.self) }
        guard !lines.isEmpty, lines.removeFirst() == snapshotID else { return }
        for (index, line) in lines.enumerated() {
            guard let change = Self.change(line) else {
                if index < lines.count - 1 || isWhole { contents.problem = "line \(index + 2) of \(journalPath) is damaged" }
                return
            }
            contents.changes.append(change)
        }
    }

    private static func change(_ line: String) -> Change? {
        let parts = line.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, YANGSchema.checksum(String(parts[1])) == parts[0] else { return nil }
        return try? JSONDecoder().decode(Change.self, from: Data(parts[1].utf8))
    }

    private static func time(of path: String) -> Date? {
        (try? FileManager.default.attributesOfItem(atPath: path))?[.modificationDate] as? Date
    }

    // MARK: Aside

    /// What cannot be used as it is.
    enum Damage { case journal, both }

    /// The names that files get when they are set aside; only of those that are there.
    func namesAside(of damage: Damage, at time: Date) -> [String] {
        paths(damage).filter { access($0, F_OK) == 0 }.map { $0 + Self.mark(time) }
    }

    private func paths(_ damage: Damage) -> [String] { damage == .both ? [snapshotPath, journalPath] : [journalPath] }

    private static func mark(_ time: Date) -> String {
        ".unusable-" + time.formatted(Date.ISO8601FormatStyle(timeSeparator: .omitted))
    }

    // MARK: Out

    /// Replaces everything.
    /// - Parameter damage: what gets another name first. Where nothing can be written nothing is renamed either.
    mutating func write(_ snapshot: Data, settingAside damage: Damage? = nil, at time: Date = Date()) throws(RESTCONFError) {
        let temporary = snapshotPath + ".new"
        try Self.write(snapshot, to: temporary, appending: false)
        for path in damage.map(paths) ?? [] { rename(path, path + Self.mark(time)) }
        guard rename(temporary, snapshotPath) == 0 else { throw Self.failed("\(snapshotPath) cannot be replaced") }
        unlink(journalPath)
        Self.flush(folder: folder)
        snapshotID = YANGSchema.checksum(bytes: snapshot)
        (snapshotBytes, journalBytes, isJournalOpen) = (snapshot.count, 0, false)
    }

    /// Appends one change.
    mutating func append(_ change: Change) throws(RESTCONFError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let json = try? encoder.encode(change) else { throw Self.failed("a change cannot be written as JSON") }
        var lines = isJournalOpen ? Data() : Data((snapshotID + "\n").utf8)
        lines += Data((YANGSchema.checksum(bytes: json) + " ").utf8) + json + Data("\n".utf8)
        let length = isJournalOpen ? journalBytes : 0
        do {
            try Self.write(lines, to: journalPath, appending: isJournalOpen)
        } catch {
            // Half a line must not stand before the next one.
            truncate(journalPath, off_t(length))
            throw error
        }
        if !isJournalOpen { Self.flush(folder: folder) }
        journalBytes = length + lines.count
        isJournalOpen = true
    }

    /// The journal has grown beyond what is worth reading at a start.
    var isJournalLong: Bool { journalBytes > max(1 << 20, 2 * snapshotBytes) }

    private static func write(_ data: Data, to path: String, appending: Bool) throws(RESTCONFError) {
        let flags = O_WRONLY | O_CREAT | O_CLOEXEC | (appending ? O_APPEND : O_TRUNC)
        let file = open(path, flags, 0o600)
        guard file >= 0 else { throw failed("\(path) cannot be written: \(String(cString: strerror(errno)))") }
        defer { close(file) }
        let written = data.withUnsafeBytes { bytes -> Bool in
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(file, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return false }
                done += count
            }
            return true
        }
        guard written, fdatasync(file) == 0 else { throw failed("\(path) cannot be written: \(String(cString: strerror(errno)))") }
    }

    private static func flush(folder: String) {
        let file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard file >= 0 else { return }
        fsync(file)
        close(file)
    }

    private static func failed(_ what: String) -> RESTCONFError {
        RESTCONFError(.application, .operationFailed, "the configuration cannot be kept: \(what)")
    }
}
