// What users find without the sources: the installed documents, and the controller in one file.

import Foundation
import Testing

@Suite(.serialized) struct InstalledFilesTests {
    @Test("every link between installed documents leads to an installed one", .timeLimit(.minutes(2))) func documents() async throws {
        let scratch = try Scratch()
        let outcome = await (try Running([Programs.root + "scripts/install-files", scratch.path, "--build", Programs.folder])).end(
            within: .seconds(100))
        try #require(outcome.status == 0, "\(outcome)")
        let folder = scratch.path + "/usr/share/doc/sdqkd"
        let names = try FileManager.default.subpathsOfDirectory(atPath: folder).filter { $0.hasSuffix(".md") }
        #expect(names.contains("wire/classical-channel.md"))
        for name in names {
            let text = try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)
            for link in text.matches(of: /\]\(([^)#:\s]+\.md)/) {
                let place = ((folder + "/" + name) as NSString).deletingLastPathComponent + "/" + link.output.1
                #expect(FileManager.default.fileExists(atPath: place), "\(name) links to \(link.output.1)")
            }
        }
    }

    @Test(
        "sdn-link says in one line what is wrong with its inventory",
        arguments: [
            (nil, "cannot be read"), ("", "is no JSON"), ("[]", "is no JSON object"), (#"{"ca":"a"}"#, "lacks 'certificate'"),
            (#"{"ca":"a","certificate":"b","key":"c","nodes":3,"links":[]}"#, "is no inventory"),
            (#"{"ca":"a","certificate":"b","key":"c","nodes":[],"links":[]}"#, "/a cannot be used"),
        ] as [(String?, String)])
    func inventory(_ text: String?, _ words: String) async throws {
        let scratch = try Scratch()
        let file = scratch.path + "/inventory.json"
        if let text { try Data(text.utf8).write(to: URL(filePath: file)) }
        let outcome = await (try Running([Programs.root + "scripts/sdn-link", file, "show"])).end(within: .seconds(20))
        #expect(outcome.status == 1 && outcome.errors.contains(words) && !outcome.errors.contains("Traceback"), "\(outcome)")
        #expect(outcome.errors.contains(scratch.path) && outcome.errors.split(separator: "\n").count == 1, "\(outcome)")
    }

    @Test("config check names only services that there are") func services() async throws {
        let outcome = try await run("qkdctl", "config", "check", "--help")
        let named = Set(outcome.output.matches(of: /qkd-[a-z]+/).map { String($0.output) })
        #expect(outcome.status == 0 && named == ["qkd-linkd", "qkd-lkmsd", "qkd-agentd", "qkd-emulator"], "\(outcome)")
    }
}
