// Sealing at rest: AES-256-GCM, associated data naming what a record is, so that no record can be put in
// another's place or into another state by whoever can write the database file.
//
//   master key --HKDF--> blocks: wraps one data key per block (link, peer, block, state)
//                        keys:   seals keys that were cut out (link, key id, end, state)
//                        pads:   seals the pads of the KM link (peer, epoch, direction, start)
//                        marks:  HMAC, recognises a block or secret file seen before
//   data key of a block -> its segments (block, index)

import Crypto
import Foundation
import Glibc
package import KeyMaterial
package import QKDModel

/// The keys that seal a database.
package struct Seals: Sendable {
    private let blocks, keys, pads, marks: SymmetricKey
    private let random: any RandomSource

    /// - Parameter masterKey: 32 bytes.
    package init(masterKey: SecretBytes, random: any RandomSource) throws(KeyStoreError) {
        guard masterKey.count == 32 else { throw .masterKey("it has \(masterKey.count) bytes, 32 are needed") }
        let master = masterKey.withBytes { SymmetricKey(data: $0) }
        func derived(_ name: String) -> SymmetricKey {
            HKDF<SHA256>.deriveKey(inputKeyMaterial: master, info: Data("sdqkd key store 1 \(name)".utf8), outputByteCount: 32)
        }
        blocks = derived("blocks")
        keys = derived("keys")
        pads = derived("pads")
        marks = derived("marks")
        self.random = random
    }

    // MARK: Blocks

    struct DataKey { fileprivate let key: SymmetricKey }

    func newDataKey() -> DataKey {
        DataKey(key: SecretBytes(count: 32, random: random).withBytes { SymmetricKey(data: $0) })
    }

    func wrap(_ key: DataKey, _ label: String) throws -> Data {
        try key.key.withUnsafeBytes { try seal($0, under: blocks, label) }
    }

    func unwrap(_ wrapped: Data, _ label: String) throws -> DataKey {
        DataKey(key: try open(wrapped, under: blocks, label).withBytes { SymmetricKey(data: $0) })
    }

    func seal(segment: UnsafeRawBufferPointer, _ key: DataKey, _ label: String) throws -> Data {
        try seal(segment, under: key.key, label)
    }

    func open(segment: Data, _ key: DataKey, _ label: String) throws -> SecretBytes { try open(segment, under: key.key, label) }

    // MARK: Keys and pads

    func seal(key: UnsafeRawBufferPointer, _ label: String) throws -> Data { try seal(key, under: keys, label) }
    func open(key: Data, _ label: String) throws -> SecretBytes { try open(key, under: keys, label) }
    func seal(pad: UnsafeRawBufferPointer, _ label: String) throws -> Data { try seal(pad, under: pads, label) }
    func open(pad: Data, _ label: String) throws -> SecretBytes { try open(pad, under: pads, label) }

    // MARK: Marks

    /// A keyed fingerprint: recognises the same bytes under the same label without keeping them.
    func mark(_ bits: SecretBytes, _ label: String) -> Data {
        var hash = HMAC<SHA256>(key: marks)
        hash.update(data: Data(label.utf8))
        bits.withBytes { hash.update(data: $0) }
        return Data(hash.finalize())
    }

    // MARK: AES-GCM

    private func seal(_ bytes: UnsafeRawBufferPointer, under key: SymmetricKey, _ label: String) throws -> Data {
        let nonce = try AES.GCM.Nonce(data: random.bytes(12))
        guard let sealed = try AES.GCM.seal(bytes, using: key, nonce: nonce, authenticating: Data(label.utf8)).combined else {
            throw KeyStoreError.sealBroken(label)
        }
        return sealed
    }

    private func open(_ sealed: Data, under key: SymmetricKey, _ label: String) throws -> SecretBytes {
        guard let box = try? AES.GCM.SealedBox(combined: sealed),
            var clear = try? AES.GCM.open(box, using: key, authenticating: Data(label.utf8))
        else { throw KeyStoreError.sealBroken(label) }
        // The library hands out a plain buffer: it is copied into locked pages and overwritten.
        return clear.withUnsafeMutableBytes { buffer in
            defer { if let base = buffer.baseAddress { explicit_bzero(base, buffer.count) } }
            return SecretBytes(copying: UnsafeRawBufferPointer(buffer))
        }
    }
}

/// Reads a file of secret bytes straight into locked pages.
package enum SecretFile {
    /// - Parameter sizes: allowed sizes in bytes.
    /// - Throws: `KeyStoreError.secret` where the file is missing, too open or of the wrong size.
    package static func read(_ path: String, sizes: ClosedRange<Int>) throws(KeyStoreError) -> SecretBytes {
        do {
            let file = try KeyMaterial.SecretFile(path)
            guard sizes.contains(file.count) else {
                throw KeyStoreError.secret("'\(path)' has \(file.count) bytes, \(sizes.lowerBound) to \(sizes.upperBound) are needed")
            }
            return try file.contents()
        } catch let error as KeyStoreError { throw error } catch { throw .secret("\(error)") }
    }

    /// The secret of a pair of stores (docs/wire/km-link.md).
    ///
    /// - Throws: `KeyStoreError.secret` also where the file is one of the classical channel's: its pads serve there.
    package static func readPair(_ path: String) throws(KeyStoreError) -> SecretBytes {
        let secret = try read(path, sizes: 4096...(1 << 28))
        let head = secret.withBytes { Array($0.prefix(8)) }
        if head == Array("SDQKSEC1".utf8) {
            throw .secret("'\(path)' is a secret of the classical channel ('qkdctl secret make'): the KM link needs one of its own")
        }
        return secret
    }

    /// Writes a new file, mode 0600; refuses to replace one.
    package static func create(_ path: String, _ bytes: SecretBytes) throws(KeyStoreError) {
        let number = Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard number >= 0 else { throw .secret("'\(path)': \(String(cString: strerror(errno)))") }
        defer { close(number) }
        let count = bytes.withBytes { Glibc.write(number, $0.baseAddress, $0.count) }
        guard count == bytes.count, fsync(number) == 0 else { throw .secret("'\(path)' could not be written whole") }
    }
}
