import Foundation
import NodeRuntime
import Testing

@Suite struct ReleaseTests {
    private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    @Test("the version is the newest of the changelog") func changelog() throws {
        let text = try String(contentsOf: root.appending(path: "CHANGELOG.md"), encoding: .utf8)
        #expect(text.firstMatch(of: /\n## ([0-9][^ \n]*)/)?.output.1 == Release.version[...])
    }

    @Test("no program has a version of its own") func programs() throws {
        let sources = root.appending(path: "Sources")
        let names = try FileManager.default.contentsOfDirectory(atPath: sources.path).filter { $0.hasPrefix("qkd") }
        #expect(names.count >= 4)
        for name in names {
            let text = try String(contentsOf: sources.appending(path: name + "/Program.swift"), encoding: .utf8)
            #expect(text.contains("version: Release.version") && text.firstMatch(of: /[vV]ersion[^\n]*"[0-9]+\./) == nil, "\(name)")
        }
    }
}
