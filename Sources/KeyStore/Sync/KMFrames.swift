// Frames of the KM link with their tags: bytes in, messages out, and back. One value per connection.

package import KeyMaterial
import QKDModel

/// Numbers, tags and checks the frames of one connection.
package struct KMFrames: Sendable {
    static let headBytes = 13
    package static let largest = 1 << 20
    private static let noPad = UInt64.max

    private var maker: TagMaker
    private var checker: TagChecker
    private let receiving: any Pad
    private var sent: UInt32 = 0
    private var received: UInt32 = 0

    package init(send: (key: SecretBytes, pad: any Pad), receive: (key: SecretBytes, pad: any Pad)) throws {
        maker = try TagMaker(hashKey: send.key, pad: send.pad)
        checker = try TagChecker(hashKey: receive.key, pad: receive.pad)
        receiving = receive.pad
    }

    /// The bytes of a frame after its length. The pad's cursor has moved durably before this returns.
    package mutating func encode(_ message: KMMessage) throws -> [UInt8] {
        var head = ByteWriter()
        head.put(message.type)
        head.put(sent)
        sent += 1
        let payload = message.payload()
        guard message.isTagged else {
            head.put(Self.noPad)
            return head.bytes + payload
        }
        maker.restart()
        maker.update(head.bytes + payload)
        let (offset, tag) = try maker.tag()
        head.put(offset)
        return head.bytes + payload + tag.bytes
    }

    /// What a frame says, once its tag has been accepted.
    ///
    /// - Returns: the message; with a `confirm` also the 32 pad bytes that its hash uses, read before the tag moved the cursor
    ///   past them.
    /// - Throws: `KeyStoreError.badMessage` or `KeyMaterialError`; then the connection has to end.
    package mutating func decode(_ frame: [UInt8]) throws -> (message: KMMessage, hashPad: SecretBytes?) {
        var reader = ByteReader(frame)
        let type = try reader.number(UInt8.self)
        let sequence = try reader.number(UInt32.self)
        let offset = try reader.number(UInt64.self)
        guard sequence == received else { throw KeyStoreError.badMessage("frame \(sequence) where \(received) is due") }
        let tagBytes = KMMessage.isTagged(type: type) ? 16 : 0
        guard frame.count >= Self.headBytes + tagBytes else { throw KeyStoreError.badMessage("it ends too early") }
        let payload = Array(frame[Self.headBytes..<frame.count - tagBytes])
        let message = try KMMessage(type: type, payload: payload)
        guard tagBytes > 0 else {
            received += 1
            return (message, nil)
        }
        let hashPad = try hashPad(message, before: offset)
        checker.restart()
        checker.update(Array(frame[0..<5]) + payload)
        try checker.check(try AuthenticationTag(bytes: frame.suffix(16)), padOffset: offset)
        received += 1
        return (message, hashPad)
    }

    private func hashPad(_ message: KMMessage, before offset: UInt64) throws -> SecretBytes? {
        guard case .confirm(let confirm) = message else { return nil }
        guard offset < 1 << 62, confirm.hashPadOffset + 32 <= offset else {
            throw KeyStoreError.badMessage("a hash's pad that does not lie before the tag's")
        }
        return try receiving.peek(at: confirm.hashPadOffset, count: 32)
    }
}
