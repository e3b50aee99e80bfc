// One systemd unit for each service program, sandboxed, and what systemd itself says of them.

import Foundation
import Testing

@Suite struct ServiceUnitsTests {
    private let folder = Programs.root + "udev/systemd/"

    /// The service programs are those of Package.swift whose names are a daemon's.
    private func services() throws -> [String] {
        let manifest = try String(contentsOfFile: Programs.root + "Package.swift", encoding: .utf8)
        return manifest.matches(of: /name: "(qkd-[a-z]+d)", kind: \.program/).map { String($0.output.1) }
    }

    private func unit(_ service: String) throws -> [String] {
        try String(contentsOfFile: folder + service + ".service", encoding: .utf8).split(separator: "\n").map(String.init)
    }

    @Test func everyServiceHasItsUnit() throws {
        let services = try services()
        #expect(Set(services) == ["qkd-linkd", "qkd-lkmsd", "qkd-agentd"])
        let target = try String(contentsOfFile: folder + "qkd-node.target", encoding: .utf8)
        let units = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".service") }
        #expect(Set(units) == Set(services.map { $0 + ".service" }))
        for service in services {
            let lines = try unit(service)
            let name = service.dropFirst(4)
            for line in [
                "Type=notify", "Restart=on-failure", "User=\(service)", "Group=qkd", "PartOf=qkd-node.target", "WatchdogSec=60",
                "ExecStart=/usr/bin/\(service) --config /etc/sdqkd/\(name).yaml", "LimitCORE=0",
            ] { #expect(lines.contains(line), "\(service).service needs \(line)") }
            // A start order would hide that a service cannot wait; a binding would take the other devices' links along.
            #expect(!lines.contains { $0.hasPrefix("After=") || $0.hasPrefix("Requires=") || $0.hasPrefix("BindsTo=") })
            #expect(target.contains("\(service).service"), "qkd-node.target does not want \(service)")
        }
        let rules = try String(contentsOfFile: Programs.root + "udev/60-qkd.rules", encoding: .utf8)
        #expect(rules.contains("ENV{SYSTEMD_WANTS}+=\"qkd-linkd.service\"") && !rules.contains("RUN+=") && !rules.contains("0666"))
    }

    /// Exposure 2.0 or better of 10 for each.
    @Test(arguments: ["qkd-linkd", "qkd-lkmsd", "qkd-agentd"])
    func exposureIsLow(service: String) async throws {
        let outcome = try await run(
            "/usr/bin/env", "systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", folder + service + ".service")
        #expect(outcome.status == 0, "\(outcome)")
        let level = try #require(outcome.output.firstMatch(of: /exposure level for \S+: ([0-9.]+)/)?.output.1)
        print("\(service): exposure \(level)")
    }

    /// `verify` warns about unknown keys on standard error with status 0.
    @Test func systemdKnowsEveryKey() async throws {
        let files = try services().map { folder + $0 + ".service" } + [folder + "qkd-node.target"]
        let outcome = try await run(
            "/bin/sh", "-c", "systemd-analyze verify --man=no \"$@\" 2>&1", "sh", files[0], files[1], files[2], files[3])
        let wrong = outcome.output.split(separator: "\n").filter {
            ["Unknown", "Failed to parse", "Invalid", "not supported"].contains(where: $0.contains)
        }
        #expect(wrong.isEmpty, "\(wrong)")
    }

    /// Whatever systemd still counts against a unit has its reason in the unit: a line that begins with its name.
    @Test(arguments: ["qkd-linkd", "qkd-lkmsd", "qkd-agentd"])
    func exceptionsAreExplained(service: String) async throws {
        struct Row: Decodable {
            var name: String
            var exposure: String?
        }
        let outcome = try await run(
            "/usr/bin/env", "systemd-analyze", "security", "--offline=true", "--json=short", "--no-pager", folder + service + ".service")
        let counted = try JSONDecoder().decode([Row].self, from: Data(outcome.output.utf8)).filter { $0.exposure != nil }
        #expect(counted.count > 4, "\(outcome)")
        let reasons = try unit(service).filter { $0.hasPrefix("# - ") }.compactMap { $0.split(separator: ": ").first }.joined()
        for row in counted {
            // "RootDirectory=/RootImage=" and "RestrictAddressFamilies=~AF_(INET|INET6)" are families of words.
            let words = row.name.matches(of: /AF_\(?[A-Z]+|[A-Z][A-Za-z]+=/).map { String($0.output).replacing("(", with: "") }
            let word = words.last { $0.hasPrefix("AF_") } ?? words.first ?? row.name
            #expect(reasons.contains(word), "\(service): \(row.name) counts \(row.exposure ?? "") and is not spoken of")
        }
    }
}
