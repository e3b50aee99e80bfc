// The frames of docs/wire/key-deposit.md, without I/O and without the key bytes that follow a request's header.

import Foundation
import KeyMaterial
package import QKDModel

let magic: [UInt8] = Array("QKDD".utf8)
let formatVersion: UInt8 = 1
let preambleSize = 8
let answerHeadSize = 24

/// A request without its key bytes.
package struct DepositHeader: Equatable, Sendable {
    package var link: LinkID
    package var block: BlockID
    package var peer: NodeID
    package var provenance: KeyProvenance
    package var firstEnd: Bool
    package var byteCount: Int

    package init(_ block: DepositedBlock) {
        link = block.link
        self.block = block.block
        peer = block.peer
        provenance = block.provenance
        firstEnd = block.firstEnd
        byteCount = block.bits.count
    }

    /// The preamble and the header as bytes.
    package func encoded() -> [UInt8] {
        var body = bytes(of: block.uuid)
        body.append(provenance == .hardware ? 0 : 1)
        body.append(firstEnd ? 1 : 0)
        body += bigEndian(UInt32(byteCount))
        for text in [link.rawValue, peer.rawValue] {
            body.append(UInt8(text.utf8.count))
            body += text.utf8
        }
        return magic + [formatVersion, 1] + bigEndian(UInt16(body.count)) + body
    }

    /// - Parameter preamble: the first 8 bytes of a request.
    /// - Returns: how many bytes of header follow.
    package static func headerLength(preamble: [UInt8]) throws(KeyDepositError) -> Int {
        guard preamble.count == preambleSize, Array(preamble[0..<4]) == magic else { throw .badFrame("no magic number at its start") }
        guard preamble[4] == formatVersion else { throw .badFrame("version \(preamble[4]), this program speaks \(formatVersion)") }
        guard preamble[5] == 1 else { throw .badFrame("unknown type \(preamble[5])") }
        let length = Int(preamble[6]) << 8 | Int(preamble[7])
        guard (28...2048).contains(length) else { throw .badFrame("header of \(length) bytes, 28 to 2048 are allowed") }
        return length
    }

    /// - Parameter header: what follows the preamble.
    package init(header: [UInt8]) throws(KeyDepositError) {
        var rest = header[...]
        block = BlockID(try uuid(take(16, from: &rest)))
        switch try take(1, from: &rest)[0] {
        case 0: provenance = .hardware
        case 1: provenance = .emulated
        case let other: throw .badFrame("unknown provenance \(other)")
        }
        switch try take(1, from: &rest)[0] {
        case 0: firstEnd = false
        case 1: firstEnd = true
        case let other: throw .badFrame("end \(other), 0 or 1 is allowed")
        }
        byteCount = try take(4, from: &rest).reduce(0) { $0 << 8 | Int($1) }
        // Too few are an answer's matter, too many would have to be read first.
        guard (1...DepositedBlock.sizes.upperBound).contains(byteCount) else {
            throw .badFrame("block of \(byteCount) bytes, 1 to \(DepositedBlock.sizes.upperBound) can be read")
        }
        guard let link = LinkID(rawValue: try text(from: &rest)) else { throw .badFrame("no link id") }
        guard let peer = NodeID(rawValue: try text(from: &rest)) else { throw .badFrame("no node id") }
        guard rest.isEmpty else { throw .badFrame("\(rest.count) bytes too many in the header") }
        self.link = link
        self.peer = peer
    }
}

/// An answer.
package struct DepositAnswer: Equatable, Sendable {
    package enum Status: UInt8, Sendable {
        case stored, alreadyHeld, otherContent, full, notAccepted, unavailable, unknownPeer
    }
    package var status: Status
    package var block: BlockID
    package var reason = ""

    package init(status: Status, block: BlockID, reason: String = "") {
        self.status = status
        self.block = block
        self.reason = String(reason.prefix(500))
    }

    package func encoded() -> [UInt8] {
        magic + [formatVersion, status.rawValue] + bytes(of: block.uuid) + bigEndian(UInt16(reason.utf8.count)) + reason.utf8
    }

    /// - Parameter head: the first 24 bytes of an answer. - Returns: the answer without its reason, and the reason's length.
    package static func parse(head: [UInt8]) throws(KeyDepositError) -> (answer: DepositAnswer, reasonLength: Int) {
        guard head.count == answerHeadSize, Array(head[0..<4]) == magic, head[4] == formatVersion else {
            throw .badFrame("no magic number or unknown version in an answer")
        }
        guard let status = Status(rawValue: head[5]) else { throw .badFrame("unknown status \(head[5])") }
        let block = BlockID(try uuid(head[6..<22]))
        return (DepositAnswer(status: status, block: block), Int(head[22]) << 8 | Int(head[23]))
    }

    /// - Throws: the error that a refusal stands for.
    package func receipt() throws(KeyDepositError) -> DepositReceipt {
        switch status {
        case .stored: return .stored
        case .alreadyHeld: return .alreadyHeld
        case .otherContent: throw .otherContent(block, reason: reason)
        case .full: throw .full(block, reason: reason)
        case .notAccepted: throw .notAccepted(block, reason: reason)
        case .unavailable: throw .unavailable(block, reason: reason)
        case .unknownPeer: throw .unknownPeer(block, reason: reason)
        }
    }

    /// What the handler's outcome says on the wire.
    package init(block: BlockID, outcome: Result<DepositReceipt, any Error>) {
        switch outcome {
        case .success(.stored): self.init(status: .stored, block: block)
        case .success(.alreadyHeld): self.init(status: .alreadyHeld, block: block)
        case .failure(let error as KeyDepositError):
            switch error {
            case .otherContent(_, let reason): self.init(status: .otherContent, block: block, reason: reason)
            case .full(_, let reason): self.init(status: .full, block: block, reason: reason)
            case .notAccepted(_, let reason): self.init(status: .notAccepted, block: block, reason: reason)
            case .unknownPeer(_, let reason): self.init(status: .unknownPeer, block: block, reason: reason)
            case .badFrame(let reason): self.init(status: .notAccepted, block: block, reason: reason)
            default: self.init(status: .unavailable, block: block, reason: "\(error)")
            }
        case .failure(let error): self.init(status: .unavailable, block: block, reason: "\(error)")
        }
    }
}

// MARK: - Bytes

private func bigEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
}

private func bytes(of uuid: UUID) -> [UInt8] { withUnsafeBytes(of: uuid.uuid) { Array($0) } }

private func uuid(_ bytes: ArraySlice<UInt8>) throws(KeyDepositError) -> UUID {
    guard bytes.count == 16 else { throw .badFrame("no UUID where one is due") }
    var raw: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    withUnsafeMutableBytes(of: &raw) { $0.copyBytes(from: bytes) }
    return UUID(uuid: raw)
}

private func take(_ count: Int, from rest: inout ArraySlice<UInt8>) throws(KeyDepositError) -> ArraySlice<UInt8> {
    guard rest.count >= count else { throw .badFrame("the header ends too early") }
    defer { rest = rest.dropFirst(count) }
    return ArraySlice(Array(rest.prefix(count)))
}

private func text(from rest: inout ArraySlice<UInt8>) throws(KeyDepositError) -> String {
    let length = Int(try take(1, from: &rest)[0])
    guard let text = String(validating: try take(length, from: &rest), as: UTF8.self) else { throw .badFrame("text that is not UTF-8") }
    return text
}
