// Sessions out of a table of wire pairs: what the driver must send, and what it gets.

public import Transport

/// One row of the table.
public struct WirePair: Sendable {
    var entries: [Transcript.Entry]

    /// A message without an answer.
    public static func sent(_ message: String) -> WirePair { WirePair(entries: [.sent(message)]) }
    /// A query and its answer line.
    public static func asked(_ query: String, _ answer: String) -> WirePair { WirePair(entries: [.sent(query), .line(answer)]) }
    /// A query and its block.
    public static func asked(_ query: String, block: [UInt8]) -> WirePair { WirePair(entries: [.sent(query), .block(block)]) }
    /// A command that succeeds: the error queue is read behind it.
    public static func done(_ command: String) -> WirePair {
        WirePair(entries: [.sent(command), .sent("SYSTem:ERRor?"), .line("0,\"No error\"")])
    }
    /// A command that is refused with one error.
    public static func refused(_ command: String, _ error: String) -> WirePair {
        WirePair(entries: [
            .sent(command), .sent("SYSTem:ERRor?"), .line(error), .sent("SYSTem:ERRor?"), .line("0,\"No error\""),
        ])
    }
}

/// A scripted session. `finish` fails where anything was left over, or the session strayed.
public struct ScriptedTransport: Sendable {
    public let line: ReplayLine

    /// - Parameter bytesPerSecond: as of a serial line; `nil`: no limit.
    public init(_ pairs: [WirePair], bytesPerSecond: Int? = nil) {
        line = ReplayLine(Transcript(entries: pairs.flatMap(\.entries)), name: "script", bytesPerSecond: bytesPerSecond)
    }

    /// A session on the script, with a short deadline.
    public func session() -> InstrumentSession { InstrumentSession(line: line, deadline: .seconds(2)) }

    /// - Throws: `TransportError.offScript`.
    public func finish() throws { try line.finish() }
}
