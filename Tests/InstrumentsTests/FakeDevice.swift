// The device's side of the wire, small: a control port that answers from a table, and a data port with a ring.
// Frames are built here by hand, with a checksum of its own, so that a mistake in the driver's codec cannot cancel.

import Foundation
import QKDTesting
import Synchronization

/// Builds a symbol frame byte by byte (instrument-protocol.md section 2).
struct FrameSpecification {
    var number: UInt64 = 0
    var symbols = 1024
    var kind: UInt32 = 1
    var flags: UInt32 = 0
    var scale: Float = 0.001
    var seed: UInt64 = 0

    func sample(_ index: Int) -> Int16 { Int16(truncatingIfNeeded: UInt64(index) &* 40503 &+ number &* 977 &+ seed) }

    func bytes() -> [UInt8] {
        var payload: [UInt8] = []
        payload.reserveCapacity(4 * symbols)
        for index in 0..<(2 * symbols) { little(sample(index), &payload) }
        var header = Array("QSYM".utf8)
        little(UInt16(1), &header)
        little(UInt16(72), &header)
        little(UInt32(payload.count), &header)
        little(UInt32(symbols), &header)
        little(number, &header)
        little(number &* UInt64(symbols) &+ 7_000_000_000, &header)
        little(number &* 1_000_000, &header)
        little(UInt64(1_790_000_000_000_000_000) &+ number &* 1_000_000, &header)
        little(kind, &header)
        little(flags, &header)
        little(scale.bitPattern, &header)
        little(UInt32(3), &header)
        little(Self.crc(payload), &header)
        little(Self.crc(header), &header)
        return header + payload
    }

    private func little<Value: FixedWidthInteger>(_ value: Value, _ bytes: inout [UInt8]) {
        withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
    }

    /// Bit by bit, from the definition.
    static func crc(_ bytes: [UInt8]) -> UInt32 {
        var table = [UInt32](repeating: 0, count: 256)
        for byte in 0..<256 {
            table[byte] = (0..<8).reduce(UInt32(byte)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
        }
        return ~bytes.reduce(UInt32.max) { $0 >> 8 ^ table[Int(($0 ^ UInt32($1)) & 0xFF)] }
    }
}

/// A receiver or transmitter that says what a table says and streams frames from a ring.
final class FakeDevice: Sendable {
    struct State {
        var answers: [String: String] = [:]
        var commands: [String] = []
        var token = "00112233445566778899aabbccddeeff"
        var ring: [UInt64: [UInt8]] = [:]
        /// What is sent once instead of the ring's frame.
        var mangled: [UInt64: [[UInt8]]] = [:]
        var next: UInt64 = 0
        var released: UInt64?
        var error = "0,\"No error\""
        var dataConnections = 0
        var dropAfter: Int?
    }

    let state = Mutex(State())
    private let servers = Mutex<(control: LoopbackServer?, data: LoopbackServer?)>((nil, nil))

    init(role: String = "RECEIVER", frames: [FrameSpecification] = []) throws {
        state.withLock { state in
            state.answers = Self.table(role: role)
            for frame in frames { state.ring[frame.number] = frame.bytes() }
            state.next = (frames.last?.number ?? 0) + 1
        }
        let data = try LoopbackServer { [weak self] connection in try self?.stream(connection) }
        let control = try LoopbackServer { [weak self] connection in
            while let self { try self.control(connection) }
        }
        state.withLock { $0.answers["DATA:PORT?"] = "\(data.port)" }
        servers.withLock { $0 = (control, data) }
    }

    var uri: String { "tcp:127.0.0.1:\(servers.withLock { $0.control?.port ?? 0 })" }

    func dropData() { servers.withLock { $0.data }?.dropConnections() }
    func dropControl() { servers.withLock { $0.control }?.dropConnections() }

    /// Stops listening.
    func close() {
        servers.withLock { servers in
            servers.control?.close()
            servers.data?.close()
        }
    }

    func add(_ frame: FrameSpecification) {
        state.withLock { state in
            state.ring[frame.number] = frame.bytes()
            state.next = max(state.next, frame.number + 1)
        }
    }

    static func table(role: String) -> [String: String] {
        let isReceiver = role == "RECEIVER"
        return [
            "*IDN?": "sdqkd,\(isReceiver ? "CVRX-1" : "CVTX-1"),\(isReceiver ? "RX" : "TX")-0001,1.0",
            "SYSTem:ROLE?": role, "SYSTem:EMULated?": "1", "SYSTem:STATe?": "IDLE", "SYSTem:TIME?": "123456789",
            "SYSTem:CAPability:SRATe?": "5000000,10000", "SYSTem:CAPability:MODulation?": "GAUSSIAN",
            "SYSTem:CAPability:WAVelength?": "1528,1568",
            "SYSTem:CAPability:PATHs?": isReceiver ? "\"INPUT\"" : "\"NORTE\",\"CONCEPCION\"",
            "SYSTem:CAPability:CALibration?": isReceiver ? "DARK,1048576,0.2,600,SHOT,52428800,10,600,LOCK,0,2,60" : "BIAS,0,5,3600",
            "SYSTem:CAPability:BLOCk?": "65536,256", "STATus:OPERation:CONDition?": "0", "STATus:QUEStionable:CONDition?": "256",
            "ACQuire:OVERrun?": "0", "ACQuire:SRATe?": "5000000", "ACQuire:STATe?": "IDLE", "SYSTem:LOCK:REQuest?": "1",
            "INPut:EFFiciency?": "0.8,0.002", "INPut:RANGe?": "2048", "INPut:PILot:LOCK?": "1",
        ]
    }

    private func control(_ connection: LoopbackConnection) throws {
        let message = try connection.receiveLine()
        let units = message.split(separator: ";").map(String.init)
        let answers = state.withLock { state in units.compactMap { answer($0, &state) } }
        if !answers.isEmpty { try connection.send(answers.joined(separator: ";") + "\n") }
    }

    private func answer(_ message: String, _ state: inout State) -> String? {
        if let answer = state.answers[message] { return answer }
        switch message {
        case "SYSTem:ERRor?":
            defer { state.error = "0,\"No error\"" }
            return state.error
        case "DATA:TOKen?": return state.token
        case "ACQuire:AVAilable?": return "\(state.ring.keys.min() ?? state.next),\(state.next)"
        default:
            if message.hasSuffix("?") { state.error = "-113,\"Undefined header\"" } else { state.commands.append(message) }
            return nil
        }
    }

    // MARK: Data

    private struct Position {
        var credits = 0
        var next: UInt64?
    }

    private func stream(_ connection: LoopbackConnection) throws {
        let greeting = try connection.receive(24)
        let token = greeting[8...].map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        let isWelcome = greeting.starts(with: Array("QDAT".utf8) + [1, 0, 0, 0]) && token == state.withLock { $0.token }
        try connection.send([isWelcome ? 0 : 1])
        guard isWelcome else { return }
        state.withLock { $0.dataConnections += 1 }
        let position = Mutex(Position())
        let isOpen = Atomic<Bool>(true)
        withExtendedLifetime(position) {
            let reader = Thread { [weak self] in
                while let message = try? connection.receive(16) { self?.take(message, position) }
                isOpen.store(false, ordering: .releasing)
            }
            reader.start()
        }
        while isOpen.load(ordering: .acquiring) {
            guard let bytes = following(position) else {
                Thread.sleep(forTimeInterval: 0.001)
                continue
            }
            try connection.send(bytes)
        }
    }

    private func take(_ message: [UInt8], _ position: borrowing Mutex<Position>) {
        let type = message[0]
        let count = message[4..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
        let number = message[8...].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        switch type {
        case 1: position.withLock { $0.credits += count }
        case 2:
            state.withLock { state in
                state.released = number
                state.ring = state.ring.filter { $0.key > number }
            }
        default: position.withLock { $0.next = number }
        }
    }

    private func following(_ position: borrowing Mutex<Position>) -> [UInt8]? {
        position.withLock { position in
            guard position.credits > 0 else { return nil }
            return state.withLock { state in
                let wanted = position.next ?? 0
                guard let number = state.ring.keys.filter({ $0 >= wanted }).min() else { return nil }
                position.next = number + 1
                position.credits -= 1
                if var versions = state.mangled[number], !versions.isEmpty {
                    let bytes = versions.removeFirst()
                    state.mangled[number] = versions
                    return bytes
                }
                return state.ring[number]
            }
        }
    }
}
