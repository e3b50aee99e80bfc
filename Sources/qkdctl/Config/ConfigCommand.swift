// `qkdctl config check`: are these files what their services can run with?
//
// Which service a file is for is told from its keys. The service's own program then looks at it (`--check`), because
// nobody knows better what it needs; it opens, changes and connects nothing.

import ArgumentParser
import Foundation
import NodeRuntime
import Yams

struct ConfigCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Look at configuration files.", subcommands: [Check.self])

    struct Check: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check configuration files of services and testbeds, and the secrets and certificates that they name.",
            discussion:
                "Status 0: every file is usable. Status 1: one is not; all that is wrong is said. Nothing is changed, also beside running services."
        )

        @Argument(help: "Files of qkd-linkd, qkd-lkmsd, qkd-agentd, and testbeds of qkd-emulator.")
        var file: [String]

        @Flag(help: "Print a JSON array with an object for each file: file, service, usable, problems.")
        var json = false

        func run() async throws {
            var findings: [ConfigFinding] = []
            for file in file { findings.append(await ConfigFinding.of(file)) }
            if json {
                let encoder = JSONEncoder()
                encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
                print(String(decoding: try encoder.encode(findings), as: UTF8.self))
            } else {
                for finding in findings { finding.show() }
            }
            if findings.contains(where: { !$0.usable }) { throw ExitCode.failure }
        }
    }
}

/// What was found about one file.
struct ConfigFinding: Codable, Sendable, Equatable {
    var file: String
    /// The program that the file is for; nil where that cannot be told.
    var service: String?
    var usable: Bool
    var problems: [String]

    func show() {
        if usable { return print("\(file): usable (\(service ?? "-"))") }
        for problem in problems {
            let line = problem.hasPrefix(file) ? problem : "\(file): \(problem)"
            Output.complain(line)
        }
    }

    static func of(_ file: String) async -> ConfigFinding {
        var finding = ConfigFinding(file: file, service: nil, usable: false, problems: [])
        do {
            let service = try ConfigService.recognise(file)
            finding.service = service.rawValue
            finding.problems = try await service.check(file)
            finding.usable = finding.problems.isEmpty
        } catch { finding.problems = "\(error)".split(separator: "\n").map(String.init) }
        return finding
    }
}

/// Programs whose files have a shape of their own.
enum ConfigService: String, CaseIterable {
    case linkd = "qkd-linkd"
    case lkmsd = "qkd-lkmsd"
    case agentd = "qkd-agentd"
    case emulator = "qkd-emulator"

    /// Keys that no other file has; any of them will do.
    private var marks: [String] {
        switch self {
        case .linkd: ["channel", "devices", "links"]
        case .lkmsd: ["master_key", "api014", "km", "database", "deposit_users"]
        case .agentd: ["restconf", "yang", "linkd_socket", "lkmsd_socket", "rabbitmq", "thresholds"]
        case .emulator: ["testbed", "fibres", "symbol_rate_hz"]
        }
    }

    /// - Throws: `ConfigError` where the file cannot be read, is no mapping, or is nobody's.
    static func recognise(_ file: String) throws -> ConfigService {
        let text: String
        do { text = try String(contentsOfFile: file, encoding: .utf8) } catch {
            let exists = FileManager.default.fileExists(atPath: file)
            throw NodeRuntimeError.unreadable(file: file, reason: exists ? "it is not readable as UTF-8" : "no such file")
        }
        let keys: Set<String>
        do {
            guard let mapping = try Yams.compose(yaml: text)?.mapping else { throw ConfigError.nobodys(keys: []) }
            keys = Set(mapping.keys.compactMap { $0.scalar?.string })
        } catch let error as YamlError {
            // The reader of the service's own file says it better, but whose file is it? Ours will do.
            throw Self.explain(error, file)
        }
        // A testbed has devices and links too: it is asked first; ties go to the one with more of its keys.
        if keys.contains("testbed") { return .emulator }
        let counts = allCases.map { service in (service, service.marks.count { keys.contains($0) }) }.filter { $0.1 > 0 }
        guard let best = counts.max(by: { $0.1 < $1.1 }) else { throw ConfigError.nobodys(keys: keys.sorted()) }
        return best.0
    }

    private static func explain(_ error: YamlError, _ file: String) -> any Error {
        do { _ = try Configuration.load([String: String].self, from: file, partial: true) } catch { return error }
        return error
    }

    /// - Returns: all that is wrong, in the program's words; empty where it is usable.
    func check(_ file: String) async throws -> [String] {
        let program = try Lab.programFolder() + "/" + rawValue
        guard FileManager.default.isExecutableFile(atPath: program) else { throw ConfigError.noProgram(program) }
        let folder = NSTemporaryDirectory() + "config-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let option = self == .emulator ? "--testbed" : "--config"
        let child = try await ChildProcess.start(
            ChildPlan(
                name: rawValue, command: [program, option, file, "--check"], folder: FileManager.default.currentDirectoryPath,
                output: folder + "/check"))
        let end = await child.wait()
        var problems = self == .emulator ? testbedProblems(file) : []
        guard end != .exited(0) else { return problems }
        let said = child.tail(1000).map { $0.hasPrefix("Error: ") ? String($0.dropFirst(7)) : $0 }.filter { !$0.isEmpty }
        problems = said + problems.filter { !said.contains($0) }
        return problems.isEmpty ? ["\(rawValue) \(end) and said nothing"] : problems
    }

    /// What a lab wants of a testbed besides.
    private func testbedProblems(_ file: String) -> [String] {
        struct Links: Decodable { var links: [Testbed.Link]? }
        do {
            // A testbed of devices alone is one, too.
            guard try Configuration.load(Links.self, from: file, partial: true).links?.isEmpty == false else { return [] }
            let bed = try Configuration.load(Testbed.self, from: file, partial: true)
            try bed.checkNames(file: file)
            try bed.checkCodes(file: file)
            return []
        } catch { return "\(error)".split(separator: "\n").map(String.init) }
    }
}

enum ConfigError: Error, CustomStringConvertible {
    case nobodys(keys: [String])
    case noProgram(String)

    var description: String {
        switch self {
        case .nobodys(let keys):
            "this is no configuration of \(ConfigService.allCases.map(\.rawValue).joined(separator: ", "))"
                + (keys.isEmpty ? ": it has no keys" : "; its keys: \(keys.joined(separator: ", "))")
        case .noProgram(let path): "\(path) is missing, and only it knows its file: build or install it first"
        }
    }
}
