// Two applications: one asks its node for keys, the other asks the far node for the same ids (ETSI GS QKD 014, clause 5,
// over mutual TLS), and both compare. The keys are held in memory only as long as that takes.

import ArgumentParser
import Foundation
import KeyMaterial

/// One application at its node's key delivery interface.
struct KeyApplication: Sendable {
    var name: String
    var port: Int
    /// Folder with `<name>.crt`, `<name>.key` and `ca.crt`.
    var pki: String

    struct Key {
        var id: String
        var bits: SecretBytes
    }

    private struct Container: Decodable {
        struct Key: Decodable {
            var key_ID: String
            var key: String
        }
        var keys: [Key]
    }

    /// - Returns: fresh keys for `peer`, of 256 bits each.
    func newKeys(_ count: Int, for peer: String) async throws -> [Key] {
        try await call("enc_keys", peer, ["number": count, "size": 256])
    }

    /// - Returns: the keys that `peer` got under these ids.
    func keys(_ ids: [String], from peer: String) async throws -> [Key] {
        try await call("dec_keys", peer, ["key_IDs": ids.map { ["key_ID": $0] }])
    }

    private func call(_ method: String, _ peer: String, _ body: some Encodable) async throws -> [Key] {
        let face = try KeyFace.parse([
            "--kme", "https://127.0.0.1:\(port)", "--cert", "\(pki)/\(name).crt", "--key", "\(pki)/\(name).key", "--ca", "\(pki)/ca.crt",
            "--peer", peer,
        ])
        let answer = try await face.call(method, JSONEncoder().encode(body))
        return try JSONDecoder().decode(Container.self, from: answer).keys.map { key in
            guard var bytes = Data(base64Encoded: key.key).map([UInt8].init) else {
                throw LabError.fetch(problem: "\(name), \(method) for \(peer): a key is not Base64")
            }
            return Key(id: key.key_ID.lowercased(), bits: SecretBytes(consuming: &bytes))
        }
    }
}

/// What two applications found that asked both ends for the same keys.
enum KeyComparison: Equatable, CustomStringConvertible {
    case equal
    case different
    /// Nothing to compare; why.
    case notFetched(String)

    var description: String {
        switch self {
        case .equal: "keys equal at both ends"
        case .different: "keys NOT EQUAL at both ends"
        case .notFetched(let why): "keys not fetched: \(why)"
        }
    }
}

extension Lab {
    /// Keys in both directions over one link.
    func fetchAndCompare(_ link: LabLink) async -> KeyComparison {
        guard let here = plan.site(link.transmitterSite), let there = plan.site(link.receiverSite) else { return .notFetched("no site") }
        do {
            let forth = try await compare(application(here), application(there))
            let back = try await compare(application(there), application(here))
            return forth && back ? .equal : .different
        } catch {
            return .notFetched("\(error)")
        }
    }

    private func application(_ site: LabSite) -> KeyApplication {
        KeyApplication(name: site.application, port: site.keyPort, pki: folder.site(site.name) + "/pki")
    }

    private func compare(_ first: KeyApplication, _ second: KeyApplication) async throws -> Bool {
        let given = try await first.newKeys(4, for: second.name)
        let fetched = try await second.keys(given.map(\.id), from: first.name)
        let known = Dictionary(fetched.map { ($0.id, $0.bits) }) { first, _ in first }
        let equal = !given.isEmpty && given.allSatisfy { known[$0.id]?.matches($0.bits) ?? false }
        say("\(first.name) and \(second.name) fetched \(given.count) keys of 256 bits: \(equal ? "equal" : "NOT EQUAL")")
        return equal
    }
}
