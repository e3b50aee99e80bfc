import Foundation
import Testing

/// Services refuse what they cannot run with, in a sentence that says where it stands.
@Suite struct ConfigurationMessagesTests {
    private static let services = ["qkd-linkd", "qkd-lkmsd"]

    @Test(arguments: services)
    func absentFile(service: String) async throws {
        let outcome = try await run(service, "--config", "/nowhere/node.yaml")
        #expect(outcome.status == 1, "\(outcome)")
        #expect(outcome.errors.contains("/nowhere/node.yaml"))
        #expect(outcome.errors.contains("no such file"))
    }

    @Test(arguments: services)
    func unknownKeyIsNamedWithItsLine(service: String) async throws {
        let scratch = try Scratch()
        let lab = try await run("qkdctl", "lab", "prepare", "firmware-sim/testbeds/small.yaml", "--folder", scratch.path + "/lab")
        try #require(lab.status == 0, "\(lab)")
        let name = service == "qkd-linkd" ? "linkd.yaml" : "lkmsd.yaml"
        let file = scratch.path + "/lab/alpha/" + name
        let text = try String(contentsOfFile: file, encoding: .utf8)
        try Data(text.replacing("\npeers:", with: "\npears: []\npeers:").utf8).write(to: URL(filePath: file))
        let line = text.split(separator: "\n", omittingEmptySubsequences: false).firstIndex { $0.hasPrefix("peers:") }.map { $0 + 1 } ?? 0
        let running = try Running([Programs.path(service), "--config", name], in: scratch.path + "/lab/alpha")
        let outcome = await running.end(within: .seconds(20))
        #expect(!outcome.killed && outcome.status != 0, "\(outcome)")
        #expect(outcome.errors.contains("\(name):\(line)"), "\(outcome)")
        #expect(outcome.errors.contains("pears"))
    }

    @Test func emulatorNamesLineAndKeyOfABadTestbed() async throws {
        let scratch = try Scratch()
        let text = try String(contentsOfFile: Programs.root + "/firmware-sim/testbeds/small.yaml", encoding: .utf8)
        let file = try scratch.write(text.replacing("symbol_rate_hz", with: "symbol_rate"), "bad.yaml")
        let line =
            text.split(separator: "\n", omittingEmptySubsequences: false).firstIndex { $0.hasPrefix("symbol_rate_hz") }.map { $0 + 1 } ?? 0
        let outcome = try await run("qkd-emulator", "--testbed", file, within: .seconds(20))
        #expect(!outcome.killed && outcome.status != 0, "\(outcome)")
        #expect(outcome.errors.contains("bad.yaml:\(line)") || outcome.errors.contains("line \(line)"), "\(outcome)")
        #expect(outcome.errors.contains("symbol_rate"))
    }
}
