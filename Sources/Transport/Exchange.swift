// One message out, one answer in, and the way back into step. Confined to the line's thread.

/// The blocking side of an `InstrumentSession`.
final class Exchange {
    /// Longest program message, without its NL.
    static let longestMessage = 4095
    /// A device that has said nothing for so long is asked for a marker, which tells a slow answer from none.
    static let probeAfter = Duration.milliseconds(700)

    private let line: any ByteLine
    private let reader: AnswerReader
    /// Nobody knows where in the stream the next answer begins.
    private var isOutOfStep: Bool
    private var isBroken: TransportError?
    /// The line was brought into step, and the device's error queue has not been read to its end since: it may hold, now or soon,
    /// an error about what was lost, which says nothing about the query at hand.
    private var hasOldErrors = false
    /// Copies of `*IDN?` in the last marker: 2 to 9 in turn, so that late markers are told apart.
    private var markerCopies = 1

    init(_ line: any ByteLine) {
        self.line = line
        reader = AnswerReader(line)
        isOutOfStep = line.keepsOldAnswers
    }

    // MARK: - What sessions offer

    func send(_ message: String, _ patience: Patience) throws {
        try inStep(patience) { try write([message], patience) }
    }

    /// `message` (no answer) and then `query`, in one write: one round trip for "do it, then say what went wrong".
    func send(_ message: String, thenAsk query: String, _ patience: Patience) throws -> String {
        try inStep(patience) {
            try write([message, query], patience)
            return note(try reader.line(patience))
        }
    }

    /// `0,"No error"` is the end of the error queue.
    private func note(_ answer: String) -> String {
        if answer.hasPrefix("0,\"") || answer.hasPrefix("+0,\"") { hasOldErrors = false }
        return answer
    }

    func ask(_ query: String, _ patience: Patience) throws -> String {
        try asking(query, patience) { first in
            guard first != UInt8(ascii: "#") else {
                let length = try reader.blockLength(patience)
                try reader.skip(length, patience)
                try reader.endOfBlock(patience)
                throw TransportError.malformed(line.name, reason: "'\(excerpt(query))' was answered with a block")
            }
            return note(try reader.line(patience))
        }
    }

    func askBlock<R>(
        _ query: String, maximum: Int, _ patience: Patience,
        _ receive: (_ length: Int, _ read: (UnsafeMutableRawBufferPointer) throws -> Void) throws -> R
    ) throws -> R {
        try asking(query, patience) { first in
            guard first == UInt8(ascii: "#") else {
                let text = try reader.line(patience)
                throw TransportError.malformed(line.name, reason: "'\(excerpt(query))' wants a block and was answered '\(excerpt(text))'")
            }
            let length = try reader.blockLength(patience)
            guard length <= maximum else {
                isOutOfStep = true
                throw TransportError.tooLong(line.name, limit: maximum)
            }
            var rest = length
            let result = Result {
                try receive(length) { target in
                    guard target.count <= rest else {
                        throw TransportError.malformed(line.name, reason: "a block is shorter than its content")
                    }
                    try reader.read(into: target, patience)
                    rest -= target.count
                }
            }
            if case .failure(let error) = result, endsExchange(error) { throw error }
            try reader.skip(rest, patience)
            try reader.endOfBlock(patience)
            return try result.get()
        }
    }

    func askAnything(_ query: String, maximum: Int, _ patience: Patience) throws -> Answer {
        try asking(query, patience) { first in
            guard first == UInt8(ascii: "#") else { return .line(try reader.line(patience)) }
            let length = try reader.blockLength(patience)
            guard length <= maximum else {
                isOutOfStep = true
                throw TransportError.tooLong(line.name, limit: maximum)
            }
            var bytes = [UInt8](repeating: 0, count: length)
            try bytes.withUnsafeMutableBytes { try reader.read(into: $0, patience) }
            try reader.endOfBlock(patience)
            return .block(bytes)
        }
    }

    // MARK: - In step

    /// Errors after which nobody knows where in the stream the next answer begins.
    private func endsExchange(_ error: any Error) -> Bool {
        switch error {
        case TransportError.timedOut, TransportError.closed, is CancellationError: true
        default: false
        }
    }

    private func isClosed(_ error: any Error) -> Bool { if case TransportError.closed = error { true } else { false } }

    private func inStep<R>(_ patience: Patience, _ body: () throws -> R) throws -> R {
        if let isBroken { throw isBroken }
        if patience.cancellation.isCancelled { throw CancellationError() }
        if !line.keepsMessages { try reader.poll() }
        if isOutOfStep || reader.hasLeftovers { try resynchronise(patience) }
        do {
            return try body()
        } catch {
            if endsExchange(error) || (error as? TransportError).map(isFraming) == true { isOutOfStep = true }
            throw error
        }
    }

    private func isFraming(_ error: TransportError) -> Bool {
        switch error {
        case .malformed, .tooLong: true
        default: false
        }
    }

    private func asking<R>(_ query: String, _ patience: Patience, _ read: (_ first: UInt8) throws -> R) throws -> R {
        try inStep(patience) {
            try write([query], patience)
            do {
                return try read(reader.firstByte(patience.atMost(Self.probeAfter)))
            } catch TransportError.timedOut where !reader.hasLeftovers && !patience.isOver {
                return try line.keepsMessages ? watch(query, patience, read) : probe(query, patience, read)
            }
        }
    }

    /// Polls the status byte of a device that is silent: an error in its queue and nothing to read mean that nothing will come.
    private func watch<R>(_ query: String, _ patience: Patience, _ read: (_ first: UInt8) throws -> R) throws -> R {
        while true {
            if !hasOldErrors, let status = try line.statusByte(patience), status & 0x14 == 0x04 {
                isOutOfStep = true
                throw TransportError.noAnswer(line.name, query: excerpt(query))
            }
            do {
                return try read(reader.firstByte(patience.atMost(Self.probeAfter)))
            } catch TransportError.timedOut where !reader.hasLeftovers && !patience.isOver {
                continue
            }
        }
    }

    /// Sends a marker behind a query that seems to stay without answer: if the marker's answer comes first, it has none.
    private func probe<R>(_ query: String, _ patience: Patience, _ read: (_ first: UInt8) throws -> R) throws -> R {
        try sendMarker(patience)
        if try reader.firstByte(patience) == UInt8(ascii: "#") {
            let block = try read(UInt8(ascii: "#"))
            try findMarker(patience)
            return block
        }
        let text = try reader.line(patience)
        if isMarker(text.utf8) { throw TransportError.noAnswer(line.name, query: excerpt(query)) }
        // It was only slow. Hand the line back to whoever knows what to do with it.
        reader.putBack(text)
        let answer = Result { try read(reader.firstByte(patience)) }
        try findMarker(patience)
        return try answer.get()
    }

    private func write(_ messages: [String], _ patience: Patience) throws {
        for text in messages where text.utf8.count > Self.longestMessage || text.utf8.contains(UInt8(ascii: "\n")) {
            throw TransportError.unsendable(line.name, message: excerpt(text))
        }
        try writeRaw(messages.map { $0 + "\n" }.joined(), patience)
    }

    private func writeRaw(_ text: String, _ patience: Patience) throws {
        var text = text
        do {
            try text.withUTF8 { try line.write(UnsafeRawBufferPointer($0), patience) }
        } catch {
            if line.keepsMessages, !isClosed(error) {
                // The device was told to forget the message as a whole.
                isOutOfStep = true
                throw error
            }
            // Part of a command may be on its way; whatever came next would be glued to it.
            let reason = TransportError.closed(line.name, reason: "a message could not be sent whole: \(error)")
            isBroken = reason
            line.close()
            throw error
        }
    }

    // MARK: - Markers

    /// Brings the session back into step: what came and what still comes before the marker's answer is dropped.
    private func resynchronise(_ patience: Patience) throws {
        isOutOfStep = true
        let isClear = try line.clear(patience)
        reader.reset()
        if line.keepsMessages {
            guard isClear else { throw TransportError.timedOut(line.name, doing: "clearing it") }
            hasOldErrors = true
            isOutOfStep = false
            return
        }
        // The first line to come may be the rest of a broken answer, which could look like anything, or have the next one
        // glued to it after a device clear. So one line goes before the marker, and the first to come is not looked at.
        try writeRaw("*IDN?\n", patience)
        try sendMarker(patience)
        _ = try reader.lineTail(patience, longest: 1024)
        try findMarker(patience)
        isOutOfStep = false
    }

    private func sendMarker(_ patience: Patience) throws {
        markerCopies = markerCopies >= 9 ? 2 : markerCopies + 1
        try writeRaw([String](repeating: "*IDN?", count: markerCopies).joined(separator: ";") + "\n", patience)
    }

    private func findMarker(_ patience: Patience) throws {
        while !isMarker(try reader.lineTail(patience, longest: 1024)) {}
    }

    /// On bytes: megabytes of a lost block may have to be looked through.
    private func isMarker(_ text: some Collection<UInt8>) -> Bool {
        let parts = text.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
        guard parts.count == markerCopies, let first = parts.first else { return false }
        return parts.allSatisfy { $0.elementsEqual(first) } && first.count { $0 == UInt8(ascii: ",") } == 3
    }
}
