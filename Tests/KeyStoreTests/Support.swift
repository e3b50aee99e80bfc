// What the tests of the store share: folders, certificates, stores, programs.

import Crypto
import Foundation
import Glibc
import KeyMaterial
import KeyStore
import Logging
import QKDModel
import QKDTesting
import SwiftASN1
import Synchronization
import Testing
import X509

/// A folder of its own, removed when the tests end: databases may outlive their test by a little.
final class Scratch: Sendable {
    let path: String
    private static let made = Mutex<[String]>([])

    init() throws {
        path = NSTemporaryDirectory() + "ks-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let isFirst = Self.made.withLock { made in
            made.append(path)
            return made.count == 1
        }
        if isFirst { atexit { Scratch.made.withLock { $0 }.forEach { try? FileManager.default.removeItem(atPath: $0) } } }
    }

    func write(_ bytes: [UInt8], _ name: String, mode: Int = 0o600) throws -> String {
        let file = path + "/" + name
        try FileManager.default.createDirectory(
            atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try Data(bytes).write(to: URL(filePath: file))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file)
        return file
    }

    /// Every byte of every file below.
    func contents() throws -> Data {
        let files = try FileManager.default.subpathsOfDirectory(atPath: path)
        return files.reduce(into: Data()) { $0 += FileManager.default.contents(atPath: path + "/" + $1) ?? Data() }
    }
}

func secret(_ bytes: [UInt8]) -> SecretBytes {
    var bytes = bytes
    return SecretBytes(consuming: &bytes)
}

extension SecretBytes {
    /// For comparisons in tests only.
    var plain: [UInt8] { withBytes { Array($0) } }
}

func node(_ name: String) -> NodeID { NodeID(unchecked: name) }
func sae(_ name: String) -> SAEID { SAEID(unchecked: name) }
func link(_ name: String) -> LinkID { LinkID(unchecked: name) }

let almagro = node("almagro")
let norte = node("norte")

/// Bytes that are the same for the same seed.
func noise(_ count: Int, _ seed: UInt64) -> [UInt8] { SeededRandom(seed).bytes(count) }

func openStore(
    _ scratch: Scratch, _ name: NodeID, masterSeed: UInt64 = 1, change: (inout StoreRules) -> Void = { _ in },
    now: @escaping @Sendable () -> Date = { Date() }
) throws -> Store {
    var rules = StoreRules(node: name)
    rules.deliverEmulated = true
    change(&rules)
    return try Store(
        path: scratch.path + "/\(name).sqlite", masterKey: secret(noise(32, masterSeed)), rules: rules, random: KernelRandom(), now: now)
}

extension Store {
    func deposit(
        _ bytes: [UInt8], id: BlockID = BlockID(UUID()), peer: NodeID, firstEnd: Bool, provenance: KeyProvenance = .hardware,
        link name: String = "almagro-norte"
    ) throws -> DepositOutcome {
        try changeNow {
            try $0.deposit(
                link: link(name), block: id, peer: peer, bits: secret(bytes), provenance: provenance, firstEnd: firstEnd)
        }
    }

    /// A block that both ends are told to hold, without pads.
    func confirmed(_ bytes: [UInt8], id: BlockID, peer: NodeID, firstEnd: Bool, provenance: KeyProvenance = .hardware) throws {
        _ = try deposit(bytes, id: id, peer: peer, firstEnd: firstEnd, provenance: provenance)
        try changeNow { try $0.confirm(id, refill: PadRefill()) }
    }
}

/// Polls until it holds or the time is over.
func eventually(within limit: Duration = .seconds(20), _ condition: () async throws -> Bool) async rethrows -> Bool {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
        if try await condition() { return true }
        try? await Task.sleep(for: .milliseconds(30))
    }
    return try await condition()
}

/// Ports on which nobody listens now.
func freePorts(_ count: Int) throws -> [Int] {
    var (sockets, ports): ([Int32], [Int]) = ([], [])
    defer { sockets.forEach { close($0) } }
    for _ in 0..<count {
        let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        sockets.append(number)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let port = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                bind(number, generic, size) == 0 && getsockname(number, generic, &size) == 0
            } ? Int(UInt16(bigEndian: pointer.pointee.sin_port)) : 0
        }
        try #require(port > 0)
        ports.append(port)
    }
    return ports
}

// MARK: - Certificates

/// A certificate authority of one test.
struct TestPKI {
    let scratch: Scratch
    let folder: String
    private let key = P256.Signing.PrivateKey()
    private let name: DistinguishedName

    init(_ scratch: Scratch, folder: String = "pki", names: [String]) throws {
        self.scratch = scratch
        self.folder = folder
        name = try DistinguishedName { CommonName("authority of \(folder)") }
        let root = try make(subject: name, key: key.publicKey, authority: true, names: [])
        _ = try scratch.write(Array(root.serializeAsPEM().pemString.utf8), "\(folder)/ca.crt")
        for name in names { try issue(name) }
    }

    func issue(_ common: String, alternatives: [String]? = nil, valid: Range<Date> = validNow) throws {
        let own = P256.Signing.PrivateKey()
        let certificate = try make(
            subject: try DistinguishedName { CommonName(common) }, key: own.publicKey, authority: false, names: alternatives ?? [common],
            valid: valid)
        _ = try scratch.write(Array(certificate.serializeAsPEM().pemString.utf8) + [10], "\(folder)/\(common).crt")
        _ = try scratch.write(Array(own.pemRepresentation.utf8) + [10], "\(folder)/\(common).key")
    }

    func files(_ name: String) -> TLSFiles {
        let path = scratch.path + "/" + folder
        return TLSFiles(certificate: "\(path)/\(name).crt", key: "\(path)/\(name).key", ca: "\(path)/ca.crt")
    }

    static var validNow: Range<Date> { Date() - 60..<Date() + 3600 }

    private func make(
        subject: DistinguishedName, key public: P256.Signing.PublicKey, authority: Bool, names: [String], valid: Range<Date> = validNow
    ) throws -> Certificate {
        let address = GeneralName.ipAddress(ASN1OctetString(contentBytes: [127, 0, 0, 1]))
        return try Certificate(
            version: .v3, serialNumber: .init(), publicKey: .init(`public`), notValidBefore: valid.lowerBound,
            notValidAfter: valid.upperBound,
            issuer: name, subject: subject, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                if authority {
                    Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                } else {
                    SubjectAlternativeNames(names.map { .dnsName($0) } + [address])
                }
            }, issuerPrivateKey: .init(key))
    }
}

// MARK: - Programs

/// Runs a program to its end, off the threads of the concurrency pool.
func run(_ command: [String], input: String? = nil) async throws -> (status: Int32, output: String, errors: String) {
    let process = Process()
    process.executableURL = URL(filePath: command[0])
    process.arguments = Array(command.dropFirst())
    let (out, err) = (Pipe(), Pipe())
    process.standardOutput = out
    process.standardError = err
    process.standardInput = FileHandle.nullDevice
    return try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
            do {
                try process.run()
                let output = out.fileHandleForReading.readDataToEndOfFile()
                let errors = err.fileHandleForReading.readDataToEndOfFile()
                process.waitUntilExit()
                continuation.resume(
                    returning: (process.terminationStatus, String(decoding: output, as: UTF8.self), String(decoding: errors, as: UTF8.self))
                )
            } catch { continuation.resume(throwing: error) }
        }
    }
}

/// The programs of the build under test stand beside the tests' own executable.
enum Programs {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .path(percentEncoded: false)

    static func path(_ name: String) -> String {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        let folder = ProcessInfo.processInfo.environment["SDQKD_PROGRAMS"] ?? (own as NSString).deletingLastPathComponent
        return folder + "/" + name
    }
}
