// `qkdctl pki`: certificates for laboratories and tests in one command.

import ArgumentParser
import Foundation

struct PKICommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pki", abstract: "Make the certificates of a test network.", subcommands: [Make.self])

    struct Make: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "make",
            abstract: "Make a certificate authority and certificates of key stores, agents, applications and other clients.",
            discussion: """
                Writes ca.crt, ca.key, kme-NODE.crt and .key for each node, agent-NODE.crt and .key for each agent, NAME.crt and .key for \
                each application and client; keys are EC P-256 with mode 0600. An authority that stands in the folder already is used \
                again, and what exists is left as it is. For tests: the authority's key lies beside the certificates.
                """)

        @Option(help: "Folder; made where it does not exist.")
        var out: String

        @Option(help: "Nodes, separated by commas.")
        var nodes: String

        @Option(help: "Applications (SAE), separated by commas.")
        var saes = ""

        @Option(help: "Nodes with an SDN agent, separated by commas.")
        var agents = ""

        @Option(help: "Other clients, for example controllers and operators, separated by commas.")
        var clients = ""

        @Option(help: "Further host names or addresses of the key stores and agents, separated by commas.")
        var hosts = ""

        @Option(help: "Days until the certificates expire, 1 to 36500.")
        var days = 365

        func validate() throws {
            guard (1...36_500).contains(days) else { throw ValidationError("--days must be from 1 to 36500") }
            for name in words(nodes) + words(saes) + words(agents) + words(clients) where name.contains("/") || name.hasPrefix(".") {
                throw ValidationError("'\(name)' cannot be a file name")
            }
            guard !words(nodes).isEmpty else { throw ValidationError("--nodes names no node") }
            try refuseClashes()
        }

        func run() async throws {
            let folder = try PKIFolder(path: out, days: days)
            for node in words(nodes) {
                try folder.issue(name: "kme-\(node)", hosts: ["localhost", "127.0.0.1", "::1"] + words(hosts), server: true)
            }
            for node in words(agents) {
                try folder.issue(name: "agent-\(node)", hosts: ["localhost", "127.0.0.1", "::1"] + words(hosts), server: true)
            }
            for client in words(saes) + words(clients) { try folder.issue(name: client, hosts: [], server: false) }
        }

        /// Two certificates of one name would be one file, and whoever has it would pass for both.
        private func refuseClashes() throws {
            for name in words(saes) + words(clients) {
                if name == "ca" { throw ValidationError("'ca' is the authority's own name: choose another for the application or client") }
                for (start, owner) in [("kme-", "key stores"), ("agent-", "agents")] where name.hasPrefix(start) {
                    throw ValidationError("'\(name)' is how \(owner) are named: choose another name for the application or client")
                }
            }
            for list in [words(nodes), words(agents), words(saes) + words(clients)] {
                var seen = Set<String>()
                for name in list where !seen.insert(name).inserted { throw ValidationError("'\(name)' is asked for twice") }
            }
        }

        private func words(_ list: String) -> [String] {
            list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
        }
    }
}

enum PKIError: Error, CustomStringConvertible {
    case file(String, String)
    case halfAuthority(String)

    var description: String {
        switch self {
        case .file(let path, let what): "'\(path)' \(what)"
        case .halfAuthority(let path): "'\(path)' holds only one of ca.crt and ca.key: remove it, or choose another folder"
        }
    }
}
