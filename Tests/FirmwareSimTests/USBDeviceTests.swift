// The USB side of a device without a bus: descriptors, USBTMC, the symbol stream.

import FirmwareSim
import Testing

private func abort(_ host: USBHost, _ request: UInt8, tag: UInt8, endpoint: UInt16, length: UInt16 = 2) -> [UInt8]? {
    host.control(SetupPacket(0xA2, request, value: UInt16(tag), index: endpoint, length: length))
}

private func line(_ text: String) -> [UInt8] { [UInt8]("\(text)\n".utf8) }

@Suite struct USBDescriptorTests {
    @Test(arguments: USBSpeed.allCases) func configurationsAreWellFormed(speed: USBSpeed) throws {
        let host = USBHost(speed, configured: false)
        let device = try #require(host.control(SetupPacket(0x80, 6, value: 0x0100, length: 64)))
        #expect(device.count == 18 && device[8...11] == [0x09, 0x12, 0x01, 0x00])
        let head = try #require(host.control(SetupPacket(0x80, 6, value: 0x0200, length: 9)))
        let total = Int(head[2]) | Int(head[3]) << 8
        let whole = try #require(host.control(SetupPacket(0x80, 6, value: 0x0200, length: 4096)))
        #expect(whole.count == total && head == Array(whole[..<9]))
        var endpoints: [UInt8: Int] = [:]
        var interfaces: [[UInt8]] = []
        var companions = 0
        var at = 0
        while at < whole.count {
            let length = Int(whole[at])
            try #require(length >= 2 && at + length <= whole.count)
            switch whole[at + 1] {
            case 4: interfaces.append(Array(whole[(at + 5)...(at + 7)]))
            case 5: endpoints[whole[at + 2]] = Int(whole[at + 4]) | Int(whole[at + 5]) << 8
            case 0x30: companions += 1
            default: break
            }
            at += length
        }
        #expect(interfaces == [[0xFE, 3, 1], [0xFF, 0x51, 1]])
        #expect(endpoints == [0x01: host.packet, 0x81: host.packet, 0x82: 8, 0x03: host.packet, 0x83: host.packet])
        #expect(companions == (speed == .super ? 5 : 0))
    }

    @Test func stringsAreUTF16() throws {
        let host = USBHost(configured: false)
        func text(_ index: UInt16) throws -> String {
            let bytes = try #require(host.control(SetupPacket(0x80, 6, value: 0x0300 | index, index: 0x0409, length: 255)))
            #expect(Int(bytes[0]) == bytes.count && bytes[1] == 3)
            return String(
                decoding: stride(from: 2, to: bytes.count, by: 2).map { UInt16(bytes[$0]) | UInt16(bytes[$0 + 1]) << 8 }, as: UTF16.self)
        }
        #expect(try [text(1), text(2), text(3)] == ["SDQKD", "CVRX-1", "USB-RX-9"])
        #expect(host.control(SetupPacket(0x80, 6, value: 0x0300, length: 255)) == [4, 3, 9, 4])
        #expect(host.control(SetupPacket(0x80, 6, value: 0x03EE, length: 255)) == nil)
    }

    @Test func speedsDiffer() {
        let high = USBHost(.high, configured: false)
        let fast = USBHost(.super, configured: false)
        #expect(high.control(SetupPacket(0x80, 6, value: 0x0600, length: 10))?.count == 10)
        #expect(fast.control(SetupPacket(0x80, 6, value: 0x0600, length: 10)) == nil)
        #expect(high.control(SetupPacket(0x80, 6, value: 0x0F00, length: 64)) == nil)
        #expect(fast.control(SetupPacket(0x80, 6, value: 0x0F00, length: 64))?.count == 22)
        #expect(high.control(SetupPacket(0, 48, length: 6), data: [0, 0, 0, 0, 0, 0]) == nil)
        #expect(fast.control(SetupPacket(0, 48, length: 6), data: [0, 0, 0, 0, 0, 0]) == [])
    }

    @Test func nothingWorksBeforeTheConfiguration() {
        let host = USBHost(configured: false)
        #expect(host.control(SetupPacket(0x80, 8, length: 1)) == [0])
        #expect(host.send(host.header(2, size: 10))?.status == -32)
        #expect(host.control(SetupPacket(0xA1, 7, length: 24)) == nil)
        #expect(host.control(SetupPacket(0, 9, value: 2)) == nil)
        #expect(host.control(SetupPacket(0, 9, value: 1)) == [])
        #expect(host.control(SetupPacket(0x80, 8, length: 1)) == [1])
        let capabilities = host.control(SetupPacket(0xA1, 7, length: 24)) ?? []
        #expect(capabilities.count == 24 && capabilities[0] == 1 && capabilities[14] == 6 && capabilities[15] == 12)
    }
}

@Suite struct USBTMCTests {
    /// Lengths at which transfers and buffers end just before, at, and just after a packet.
    private static func lengths(_ packet: Int, _ buffer: Int) -> [Int] {
        var all = Set(1...40)
        for edge in [64, packet, 2 * packet, 8 * packet, buffer, 2 * buffer] { for near in -17...5 { all.insert(max(1, edge + near)) } }
        return all.filter { $0 <= 65_536 }.sorted()
    }

    @Test(arguments: USBSpeed.allCases, [1, 2, 8, 32])
    func everySizeArrives(speed: USBSpeed, packets: Int) throws {
        let host = USBHost(speed)
        let buffer = packets * host.packet
        for length in Self.lengths(host.packet, buffer) {
            let text = (0..<length - 1).map { UInt8(32 + $0 % 90) } + [0x0A]
            host.message(text, buffer: buffer)
            #expect(host.programs.last == text, "\(length) bytes to the device")
            let response = try host.response(size: 1 << 20, buffer: buffer)
            #expect(response == .init(bytes: text, isEnd: true, isTerminated: false), "\(length) bytes to the host")
        }
        #expect(host.interruptions == 0)
    }

    @Test func fourMebibytesGoThroughSmallBuffers() throws {
        var dice = Dice(4)
        let block = dice.bytes(4 << 20)
        let host = USBHost { _ in block }
        host.message(line("FETC?"))
        #expect(try host.response(size: 8 << 20, buffer: 16_384).bytes == block)
    }

    @Test func oneAnswerInRequestsOfEverySize() throws {
        let block = (0..<3000).map { UInt8(truncatingIfNeeded: $0) }
        let host = USBHost { _ in block }
        for size in [1, 2, 3, 51, 52, 53, 499, 500, 501, 511, 512, 513, 1011, 1012, 1013, 2999, 3000, 3001] {
            host.message(line("ask"))
            var got: [UInt8] = []
            while got.count < block.count {
                let part = try host.response(size: size, buffer: 1024)
                got += part.bytes
                #expect(
                    part.isEnd == (got.count == block.count) && part.bytes.count == min(size, block.count - got.count + part.bytes.count))
            }
            #expect(got == block, "requests of \(size)")
        }
    }

    @Test func terminatorsEndTransfersNotMessages() throws {
        let host = USBHost { _ in line("1,2,3") }
        host.message(line("ask"))
        let comma = UInt8(ascii: ",")
        #expect(
            try host.response(size: 99, buffer: 512, terminator: comma) == .init(bytes: [0x31, comma], isEnd: false, isTerminated: true))
        #expect(try host.response(size: 99, buffer: 512, terminator: 0x0A) == .init(bytes: line("2,3"), isEnd: true, isTerminated: true))
    }

    @Test func messagesEndByEndOrNewline() throws {
        let host = USBHost()
        #expect(try host.ask([UInt8]("*IDN?".utf8)) == line("*IDN?"))
        host.message([UInt8]("*ID".utf8), isLast: false)
        host.message([UInt8]("N?".utf8))
        #expect(host.programs.last == line("*IDN?"))
        // Too long for any instrument: it shall say so itself.
        host.message([UInt8](repeating: 65, count: 70_000))
        #expect(host.programs.last?.count == 4098)
    }

    @Test func malformedHeadersHaltUntilCleared() throws {
        let host = USBHost()
        let wrong: [[UInt8]] = [
            [1, 5, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 65, 0, 0, 0], [1, 0, 255, 0, 1, 0, 0, 0, 1, 0, 0, 0, 65, 0, 0, 0],
            [99, 5, 250, 0, 1, 0, 0, 0, 1, 0, 0, 0], [128, 5, 250, 0, 0, 0, 0, 0, 0, 0, 0, 0], [2, 5, 250, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [1, 5, 250], [1, 5, 250, 0, 100, 0, 0, 0, 1, 0, 0, 0, 65], [1, 5, 250, 0, 1, 0, 0, 0, 1, 0, 0, 0, 65, 0, 0, 0, 0, 0],
        ]
        for bytes in wrong {
            #expect(host.send(bytes)?.status == -32)
            #expect(host.control(SetupPacket(0x82, 0, index: 1, length: 2)) == [1, 0])
            #expect(host.send(host.header(2, size: 9))?.status == -32)
            #expect(host.control(SetupPacket(2, 1, index: 1)) == [])
            #expect(try host.ask(line("still here")) == line("still here"))
        }
        #expect(host.programs.allSatisfy { $0 == line("still here") })
    }

    @Test func smallBuffersOverflow() throws {
        let host = USBHost { _ in [UInt8](repeating: 7, count: 2000) }
        host.message(line("ask"))
        host.send(host.header(2, size: 2000))
        let id = host.submit(0x81, room: 600)
        #expect(host.done[id]?.status == -75 && host.done[id]?.length == 512)
    }

    @Test func shortReadsAreTold() throws {
        let host = USBHost { _ in [UInt8](repeating: 7, count: 1500) }
        host.message(line("ask"))
        for id in 1001...1003 as ClosedRange<UInt32> {
            host.input(.submit(URB(id: id, endpoint: 1, isIn: true, length: 1024, refusesShort: true)))
        }
        host.send(host.header(2, size: 2000))
        #expect(host.done[1001]?.status == 0 && host.done[1002]?.status == -121 && host.done[1002]?.length == 488)
        #expect(host.done[1003] == nil)
    }

    // MARK: - Abort and clear

    @Test func answersThatComeLateAreOvertaken() throws {
        var answers: [[UInt8]] = [[], line("second")]
        let host = USBHost { _ in answers.removeFirst() }
        host.message(line("slow"))
        host.send(host.header(2, size: 99))
        host.message(line("quick"))
        host.input(.answer(line("first"), message: host.device.messageNumber - 1))
        #expect(host.interruptions == 1)
        #expect(try host.response(size: 99, buffer: 512).bytes == line("second"))
    }

    @Test(arguments: [0, 1, 2]) func outputIsAbortedHalfWay(packets: Int) throws {
        let host = USBHost { $0.count > 4 ? [UInt8](repeating: 9, count: 5000) : $0 }
        host.message(line("long"))
        host.send(host.header(2, size: 5000))
        if packets > 0 { host.submit(0x81, room: packets * 512) }
        #expect(abort(host, 3, tag: host.lastTag &+ 1, endpoint: 0x81) == [0x81, host.lastTag])
        #expect(abort(host, 3, tag: host.lastTag, endpoint: 0x81) == [1, host.lastTag])
        #expect(abort(host, 4, tag: 0, endpoint: 0x81, length: 8) == [2, 1, 0, 0] + little(packets * 512))
        // The host drains: a packet of zero bytes.
        let id = host.submit(0x81, room: 512)
        #expect(host.done[id] == .init(status: 0, data: [], length: 0))
        #expect(abort(host, 4, tag: 0, endpoint: 0x81, length: 8) == [1, 0, 0, 0] + little(packets * 512))
        #expect(abort(host, 4, tag: 0, endpoint: 0x81, length: 8)?[0] == 0x82)
        #expect(try host.ask(line("on")) == line("on"))
    }

    @Test func hostsThatNeverDrainAreNotWaitedForForEver() throws {
        let host = USBHost { _ in [UInt8](repeating: 9, count: 5000) }
        host.message(line("long"))
        host.send(host.header(2, size: 5000))
        host.submit(0x81, room: 512)
        _ = abort(host, 3, tag: host.lastTag, endpoint: 0x81)
        let states = (0..<4).map { _ in abort(host, 4, tag: 0, endpoint: 0x81, length: 8)?[0] }
        #expect(states == [2, 2, 1, 0x82])
        host.instrument = { $0 }
        #expect(try host.ask(line("on")) == line("on"))
    }

    @Test func inputIsAbortedHalfWay() throws {
        let host = USBHost()
        #expect(abort(host, 1, tag: 3, endpoint: 1) == [0x80, 0])
        #expect(host.send(host.header(1, size: 3000, attributes: 1) + [UInt8](repeating: 65, count: 500))?.status == 0)
        #expect(abort(host, 1, tag: host.lastTag &+ 1, endpoint: 1) == [0x81, host.lastTag])
        #expect(abort(host, 1, tag: host.lastTag, endpoint: 1) == [1, host.lastTag])
        #expect(abort(host, 2, tag: 0, endpoint: 1, length: 8) == [1, 0, 0, 0] + little(500))
        #expect(try host.ask(line("on")) == line("on"))
        #expect(host.programs == [line("on")])
    }

    @Test func clearEmptiesBothDirections() throws {
        let host = USBHost()
        let before = host.clears
        host.message(line("unread"))
        host.send(host.header(1, size: 3000, attributes: 1) + [UInt8](repeating: 65, count: 500))
        #expect(host.control(SetupPacket(0xA1, 5, length: 1)) == [1])
        #expect(host.clears == before + 1)
        #expect(host.control(SetupPacket(0xA1, 6, length: 2)) == [1, 0])
        #expect(host.send(host.header(2, size: 9))?.status == -32, "bulk-OUT halts until CLEAR_FEATURE")
        #expect(host.control(SetupPacket(2, 1, index: 1)) == [])
        #expect(try host.ask(line("on")) == line("on"))
    }

    // MARK: - Status

    @Test func statusByteComesByInterrupt() {
        let host = USBHost()
        host.statusByte = 0x24
        #expect(host.control(SetupPacket(0xA1, 128, value: 5, length: 3)) == [1, 5, 0])
        #expect(host.control(SetupPacket(0xA1, 128, value: 6, length: 3)) == [0x20, 6, 0], "the first is not read yet")
        let id = host.submit(0x82, room: 8)
        #expect(host.done[id]?.data == [0x85, 0x24])
        host.message(line("x"))
        #expect(host.control(SetupPacket(0xA1, 128, value: 127, length: 3)) == [1, 127, 0])
        let next = host.submit(0x82, room: 8)
        #expect(host.done[next]?.data == [0xFF, 0x34], "an answer is available")
        for tag: UInt16 in [0, 1, 128] { #expect(host.control(SetupPacket(0xA1, 128, value: tag, length: 3))?[0] == 0x80) }
    }

    @Test func serviceIsAskedForOncePerReason() {
        let host = USBHost()
        let first = host.submit(0x82, room: 8)
        host.input(.status(0x20, enable: 0x24))
        #expect(host.done[first]?.data == [0x81, 0x60])
        host.input(.status(0x20, enable: 0x24))
        let second = host.submit(0x82, room: 8)
        #expect(host.done[second] == nil)
        host.input(.status(0x24, enable: 0x24))
        #expect(host.done[second]?.data == [0x81, 0x64])
        host.statusByte = 0x24
        host.serviceEnable = 0x24
        for expected: UInt8 in [0x64, 0x24] {
            #expect(host.control(SetupPacket(0xA1, 128, value: 9, length: 3))?[0] == 1)
            #expect(host.read(0x82, room: 8)?.data == [0x89, expected])
        }
    }
}

@Suite struct USBSymbolPipeTests {
    private func hello(_ first: UInt8 = 1) -> [UInt8] { [0x51, 0x44, 0x41, 0x54, 1, 0, 0, 0, first] + [UInt8](repeating: 2, count: 15) }
    private func message(_ type: UInt8, _ count: UInt8 = 0) -> [UInt8] { [type, 0, 0, 0, count] + [UInt8](repeating: 0, count: 11) }

    private func open(_ speed: USBSpeed = .high) -> USBHost {
        let host = USBHost(speed)
        host.send(hello(), to: 3)
        #expect(host.read(0x83, room: 512)?.data == [0])
        return host
    }

    /// Each frame ends its transfer, so that buffers above a frame's size hold one each, however many wait.
    @Test(arguments: USBSpeed.allCases, [952, 1024 - 72, 65_536, 262_144])
    func framesKeepTheirBounds(speed: USBSpeed, payload: Int) {
        let host = open(speed)
        var dice = Dice(UInt64(payload))
        let frames = (0..<6).map { _ in dice.bytes(72 + payload) }
        host.frames = frames
        let waiting = (0..<6).map { _ in host.submit(0x83, room: 1 << 19) }
        #expect(waiting.allSatisfy { host.done[$0] == nil }, "nothing without credit")
        host.send(message(1, 4), to: 3)
        #expect(waiting.map { host.done[$0]?.data } == frames[..<4].map { $0 } + [nil, nil])
        host.send(message(1, 9), to: 3)
        #expect(host.done[waiting[5]]?.data == frames[5])
    }

    @Test func framesGoThroughSmallBuffers() throws {
        let host = open()
        var dice = Dice(1)
        let frame = dice.bytes(1024)
        host.frames = [frame]
        host.send(message(1, 1), to: 3)
        var got: [[UInt8]] = []
        for _ in 0..<3 { got.append(try #require(host.read(0x83, room: 512)).data) }
        #expect(got == [Array(frame[..<512]), Array(frame[512...]), []])
    }

    @Test func framesThatComeLaterWakeTheStream() {
        let host = open()
        host.send(message(1, 5), to: 3)
        let id = host.submit(0x83, room: 4096)
        #expect(host.done[id] == nil)
        host.frames = [[1, 2, 3]]
        host.input(.framesReady)
        #expect(host.done[id]?.data == [1, 2, 3])
    }

    @Test func messagesMayComeInPieces() {
        let host = USBHost()
        let bytes = hello() + message(1, 2) + message(2) + message(3)
        for byte in bytes { #expect(host.send([byte], to: 3)?.status == 0) }
        #expect(host.streamMessages == [message(1, 2), message(2), message(3)])
    }

    @Test func nonsenseHaltsUntilTheInterfaceIsSet() {
        let host = open()
        #expect(host.send(message(9), to: 3)?.status == 0)
        #expect(host.closedStreams == 1)
        #expect(host.send(message(1), to: 3)?.status == -32)
        #expect(host.read(0x83, room: 512)?.status == -32)
        #expect(host.control(SetupPacket(1, 11, index: 1)) == [])
        host.send(hello(0xEE), to: 3)
        #expect(host.read(0x83, room: 512)?.data == [1], "a bad token is told")
        #expect(host.send(message(1), to: 3)?.status == -32)
        #expect(host.control(SetupPacket(1, 11, index: 1)) == [])
        host.send(hello(), to: 3)
        #expect(host.read(0x83, room: 512)?.data == [0])
    }
}

@Suite struct USBFuzzTests {
    /// Random transfers, right and wrong ones: every transfer ends once or can be taken back, and a new configuration mends everything.
    @Test(arguments: 1...24) func nothingBreaksTheDevice(seed: UInt64) throws {
        var dice = Dice(seed)
        let host = USBHost(seed % 2 == 0 ? .high : .super) { $0.count % 3 == 0 ? [] : $0 }
        var waiting: [UInt32] = []
        for _ in 0..<4000 {
            switch Int.random(in: 0..<10, using: &dice) {
            case 0...2: host.send(randomTransfer(&dice, host), to: [1, 1, 1, 2, 3, 3, 9].randomElement(using: &dice) ?? 1)
            case 3, 4:
                let room = [0, 1, 8, 64, 511, 512, 513, 1024, 4096, 100_000].randomElement(using: &dice) ?? 0
                waiting.append(host.submit([0x81, 0x81, 0x82, 0x83, 0x84].randomElement(using: &dice) ?? 0x81, room: room))
            case 5, 6: _ = host.control(randomSetup(&dice), data: dice.bytes(Int.random(in: 0...8, using: &dice)))
            case 7: if let id = waiting.randomElement(using: &dice) { host.unlink(id) }
            case 8: host.input(.status(.random(in: .min ... .max, using: &dice), enable: .random(in: .min ... .max, using: &dice)))
            default: host.input(randomEvent(&dice, host))
            }
        }
        for (id, end) in host.done where end.status == 0 && waiting.contains(id) { #expect(end.data.count == end.length) }
        for id in waiting { host.unlink(id) }
        host.instrument = { $0 }
        #expect(host.control(SetupPacket(0, 9, value: 1)) == [])
        #expect(try host.ask(line("well again")) == line("well again"))
    }

    private func randomTransfer(_ dice: inout Dice, _ host: USBHost) -> [UInt8] {
        let body = dice.bytes([0, 1, 4, 12, 24, 500, 512, 1000, 1012, 5000].randomElement(using: &dice) ?? 0)
        switch Int.random(in: 0..<6, using: &dice) {
        case 0: return body
        case 1:
            return host.header(
                2, size: Int.random(in: 0...3000, using: &dice), attributes: .random(in: 0...3, using: &dice), terminator: 10)
        case 2: return host.header(1, size: Int.random(in: 0...6000, using: &dice), attributes: .random(in: 0...1, using: &dice)) + body
        case 3: return host.header(.random(in: .min ... .max, using: &dice), size: Int.random(in: 0...Int(UInt32.max), using: &dice)) + body
        case 4:
            return [UInt8](repeating: UInt8.random(in: 0...4, using: &dice), count: 1) + [0, 0, 0, 3] + [UInt8](repeating: 0, count: 11)
        default:
            let text = dice.bytes(4 * Int.random(in: 1...200, using: &dice))
            return host.header(1, size: text.count, attributes: 1) + text
        }
    }

    private func randomSetup(_ dice: inout Dice) -> SetupPacket {
        let kinds: [UInt8] = [
            0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0xA1, 0xA2, 0x21, 0x22, 0x41, 0xC1, .random(in: .min ... .max, using: &dice),
        ]
        let requests: [UInt8] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 64, 128, 160, .random(in: .min ... .max, using: &dice)]
        let places: [UInt16] = [0, 1, 2, 3, 0x81, 0x82, 0x83, .random(in: .min ... .max, using: &dice)]
        let values: [UInt16] = [0, 1, 2, 5, 0x0100, 0x0200, 0x0302, .random(in: .min ... .max, using: &dice)]
        return SetupPacket(
            kinds.randomElement(using: &dice) ?? 0, requests.randomElement(using: &dice) ?? 0,
            value: values.randomElement(using: &dice) ?? 0,
            index: places.randomElement(using: &dice) ?? 0, length: .random(in: 0...300, using: &dice))
    }

    private func randomEvent(_ dice: inout Dice, _ host: USBHost) -> USBInput {
        switch Int.random(in: 0..<7, using: &dice) {
        case 0:
            .answer(
                dice.bytes(Int.random(in: 0...3000, using: &dice)), message: host.device.messageNumber - Int.random(in: 0...1, using: &dice)
            )
        case 1: .statusAnswer(.random(in: 0...5000, using: &dice), 7, enable: 255)
        case 2: .welcome(.random(in: 0...2, using: &dice))
        case 3: .frame(dice.bytes(Int.random(in: 0...3000, using: &dice)))
        case 4: .noFrame
        case 5: .unlink(.random(in: 0...5000, using: &dice))
        default: .framesReady
        }
    }
}
