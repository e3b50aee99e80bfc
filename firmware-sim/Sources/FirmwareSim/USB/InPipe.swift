// One IN endpoint: transfers of the device cut into the buffers that the host has submitted.
//
// A transfer is one stream of bytes over any number of buffers; a short packet ends it, or a packet of zero bytes where its
// length is a multiple of the packet size.

struct InPipe: Sendable {
    let packet: Int
    var isHalted = false
    private var waiting: [Waiting] = []
    /// What is left of the transfer; empty when only the packet of zero bytes is owed.
    private var rest: ArraySlice<UInt8>?
    /// Bytes of the current or last transfer that went out.
    private(set) var sent = 0

    private struct Waiting {
        var id: UInt32
        var room: Int
        var refusesShort: Bool
    }

    init(packet: Int) { self.packet = packet }

    /// Whether no transfer is under way.
    var isIdle: Bool { rest == nil }
    /// Whether a host waits for bytes that are not there.
    var isWanted: Bool { rest == nil && !waiting.isEmpty && !isHalted }

    mutating func load(_ bytes: [UInt8]) {
        rest = bytes[...]
        sent = 0
    }

    /// Forgets the rest of the transfer.
    mutating func drop() { rest = nil }

    mutating func submit(_ urb: URB) { waiting.append(Waiting(id: urb.id, room: urb.length, refusesShort: urb.refusesShort)) }

    mutating func unlink(_ id: UInt32) -> Bool {
        guard let index = waiting.firstIndex(where: { $0.id == id }) else { return false }
        waiting.remove(at: index)
        return true
    }

    /// Fills waiting buffers as far as there are bytes.
    mutating func pump() -> [USBAction] {
        var actions: [USBAction] = []
        while let next = waiting.first {
            if isHalted {
                actions.append(.complete(next.id, status: URBStatus.stall, data: [], length: 0))
            } else if let bytes = rest {
                actions.append(fill(next, bytes))
            } else {
                break
            }
            waiting.removeFirst()
        }
        return actions
    }

    private mutating func fill(_ urb: Waiting, _ bytes: ArraySlice<UInt8>) -> USBAction {
        if bytes.count > urb.room, urb.room % packet != 0 { return overflow(urb, bytes) }
        let part = bytes.prefix(urb.room)
        let left = bytes.dropFirst(part.count)
        sent += part.count
        let hasEnded = left.isEmpty && (part.count % packet != 0 || part.count < urb.room)
        rest = hasEnded ? nil : left
        let status = urb.refusesShort && part.count < urb.room ? URBStatus.shortRead : URBStatus.success
        return .complete(urb.id, status: status, data: part, length: part.count)
    }

    /// The packet that does not fit is lost, as on a real bus.
    private mutating func overflow(_ urb: Waiting, _ bytes: ArraySlice<UInt8>) -> USBAction {
        let whole = bytes.prefix(urb.room / packet * packet)
        let lost = bytes.dropFirst(whole.count).prefix(packet)
        sent += whole.count
        rest = lost.count < packet ? nil : bytes.dropFirst(whole.count + lost.count)
        return .complete(urb.id, status: URBStatus.overflow, data: whole, length: whole.count)
    }
}
