// ETSI GS QKD 014 V1.1.1, clause 5: status, enc_keys and dec_keys over HTTPS with certificates on both sides.
//
// Who calls is read from the client's certificate: its common name or a DNS name or URI of its subject alternative
// name has to be an application of this node.

import Foundation
import Glibc
import HTTPTypes
import Hummingbird
import HummingbirdCore
import HummingbirdTLS
import KeyMaterial
import Logging
import NIOCore
import NIOSSL
import QKDModel

/// A request with the connection that it came on.
struct KMEContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel
    var maxUploadSize: Int { 65_536 }

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        channel = source.channel
    }
}

/// The face to applications.
struct API014Server: Sendable {
    private let service: KeyStoreService
    private let names: CertificateNames
    private let logger: Logger
    private let ownName: String
    private let tls: TLSConfiguration
    private let crowd = Crowd()
    private typealias Method = HTTPRequest.Method

    init(service: KeyStoreService, names: CertificateNames, logger: Logger) throws {
        self.service = service
        self.names = names
        self.logger = logger
        let files = service.configuration.api.files
        tls = try files.server(minimum: .tlsv12)
        ownName =
            try NIOSSLCertificate.fromPEMFile(files.certificate).first.flatMap { names.names(of: $0).first }
            ?? service.configuration.node.rawValue
    }

    /// Serves until cancelled. - Parameter bound: told the port.
    func run(_ bound: @escaping @Sendable (Int?) -> Void) async throws {
        let router = Router(context: KMEContext.self)
        router.get("/api/v1/keys/:sae/status") { request, context in
            await answer(context) { try await status(context) }
        }
        for path in ["enc_keys", "dec_keys"] {
            let isMaster = path == "enc_keys"
            router.get("/api/v1/keys/:sae/\(RouterPath(stringLiteral: path))") { request, context in
                await answer(context) { isMaster ? try await encKeys(request, context) : try await decKeys(request, context) }
            }
            router.post("/api/v1/keys/:sae/\(RouterPath(stringLiteral: path))") { request, context in
                await answer(context) { isMaster ? try await encKeys(request, context) : try await decKeys(request, context) }
            }
        }
        for (path, methods) in [("status", [.get]), ("enc_keys", [.get, .post]), ("dec_keys", [.get, .post])] as [(String, [Method])] {
            for method in [Method.get, .post, .put, .patch, .delete] where !methods.contains(method) {
                router.on("/api/v1/keys/:sae/\(RouterPath(stringLiteral: path))", method: method) { _, _ in notAllowed(methods) }
            }
        }
        let listen = service.configuration.api.listen
        // Its own words on requests and shutdown add nothing: what matters is logged here.
        var quiet = logger
        quiet.logLevel = .critical
        let application = Application(
            router: router,
            server: try .tls(
                .http1(configuration: .init(additionalChannelHandlers: [AnswerGuard()], idleTimeout: .seconds(60))), tlsConfiguration: tls),
            configuration: .init(
                address: .hostname(listen.host, port: listen.port), serverName: nil,
                availableConnectionsDelegate: MaximumAvailableConnections(Self.mostConnections, logger: quiet)),
            onServerRunning: { [logger] channel in
                bound(channel.localAddress?.port)
                logger.info("key delivery (ETSI GS QKD 014) listens", metadata: ["address": "\(listen)"])
            }, logger: quiet)
        do { try await application.run() } catch let error as IOError {
            throw KeyStoreError.configuration("api014 cannot listen on \(listen): \(error)")
        }
    }

    /// Half of the descriptors that this process may have: the other half is for the store, its peers and deposits.
    private static var mostConnections: Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 256 }
        return max(16, Int(min(limit.rlim_cur, 2048)) / 2)
    }

    // MARK: Answers

    private func answer(_ context: KMEContext, _ body: () async throws -> Response) async -> Response {
        do { return try await body() } catch let error as KMEError { return refusal(error) } catch let error as KeyStoreError {
            return refusal(KMEError(error))
        } catch let error as ApplicationRefusal {
            return refusal(KMEError(error))
        } catch {
            // The text may come from anywhere: it goes to the log, not to the application.
            logger.error("a request failed", metadata: ["error": "\(error)"])
            return refusal(.unavailable("internal error, see this KME's log"))
        }
    }

    private func refusal(_ error: KMEError) -> Response {
        let body = (try? JSONEncoder().encode(["message": error.message])) ?? Data("{}".utf8)
        var response = json(.init(code: error.status), ByteBuffer(bytes: body))
        if let seconds = error.retryAfter { response.headers[.retryAfter] = "\(seconds)" }
        return response
    }

    /// RFC 9110, 15.5.6.
    private func notAllowed(_ methods: [Method]) -> Response {
        let words = methods.map(\.rawValue).joined(separator: ", ")
        var response = refusal(.init(status: 405, message: "this resource takes \(words)"))
        response.headers[.allow] = words
        return response
    }

    private func json(_ status: HTTPResponse.Status, _ body: ByteBuffer) -> Response {
        Response(status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: body))
    }

    /// Keys become text at once, so that none waits in locked pages for a slow reader; `AnswerGuard` overwrites it.
    private func deliver(_ keys: [DeliveredKey]) -> Response {
        let text = KeyText(KeyContainer.json(keys))
        let body = ResponseBody(contentLength: KeyContainer.length(keys)) { writer in
            guard let buffer = text.take() else { return }
            do { try await writer.write(buffer) } catch {
                overwrite(buffer)
                throw error
            }
            try await writer.finish(nil)
        }
        return Response(
            status: .ok, headers: [.contentType: "application/json", .cacheControl: "no-store"], body: body)
    }

    // MARK: Who

    private func caller(_ context: KMEContext) async throws -> SAEID {
        guard let certificate = try? await context.channel.nioSSL_peerCertificate().get() else {
            throw KMEError.unauthorised("a client certificate is needed")
        }
        let (node, directory) = (service.configuration.node, service.directory)
        for name in names.names(of: certificate) {
            if let application = SAEID(rawValue: name), directory.home(of: application) == node { return application }
        }
        throw KMEError.unauthorised("the calling SAE is not an application of this KME")
    }

    private func other(_ context: KMEContext) throws -> SAEID {
        guard let text = context.parameters.get("sae"), let id = SAEID(rawValue: text.removingPercentEncoding ?? text) else {
            throw KMEError.badRequest("the SAE ID in the path is not valid")
        }
        return id
    }

    /// The node that serves the other application.
    private func home(of application: SAEID) throws -> NodeID {
        guard let home = service.directory.home(of: application) else {
            throw KMEError.badRequest("SAE \(application) is not known to this KME")
        }
        guard home != service.configuration.node else {
            throw KMEError.badRequest("SAE \(application) is served by this KME itself: quantum keys need two")
        }
        return home
    }

    private var limits: KMELimits {
        KMELimits(
            keySize: service.configuration.keySizeBits, keyBytes: service.store.rules.keyBytes,
            maximumCount: service.configuration.capacityBits / service.configuration.keySizeBits)
    }

    // MARK: Methods

    private func status(_ context: KMEContext) async throws -> Response {
        let (master, slave) = (try await caller(context), try other(context))
        let node = try home(of: slave)
        let limits = limits
        let stored = try await service.store.look { try $0.storedKeys(peer: node, keyBytes: limits.keySize / 8).deliverable }
        let status = KMEStatus(
            source_KME_ID: ownName,
            target_KME_ID: service.book[node]?.link.settings.certificateName ?? node.rawValue,
            master_SAE_ID: master.rawValue, slave_SAE_ID: slave.rawValue, key_size: limits.keySize, stored_key_count: stored,
            max_key_count: limits.maximumCount, max_key_per_request: limits.perRequest, max_key_size: limits.keyBytes.upperBound * 8,
            min_key_size: limits.keyBytes.lowerBound * 8, max_SAE_ID_count: 0)
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return json(.ok, ByteBuffer(bytes: try encoder.encode(status)))
    }

    private func encKeys(_ request: Request, _ context: KMEContext) async throws -> Response {
        let (master, slave) = (try await caller(context), try other(context))
        try crowd.enter(master)
        defer { crowd.leave(master) }
        let node = try home(of: slave)
        let wish = try await keyRequest(request)
        guard wish.extension_mandatory?.isEmpty ?? true else { throw KMEError.mandatoryExtension }
        guard wish.additional_slave_SAE_IDs?.isEmpty ?? true else {
            throw KMEError.badRequest("additional_slave_SAE_IDs is not supported: max_SAE_ID_count is 0")
        }
        let (count, bytes) = try limits.check(number: wish.number, size: wish.size)
        guard let peer = service.book[node]?.link else { throw KeyStoreError.unknownPeer(node) }
        let bits = count * bytes * 8
        let admitted = try await service.applications.admit(server: master, client: slave, peer: node, servesServer: true, bits: bits)
        do {
            let keys: [DeliveredKey]
            do {
                let request = KeyRequest(peer: node, master: master, slave: slave, count: count, keyBytes: bytes)
                keys = try await peer.keys(request, priority: admitted.priority)
            } catch {
                service.applications.giveBack(admitted.id, bits: bits)
                throw error
            }
            note(keys, "enc_keys", master, slave, node)
            return deliver(keys)
        } catch KeyStoreError.notEnoughKey(let what) {
            let counts = try await service.store.look { try $0.storedKeys(peer: node, keyBytes: bytes) }
            throw KMEError.unavailable(counts.deliverable < count && counts.withheld > 0 ? KMEError.emulated : "not enough key: \(what)")
        }
    }

    private func decKeys(_ request: Request, _ context: KMEContext) async throws -> Response {
        let (slave, master) = (try await caller(context), try other(context))
        try crowd.enter(slave)
        defer { crowd.leave(slave) }
        let ids = try await keyIDs(request)
        let (home, applications) = (service.directory.home(of: master), service.applications)
        if let home, home != service.configuration.node {
            _ = try await applications.admit(server: master, client: slave, peer: home, servesServer: false, bits: 0)
        }
        let keys = try await service.store.change { transaction in
            let keys = try transaction.fetch(ids, master: master, slave: slave)
            try applications.account(keys, server: master, client: slave, in: transaction)
            return keys
        }
        note(keys, "dec_keys", master, slave, home)
        return deliver(keys)
    }

    private func note(_ keys: [DeliveredKey], _ method: String, _ master: SAEID, _ slave: SAEID, _ peer: NodeID?) {
        service.journal.note(
            .delivered, peer: peer, bits: keys.reduce(0) { $0 + $1.bits.count * 8 }, keys: keys.count,
            "\(method): \(keys.count) keys of \(master) and \(slave)")
        logger.debug(
            "keys delivered", metadata: ["method": "\(method)", "master": "\(master)", "slave": "\(slave)", "keys": "\(keys.count)"])
    }

    // MARK: Requests

    private func keyRequest(_ request: Request) async throws -> KMEKeyRequest {
        guard request.method == .post else {
            return KMEKeyRequest(number: try number("number", request), size: try number("size", request))
        }
        let body = try await body(request)
        if body.readableBytes == 0 { return KMEKeyRequest() }
        return try decode(KMEKeyRequest.self, body)
    }

    private func keyIDs(_ request: Request) async throws -> [KeyID] {
        let texts: [String]
        if request.method == .post {
            texts = try decode(KMEKeyIDs.self, try await body(request)).key_IDs.map(\.key_ID)
        } else {
            texts = request.uri.queryParameters.getAll("key_ID")
            guard texts.count < 2 else { throw KMEError.badRequest("GET takes one key_ID only: use POST for several") }
        }
        guard !texts.isEmpty else { throw KMEError.badRequest("key_IDs shall name at least one key") }
        guard texts.count <= limits.perRequest else { throw KMEError.badRequest("key_IDs shall name at most \(limits.perRequest) keys") }
        let ids = try texts.map { text in
            guard let uuid = UUID(uuidString: text) else { throw KMEError.badRequest("key_ID shall be a UUID") }
            return KeyID(uuid)
        }
        guard Set(ids).count == ids.count else { throw KMEError.badRequest("key_IDs names a key twice") }
        return ids
    }

    private func number(_ name: String, _ request: Request) throws -> Int? {
        let texts = request.uri.queryParameters.getAll(name)
        guard texts.count < 2 else { throw KMEError.badRequest("\(name) stands twice in the request") }
        guard let text = texts.first else { return nil }
        guard let number = Int(text) else { throw KMEError.badRequest("\(name) shall be an integer") }
        return number
    }

    private func body(_ request: Request) async throws -> ByteBuffer {
        do { return try await request.body.collect(upTo: 65_536) } catch {
            throw KMEError(status: 413, message: "the request is too large")
        }
    }

    private func decode<T: Decodable>(_ type: T.Type, _ body: ByteBuffer) throws -> T {
        do { return try JSONDecoder().decode(type, from: Data(body.readableBytesView)) } catch {
            throw KMEError.badRequest("the body is not the JSON that ETSI GS QKD 014 asks for")
        }
    }
}
