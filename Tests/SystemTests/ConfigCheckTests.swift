// `qkdctl config check` and the services' own `--check`: everything that is wrong, before anything is started.

import Foundation
import Testing

@Suite(.serialized) struct ConfigCheckTests {
    private struct Finding: Decodable {
        var file: String
        var service: String?
        var usable: Bool
        var problems: [String]
    }

    /// A lab's files, as `qkdctl lab prepare` writes them.
    private func prepared() async throws -> (scratch: Scratch, folder: String) {
        let scratch = try Scratch()
        let lab = try await run("qkdctl", "lab", "prepare", "firmware-sim/testbeds/small.yaml", "--folder", scratch.path + "/lab")
        try #require(lab.status == 0, "\(lab)")
        return (scratch, scratch.path + "/lab/alpha/")
    }

    private func check(_ files: String...) async throws -> (Outcome, [Finding]) {
        let outcome = await (try Running([Programs.path("qkdctl"), "config", "check", "--json"] + files)).end(within: .seconds(30))
        return (outcome, try JSONDecoder().decode([Finding].self, from: Data(outcome.output.utf8)))
    }

    private func change(_ file: String, _ old: String, _ new: String) throws {
        let text = try String(contentsOfFile: file, encoding: .utf8)
        try #require(text.contains(old))
        try Data(text.replacing(old, with: new).utf8).write(to: URL(filePath: file))
    }

    @Test func goodFilesAreRecognisedAndNothingIsTouched() async throws {
        let (scratch, folder) = try await prepared()
        let before = try FileManager.default.subpathsOfDirectory(atPath: scratch.path).sorted()
        let (outcome, findings) = try await check(
            folder + "linkd.yaml", folder + "lkmsd.yaml", folder + "agentd.yaml", Programs.root + "firmware-sim/testbeds/madrid.yaml",
            Programs.root + "firmware-sim/testbeds/usb.yaml")
        #expect(outcome.status == 0, "\(outcome)")
        #expect(findings.map(\.service) == ["qkd-linkd", "qkd-lkmsd", "qkd-agentd", "qkd-emulator", "qkd-emulator"])
        #expect(findings.allSatisfy { $0.usable && $0.problems.isEmpty })
        #expect(try FileManager.default.subpathsOfDirectory(atPath: scratch.path).sorted() == before)
    }

    @Test func allThatIsWrongWithAStoresFileIsSaidAtOnce() async throws {
        let (scratch, folder) = try await prepared()
        defer { withExtendedLifetime(scratch) {} }
        let file = folder + "lkmsd.yaml"
        try change(file, "deliver_emulated: true", "deliver_emulted: true\npolicy: { provisional: maybe }")
        let (outcome, findings) = try await check(file)
        let said = findings.first?.problems.joined(separator: "\n") ?? ""
        #expect(outcome.status == 1 && said.contains("deliver_emulted") && said.contains("'maybe' is none of serve, refuse"), "\(outcome)")
    }

    @Test func allThatIsWrongWithALinksFileIsSaidAtOnce() async throws {
        let (scratch, folder) = try await prepared()
        defer { withExtendedLifetime(scratch) {} }
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: folder + "secrets/beta")
        try change(folder + "linkd.yaml", "uri: \"tcp:", "uri: \"tpc:")
        try change(folder + "linkd.yaml", "slot_symbols: 2000000", "slot_symbols: 1000")
        let (outcome, findings) = try await check(folder + "linkd.yaml")
        let said = findings.first?.problems.joined(separator: "\n") ?? ""
        #expect(outcome.status == 1 && said.contains("begins with none of tcp:, serial:, usb:"), "\(outcome)")
        #expect(said.contains("can be read by others: chmod 600 it") && said.contains("slot_symbols is 1000"), "\(said)")
    }

    @Test func allThatIsWrongWithAnAgentsFileIsSaidAtOnce() async throws {
        let (scratch, folder) = try await prepared()
        defer { withExtendedLifetime(scratch) {} }
        let file = folder + "agentd.yaml"
        try change(file, "key: pki/agent-alpha.key", "key: pki/app-alpha.key")
        try change(file, "yang: \"", "yang: \"/nonexistent")
        try change(file, "thresholds:", "rabbitmq: { address: \"broker:5671\", user: alpha, password_file: secrets/rabbitmq }\nthresholds:")
        _ = FileManager.default.createFile(
            atPath: folder + "secrets/rabbitmq", contents: Data("x".utf8), attributes: [.posixPermissions: 0o644])
        let (outcome, findings) = try await check(file)
        let said = findings.first?.problems.joined(separator: "\n") ?? ""
        #expect(outcome.status == 1 && findings.first?.service == "qkd-agentd" && said.contains("is not the private key of"), "\(outcome)")
        #expect(said.contains("holds a password and others may read it: chmod 600") && said.contains("yang: "), "\(said)")
        // Roles that do not exist are found in the rules that the file names.
        try change(folder + "rules.yaml", "operator: operator", "operator: emperor")
        #expect(try await check(file).1.first?.problems.joined().contains("emperor") == true)
    }

    @Test func secretsAndCertificatesAreLookedAt() async throws {
        let (scratch, folder) = try await prepared()
        defer { withExtendedLifetime(scratch) {} }
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: folder + "secrets/km-beta")
        try FileManager.default.removeItem(atPath: folder + "pki/kme-alpha.key")
        try FileManager.default.copyItem(atPath: folder + "pki/app-alpha.key", toPath: folder + "pki/kme-alpha.key")
        let (outcome, findings) = try await check(folder + "lkmsd.yaml")
        let said = findings.first?.problems.joined(separator: "\n") ?? ""
        #expect(outcome.status == 1 && said.contains("can be read by others: chmod 600 it"), "\(outcome)")
        #expect(said.contains("is not the private key of"), "\(said)")
    }

    @Test("Paths that are empty or shared, addresses without their key, a secret that serves elsewhere: said before the start")
    func whatAStartWouldMeetIsFound() async throws {
        let (scratch, folder) = try await prepared()
        defer { withExtendedLifetime(scratch) {} }
        let (store, link) = (folder + "lkmsd.yaml", folder + "linkd.yaml")
        try FileManager.default.removeItem(atPath: folder + "secrets/km-beta")
        try FileManager.default.copyItem(atPath: folder + "secrets/beta", toPath: folder + "secrets/km-beta")
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: folder + "pki/kme-alpha.key")
        try change(store, "deposit: run/deposit.sock", "deposit: run/lkmsd.sock")
        try change(store, "database: state/lkms.sqlite", "database: \"\"")
        try change(link, "state: state/linkd", "state: \"\"")
        let findings = try await check(store, link).1
        #expect(findings.count == 2 && !findings.contains { $0.usable })
        let said = findings.map { $0.problems.joined(separator: "\n") }
        for words in ["is a secret of the classical channel", "the same as socket", "database: it is empty", "can be read by everybody"] {
            #expect(said.first?.contains(words) == true, "\(words): \(said)")
        }
        #expect(said.last?.contains("state: it is empty") == true, "\(said)")
        try change(store, "api014: { listen: \"127.0.0.1:", "api014: { listen: \"127.0.0.1;")
        try change(link, "channel: { listen: \"127.0.0.1:", "channel: { listen: \"127.0.0.1;")
        let again = try await check(store, link).1.map { $0.problems.joined(separator: "\n") }
        #expect(again.first?.contains("api014.listen: '127.0.0.1;") == true, "\(again)")
        #expect(again.last?.contains("channel.listen: '127.0.0.1;") == true, "\(again)")
        // Before the first start the secret has to be there; afterwards it is in the state.
        try change(link, "channel: { listen: \"127.0.0.1;", "channel: { listen: \"127.0.0.1:")
        try change(link, "state: \"\"", "state: state/linkd")
        try FileManager.default.removeItem(atPath: folder + "secrets/beta")
        #expect(try await check(link).1.first?.problems.joined().contains("No such file") == true)
    }

    @Test func testbedsKnowCodesAndTheShortestSlot() async throws {
        let scratch = try Scratch()
        let text = try String(contentsOfFile: Programs.root + "/firmware-sim/testbeds/small.yaml", encoding: .utf8)
        let code = try scratch.write(text.replacing("code: r10-n204800", with: "code: r99"), "code.yaml")
        let slot = try scratch.write(text.replacing("slot_symbols: 2_000_000", with: "slot_symbols: 1000"), "slot.yaml")
        let (outcome, findings) = try await check(code, slot)
        try #require(outcome.status == 1 && findings.count == 2, "\(outcome)")
        #expect(findings[0].problems.first?.contains("code 'r99' is none of") == true, "\(findings)")
        #expect(findings[1].problems.first?.contains("slot_symbols is 1000, a frame of r10-n204800 needs at least 102400") == true)
        let lab = try await run("qkdctl", "lab", "prepare", slot, "--folder", scratch.path + "/lab")
        #expect(lab.status == 1 && lab.errors.contains("slot_symbols is 1000"), "\(lab)")
    }

    @Test func nobodysFilesAreSaidToBe() async throws {
        let scratch = try Scratch()
        let (outcome, findings) = try await check(try scratch.write("colour: red\n", "x.yaml"), scratch.path + "/none.yaml")
        #expect(outcome.status == 1 && findings.map(\.usable) == [false, false])
        #expect(findings[0].problems.first?.contains("this is no configuration of qkd-linkd") == true)
        #expect(findings[1].problems.first?.contains("no such file") == true)
    }

    @Test func aBenchWithoutAPlaceForItsResultDoesNotBegin() async throws {
        let outcome = try await run("qkdctl", "bench", "--json", "/nonexistent/bench.json", within: .seconds(10))
        #expect(outcome.status == 1 && outcome.errors.contains("there is no folder /nonexistent"), "\(outcome)")
    }
}
