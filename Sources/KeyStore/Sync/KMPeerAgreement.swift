// What two stores agree on: which blocks both hold, which are void, which keys the slave's end has set aside.

package import KeyMaterial
import Logging
package import QKDModel

extension KMPeer {
    // MARK: Confirmation

    func askConfirm(_ id: BlockID) async throws {
        let peer = settings.peer
        let found = try await store.look { transaction in
            try transaction.block(id).flatMap { $0.state == .held && $0.peer == peer ? ($0, try transaction.content($0)) : nil }
        }
        guard let (row, content) = found else {
            // The peer may have asked because it does not know whether the refill was followed.
            if let row = try await store.look({ try $0.block(id) }), row.peer == peer, row.state != .held {
                try send(.settled(id, applied: row.refill != nil))
            }
            return await perform(session.confirmSkipped())
        }
        let (offset, pad) = try sending.burn(32)
        try send(
            .confirm(
                .init(
                    block: id, link: row.link, emulated: row.emulated, firstEnd: row.firstEnd, byteCount: row.bytes, hashPadOffset: offset,
                    maskedHash: maskedHash(content, pad))))
    }

    func answer(_ confirm: KMMessage.Confirm) async throws {
        guard let pad = hashPad else { return }
        let peer = settings.peer
        let outcome = try await store.change { try $0.answer(confirm, peer: peer, pad: pad) }
        switch outcome {
        case .agreed(let refill, let newly):
            if newly { noteConfirmed(confirm.block, confirm.link, confirm.byteCount) }
            try send(.confirmed(confirm.block, .agreed, refill))
        case .notHeld: try send(.confirmed(confirm.block, .notHeld, PadRefill()))
        case .void: try send(.confirmed(confirm.block, .void, PadRefill()))
        case .differs:
            noteMismatch(confirm.block, confirm.link)
            try send(.confirmed(confirm.block, .differs, PadRefill()))
        }
    }

    func settle(_ id: BlockID, _ status: KMMessage.ConfirmedStatus, _ refill: PadRefill) async throws {
        switch status {
        case .agreed:
            let row = try await store.change { transaction in
                try transaction.confirm(id, refill: refill)
                return try transaction.block(id)
            }
            if refill.count > 0 { try send(.settled(id, applied: row?.refill != nil)) }
            if let row, row.refill != nil { noteConfirmed(id, row.link, row.bytes) }
        case .notHeld: break
        case .differs, .void:
            let row = try await store.change { transaction in
                try transaction.void(id, tell: false)
                return try transaction.block(id)
            }
            guard let row else { return }
            if status == .differs { noteMismatch(id, row.link) } else { noteVoid(id, row.link, "the peer has it as void") }
        }
    }

    func noteConfirmed(_ id: BlockID, _ link: LinkID, _ bytes: Int) {
        journal.note(.confirmed, link: link, peer: settings.peer, block: id, bits: bytes * 8, "both ends hold the block")
        logger.info("block confirmed", metadata: ["block": "\(id)", "link": "\(link)", "bits": "\(bytes * 8)"])
    }

    func noteMismatch(_ id: BlockID, _ link: LinkID) {
        journal.raise(.keyMismatch, .major, peer: settings.peer, link: link, "block \(id) differs between the two ends and was erased")
        noteVoid(id, link, "the two ends differ")
    }

    func noteVoid(_ id: BlockID, _ link: LinkID?, _ why: String) {
        journal.note(.voided, link: link, peer: settings.peer, block: id, "block erased: \(why)")
    }

    func applyVoid(_ blocks: [BlockID], _ reason: KMMessage.VoidReason) async throws {
        let peer = settings.peer
        let erased = try await store.change { transaction in
            try blocks.filter { id in
                guard try transaction.block(id)?.peer == peer else { return false }
                return try transaction.void(id, tell: false) != nil
            }
        }
        for id in erased { noteVoid(id, nil, "the peer asked for it (\(reason))") }
    }

    // MARK: Reservation, slave's end

    func reserve(_ items: [KMMessage.ReserveItem]) async throws -> [KMMessage.ReservedStatus] {
        let (peer, node) = (settings.peer, store.rules.node)
        do {
            // A peer speaks for its own applications only, or one node could pose as another's.
            var standing: [Pair: KMMessage.ReservedStatus] = [:]
            for pair in Set(items.map { Pair(master: $0.master, slave: $0.slave) }) {
                guard directory.home(of: pair.slave) == node, directory.home(of: pair.master) == peer else {
                    standing[pair] = .unknownSAE
                    continue
                }
                let may = try await applications.mayReserve(server: pair.master, client: pair.slave, peer: peer)
                if !may { standing[pair] = .refused }
            }
            let refusals = standing
            return try await store.change { transaction in
                try items.map { item in
                    if let refusal = refusals[Pair(master: item.master, slave: item.slave)] { return refusal }
                    let outcome = try transaction.attempt {
                        try transaction.reserve(item.run, peer: peer, master: item.master, slave: item.slave)
                    }
                    switch outcome {
                    case .success: return .reserved
                    case .failure(KeyStoreError.noSuchKey): return .unknownBlock
                    case .failure(KeyStoreError.refusedByPeer): return .emulated
                    case .failure(KeyStoreError.rangeTaken), .failure(KeyStoreError.badMessage): return .notFree
                    case .failure: return .unavailable
                    }
                }
            }
        } catch is ApplicationRefusal {
            return items.map { _ in .refused }
        } catch {
            journal.raise(.database, .major, "\(error)")
            return items.map { _ in .unavailable }
        }
    }

    private struct Pair: Hashable {
        var master: SAEID
        var slave: SAEID
    }
}

extension StoreTransaction {
    /// Compares a block with what `peer` asks about, and confirms it where they agree.
    ///
    /// - Parameter pad: the 32 bytes under the question's hash.
    package func answer(_ confirm: KMMessage.Confirm, peer: NodeID, pad: SecretBytes) throws -> ConfirmOutcome {
        // A block shared with another node is none of this peer's business, and as good as absent.
        guard let row = try block(confirm.block), row.peer == peer else { return .notHeld }
        switch row.state {
        case .void: return .void
        case .confirmed, .spent: return .agreed(row.refill ?? PadRefill(), newly: false)
        case .held: break
        }
        let same =
            row.link == confirm.link && row.emulated == confirm.emulated && row.bytes == confirm.byteCount
            && row.firstEnd != confirm.firstEnd
        guard same, maskedHash(try content(row), pad) == confirm.maskedHash else {
            try void(confirm.block, tell: false)
            return .differs
        }
        let refill = try planRefill(peer, bytes: row.bytes)
        try self.confirm(confirm.block, refill: refill, settled: false)
        return .agreed(refill, newly: true)
    }
}

/// H(content) under the first 16 bytes of pad, xor the last 16.
package func maskedHash(_ content: SecretBytes, _ pad: SecretBytes) -> [UInt8] {
    var hash = RunningHash(key: pad.slice(0..<16))
    hash.update(content)
    return hash.value().withBytes { value in pad.withBytes { pad in (0..<16).map { value[$0] ^ pad[16 + $0] } } }
}
