// Two nodes of the small testbed with their agents, each program started and killed by the test, and what a controller sees of them.

import Foundation
import Glibc
import NodeAPI
import Testing

/// JSON as a test reads it: what is not there is `nil`.
struct Tree: CustomStringConvertible {
    let value: Any?

    init(_ text: String) { value = try? JSONSerialization.jsonObject(with: Data(text.utf8), options: [.fragmentsAllowed]) }
    init(value: Any?) { self.value = value }

    subscript(_ key: String) -> Tree { Tree(value: (value as? [String: Any])?[key]) }
    subscript(_ index: Int) -> Tree { Tree(value: list.indices.contains(index) ? list[index].value : nil) }
    var list: [Tree] { (value as? [Any])?.map { Tree(value: $0) } ?? [] }
    var keys: [String] { (value as? [String: Any])?.keys.sorted() ?? [] }
    var text: String? { value as? String }
    /// Numbers, and those that RFC 7951 writes as strings.
    var number: Double? { (value as? NSNumber)?.doubleValue ?? text.flatMap(Double.init) }
    /// An identity without its module.
    var word: String? { text?.split(separator: ":").last.map(String.init) }
    var description: String { value.map { "\($0)" } ?? "nothing" }
    var json: Data {
        value.flatMap { try? JSONSerialization.data(withJSONObject: $0, options: [.sortedKeys, .fragmentsAllowed]) } ?? Data()
    }
}

final class AgentBed {
    static let testbed = Programs.root + "/firmware-sim/testbeds/small.yaml"
    static let sites = ["alpha", "beta"]
    static let services = ["lkmsd", "linkd", "agentd"]

    let scratch: Scratch
    var folder: String { scratch.path + "/lab" }
    private var emulator: [String]
    private var starts: UInt64 = 0
    private(set) var running: [String: Running] = [:]

    /// - Parameters:
    ///   - bare: no peers, no links.
    ///   - agent: further lines of every agent's file.
    ///   - store: further lines of every key store's file.
    init(bare: Bool, agent: String = "", store: String = "") async throws {
        scratch = try Scratch()
        emulator = [
            Programs.path("qkd-emulator"), "--testbed", Self.testbed, "--pace", "follow", "--speed", "20", "--any-ports", "--json",
        ]
        var arguments = ["lab", "prepare", Self.testbed, "--folder", scratch.path + "/lab"] + (bare ? ["--bare"] : [])
        for serial in ["SMALL-TX-1", "SMALL-RX-1"] {
            let port = try Self.freePort()
            emulator += ["--ports", "\(serial)=\(port),\(try Self.freePort())"]
            arguments += ["--device", "\(serial)=tcp:127.0.0.1:\(port)"]
        }
        let prepared = await (try Running([Programs.path("qkdctl")] + arguments)).end()
        try #require(prepared.status == 0, "\(prepared)")
        for site in Self.sites {
            try change(site, "agentd") { $0.replacing(/thresholds: .*\n/, with: "") + agent }
            try change(site, "lkmsd") { $0 + store }
        }
    }

    func change(_ site: String, _ service: String, _ body: (String) -> String) throws {
        let file = "\(folder)/\(site)/\(service).yaml"
        try Data(body(String(contentsOfFile: file, encoding: .utf8)).utf8).write(to: URL(filePath: file))
    }

    // MARK: Programs

    /// `emulator`, or a site and its service: `alpha-linkd`.
    func start(_ names: String...) throws {
        for name in names {
            let parts = name.split(separator: "-").map(String.init)
            if parts.count == 2 {
                let command = [Programs.path("qkd-\(parts[1])"), "--config", "\(parts[1]).yaml"]
                running[name] = try Running(command, in: "\(folder)/\(parts[0])")
            } else {
                // Another seed each time: no device sends the same symbols twice.
                running[name] = try Running(emulator + ["--seed", "\(7 + starts)"])
                starts += 1
            }
        }
    }

    func startAll() throws {
        try start("emulator")
        for site in Self.sites { for service in Self.services { try start("\(site)-\(service)") } }
    }

    func stop(_ names: String..., signal: Int32 = SIGKILL) async {
        for name in names { running[name]?.signal(signal) }
        for name in names { _ = await running.removeValue(forKey: name)?.end(within: .seconds(20)) }
    }

    /// The last words of every program, for the reader of a failure.
    var words: String {
        running.sorted { $0.key < $1.key }.map { "--- \($0.key)\($0.value.isRunning ? "" : " (ended)")\n\($0.value.errors.suffix(1500))" }
            .joined(separator: "\n")
    }

    // MARK: RESTCONF

    func agent(_ site: String) throws -> String {
        let text = try String(contentsOfFile: "\(folder)/\(site)/agentd.yaml", encoding: .utf8)
        let found = try #require(text.firstMatch(of: /listen: "(?<address>[^"]+)"/))
        return "https://\(found.output.address)"
    }

    func curl(_ who: String, _ more: [String]) -> [String] {
        let pki = folder + "/pki"
        return ["/usr/bin/curl", "--silent", "--show-error", "--cacert", pki + "/ca.crt", "--cert", "\(pki)/\(who).crt"]
            + ["--key", "\(pki)/\(who).key"] + more
    }

    /// - Returns: the status (0: no answer) and the answer.
    func send(
        _ method: String, _ site: String, _ path: String, _ body: String? = nil, as who: String = "controller"
    ) async throws -> (status: Int, answer: Tree) {
        let type = "application/yang-data+json"
        let content = body.map { ["--header", "Content-Type: \(type)", "--data", $0] } ?? []
        let url = try agent(site) + "/restconf/data/" + path
        let command = curl(
            who,
            ["--max-time", "20", "--request", method, "--header", "Accept: \(type)", "--write-out", "\n%{http_code}"] + content + [url])
        let outcome = await (try Running(command)).end(within: .seconds(30))
        var lines = outcome.output.split(separator: "\n", omittingEmptySubsequences: false)
        let status = lines.popLast().flatMap { Int($0) } ?? 0
        return (status, Tree(lines.joined(separator: "\n")))
    }

    /// The whole node as its agent shows it to an operator.
    func node(_ site: String) async throws -> Tree {
        try await send("GET", site, Self.node, as: "operator").answer[Self.node]
    }

    static let node = "etsi-qkd-sdn-node:qkd_node"

    func link(_ site: String) async throws -> Tree { try await node(site)["qkd_links"]["qkd_link"][0] }

    /// Whether the only link has this status at both ends.
    func isEverywhere(_ status: String) async throws -> Bool {
        for site in Self.sites where try await link(site)["qkdl_status"].word != status { return false }
        return true
    }

    // MARK: The services themselves

    func ask<T: Decodable>(_ site: String, _ service: String, _ type: T.Type) async throws -> T {
        let socket = "\(folder)/\(site)/run/\(service).sock"
        let outcome = try await run("/usr/bin/curl", "--silent", "--max-time", "5", "--unix-socket", socket, "http://node/status")
        let decoder = JSONDecoder()
        decoder.dateDecodingStrategy = .custom {
            try Date(String(from: $0), strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        }
        return try decoder.decode(T.self, from: Data(outcome.output.utf8))
    }

    /// What `qkd-linkd` says of the only link.
    func measured(_ site: String) async throws -> LinkStatus? { try await ask(site, "linkd", LinkServiceStatus.self).links.first }

    struct Key: Decodable, Equatable {
        var key_ID: String
        var key: String
    }

    /// What an application gets; `nil` where the key store has nothing or is not there.
    func keys(_ site: String, _ action: String, peer: String, _ more: [String]) async throws -> [Key]? {
        let text = try String(contentsOfFile: "\(folder)/\(site)/lkmsd.yaml", encoding: .utf8)
        let port = try #require(text.firstMatch(of: /api014: \{ listen: "(?<address>[^"]+)"/)?.output.address)
        let pki = "\(folder)/\(site)/pki"
        let command = [
            Programs.path("qkdctl"), "keys", action, "--kme", "https://\(port)", "--cert", "\(pki)/app-\(site).crt", "--key",
            "\(pki)/app-\(site).key", "--ca", "\(pki)/ca.crt", "--peer", "app-\(peer)", "--json", "--print-keys",
        ]
        let outcome = await (try Running(command + more)).end(within: .seconds(30))
        guard outcome.status == 0 else { return nil }
        return try JSONDecoder().decode([String: [Key]].self, from: Data(outcome.output.utf8))["keys"]
    }

    /// Takes keys at alpha and fetches the same at beta.
    func exchange(_ count: Int, within limit: Duration = .seconds(90)) async throws {
        var given: [Key]?
        _ = try await eventually(within: limit, every: .milliseconds(500)) {
            given = try await keys("alpha", "get", peer: "beta", ["--number", "\(count)"])
            return given != nil
        }
        let taken = try #require(given, "alpha gives no keys: \(words)")
        var fetched: [Key]?
        _ = try await eventually(within: .seconds(20), every: .milliseconds(500)) {
            fetched = try await keys("beta", "decode", peer: "alpha", taken.map(\.key_ID))
            return fetched != nil
        }
        #expect(taken.count == count && fetched == taken)
    }

    // MARK: Ports

    /// Below the kernel's ephemeral range.
    static func freePort() throws -> Int {
        for _ in 0..<1000 {
            let port = Int.random(in: 20_000..<32_000)
            let handle = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(handle) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            address.sin_port = UInt16(port).bigEndian
            let isFree = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(handle, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
                }
            }
            if isFree { return port }
        }
        throw POSIXError(.EADDRINUSE)
    }
}
