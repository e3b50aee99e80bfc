import ArgumentParser
import Foundation
import Instruments
import Transport

struct ConsoleAction: DeviceAction {
    static let configuration = CommandConfiguration(
        commandName: "qkdctl device <uri> console", abstract: "Type SCPI by hand, one message per line.",
        discussion: """
            Queries (with a '?') print their answer, blocks as their length and first bytes; after everything else the error queue is read.
            The session is the device's own: nothing is locked unless you send SYSTem:LOCK:REQuest?. An empty line or the end of input leaves.
            """)

    @OptionGroup var options: DeviceOptions

    func validate() throws {
        guard !options.json else { throw ValidationError("console has no --json: it prints what the device says") }
    }

    func run(at uri: String) async throws {
        let session = try await InstrumentSession.open(try Address(uri), options: options.open)
        defer { session.close() }
        let scpi = SCPISession(session)
        if Output.isTerminal { Output.complain("connected to \(uri); an empty line leaves") }
        while let line = await Self.readLine(), !line.isEmpty {
            do {
                if line.contains("?") {
                    print(Self.words(try await session.askAnything(line, maximum: 4 << 20)))
                } else {
                    try await scpi.run(line)
                }
            } catch TransportError.noAnswer {
                for error in try await scpi.errors() { Output.complain("\(error.code), \(error.text)") }
            } catch let error as InstrumentError {
                Output.complain("\(error)")
            } catch TransportError.timedOut(let address, let doing) {
                Output.complain("\(TransportError.timedOut(address, doing: doing))")
            }
        }
    }

    /// Waits for a line without holding one of Swift's own threads.
    private static func readLine() async -> String? {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                if Output.isTerminal, isatty(0) == 1 { Output.toErrors("> ") }
                continuation.resume(returning: Swift.readLine())
            }
        }
    }

    private static func words(_ answer: Answer) -> String {
        switch answer {
        case .line(let text): return text
        case .block(let bytes):
            let start = bytes.prefix(32).map { String(format: "%02x", $0) }.joined(separator: " ")
            return "block of \(bytes.count) bytes: \(start)\(bytes.count > 32 ? " ..." : "")"
        }
    }
}
