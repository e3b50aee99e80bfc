// The life of one key at one end, as a value; the database's rows carry these words.

import Crypto
import Foundation
package import QKDModel

/// Where a key stands.
package enum KeyState: String, Sendable, CaseIterable {
    /// Master's end: cut out of the block, the peer asked to reserve it (perhaps more than once).
    case offered
    /// Slave's end: set aside for its application.
    case reserved
    /// Given to the application of this end; bits erased.
    case delivered
    /// Master's end: the peer cannot give its copy; bits erased.
    case spoiled
    /// Slave's end: never fetched; bits erased.
    case expired
    /// Withdrawn by a person or a mismatch; bits erased.
    case void

    package enum Event: String, Sendable, CaseIterable {
        case offeredAgain, reservedAgain, deliver, peerRefused, expire, withdraw
    }

    /// Whether bits are still kept.
    package var holdsBits: Bool { self == .offered || self == .reserved }

    /// - Throws: `KeyStoreError.badTransition`; above all, nothing leads out of the states without bits.
    package func after(_ event: Event) throws(KeyStoreError) -> KeyState {
        switch (self, event) {
        case (.offered, .offeredAgain): .offered
        case (.reserved, .reservedAgain): .reserved
        case (.offered, .deliver), (.reserved, .deliver): .delivered
        case (.offered, .peerRefused): .spoiled
        case (.reserved, .expire): .expired
        case (.offered, .withdraw), (.reserved, .withdraw): .void
        default: throw .badTransition(from: rawValue, event: event.rawValue)
        }
    }
}

/// Where a block stands.
package enum BlockState: String, Sendable {
    case held, confirmed, spent, void
}

extension KeyID {
    /// Both ends derive the same id from where the key lies: docs/wire/km-link.md.
    package init(block: BlockID, range: Range<Int>) {
        var hash = SHA256()
        hash.update(data: Data("sdqkd key 1".utf8))
        withUnsafeBytes(of: block.uuid.uuid) { hash.update(bufferPointer: $0) }
        for number in [UInt32(range.lowerBound), UInt32(range.count)] {
            withUnsafeBytes(of: number.bigEndian) { hash.update(bufferPointer: $0) }
        }
        var bytes = Array(hash.finalize().prefix(16))
        bytes[6] = bytes[6] & 0x0F | 0x80
        bytes[8] = bytes[8] & 0x3F | 0x80
        var raw: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        withUnsafeMutableBytes(of: &raw) { $0.copyBytes(from: bytes) }
        self.init(UUID(uuid: raw))
    }
}
