// Certificates: loading what the configuration names, and reading who a peer is.

package import Foundation
package import NIOSSL
import SwiftASN1
import Synchronization
import X509

/// The three files of one face.
public struct TLSFiles: Sendable, Equatable {
    public var certificate: String
    public var key: String
    /// Who may have signed the other end's certificate.
    public var ca: String

    public init(certificate: String, key: String, ca: String) {
        self.certificate = certificate
        self.key = key
        self.ca = ca
    }
}

extension TLSFiles {
    /// For a server that demands certificates of its clients.
    package func server(minimum: TLSVersion) throws -> TLSConfiguration {
        let (chain, key, roots) = try load()
        var configuration = TLSConfiguration.makeServerConfigurationWithMTLS(
            certificateChain: chain, privateKey: key, trustRoots: roots)
        configuration.minimumTLSVersion = minimum
        try checkPair(configuration)
        return configuration
    }

    /// For a client; the server's name is compared by the caller, since peers are configured by certificate name.
    package func client(minimum: TLSVersion) throws -> TLSConfiguration {
        let (chain, key, roots) = try load()
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.certificateChain = chain
        configuration.privateKey = key
        configuration.trustRoots = roots
        configuration.certificateVerification = .noHostnameVerification
        configuration.minimumTLSVersion = minimum
        try checkPair(configuration)
        return configuration
    }

    /// TLS's own error names no file.
    private func checkPair(_ configuration: TLSConfiguration) throws {
        guard (try? NIOSSLContext(configuration: configuration)) != nil else {
            throw KeyStoreError.certificate("'\(key)' is not the private key of '\(certificate)'")
        }
    }

    /// Everything that can be known before a start: that the files can be read, belong together, and are in force.
    func check(_ face: String, now: Date) throws {
        _ = try server(minimum: .tlsv12)
        let mode = (try? FileManager.default.attributesOfItem(atPath: key)[.posixPermissions] as? Int) ?? 0
        guard mode & 0o007 == 0 else { throw KeyStoreError.certificate("'\(key)' of \(face) can be read by everybody: chmod 600 it") }
        let until = try expiry()
        guard until > now else { throw KeyStoreError.certificate("'\(certificate)' of \(face) expired at \(until.formatted(.iso8601))") }
    }

    /// When the own certificate, or one of its chain, ends first.
    package func expiry() throws -> Date {
        let found: [NIOSSLCertificate]
        do { found = try NIOSSLCertificate.fromPEMFile(certificate) } catch { throw unusable(certificate, error) }
        let ends = try found.map { try Certificate(derEncoded: try $0.toDERBytes()).notValidAfter }
        guard let first = ends.min() else { throw KeyStoreError.certificate("'\(certificate)' holds no certificate") }
        return first
    }

    private func load() throws -> ([NIOSSLCertificateSource], NIOSSLPrivateKeySource, NIOSSLTrustRoots) {
        func certificates(_ path: String) throws -> [NIOSSLCertificate] {
            let found: [NIOSSLCertificate]
            do { found = try NIOSSLCertificate.fromPEMFile(path) } catch { throw unusable(path, error) }
            if found.isEmpty { throw KeyStoreError.certificate("'\(path)' holds no certificate") }
            return found
        }
        let chain = try certificates(certificate).map { NIOSSLCertificateSource.certificate($0) }
        let roots = NIOSSLTrustRoots.certificates(try certificates(ca))
        do { return (chain, .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)), roots) } catch { throw unusable(key, error) }
    }

    private func unusable(_ path: String, _ error: any Error) -> KeyStoreError {
        FileManager.default.fileExists(atPath: path)
            ? .certificate("'\(path)' cannot be read as PEM")
            : .certificate("'\(path)' does not exist: make the files with `qkdctl pki make`")
    }
}

/// Reads names out of certificates and remembers them: parsing one for every request costs a third of the throughput.
package final class CertificateNames: Sendable {
    private let known = Mutex<[NIOSSLCertificate: [String]]>([:])

    package init() {}

    /// The common name, then the DNS names and URIs of the subject alternative name. Empty where nothing can be read.
    package func names(of certificate: NIOSSLCertificate) -> [String] {
        if let names = known.withLock({ $0[certificate] }) { return names }
        let names = (try? Self.read(certificate)) ?? []
        known.withLock { known in
            if known.count >= 1024 { known.removeAll() }
            known[certificate] = names
        }
        return names
    }

    private static func read(_ certificate: NIOSSLCertificate) throws -> [String] {
        let parsed = try Certificate(derEncoded: try certificate.toDERBytes())
        var names: [String] = []
        for attribute in parsed.subject.flatMap({ Array($0) }) where attribute.type == .RDNAttributeType.commonName {
            names.append(attribute.value.description)
        }
        for name in (try? parsed.extensions.subjectAlternativeNames) ?? SubjectAlternativeNames() {
            switch name {
            case .dnsName(let name), .uniformResourceIdentifier(let name): if !names.contains(name) { names.append(name) }
            default: break
            }
        }
        return names
    }
}
