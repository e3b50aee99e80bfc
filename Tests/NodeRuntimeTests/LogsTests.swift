import Foundation
import Logging
import NodeRuntime
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
}
