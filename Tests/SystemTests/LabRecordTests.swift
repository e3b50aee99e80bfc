import Foundation
import Testing

/// `--json` of a lab that records.
private struct Result: Decodable {
    struct Link: Decodable {
        var secret_bits_stored: Int
        var symbols: Int
        var limited_by: String
    }
    struct Recording: Decodable {
        var file: String
        var decisions: Int
        var blocks: Int
        var problem: String?
    }
    var links: [Link]
    var recordings: [Recording]
}

@Suite(.serialized) struct LabRecordTests {
    /// The ends choose code, efficiency and modulation; both write down what entered; nothing is stored; every file decides the same again, and
    /// what is wrong with one that is not whole is said.
    @Test func recordedLabIsReplayedAndStoresNothing() async throws {
        let scratch = try Scratch()
        let text = try String(contentsOfFile: Programs.root + "/firmware-sim/testbeds/small.yaml", encoding: .utf8)
        let free = text.replacing("    code: r10-n204800\n    efficiency: 0.92\n", with: "    code: auto\n")
        #expect(free != text)
        let bed = try scratch.write(free, "auto.yaml")
        let (folder, json) = (scratch.path + "/lab", scratch.path + "/result.json")
        let outcome = try await run(
            "qkdctl", "lab", "run", bed, "--record", "--json", json, "--folder", folder, "--limit", "4", within: .seconds(300))
        try #require(outcome.status == 0, "\(outcome)")
        let result = try JSONDecoder().decode(Result.self, from: Data(contentsOf: URL(filePath: json)))
        let link = try #require(result.links.first)
        #expect(link.secret_bits_stored == 0 && link.symbols > 7_000_000 && link.limited_by.contains("recorded"))
        #expect(result.recordings.count == 2 && result.recordings.allSatisfy { $0.problem == nil && $0.decisions > 70 && $0.blocks >= 1 })
        #expect(outcome.errors.contains("bit for bit the same"))
        for site in ["alpha", "beta"] {
            let configuration = try String(contentsOfFile: "\(folder)/\(site)/linkd.yaml", encoding: .utf8)
            #expect(configuration.contains("code: auto") && !configuration.contains("efficiency"))
        }
        try await replays(folder + "/" + (try #require(result.recordings.first).file), scratch)
    }

    private func replays(_ file: String, _ scratch: Scratch) async throws {
        let again = try await run("qkdctl", "link", "replay", file, within: .seconds(120))
        #expect(again.status == 0 && again.output.contains("bit for bit the same"), "\(again)")
        let whole = try Data(contentsOf: URL(filePath: file))
        func refused(_ data: Data?, _ words: String) async throws {
            let path = scratch.path + "/other.qkdrec"
            try? FileManager.default.removeItem(atPath: path)
            try data?.write(to: URL(filePath: path))
            let outcome = try await run("qkdctl", "link", "replay", path, within: .seconds(120))
            #expect(outcome.status == 1 && outcome.errors.contains(words), "\(outcome)")
        }
        try await refused(nil, "is not there")
        try await refused(whole.prefix(whole.count * 2 / 3), "is cut short after")
        var altered = whole
        altered[whole.count / 2] ^= 1
        try await refused(altered, "was altered or damaged")
        var other = whole
        let version = try #require(other.range(of: Data("\"version\":2".utf8), in: 0..<4096))
        other[version.upperBound - 1] = UInt8(ascii: "1")
        try await refused(other, "is of version 1")
    }
}
