import Foundation
import NodeAPI
import Testing

/// `--json` as a reader of the file sees it: the names are the contract.
private struct Result: Decodable {
    struct Link: Decodable {
        var name: String
        var loss_db: Double
        var symbols: Int
        var transmittance: Double
        var excess_noise_snu: Double
        var snr_per_quadrature: Double
        var frame_error_rate: Double
        var reconciliation_efficiency: Double
        var epsilon: Double
        var secret_bits_stored: Int
        var key_rate_bps: Double
        var wall_rate_bps: Double
        var keys_equal: Bool
        var reference_key_rate_bps: Double?
        var limited_by: String
    }
    var links: [Link]
    var real_time_factor: Double
    var seconds: Double
}

private struct LabKey: Decodable, Equatable {
    var key_ID: String
    var key: String
}

private let small = Programs.root + "/firmware-sim/testbeds/small.yaml"

/// A lab that runs until the test stops it.
private struct StayingLab {
    let scratch: Scratch
    let lab: Running
    var folder: String { scratch.path + "/lab" }

    init() throws {
        scratch = try Scratch()
        lab = try Running([Programs.path("qkdctl"), "lab", "run", small, "--stay", "--folder", scratch.path + "/lab"])
    }

    func pid(_ child: String) -> pid_t? {
        guard let data = FileManager.default.contents(atPath: folder + "/children.json") else { return nil }
        return (try? JSONDecoder().decode([String: Int32].self, from: data))?[child]
    }

    func store(_ site: String) async throws -> StoreStatus? {
        let outcome = try await run(
            "/usr/bin/curl", "--silent", "--max-time", "5", "--unix-socket", "\(folder)/\(site)/run/lkmsd.sock", "http://node/status")
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .custom {
            try Date(String(from: $0), strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        }
        return try? decoder.decode(StoreStatus.self, from: Data(outcome.output.utf8))
    }

    /// Takes keys at alpha, fetches the same at beta, and compares.
    func exchange(_ count: Int) async throws -> [LabKey] {
        var last: [LabKey]?
        // A store that was killed a moment ago may still be greeting its peer.
        _ = try await eventually(within: .seconds(30), every: .milliseconds(500)) {
            last = try await keys("alpha", "get", peer: "beta", ["--number", "\(count)"])
            return last != nil
        }
        let taken = try #require(last, "alpha gives no keys: \(lab.errors.suffix(2000))")
        var fetched: [LabKey]?
        _ = try await eventually(within: .seconds(30), every: .milliseconds(500)) {
            fetched = try await keys("beta", "decode", peer: "alpha", taken.map(\.key_ID))
            return fetched != nil
        }
        #expect(fetched == taken)
        return taken
    }

    private func keys(_ site: String, _ action: String, peer: String, _ more: [String]) async throws -> [LabKey]? {
        let file = "\(folder)/\(site)/lkmsd.yaml"
        let text = try String(contentsOfFile: file, encoding: .utf8)
        let port = try #require(text.firstMatch(of: /api014: \{ listen: "(?<address>[^"]+)"/)?.output.address)
        let pki = "\(folder)/\(site)/pki"
        let command = [
            Programs.path("qkdctl"), "keys", action, "--kme", "https://\(port)", "--cert", "\(pki)/app-\(site).crt", "--key",
            "\(pki)/app-\(site).key", "--ca", "\(pki)/ca.crt", "--peer", "app-\(peer)", "--json", "--print-keys",
        ]
        let outcome = await (try Running(command + more)).end(within: .seconds(30))
        guard outcome.status == 0 else { return nil }
        return try JSONDecoder().decode([String: [LabKey]].self, from: Data(outcome.output.utf8))["keys"]
    }

    /// Secrets that stand in files for as long as the lab runs, whole.
    func secrets() throws -> [Data] {
        try ["alpha/secrets/km-beta", "alpha/secrets/lkms.master", "beta/secrets/lkms.master"].map {
            try Data(contentsOf: URL(filePath: folder + "/" + $0))
        }
    }

    /// Files below the folder, secrets themselves left out, in which a secret or a key that was given out stands: raw, in hexadecimal
    /// or in Base64.
    func leaks(of secrets: [Data], _ keys: [LabKey]) throws -> [String] {
        let raw = (secrets + keys.compactMap { Data(base64Encoded: $0.key) }).map { Data($0.prefix(18)) }
        let words = raw + raw.flatMap { [Data($0.base64EncodedString().utf8), Data($0.map { String(format: "%02x", $0) }.joined().utf8)] }
        #expect(words.count >= 3 * (secrets.count + keys.count) && raw.allSatisfy { $0.count == 18 })
        let files = try FileManager.default.subpathsOfDirectory(atPath: folder).filter { !$0.contains("/secrets/") }
        #expect(files.contains("logs/alpha-lkmsd.log"))
        return files.filter { file in
            guard let content = FileManager.default.contents(atPath: folder + "/" + file) else { return false }
            return words.contains { content.range(of: $0) != nil }
        }
    }

    /// Bits that both ends ever confirmed.
    func confirmedBits() async throws -> Int {
        var least = Int.max
        for site in ["alpha", "beta"] { least = min(least, try await store(site)?.links.first?.confirmedBits ?? 0) }
        return least
    }
}

@Suite(.serialized) struct LabRunTests {
    /// Photons to keys at both ends, by the programs that a node runs, and nothing left afterwards.
    @Test func smallTestbedStoresEqualKeys() async throws {
        let scratch = try Scratch()
        let json = scratch.path + "/result.json"
        let outcome = try await run(
            "qkdctl", "lab", "run", small, "--json", json, "--folder", scratch.path + "/lab", "--limit", "5", within: .seconds(360))
        try #require(outcome.status == 0, "\(outcome)")
        let result = try JSONDecoder().decode(Result.self, from: Data(contentsOf: URL(filePath: json)))
        let link = try #require(result.links.first)
        #expect(result.links.count == 1)
        #expect(link.name == "alpha-beta")
        #expect(link.keys_equal)
        #expect(link.secret_bits_stored > 10_000)
        #expect(link.symbols > 7_500_000)  // whole frames
        // 1 dB of fibre: the estimate must find it; the noise that the testbed adds stays far below a tenth of a unit.
        #expect(abs(link.transmittance - 0.794) < 0.02)
        #expect((-0.02...0.05).contains(link.excess_noise_snu))
        #expect((0.1...0.25).contains(link.snr_per_quadrature))
        #expect((0.8...1.0).contains(link.reconciliation_efficiency))
        #expect((0.0..<0.5).contains(link.frame_error_rate))
        #expect(link.epsilon <= 1e-10)
        #expect(link.key_rate_bps > 0 && link.wall_rate_bps > 0)
        // The emulator's time runs 20 times faster than the wall clock at most, however short the only block was.
        #expect(result.real_time_factor > 0 && result.real_time_factor <= 20 && result.seconds > 0)
        #expect(outcome.errors.contains("equal"))
        for name in ["children.json", "lab.pid"] {
            #expect(!FileManager.default.fileExists(atPath: scratch.path + "/lab/" + name), "\(name) is left")
        }
    }

    /// Whatever is killed at whatever moment, the devices too, and two at once: what was confirmed stays, more key follows, both ends
    /// have the same, and no key is given out twice.
    @Test func whateverIsKilledTheLabGoesOn() async throws {
        let lab = try StayingLab()
        let first = try await eventually(within: .seconds(240), every: .milliseconds(250)) { try await lab.confirmedBits() > 0 }
        try #require(first, "no key before the first kill: \(lab.lab.errors.suffix(3000))")
        let secrets = try lab.secrets()
        var given: [LabKey] = try await lab.exchange(8)
        for victims in [["emulator", "alpha-agentd"], ["alpha-linkd", "beta-lkmsd"], ["alpha-lkmsd", "beta-linkd"]] {
            let before = try await lab.confirmedBits()
            let pids = try victims.map { try #require(lab.pid($0)) }
            for pid in pids { kill(pid, SIGKILL) }
            let restarted = await eventually(within: .seconds(30)) {
                zip(victims, pids).allSatisfy { name, pid in lab.pid(name).map { $0 != pid } ?? false }
            }
            #expect(restarted, "\(victims) did not come back: \(lab.lab.errors.suffix(3000))")
            let more = try await eventually(within: .seconds(120), every: .milliseconds(250)) { try await lab.confirmedBits() > before }
            try #require(more, "no key after the kill of \(victims): \(lab.lab.errors.suffix(3000))")
            given += try await lab.exchange(8)
        }
        #expect(given.count == 32 && Set(given.map(\.key_ID)).count == 32 && Set(given.map(\.key)).count == 32)
        lab.lab.signal(SIGTERM)
        let end = await lab.lab.end(within: .seconds(60))
        #expect(end.status == 0 && end.errors.contains("keys equal at both ends"), "\(end)")
        // Logs, databases, configuration: no bit of it in the clear.
        #expect(try lab.leaks(of: secrets, given) == [])
    }

    /// Whoever ends a lab that was to stay has what was wanted, keys or none; nothing is called unequal that was not compared.
    @Test func interruptedLabIsNoFailure() async throws {
        let lab = try StayingLab()
        let up = await eventually(within: .seconds(60)) { lab.pid("beta-lkmsd") != nil }
        try #require(up, "\(lab.lab.errors.suffix(3000))")
        lab.lab.signal(SIGINT)
        let end = await lab.lab.end(within: .seconds(60))
        #expect(end.status == 0, "\(end)")
        #expect(!end.errors.contains("NOT EQUAL") && !end.errors.contains("the time is over"), "\(end)")
    }

    /// A lab that is itself killed leaves nothing running.
    @Test func killedLabLeavesNoOrphans() async throws {
        let lab = try StayingLab()
        let names = ["emulator", "alpha-linkd", "alpha-lkmsd", "alpha-agentd", "beta-linkd", "beta-lkmsd", "beta-agentd"]
        let up = await eventually(within: .seconds(60)) { names.allSatisfy { lab.pid($0) != nil } }
        try #require(up, "\(lab.lab.errors.suffix(3000))")
        let pids = names.compactMap(lab.pid)
        lab.lab.signal(SIGKILL)
        _ = await lab.lab.end()
        let gone = await eventually(within: .seconds(30)) { pids.allSatisfy { kill($0, 0) != 0 } }
        #expect(gone, "left: \(zip(names, pids).filter { kill($0.1, 0) == 0 }.map(\.0))")
    }
}
