// USBTMC from the host's side, without a bus: a scripted one answers, and a random one tries to confuse it.

import Foundation
import QKDModel
import QKDTesting
import Testing
import Transport

private let endpoints = TMCMachine.Endpoints(interface: 0, bulkOut: 1, bulkIn: 0x81, interruptIn: 0x82)

private func machine() -> TMCMachine { TMCMachine(endpoints: endpoints, packet: 512, buffer: 65_536) }

private func little(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

/// The header of a response transfer.
private func response(_ tag: UInt8, _ size: Int, isEnd: Bool = true) -> [UInt8] {
    [2, tag, ~tag, 0] + little(size) + [isEnd ? 1 : 0, 0, 0, 0]
}

@Suite struct TMCMachineTests {
    /// USBTMC 1.0, table 3: header, tag and its complement, size, EOM; then the alignment to four bytes.
    @Test(arguments: 0...9) func messagesAreFramedAndAligned(count: Int) {
        var machine = machine()
        let message = [UInt8](repeating: 0x41, count: count)
        guard case .perform(.bulkOut(let bytes)) = machine.send(message) else {
            Issue.record("nothing is sent")
            return
        }
        #expect(Array(bytes[..<12]) == [1, 1, 254, 0] + little(count) + [1, 0, 0, 0])
        #expect(bytes.count % 4 == 0 && bytes.count - 12 - count < 4)
        #expect(Array(bytes[12..<(12 + count)]) == message && bytes[(12 + count)...].allSatisfy { $0 == 0 })
        #expect(machine.input(.sent) == .finished(.done))
    }

    @Test func tagsGoFrom1To255AndNeverRepeatInARow() {
        var machine = machine()
        var last: UInt8 = 0
        for index in 0..<600 {
            guard case .perform(.bulkOut(let bytes)) = machine.send([0x0A]) else { return }
            _ = machine.input(.sent)
            #expect(bytes[1] == UInt8(index % 255 + 1) && bytes[1] != last && bytes[2] == ~bytes[1])
            last = bytes[1]
        }
    }

    @Test func aResponseOverSeveralTransfers() {
        var machine = machine()
        guard case .perform(.bulkOut(let request)) = machine.receive() else { return }
        #expect(request.count == 12 && request[0] == 2 && request[4...7].elementsEqual(little(machine.longestAnswer)))
        #expect(machine.input(.sent) == .perform(.bulkIn(isDrain: false)))
        #expect(
            machine.input(.received(head: response(1, 1000, isEnd: false), count: 1012, isShort: true))
                == .finished(.payload(12..<1012, isEnd: false)))
        _ = machine.receive()
        _ = machine.input(.sent)
        #expect(machine.input(.received(head: response(2, 5), count: 17, isShort: true)) == .finished(.payload(12..<17, isEnd: true)))
        #expect(!machine.isWaiting)
    }

    /// A time-out keeps the request: the next look does not ask again, and what came before it is not lost.
    @Test func aTimeOutInTheMiddleOfATransfer() {
        var machine = machine()
        _ = machine.receive()
        _ = machine.input(.sent)
        #expect(machine.input(.timedOut(head: [], count: 0)) == .finished(.timedOut))
        #expect(machine.isWaiting && machine.receive() == .perform(.bulkIn(isDrain: false)))
        #expect(machine.input(.timedOut(head: response(1, 600), count: 512)) == .finished(.payload(12..<512, isEnd: false)))
        #expect(machine.receive() == .perform(.bulkIn(isDrain: false)))
        #expect(machine.input(.received(head: [], count: 100, isShort: true)) == .finished(.payload(0..<100, isEnd: true)))
        #expect(!machine.isWaiting)
    }

    @Test func lateAnswersAreThrownAwayByTheirTag() {
        var machine = machine()
        _ = machine.send([0x0A])
        _ = machine.input(.sent)
        _ = machine.receive()
        _ = machine.input(.sent)
        // Tag 2 is asked for; an answer to 1, and the packet of zero bytes of an abort, come first.
        #expect(machine.input(.received(head: response(1, 8), count: 20, isShort: true)) == .perform(.bulkIn(isDrain: false)))
        #expect(machine.input(.received(head: [], count: 0, isShort: true)) == .perform(.bulkIn(isDrain: false)))
        #expect(machine.input(.received(head: response(2, 8), count: 20, isShort: true)) == .finished(.payload(12..<20, isEnd: true)))
    }

    @Test func brokenResponsesAreSaid() {
        let broken: [(head: [UInt8], count: Int)] = [
            ([3, 1, 254, 0] + little(4) + [1, 0, 0, 0], 16), ([2, 1, 1, 0] + little(4) + [1, 0, 0, 0], 16),
            (response(1, 100), 50), (response(1, 4), 30), (response(1, 1 << 30), 512), ([2, 1, 254], 3),
        ]
        for (head, count) in broken {
            var machine = machine()
            _ = machine.receive()
            _ = machine.input(.sent)
            guard case .finished(.malformed) = machine.input(.received(head: head, count: count, isShort: true)) else {
                Issue.record("accepted: \(head), \(count) bytes")
                continue
            }
        }
    }

    /// USBTMC 1.0, 4.2.1.4: abort, read until a short packet, ask until it is done.
    @Test func abortDrainsAndAsks() {
        var machine = machine()
        _ = machine.receive()
        _ = machine.input(.sent)
        _ = machine.input(.timedOut(head: [], count: 0))
        #expect(machine.abort() == .perform(.control(type: 0xA2, request: 3, value: 1, index: 0x81, length: 2)))
        #expect(machine.input(.reply([1, 1])) == .perform(.bulkIn(isDrain: true)))
        let check = TMCMachine.Step.perform(.control(type: 0xA2, request: 4, value: 0, index: 0x81, length: 8))
        #expect(machine.input(.received(head: [], count: 0, isShort: true)) == check)
        #expect(machine.input(.reply([2, 1, 0, 0, 0, 0, 0, 0])) == .perform(.bulkIn(isDrain: true)))
        #expect(machine.input(.timedOut(head: [], count: 0)) == check)
        #expect(machine.input(.reply([2, 0, 0, 0, 0, 0, 0, 0])) == .perform(.pause))
        #expect(machine.input(.done) == check)
        #expect(machine.input(.reply([1, 0, 0, 0, 0, 0, 0, 0])) == .finished(.done))
        #expect(!machine.isWaiting && machine.abort() == .finished(.done))
    }

    /// Where an abort is refused, the device is cleared: INITIATE_CLEAR, CHECK, CLEAR_FEATURE on bulk-OUT.
    @Test func clearFollowsAnAbortThatFails() {
        var machine = machine()
        _ = machine.receive()
        _ = machine.input(.sent)
        _ = machine.input(.timedOut(head: [], count: 0))
        _ = machine.abort()
        #expect(machine.input(.stalled) == .perform(.control(type: 0xA1, request: 5, value: 0, index: 0, length: 1)))
        let check = TMCMachine.Step.perform(.control(type: 0xA1, request: 6, value: 0, index: 0, length: 2))
        #expect(machine.input(.reply([1])) == check)
        #expect(machine.input(.reply([2, 1])) == .perform(.bulkIn(isDrain: true)))
        #expect(machine.input(.received(head: [], count: 512, isShort: true)) == check)
        #expect(machine.input(.reply([1, 0])) == .perform(.clearHalt(endpoint: 1)))
        #expect(machine.input(.done) == .finished(.done))
    }

    @Test func stallsAreHealedAndSaid() {
        var sending = machine()
        _ = sending.send([0x41])
        #expect(sending.input(.stalled) == .perform(.clearHalt(endpoint: 1)))
        #expect(sending.input(.done) == .finished(.stalled))
        var reading = machine()
        _ = reading.receive()
        _ = reading.input(.sent)
        #expect(reading.input(.stalled) == .perform(.clearHalt(endpoint: 0x81)))
        #expect(reading.input(.done) == .finished(.stalled) && !reading.isWaiting)
    }

    /// USB488 4.3.1: the status byte comes by the interrupt endpoint, perhaps behind a service request.
    @Test func serialPoll() {
        var machine = machine()
        #expect(machine.readStatusByte() == .perform(.control(type: 0xA1, request: 128, value: 2, index: 0, length: 3)))
        #expect(machine.input(.reply([1, 2, 0])) == .perform(.interruptIn))
        #expect(machine.input(.received(head: [0x81, 0x44], count: 2, isShort: true)) == .perform(.interruptIn))
        #expect(machine.input(.received(head: [0x82, 0x14], count: 2, isShort: true)) == .finished(.status(0x14)))
        #expect(machine.takeServiceRequest() && !machine.takeServiceRequest())
        var without = TMCMachine(
            endpoints: .init(interface: 0, bulkOut: 1, bulkIn: 0x81, interruptIn: nil), packet: 512, buffer: 65_536)
        _ = without.readStatusByte()
        #expect(without.input(.reply([1, 2, 0x30])) == .finished(.status(0x30)))
    }

    /// Whatever a bus says, every task ends after a bounded number of steps, and payloads lie within the buffer.
    @Test func aConfusedBusCannotHoldIt() {
        let random = SeededRandom(23)
        var machine = machine()
        for _ in 0..<30_000 {
            var step: TMCMachine.Step =
                switch random.word() % 6 {
                case 0: machine.send(random.bytes(Int(random.word() % 40)))
                case 1, 2: machine.receive()
                case 3: machine.abort()
                case 4: machine.clear()
                default: machine.readStatusByte()
                }
            var steps = 0
            while case .perform = step {
                steps += 1
                guard steps < 400 else {
                    Issue.record("a task does not end")
                    return
                }
                step = machine.input(Self.outcome(random))
            }
            if case .finished(.payload(let range, _)) = step { #expect(range.lowerBound >= 0 && range.upperBound <= 65_536) }
        }
    }

    private static func outcome(_ random: SeededRandom) -> TMCMachine.Outcome {
        let kind = random.word() % 9
        let count = Int(random.word() % 1500)
        var head = random.bytes(min(12, count))
        // Often nearly right.
        if head.count == 12, random.word() % 2 == 0 { head = response(UInt8(random.word() % 4), count - 12 + Int(random.word() % 3) - 1) }
        return switch kind {
        case 0, 1: .sent
        case 2, 3: .received(head: head, count: count, isShort: random.word() % 3 > 0)
        case 4: .reply(random.bytes(Int(random.word() % 9)).map { $0 % 4 })
        case 5: .reply([1, 0, 0, 0, 0, 0, 0, 0])
        case 6: .stalled
        case 7: .timedOut(head: head, count: count)
        default: .done
        }
    }
}

@Suite struct NodeAccessTests {
    /// Group and mode decide what is missing; docs/attaching-devices.md has the same words.
    @Test func troubleNamesWhatIsMissing() throws {
        let page = try String(contentsOfFile: packageFolder + "docs/attaching-devices.md", encoding: .utf8)
        let cases: [(group: String, mode: UInt32, words: String)] = [
            ("qkd", 0o660, "join the group"), ("qkd", 0o600, "a later udev rule took the group's access away"),
            ("root", 0o664, "the udev rule 60-qkd.rules has not seen it"), ("plugdev", 0o660, "the udev rule 60-qkd.rules has not seen it"),
        ]
        for (group, mode, words) in cases {
            let text = NodeAccess.words("/dev/bus/usb/001/004", group: group, mode: mode)
            #expect(text.hasPrefix("/dev/bus/usb/001/004 belongs to group \(group), mode 0\(String(mode, radix: 8)): "))
            #expect(text.contains(words) && page.contains(words), "\(text)")
        }
    }
}

@Suite struct USBModelTests {
    /// The same ids in the driver and in udev's rules: strangers with the same numbers have other product strings.
    @Test func rulesHaveEveryModel() throws {
        let rules = try String(contentsOfFile: packageFolder + "udev/60-qkd.rules", encoding: .utf8)
        func hex(_ value: UInt16) -> String { String(repeating: "0", count: 4 - String(value, radix: 16).count) + String(value, radix: 16) }
        for model in USBModel.known {
            let lines = rules.split(separator: "\n").filter {
                $0.contains("\"\(hex(model.vendor))\"") && $0.contains("\"\(hex(model.product))\"")
                    && $0.contains("\(model.productPrefix)*")
                    && $0.contains(model.connection == .usb ? "SUBSYSTEM==\"usb\"" : "SUBSYSTEM==\"tty\"")
            }
            #expect(lines.count == 1, "udev/60-qkd.rules needs one line for \(model)")
        }
    }
}

private let packageFolder = #filePath.split(separator: "/").dropLast(3).reduce("/") { $0 + $1 + "/" }
