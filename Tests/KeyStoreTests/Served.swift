// Two stores with key, and their face to applications as curl sees it.

import Foundation
import KeyStore
import QKDModel
import Testing

/// An answer of a key store, got by curl.
struct Answer: CustomStringConvertible {
    var status: Int
    var body: Data
    var errors: String
    var description: String { "\(status) \(String(decoding: body.prefix(300), as: UTF8.self)) \(errors)" }

    var message: String? { (try? JSONDecoder().decode([String: String].self, from: body))?["message"] }

    struct Container: Decodable {
        struct Key: Decodable, Equatable {
            var key_ID: String
            var key: String
        }
        var keys: [Key]
    }
    func keys() throws -> [Container.Key] { try JSONDecoder().decode(Container.self, from: body).keys }
}

/// Both stores with a confirmed block, and their ports.
func served<R>(
    bits: Int = 187_500, provenance: KeyProvenance = .emulated, change: (inout KeyStoreConfiguration) -> Void = { _ in },
    _ body: (StorePair, [RunningStore], [Int]) async throws -> R
) async throws -> R {
    let pair = try StorePair(change: change)
    let stores = [try pair.start(0), try pair.start(1)]
    #expect(await pair.isUp(stores[0], stores[1]))
    if bits > 0 {
        try await pair.deposit(noise(bits, 5), at: stores, provenance: provenance)
        #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [bits * 8, bits * 8] })
    }
    let result = try await body(pair, stores, [try await stores[0].apiPort(), try await stores[1].apiPort()])
    for store in stores { await store.stop() }
    return result
}

func curl(_ pair: StorePair, _ port: Int, _ path: String, as name: String?, _ more: [String] = []) async throws -> Answer {
    let body = pair.scratch.path + "/" + UUID().uuidString
    var command = ["/usr/bin/curl", "-sS", "-m", "20", "--cacert", pair.pki.files("x").ca, "-o", body, "-w", "%{http_code}"]
    if let name {
        let files = pair.pki.files(name)
        command += ["--cert", files.certificate, "--key", files.key]
    }
    let done = try await run(command + more + ["https://127.0.0.1:\(port)/api/v1/keys/\(path)"])
    return Answer(status: Int(done.output) ?? -1, body: FileManager.default.contents(atPath: body) ?? Data(), errors: done.errors)
}

func post(_ json: String) -> [String] { ["-H", "content-type: application/json", "-d", json] }
