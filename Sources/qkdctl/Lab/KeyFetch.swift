// Two applications: one asks its node for keys, the other asks the far node for the same ids (ETSI GS QKD 014, clause 5,
// over mutual TLS), and both compare. The keys are held in memory only as long as that takes.

import AsyncHTTPClient
import Foundation
import KeyMaterial
import NIOCore
import NIOHTTP1
import NIOSSL

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
        try await post("/api/v1/keys/\(peer)/enc_keys", ["number": count, "size": 256])
    }

    /// - Returns: the keys that `peer` got under these ids.
    func keys(_ ids: [String], from peer: String) async throws -> [Key] {
        try await post("/api/v1/keys/\(peer)/dec_keys", ["key_IDs": ids.map { ["key_ID": $0] }])
    }

    private func post(_ path: String, _ body: some Encodable) async throws -> [Key] {
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.trustRoots = .file("\(pki)/ca.crt")
        tls.certificateChain = try NIOSSLCertificate.fromPEMFile("\(pki)/\(name).crt").map { .certificate($0) }
        tls.privateKey = .privateKey(try NIOSSLPrivateKey(file: "\(pki)/\(name).key", format: .pem))
        let http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: .init(tlsConfiguration: tls))
        do {
            let keys = try await exchange(http, path, JSONEncoder().encode(body))
            try await http.shutdown()
            return keys
        } catch {
            try? await http.shutdown()
            throw error
        }
    }

    private func exchange(_ http: HTTPClient, _ path: String, _ body: Data) async throws -> [Key] {
        var request = HTTPClientRequest(url: "https://127.0.0.1:\(port)\(path)")
        request.method = .POST
        request.headers.add(name: "content-type", value: "application/json")
        request.body = .bytes(body)
        let response = try await http.execute(request, timeout: .seconds(20))
        let answer = Data(try await response.body.collect(upTo: 1 << 20).readableBytesView)
        guard response.status == .ok else {
            throw LabError.fetch(
                problem: "\(name) at \(path): status \(response.status.code): \(String(decoding: answer.prefix(300), as: UTF8.self))")
        }
        return try JSONDecoder().decode(Container.self, from: answer).keys.map { key in
            guard var bytes = Data(base64Encoded: key.key).map([UInt8].init) else {
                throw LabError.fetch(problem: "\(name) at \(path): a key is not Base64")
            }
            return Key(id: key.key_ID.lowercased(), bits: SecretBytes(consuming: &bytes))
        }
    }
}

extension Lab {
    /// Keys in both directions over one link.
    /// - Returns: whether every key was the same at both ends.
    func fetchAndCompare(_ link: LabLink) async throws -> Bool {
        guard let here = plan.site(link.transmitterSite), let there = plan.site(link.receiverSite) else { return false }
        let forth = try await compare(application(here), application(there))
        let back = try await compare(application(there), application(here))
        return forth && back
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
