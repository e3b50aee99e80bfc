// What the tests of server, streams and client share: certificates, a small YANG module, a server, curl.

import Crypto
import Foundation
import Glibc
import Logging
import RESTCONF
import ServiceLifecycle
import SwiftASN1
import Synchronization
import Testing
import X509

/// A YANG module of the tests' own: configuration, state, an ordered list, rpcs and a notification.
let benchModule = """
    module lab-bench {
      yang-version 1.1;
      namespace "urn:sdqkd:test:lab-bench";
      prefix lb;
      revision 2026-11-23;
      container bench {
        leaf title { type string; }
        list link {
          key "name";
          leaf name { type string { length "1..64"; } }
          leaf loss { type decimal64 { fraction-digits 2; } units "dB"; }
          leaf enabled { type boolean; default "true"; }
          container state {
            config false;
            leaf snr { type decimal64 { fraction-digits 3; } }
          }
        }
        list route {
          key "name";
          ordered-by user;
          leaf name { type string; }
        }
      }
      container status {
        config false;
        leaf uptime { type uint32; }
      }
      rpc echo {
        input { leaf text { type string; mandatory true; } }
        output { leaf text { type string; } }
      }
      rpc ping;
      notification link-changed {
        leaf name { type string; }
        leaf state { type enumeration { enum up; enum down; } }
      }
    }
    """

/// Takes every change; refuses those that mention `refuse-me`, and with 405 those that set the title `my-own`.
struct WillingTarget: ConfigurationTarget {
    func prepare(_ change: ConfigurationChange) async throws(RESTCONFError) {
        if change.after.contains("my-own") {
            throw RESTCONFError(
                .application, .operationNotSupported, "its title is the bench's own to say", path: "/lab-bench:bench/title", status: 405)
        }
        guard change.after.contains("refuse-me") else { return }
        throw RESTCONFError(.application, .resourceDenied, "the device is in use elsewhere")
    }
    func commit() async throws(RESTCONFError) {}
    func abort() async {}
}

/// A folder of its own, removed when the tests end.
final class ServerScratch: Sendable {
    let path: String
    private static let made = Mutex<[String]>([])

    init() throws {
        path = NSTemporaryDirectory() + "rc-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let isFirst = Self.made.withLock { made in
            made.append(path)
            return made.count == 1
        }
        if isFirst { atexit { ServerScratch.made.withLock { $0 }.forEach { try? FileManager.default.removeItem(atPath: $0) } } }
    }

    @discardableResult
    func write(_ text: String, _ name: String) throws -> String {
        let file = path + "/" + name
        try FileManager.default.createDirectory(atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try Data(text.utf8).write(to: URL(filePath: file))
        return file
    }
}

/// A certificate authority of one test.
struct ServerPKI {
    let scratch: ServerScratch
    let folder: String
    private let key = P256.Signing.PrivateKey()
    private let name: DistinguishedName

    init(_ scratch: ServerScratch, folder: String = "pki", names: [String]) throws {
        self.scratch = scratch
        self.folder = folder
        name = try DistinguishedName { CommonName("authority of \(folder)") }
        let root = try make(subject: name, key: key.publicKey, authority: true, names: [])
        try scratch.write(root.serializeAsPEM().pemString + "\n", "\(folder)/ca.crt")
        for name in names { try issue(name) }
    }

    /// - Parameter onLoopback: it vouches for 127.0.0.1, too.
    func issue(_ common: String, alternatives: [String]? = nil, onLoopback: Bool = true) throws {
        let own = P256.Signing.PrivateKey()
        let certificate = try make(
            subject: try DistinguishedName { CommonName(common) }, key: own.publicKey, authority: false, names: alternatives ?? [common],
            onLoopback: onLoopback)
        try scratch.write(certificate.serializeAsPEM().pemString + "\n", "\(folder)/\(common).crt")
        try scratch.write(own.pemRepresentation + "\n", "\(folder)/\(common).key")
    }

    func files(_ name: String) -> TLSFiles {
        let path = scratch.path + "/" + folder
        return TLSFiles(certificate: "\(path)/\(name).crt", key: "\(path)/\(name).key", authority: "\(path)/ca.crt")
    }

    private func make(
        subject: DistinguishedName, key public: P256.Signing.PublicKey, authority: Bool, names: [String], onLoopback: Bool = true
    ) throws -> Certificate {
        let address = GeneralName.ipAddress(ASN1OctetString(contentBytes: [127, 0, 0, 1]))
        return try Certificate(
            version: .v3, serialNumber: .init(), publicKey: .init(`public`), notValidBefore: Date() - 60, notValidAfter: Date() + 3600,
            issuer: name, subject: subject, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                if authority {
                    Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                } else {
                    SubjectAlternativeNames(names.map { .dnsName($0) } + (onLoopback ? [address] : []))
                }
            }, issuerPrivateKey: .init(key))
    }
}

/// A server with its datastore, in this process.
final class ServerRig: Sendable {
    static let people = ["node", "controller", "operator", "stranger"]

    let scratch: ServerScratch
    let pki: ServerPKI
    let schema: YANGSchema
    let datastore: Datastore
    let streams: EventStreams
    let access: AccessList
    private let running = Mutex<(task: Task<Void, any Error>, port: Int)?>(nil)

    var port: Int { running.withLock { $0?.port ?? 0 } }
    var base: String { "https://127.0.0.1:\(port)" }

    init(replayCapacity: Int = 1000) async throws {
        scratch = try ServerScratch()
        pki = try ServerPKI(scratch, names: Self.people)
        try scratch.write(benchModule, "yang/lab-bench.yang")
        schema = try YANGSchema(
            folders: [scratch.path + "/yang", Self.root + "/yang"],
            modules: ["lab-bench", "ietf-yang-library", "ietf-restconf-monitoring", "ietf-restconf", "ietf-netconf-with-defaults"])
        datastore = try Datastore(schema: schema, folder: scratch.path + "/data", target: WillingTarget())
        streams = EventStreams(
            schema: schema, streams: [EventStream(name: "nothing", description: "carries nothing") { _ in false }],
            replayCapacity: replayCapacity)
        let rules = try scratch.write("clients:\n  controller: controller\n  operator: operator\n", "access.yaml")
        access = try AccessList(file: rules)
        await datastore.handle("lab-bench:echo") { input throws(RESTCONFError) in input }
        await datastore.handle("lab-bench:ping") { _ throws(RESTCONFError) in nil }
    }

    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path(percentEncoded: false)

    /// Starts the server and waits until it listens.
    func start(
        port: Int = 0, limits: RESTCONFLimits = RESTCONFLimits(), compatibility: Bool = false, certificate: String = "node",
        logger: Logger = ServerRig.silent
    ) async throws {
        let (ports, out) = AsyncStream.makeStream(of: Int.self)
        let server = RESTCONFServer(
            configuration: .init(
                host: "127.0.0.1", port: port, files: pki.files(certificate), access: access, limits: limits, compatibility: compatibility),
            datastore: datastore, streams: streams, logger: logger, onRunning: { out.yield($0) })
        let task = Task {
            defer { out.finish() }
            try await server.run()
        }
        var iterator = ports.makeAsyncIterator()
        guard let bound = await iterator.next() else {
            try await task.value
            throw RESTCONFSetupError.cannotListen(address: "127.0.0.1:\(port)", problem: "it ended")
        }
        running.withLock { $0 = (task, bound) }
    }

    static let silent: Logger = {
        var logger = Logger(label: "tests")
        logger.logLevel = ProcessInfo.processInfo.environment["SDQKD_LOG"].flatMap { Logger.Level(rawValue: $0) } ?? .critical
        return logger
    }()

    func stop() async {
        let task = running.withLock { running in
            defer { running = nil }
            return running?.task
        }
        task?.cancel()
        _ = await task?.result
    }

    func client(_ name: String = "controller", timeout: Duration = .seconds(20)) throws -> RESTCONFClient {
        try RESTCONFClient(base: base, files: pki.files(name), timeout: timeout)
    }

    /// Runs `body` with a server that is stopped behind it.
    static func serving<R: Sendable>(
        limits: RESTCONFLimits = RESTCONFLimits(), compatibility: Bool = false, _ body: (ServerRig) async throws -> R
    ) async throws -> R {
        let rig = try await ServerRig()
        try await rig.start(limits: limits, compatibility: compatibility)
        do {
            let result = try await body(rig)
            await rig.stop()
            return result
        } catch {
            await rig.stop()
            throw error
        }
    }

    // MARK: curl

    struct Answer: CustomStringConvertible {
        var status: Int
        var body: Data
        /// By lower-case name.
        var headers: [String: String]
        var errors: String

        var text: String { String(decoding: body, as: UTF8.self) }
        var description: String { "\(status) \(headers) \(text.prefix(400)) \(errors)" }
        var json: [String: Any] { (try? JSONSerialization.jsonObject(with: body)) as? [String: Any] ?? [:] }

        /// The one error of an error document (RFC 8040, section 7.1).
        var error: [String: Any] {
            let errors = json["ietf-restconf:errors"] as? [String: Any]
            return (errors?["error"] as? [[String: Any]])?.first ?? [:]
        }
        var tag: String? { error["error-tag"] as? String }
        var message: String { error["error-message"] as? String ?? "" }
    }

    /// One request by curl, which knows nothing of this project.
    /// - Parameter target: below the server, beginning with a slash.
    func curl(_ target: String, as name: String? = "controller", _ more: [String] = []) async throws -> Answer {
        let stem = scratch.path + "/" + UUID().uuidString
        var command = [
            "/usr/bin/curl", "-sS", "-m", "20", "--path-as-is", "--globoff", "--cacert", pki.files("x").authority, "-o", stem + ".body",
            "-D", stem + ".head", "-w", "%{http_code}",
        ]
        if let name { command += ["--cert", pki.files(name).certificate, "--key", pki.files(name).key] }
        let done = try await runProgram(command + more + [base + target])
        let head = String(decoding: FileManager.default.contents(atPath: stem + ".head") ?? Data(), as: UTF8.self)
        var headers: [String: String] = [:]
        for line in head.split(whereSeparator: \.isNewline) {
            let pair = line.split(separator: ":", maxSplits: 1)
            if pair.count == 2 { headers[pair[0].lowercased()] = String(pair[1].drop { $0 == " " }) }
        }
        return Answer(
            status: Int(done.output) ?? -1, body: FileManager.default.contents(atPath: stem + ".body") ?? Data(), headers: headers,
            errors: done.errors)
    }

    static func json(_ text: String) -> [String] { ["-H", "Content-Type: application/yang-data+json", "-d", text] }
    static func xml(_ text: String) -> [String] { ["-H", "Content-Type: application/yang-data+xml", "-d", text] }

    /// A bench with two links and three routes.
    static let content = """
        {"lab-bench:bench":{"title":"first","link":[{"name":"almagro-norte","loss":"6.5"},{"name":"a/b c","loss":"11.25"}],\
        "route":[{"name":"r1"},{"name":"r2"},{"name":"r3"}]}}
        """

    func fill() async throws {
        let answer = try await curl("/restconf/data/lab-bench:bench", as: "controller", ["-X", "PUT"] + Self.json(Self.content))
        try #require(answer.status == 201, "\(answer)")
    }
}

/// Runs a program to its end, off the threads of the concurrency pool.
func runProgram(
    _ command: [String], environment: [String: String]? = nil, folder: String? = nil
) async throws -> (status: Int32, output: String, errors: String) {
    let process = Process()
    process.executableURL = URL(filePath: command[0])
    process.arguments = Array(command.dropFirst())
    if let environment { process.environment = environment }
    if let folder { process.currentDirectoryURL = URL(filePath: folder) }
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

/// Polls until it holds or the time is over.
func serverEventually(within limit: Duration = .seconds(10), _ condition: () async throws -> Bool) async rethrows -> Bool {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
        if try await condition() { return true }
        try? await Task.sleep(for: .milliseconds(20))
    }
    return try await condition()
}

/// Descriptors of this process that are sockets of a local port: the listening one, and one for each connection.
func serverSockets(_ port: Int) -> Int {
    let suffix = ":" + String(format: "%04X", port)
    var inodes = Set<String>()
    for line in (try? String(contentsOfFile: "/proc/net/tcp", encoding: .utf8))?.split(separator: "\n") ?? [] {
        let fields = line.split(separator: " ")
        if fields.count > 9, fields[1].hasSuffix(suffix) { inodes.insert("socket:[\(fields[9])]") }
    }
    let descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
    return descriptors.count {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")).map(inodes.contains) ?? false
    }
}
