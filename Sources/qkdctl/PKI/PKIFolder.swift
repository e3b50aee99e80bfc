// A folder with a certificate authority and what it has signed (RFC 5280 profiles, EC P-256).

import Crypto
import Foundation
import Glibc
import SwiftASN1
import X509

struct PKIFolder {
    let path: String
    private let days: Int
    private let authority: Certificate
    private let authorityKey: P256.Signing.PrivateKey

    /// Opens the authority in `path`, or makes one.
    init(path: String, days: Int) throws {
        self.path = path
        self.days = days
        let files = FileManager.default
        try Self.makeFolder(path)
        switch (files.fileExists(atPath: path + "/ca.crt"), files.fileExists(atPath: path + "/ca.key")) {
        case (true, true):
            authority = try Self.read(path + "/ca.crt", "certificate") { try Certificate(pemEncoded: $0) }
            authorityKey = try Self.read(path + "/ca.key", "private key (EC P-256)") { try P256.Signing.PrivateKey(pemRepresentation: $0) }
        case (false, false):
            authorityKey = P256.Signing.PrivateKey()
            authority = try Self.makeAuthority(authorityKey, days: days)
            try Self.write(authorityKey.pemRepresentation, to: path + "/ca.key", mode: 0o600)
            try Self.write(try authority.serializeAsPEM().pemString, to: path + "/ca.crt", mode: 0o644)
        default: throw PKIError.halfAuthority(path)
        }
    }

    private static func makeFolder(_ path: String) throws {
        var isFolder: ObjCBool = false
        if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) {
            guard isFolder.boolValue else { throw PKIError.file(path, "is a file: --out names a folder") }
            return
        }
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        } catch {
            let under = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
            let reason = under.map { ": " + String(cString: strerror(Int32($0.code))) } ?? ""
            throw PKIError.file(path, "cannot be made as a folder\(reason)")
        }
    }

    private static func read<R>(_ path: String, _ what: String, _ parse: (String) throws -> R) throws -> R {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { throw PKIError.file(path, "cannot be read") }
        do { return try parse(text) } catch { throw PKIError.file(path, "holds no \(what)") }
    }

    /// Writes `name.crt` and `name.key`, unless both exist.
    ///
    /// - Parameters:
    ///   - hosts: host names and addresses in the subject alternative name, beside `name` itself.
    ///   - server: whether it may identify a server; all may identify clients.
    func issue(name: String, hosts: [String], server: Bool) throws {
        let files = FileManager.default
        let (certificate, keyFile) = (path + "/\(name).crt", path + "/\(name).key")
        if files.fileExists(atPath: certificate), files.fileExists(atPath: keyFile) {
            return print("\(certificate) exists already")
        }
        let key = P256.Signing.PrivateKey()
        let made = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: .init(key.publicKey), notValidBefore: Self.start,
            notValidAfter: Self.start + Double(days) * 86_400, issuer: authority.subject,
            subject: try DistinguishedName { CommonName(name) }, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                Critical(KeyUsage(digitalSignature: true))
                try ExtendedKeyUsage(server ? [.serverAuth, .clientAuth] : [.clientAuth])
                SubjectAlternativeNames([.dnsName(name)] + hosts.map(Self.alternative))
                SubjectKeyIdentifier(hash: Certificate.PublicKey(key.publicKey))
                AuthorityKeyIdentifier(
                    keyIdentifier: SubjectKeyIdentifier(hash: Certificate.PublicKey(authorityKey.publicKey)).keyIdentifier)
            }, issuerPrivateKey: .init(authorityKey))
        try Self.write(key.pemRepresentation, to: keyFile, mode: 0o600)
        try Self.write(try made.serializeAsPEM().pemString, to: certificate, mode: 0o644)
        print(certificate)
    }

    /// A little in the past, for clocks that are a little behind.
    private static var start: Date { Date() - 300 }

    private static func makeAuthority(_ key: P256.Signing.PrivateKey, days: Int) throws -> Certificate {
        let name = try DistinguishedName { CommonName("sdqkd test authority") }
        return try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: .init(key.publicKey), notValidBefore: start,
            notValidAfter: start + Double(days) * 86_400, issuer: name, subject: name, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                SubjectKeyIdentifier(hash: Certificate.PublicKey(key.publicKey))
            }, issuerPrivateKey: .init(key))
    }

    /// An address becomes an address, anything else a name.
    private static func alternative(_ host: String) -> GeneralName {
        var bytes = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, host, &bytes) == 1 { return .ipAddress(ASN1OctetString(contentBytes: bytes[0..<4])) }
        if inet_pton(AF_INET6, host, &bytes) == 1 { return .ipAddress(ASN1OctetString(contentBytes: bytes[0..<16])) }
        return .dnsName(host)
    }

    /// The mode is right from the first moment on.
    private static func write(_ text: String, to path: String, mode: mode_t) throws {
        let number = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard number >= 0 else { throw PKIError.file(path, "cannot be written: \(String(cString: strerror(errno)))") }
        defer { close(number) }
        var bytes = Array((text.hasSuffix("\n") ? text : text + "\n").utf8)
        let count = Glibc.write(number, &bytes, bytes.count)
        guard count == bytes.count, fchmod(number, mode) == 0 else { throw PKIError.file(path, "could not be written whole") }
    }
}
