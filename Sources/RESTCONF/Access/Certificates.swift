// Certificates of both ends: loading what the configuration names, and reading who a client is.

import Foundation
import NIOSSL
import SwiftASN1
import X509

/// The files of one end of mutual TLS, all PEM.
public struct TLSFiles: Sendable, Equatable {
    /// The own certificate, followed by intermediate ones where there are any.
    public var certificate: String
    public var key: String
    /// Who may have signed the other end's certificate.
    public var authority: String

    public init(certificate: String, key: String, authority: String) {
        self.certificate = certificate
        self.key = key
        self.authority = authority
    }

    /// TLS 1.3 only; a client without a certificate of the authority does not get through the handshake.
    /// - Throws: `RESTCONFSetupError.certificate`.
    func server() throws(RESTCONFSetupError) -> TLSConfiguration {
        let parts = try load()
        var configuration = TLSConfiguration.makeServerConfigurationWithMTLS(
            certificateChain: parts.chain, privateKey: parts.key, trustRoots: parts.roots)
        configuration.minimumTLSVersion = .tlsv13
        return configuration
    }

    /// TLS 1.3 only; the server's certificate has to name the host that was dialled.
    /// - Throws: `RESTCONFSetupError.certificate`.
    func client() throws(RESTCONFSetupError) -> TLSConfiguration {
        let parts = try load()
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.certificateChain = parts.chain
        configuration.privateKey = parts.key
        configuration.trustRoots = parts.roots
        configuration.minimumTLSVersion = .tlsv13
        return configuration
    }

    /// What a start would find wrong; opens nothing but the files.
    public func check() throws(RESTCONFSetupError) {
        let configuration = try server()
        do { _ = try NIOSSLContext(configuration: configuration) } catch {
            throw .certificate(file: key, problem: "is not the private key of '\(certificate)'")
        }
    }

    private struct Parts {
        var chain: [NIOSSLCertificateSource]
        var key: NIOSSLPrivateKeySource
        var roots: NIOSSLTrustRoots
    }

    private func load() throws(RESTCONFSetupError) -> Parts {
        let chain = try Self.certificates(certificate).map { NIOSSLCertificateSource.certificate($0) }
        let roots = NIOSSLTrustRoots.certificates(try Self.certificates(authority))
        do { return Parts(chain: chain, key: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)), roots: roots) } catch {
            throw Self.unusable(key)
        }
    }

    private static func certificates(_ path: String) throws(RESTCONFSetupError) -> [NIOSSLCertificate] {
        let found: [NIOSSLCertificate]
        do { found = try NIOSSLCertificate.fromPEMFile(path) } catch { throw unusable(path) }
        if found.isEmpty { throw .certificate(file: path, problem: "holds no certificate") }
        return found
    }

    private static func unusable(_ path: String) -> RESTCONFSetupError {
        let exists = FileManager.default.fileExists(atPath: path)
        return .certificate(file: path, problem: exists ? "cannot be read as PEM" : "does not exist: make the files with `qkdctl pki make`")
    }
}

/// The names that a client's certificate carries: the common name, then the DNS names and URIs of the subject alternative name.
enum CertificateNames {
    /// Empty where nothing can be read.
    static func read(_ certificate: NIOSSLCertificate) -> [String] {
        guard let parsed = try? Certificate(derEncoded: try certificate.toDERBytes()) else { return [] }
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
