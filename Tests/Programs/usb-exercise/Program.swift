// A driver's day, for tests: the driver as services use it, against a device on USB that something else plays (a bridge to the
// emulator under umockdev, or a real kernel). Each word does one thing, prints what it found, one `key value` a line, and
// ends with status 0 only where everything was as it should be.
//
//   usb-exercise transcript SERIAL FILE...   the recordings, message for message
//   usb-exercise session SERIAL              opens, calibrates, reads symbols, stops, closes
//   usb-exercise sizes SERIAL                answers of every length around packet and buffer boundaries
//   usb-exercise timeouts SERIAL             silence, then the right answers
//   usb-exercise service SERIAL              serial polls and service requests
//   usb-exercise two SERIAL SERIAL           two devices at once, each its own
//   usb-exercise refused SERIAL WORD         opening fails, and the error holds WORD
//   usb-exercise hold SERIAL MS              keeps the device open
//   usb-exercise everywhere SERIAL N STEP    unplugged at every STEP-th transfer of a session, N of them, and back again
//   usb-exercise points SERIAL               unplugged in every state of a managed connection, and back
//   usb-exercise stalls SERIAL               endpoints that halt, and a bus that brings nothing for a while
//   usb-exercise strangers SERIAL            somebody else's adapter with the same ids is never opened
//   usb-exercise cycles SERIAL N             unplugged and replugged N times while managed; memory, files, threads
//   usb-exercise ready SERIAL                from plug to READY
//   usb-exercise stream ADDRESS SECONDS      bytes of symbols per second
//   usb-exercise trips ADDRESS SECONDS       queries per second
//   usb-exercise driver SERIAL               the kernel's driver is as it was found
//
// QKD_BRIDGE is the socket of the bridge's remote control (Tests/Bridge).

import Foundation
import Instruments
import QKDModel
import Transport

struct Wrong: Error, CustomStringConvertible {
    var description: String
    init(_ text: String) { description = text }
}

func say(_ key: String, _ value: some Any) {
    print("\(key) \(value)")
    fflush(nil)
}

func require(_ condition: Bool, _ text: @autoclosure () -> String) throws { if !condition { throw Wrong(text()) } }

@main
struct Program {
    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        do {
            try await run(words)
            print("ok")
        } catch {
            print("wrong: \(error)")
            exit(1)
        }
    }

    private static func run(_ words: [String]) async throws {
        guard words.count >= 2 else { throw Wrong("which exercise, and which device?") }
        let device = words[1]
        func number(_ index: Int) throws -> Int {
            guard words.count > index, let value = Int(words[index]) else { throw Wrong("argument \(index) must be a number") }
            return value
        }
        switch words[0] {
        case "transcript": try await Conversations.transcripts(device, files: Array(words[2...]))
        case "session": try await Sessions.whole(device)
        case "sizes": try await Conversations.sizes(device)
        case "timeouts": try await Conversations.timeouts(device)
        case "service": try await Conversations.service(device)
        case "two": try await Sessions.two(device, words.count > 2 ? words[2] : "")
        case "refused": try await Sessions.refused(device, word: words.count > 2 ? words[2] : "")
        case "hold": try await Sessions.hold(device, milliseconds: number(2))
        case "everywhere": try await Plugs.everywhere(device, count: number(2), step: number(3))
        case "points": try await Plugs.points(device)
        case "stalls": try await Conversations.stalls(device)
        case "strangers": try await Sessions.strangers(device)
        case "cycles": try await Plugs.cycles(device, count: number(2))
        case "ready": try await Plugs.ready(device)
        case "stream": try await Figures.stream(device, seconds: Double(number(2)))
        case "trips": try await Figures.trips(device, seconds: Double(number(2)))
        case "driver": try await Sessions.driver(device)
        default: throw Wrong("'\(words[0])' is no exercise")
        }
    }
}
