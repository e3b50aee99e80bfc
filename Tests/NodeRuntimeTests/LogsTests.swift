import Foundation
import Logging
import NodeRuntime
import Synchronization
import Testing

@Suite struct LogsTests {
    private let time = Date(timeIntervalSince1970: 1_700_000_000.25)

    @Test func terminalLine() {
        let handler = LineHandler(label: "qkd-linkd", logLevel: .info, journal: false)
        let line = handler.line(.info, "slot opened", ["path": "NORTE", "link": "almagro norte"], at: time)
        #expect(line == "2023-11-14T22:13:20.250Z info qkd-linkd: slot opened link=\"almagro norte\" path=NORTE\n")
    }

    @Test func journalLineHasPriorityAndNoTime() {
        let handler = LineHandler(label: "qkd-lkmsd", logLevel: .info, journal: true)
        #expect(handler.line(.error, "disk full", [:], at: time) == "<3>qkd-lkmsd: disk full\n")
    }

    /// A peer's text cannot forge a second line.
    @Test func breaksBecomeWords() {
        let handler = LineHandler(label: "p", logLevel: .info, journal: true)
        #expect(handler.line(.warning, "a\nb\r\nc", ["k": "x\ny"], at: time) == "<4>p: a\\nb\\nc k=x\\ny\n")
    }

    // MARK: Journal

    @Test func journalEntriesHaveFields() {
        Logs.always(["node": "almagro"])
        let fields = Journal.fields(
            program: "qkd-linkd", label: "qkd-linkd", level: .warning, message: "slot failed",
            metadata: ["link": "almagro-norte", "block-symbols": "5 e7"])
        #expect(
            Set(fields) == [
                "PRIORITY=4", "SYSLOG_IDENTIFIER=qkd-linkd", "MESSAGE=slot failed block-symbols=\"5 e7\" link=almagro-norte",
                "QKD_LINK=almagro-norte", "QKD_BLOCK_SYMBOLS=5 e7", "QKD_NODE=almagro",
            ])
        // Every name is one that journald takes.
        for key in ["", "ünï", String(repeating: "x", count: 100), "a=b", "1"] {
            let name = Journal.fieldName(key)
            #expect(name.hasPrefix("QKD_") && name.utf8.count <= 64)
            #expect(name.unicodeScalars.allSatisfy { ("A"..."Z").contains($0) || ("0"..."9").contains($0) || $0 == "_" })
        }
    }

    @Test func onlyTheStreamItselfCounts() throws {
        let path = NSTemporaryDirectory() + "stream-" + UUID().uuidString
        try Data().write(to: URL(filePath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        let handle = try #require(FileHandle(forReadingAtPath: path))
        let facts = try FileManager.default.attributesOfItem(atPath: path)
        let device = try #require((facts[.systemNumber] as? NSNumber)?.uint64Value)
        let inode = try #require((facts[.systemFileNumber] as? NSNumber)?.uint64Value)
        #expect(Journal.isStream("\(device):\(inode)", handle.fileDescriptor))
        #expect(!Journal.isStream("\(device):\(inode + 1)", handle.fileDescriptor))
        for text in ["", "1", ":", "a:b"] { #expect(!Journal.isStream(text, 0)) }
        #expect(!Journal.isStream("0:0", -1))
    }

    @Test func loggersOfTheJournalCarryTheirMetadata() {
        let taken = Mutex<[[String]]>([])
        let line = LineHandler(label: "p", logLevel: .info, journal: true)
        var logger = Logger(label: "p") { _ in
            JournalHandler(program: "p", label: "p/part", line: line) { fields in
                taken.withLock { $0.append(fields) }
                return true
            }
        }
        logger[metadataKey: "device"] = "tx"
        logger.debug("too little")
        logger.error("gone", metadata: ["serial": "ALM-TX-1"])
        let entries = taken.withLock { $0 }
        #expect(entries.count == 1)
        let missing = Set(["LOGGER=p/part", "PRIORITY=3", "QKD_DEVICE=tx", "QKD_SERIAL=ALM-TX-1"]).subtracting(entries.first ?? [])
        #expect(missing.isEmpty, "\(entries)")
    }
}
