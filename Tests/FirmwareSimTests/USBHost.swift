// A USB host for the tests, without any bus: it owes nothing to the emulator's code but the names of inputs and actions.

import FirmwareSim
import Testing

/// Repeatable random numbers.
struct Dice: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &self) } }
}

func little(_ value: Int, _ count: Int = 4) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

/// A host with one device, and the instrument behind it.
final class USBHost {
    struct Done: Equatable {
        var status: Int32
        var data: [UInt8]
        var length: Int
    }

    private(set) var device: USBDevice
    let packet: Int
    /// Program message in, response message out; empty for none.
    var instrument: ([UInt8]) -> [UInt8]
    var statusByte: UInt8 = 0
    var serviceEnable: UInt8 = 0
    var frames: [[UInt8]] = []
    var credit = 0

    private(set) var done: [UInt32: Done] = [:]
    private(set) var programs: [[UInt8]] = []
    private(set) var streamMessages: [[UInt8]] = []
    private(set) var interruptions = 0
    private(set) var clears = 0
    private(set) var closedStreams = 0
    private var nextID: UInt32 = 1
    private var tag: UInt8 = 0

    init(_ speed: USBSpeed = .high, configured: Bool = true, instrument: @escaping ([UInt8]) -> [UInt8] = { $0 }) {
        device = USBDevice(identity: USBIdentity(maker: "SDQKD", model: "CVRX-1", serial: "USB-RX-9"), speed: speed)
        packet = speed == .high ? 512 : 1024
        self.instrument = instrument
        if configured { #expect(control(SetupPacket(0, 9, value: 1))?.isEmpty == true) }
    }

    func input(_ event: USBInput) {
        var events = [event]
        while !events.isEmpty {
            for action in device.input(events.removeFirst()) { events += perform(action) }
        }
    }

    private func perform(_ action: USBAction) -> [USBInput] {
        switch action {
        case .complete(let id, let status, let data, let length):
            #expect(done[id] == nil, "URB \(id) ended twice")
            done[id] = Done(status: status, data: Array(data), length: length)
        case .unlinked: break
        case .program(let bytes, let message):
            programs.append(bytes)
            let answer = instrument(bytes)
            return answer.isEmpty ? [] : [.answer(answer, message: message)]
        case .interrupted: interruptions += 1
        case .clear: clears += 1
        case .askStatus(let id): return [.statusAnswer(id, statusByte, enable: serviceEnable)]
        case .hello(let bytes): return [.welcome(bytes[8] == 0xEE ? 1 : 0)]
        case .streamMessage(let bytes):
            streamMessages.append(bytes)
            if bytes[0] == 1 { credit += Int(bytes[4]) }
        case .pullFrame:
            guard credit > 0, !frames.isEmpty else { return [.noFrame] }
            credit -= 1
            return [.frame(frames.removeFirst())]
        case .closeStream: closedStreams += 1
        }
        return []
    }

    // MARK: - Transfers

    @discardableResult
    func submit(_ endpoint: UInt8, room: Int) -> UInt32 {
        nextID += 1
        input(.submit(URB(id: nextID, endpoint: endpoint & 15, isIn: true, length: room)))
        return nextID
    }

    /// What comes at once; the transfer stays submitted when nothing does.
    func read(_ endpoint: UInt8, room: Int) -> Done? {
        let id = submit(endpoint, room: room)
        return done[id]
    }

    @discardableResult
    func send(_ bytes: [UInt8], to endpoint: UInt8 = 1) -> Done? {
        nextID += 1
        input(.submit(URB(id: nextID, endpoint: endpoint, isIn: false, length: bytes.count, data: bytes)))
        return done[nextID]
    }

    /// - Returns: what the device sent, or `nil` for a stall.
    func control(_ setup: SetupPacket, data: [UInt8] = []) -> [UInt8]? {
        nextID += 1
        let isIn = setup.requestType & 0x80 != 0
        input(.submit(URB(id: nextID, endpoint: 0, isIn: isIn, length: isIn ? Int(setup.length) : data.count, setup: setup, data: data)))
        guard let end = done[nextID], end.status == 0 else { return nil }
        return end.data
    }

    func unlink(_ id: UInt32) { input(.unlink(id)) }

    // MARK: - USBTMC

    func header(_ kind: UInt8, size: Int, attributes: UInt8 = 0, terminator: UInt8 = 0) -> [UInt8] {
        tag = tag % 255 + 1
        return [kind, tag, ~tag, 0] + little(size) + [attributes, terminator, 0, 0]
    }

    var lastTag: UInt8 { tag }

    /// MAV, by a serial poll.
    var hasAnswer: Bool {
        _ = control(SetupPacket(0xA1, 128, value: 2, length: 3))
        return (read(0x82, room: 8)?.data.last ?? 0) & 0x10 != 0
    }

    /// One message in one transfer, cut into buffers.
    func message(_ bytes: [UInt8], buffer: Int = .max, isLast: Bool = true) {
        let whole = header(1, size: bytes.count, attributes: isLast ? 1 : 0) + bytes + [UInt8](repeating: 0, count: -bytes.count & 3)
        for start in stride(from: 0, to: whole.count, by: buffer == .max ? whole.count : buffer) {
            let part = Array(whole[start..<(buffer == .max ? whole.count : min(whole.count, start + buffer))])
            #expect(send(part)?.status == 0)
        }
        // A transfer ends by a short packet.
        if whole.count % packet == 0 { #expect(send([])?.status == 0) }
    }

    struct Response: Equatable {
        var bytes: [UInt8]
        var isEnd: Bool
        var isTerminated: Bool
    }

    /// One transfer of a response into buffers of `buffer` bytes, several of them submitted at a time.
    func response(size: Int, buffer: Int, depth: Int = 4, terminator: UInt8? = nil) throws -> Response {
        #expect(send(header(2, size: size, attributes: terminator == nil ? 0 : 2, terminator: terminator ?? 0))?.status == 0)
        var waiting = (0..<depth).map { _ in submit(0x81, room: buffer) }
        var bytes: [UInt8] = []
        while true {
            let id = waiting.removeFirst()
            let end = try #require(done[id], "nothing came")
            #expect(end.status == 0 && end.data.count == end.length)
            bytes += end.data
            if end.length < buffer || end.length % packet != 0 { break }
            waiting.append(submit(0x81, room: buffer))
        }
        for id in waiting {
            #expect(done[id] == nil, "more came after the end")
            unlink(id)
        }
        try #require(bytes.count >= 12)
        #expect(Array(bytes[0..<4]) == [2, tag, ~tag, 0])
        let count = (0..<4).reduce(0) { $0 | Int(bytes[4 + $1]) << (8 * $1) }
        #expect(count == bytes.count - 12 && count <= size)
        return Response(bytes: Array(bytes[12...]), isEnd: bytes[8] & 1 != 0, isTerminated: bytes[8] & 2 != 0)
    }

    func ask(_ bytes: [UInt8]) throws -> [UInt8] {
        message(bytes)
        return try response(size: 1 << 16, buffer: 1 << 17).bytes
    }
}
