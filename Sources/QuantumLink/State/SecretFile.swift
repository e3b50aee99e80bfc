// The file of one installed secret (docs/wire/classical-channel.md, 2.1): mode 0600, made on one machine and carried
// to both ends by hand. Installing consumes it: from then on the pads and their cursors are in the database only.

internal import Foundation
public import KeyMaterial
public import QKDModel

/// One installed secret, taken apart.
public struct InstalledSecret: Sendable {
    static let magic = Array("SDQKSEC1".utf8)
    /// Two hash keys and at least the reserve in both pads.
    static let leastBytes = 32 + 2 * (PadAccount.reserveBytes + 1024)
    static let mostBytes = 1 << 30

    public let epoch: Epoch
    public let forwardKey: SecretBytes
    public let backwardKey: SecretBytes
    public let forwardPad: SecretBytes
    public let backwardPad: SecretBytes

    /// - Throws: `QuantumLinkError.badSecret` when the file is not one, is too short, or others may read it.
    public init(path: String) throws {
        do {
            let file = try SecretFile(path)
            guard file.count <= Self.mostBytes else { throw QuantumLinkError.badSecret("'\(path)' has more than \(Self.mostBytes) bytes") }
            try self.init(content: try file.contents(), name: path)
        } catch let error as KeyMaterialError { throw QuantumLinkError.badSecret("\(error)") }
    }

    /// Overwrites and removes the file: a secret that lay about could be installed once more into a state that has forgotten
    /// how far its pads are used.
    /// - Throws: `QuantumLinkError.badSecret` when it cannot be removed.
    package static func consume(path: String) throws {
        guard access(path, F_OK) == 0 else { return }
        do { try SecretFile(path, for: .overwriting).overwrite() } catch { throw QuantumLinkError.badSecret("\(error)") }
        guard unlink(path) == 0 else {
            throw QuantumLinkError.badSecret(
                "'\(path)' is installed but cannot be removed: make its folder writable for the service, or remove it by hand")
        }
        let parent = (path as NSString).deletingLastPathComponent
        let folder = open(parent.isEmpty ? "." : parent, O_RDONLY)
        if folder >= 0 {
            _ = fsync(folder)
            close(folder)
        }
    }

    init(content: SecretBytes, name: String) throws {
        let header = content.withBytes { Array($0.prefix(28)) }
        guard header.count == 28, Array(header[0..<8]) == Self.magic else {
            throw QuantumLinkError.badSecret("\(name) was not made by 'qkdctl secret make'")
        }
        let count = header[24..<28].reversed().reduce(0) { $0 << 8 | Int($1) }
        guard count == content.count - 28 else { throw QuantumLinkError.badSecret("\(name) is cut short") }
        guard count >= Self.leastBytes else {
            throw QuantumLinkError.badSecret("\(name) holds \(count) bytes, \(Self.leastBytes) are the least")
        }
        epoch = Epoch(Array(header[8..<24]))
        let half = (count - 32) / 2
        forwardKey = content.slice(28..<44)
        backwardKey = content.slice(44..<60)
        forwardPad = content.slice(60..<60 + half)
        backwardPad = content.slice(60 + half..<60 + 2 * half)
    }

    /// A fresh secret in the file's form.
    public static func make(bytes count: Int, random: any RandomSource) throws -> SecretBytes {
        guard (leastBytes...mostBytes).contains(count) else {
            throw QuantumLinkError.badSecret("\(count) bytes asked for, \(leastBytes) to \(mostBytes) are possible")
        }
        var header = magic + random.bytes(16)
        withUnsafeBytes(of: UInt32(count).littleEndian) { header.append(contentsOf: $0) }
        return SecretBytes.concatenate([SecretBytes(consuming: &header), SecretBytes(count: count, random: random)])
    }
}
