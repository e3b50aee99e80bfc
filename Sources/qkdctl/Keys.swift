// `qkdctl keys`: what an application does at its node's key delivery interface (ETSI GS QKD 014), by hand.

import ArgumentParser
import AsyncHTTPClient
import Foundation
import Glibc
import NIOCore
import NIOHTTP1
import NIOSSL

struct KeysCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keys", abstract: "Ask a key store for keys, as an application would (ETSI GS QKD 014).",
        subcommands: [Status.self, Get.self, Decode.self])

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show how many keys are in store for a peer.")
        @OptionGroup var face: KeyFace
        @Flag(help: "Print the answer as JSON.")
        var json = false

        func run() async throws {
            let answer = try await face.call("status", nil)
            if json { return print(String(decoding: answer, as: UTF8.self)) }
            let fields = try JSONSerialization.jsonObject(with: answer) as? [String: Any] ?? [:]
            for (name, value) in fields.sorted(by: { $0.key < $1.key }) { print("\(name): \(value)") }
        }
    }

    struct Get: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take new keys as the master; the peer fetches the same by their ids (enc_keys).")
        @OptionGroup var face: KeyFace
        @OptionGroup var result: KeyResult
        @Option(help: "How many keys.")
        var number: Int?
        @Option(help: "Bits per key.")
        var size: Int?

        func run() async throws {
            struct Body: Encodable {
                var number: Int?
                var size: Int?
            }
            try await result.fetch { try await face.call("enc_keys", JSONEncoder().encode(Body(number: number, size: size))) }
        }
    }

    struct Decode: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Fetch keys that the peer took, by their ids (dec_keys).")
        @OptionGroup var face: KeyFace
        @OptionGroup var result: KeyResult
        @Argument(help: "Key ids.")
        var ids: [String]

        func run() async throws {
            let body = ["key_IDs": ids.map { ["key_ID": $0] }]
            try await result.fetch { try await face.call("dec_keys", JSONEncoder().encode(body)) }
        }
    }
}

/// Where the key store is and who asks.
struct KeyFace: ParsableArguments {
    @Option(help: "The key store: https://127.0.0.1:8443")
    var kme: String
    @Option(help: "Certificate of the application (PEM).")
    var cert: String
    @Option(help: "Its private key (PEM).")
    var key: String
    @Option(help: "The authority that signed the key store's certificate (PEM).")
    var ca: String
    @Option(help: "The application at the other end.")
    var peer: String

    /// - Returns: the body of a good answer. - Throws: `KeysError.refused` with the key store's own words.
    func call(_ method: String, _ body: Data?) async throws -> Data {
        guard let address = URL(string: kme), address.scheme?.lowercased() == "https", address.host() != nil else {
            throw KeysError.address(kme)
        }
        let client = HTTPClient(
            eventLoopGroupProvider: .singleton, configuration: .init(tlsConfiguration: try tls(), timeout: .init(connect: .seconds(3))))
        do {
            let answer = try await exchange(client, method, body)
            try await client.shutdown()
            return answer
        } catch {
            try? await client.shutdown()
            throw error is KeysError ? error : KeysError.unreachable(kme, Self.words(error))
        }
    }

    /// - Throws: `KeysError.file` with the name of the file that is missing or is not what it should be.
    func tls() throws -> TLSConfiguration {
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.trustRoots = .certificates(try Self.certificates(ca))
        tls.certificateChain = try Self.certificates(cert).map { .certificate($0) }
        try Self.readable(key)
        guard let privateKey = try? NIOSSLPrivateKey(file: key, format: .pem) else {
            throw KeysError.file(key, "it holds no private key in PEM")
        }
        tls.privateKey = .privateKey(privateKey)
        guard (try? NIOSSLContext(configuration: tls)) != nil else {
            throw KeysError.file(key, "it is not the private key of the certificate in '\(cert)'")
        }
        return tls
    }

    private static func certificates(_ path: String) throws -> [NIOSSLCertificate] {
        try readable(path)
        guard let found = try? NIOSSLCertificate.fromPEMFile(path), !found.isEmpty else {
            throw KeysError.file(path, "it holds no certificate in PEM")
        }
        return found
    }

    private static func readable(_ path: String) throws {
        guard let file = fopen(path, "r") else { throw KeysError.file(path, String(cString: strerror(errno))) }
        fclose(file)
    }

    private static func words(_ error: any Error) -> String {
        let text = String(describing: error)
        if text.contains("CERTIFICATE_VERIFY_FAILED") || error is NIOSSLExtraError {
            return "its certificate is not signed by the authority of --ca, or names another host"
        }
        if text.contains("ALERT") || text.contains("sslError") {
            return "TLS failed: is that a key store's port, and does it accept --cert?"
        }
        if text.contains("UnknownHost") { return "its name is unknown" }
        switch error {
        case let error as HTTPClientError where error == .connectTimeout || error == .deadlineExceeded: return "it did not answer in time"
        case let error as IOError: return String(cString: strerror(error.errnoCode))
        default: return text.contains("onnectionError") ? "nothing listens there, or its name is unknown" : text
        }
    }

    private func exchange(_ client: HTTPClient, _ method: String, _ body: Data?) async throws -> Data {
        let peer = peer.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? peer
        var request = HTTPClientRequest(url: "\(kme)/api/v1/keys/\(peer)/\(method)")
        if let body {
            request.method = .POST
            request.headers.add(name: "content-type", value: "application/json")
            request.body = .bytes(body)
        }
        let response = try await client.execute(request, timeout: .seconds(30))
        let answer = Data(try await response.body.collect(upTo: 4 << 20).readableBytesView)
        guard response.status == .ok else {
            throw KeysError.refused(Int(response.status.code), String(decoding: answer.prefix(500), as: UTF8.self))
        }
        return answer
    }
}

/// What becomes of keys: their ids are printed; their bits only where that is asked for.
struct KeyResult: ParsableArguments {
    @Flag(help: "Print JSON.")
    var json = false
    @Flag(help: "Print the keys themselves (Base64). Terminals remember.")
    var printKeys = false
    @Option(help: "Write the key store's answer, keys included, to a new file with mode 0600.")
    var output: String?

    /// Asks for keys and shows them. The file is made first: a path that cannot be written must not cost keys.
    func fetch(_ ask: () async throws -> Data) async throws {
        guard let output else { return try show(try await ask()) }
        let number = open(output, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard number >= 0 else {
            throw KeysError.file(output, errno == EEXIST ? "it exists already: choose another name" : String(cString: strerror(errno)))
        }
        defer { close(number) }
        let answer: Data
        do { answer = try await ask() } catch {
            unlink(output)
            throw error
        }
        try save(answer, number, output)
        try show(answer)
    }

    private func show(_ answer: Data) throws {
        struct Container: Decodable {
            struct Key: Decodable {
                var key_ID: String
                var key: String
            }
            var keys: [Key]
        }
        let keys = try JSONDecoder().decode(Container.self, from: answer).keys
        if json {
            let list = keys.map { printKeys ? ["key_ID": $0.key_ID, "key": $0.key] : ["key_ID": $0.key_ID] }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys]
            return print(String(decoding: try encoder.encode(["keys": list]), as: UTF8.self))
        }
        for key in keys { print(printKeys ? "\(key.key_ID) \(key.key)" : key.key_ID) }
    }

    private func save(_ answer: Data, _ number: Int32, _ path: String) throws {
        let count = answer.withUnsafeBytes { write(number, $0.baseAddress, $0.count) }
        guard count == answer.count else { throw KeysError.file(path, "it could not be written whole") }
    }
}

enum KeysError: Error, CustomStringConvertible {
    case refused(Int, String)
    case unreachable(String, String)
    case file(String, String)
    case address(String)

    var description: String {
        switch self {
        case .refused(let status, let words): "the key store refused (\(status)): \(words)"
        case .unreachable(let address, let why): "no answer from \(address): \(why)"
        case .file(let path, let why): "'\(path)': \(why)"
        case .address(let text): "'\(text)' is no address of a key store: it has the form https://host:port"
        }
    }
}
