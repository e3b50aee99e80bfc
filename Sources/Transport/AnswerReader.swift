// Bytes of a line taken apart into answers. Confined to the line's thread.

/// Reads answers: lines ended by NL, and definite-length blocks by their length.
final class AnswerReader {
    /// An answer line longer than this is refused: the protocol's longest (lists of capabilities) stay far below.
    static let longestLine = 64 * 1024

    private let line: any ByteLine
    private var buffer = [UInt8](repeating: 0, count: 64 * 1024)
    private var start = 0
    private var end = 0

    init(_ line: any ByteLine) { self.line = line }

    /// Bytes that came and belong to no answer that was taken.
    var hasLeftovers: Bool { start < end }

    /// The start of what came so far, for errors.
    var leftovers: String { excerpt(String(decoding: buffer[start..<min(end, start + 60)], as: UTF8.self)) }

    /// Takes in what is there already, without waiting.
    func poll() throws {
        guard !hasLeftovers else { return }
        do { try fill(Patience(.zero)) } catch TransportError.timedOut {}
    }

    /// Waits for the first byte of an answer without taking it.
    func firstByte(_ patience: Patience) throws -> UInt8 {
        while start == end { try fill(patience) }
        return buffer[start]
    }

    private func fill(_ patience: Patience) throws {
        if start == end { (start, end) = (0, 0) }
        if end == buffer.count {
            guard start > 0 else { throw TransportError.tooLong(line.name, limit: Self.longestLine) }
            buffer.replaceSubrange(0..<(end - start), with: buffer[start..<end])
            (start, end) = (0, end - start)
        }
        end += try buffer.withUnsafeMutableBytes { bytes in
            try line.read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[end...]), patience)
        }
    }

    /// - Returns: a line without its NL and a CR before it.
    func line(_ patience: Patience) throws -> String {
        var searched = 0
        while true {
            if let newline = buffer[(start + searched)..<end].firstIndex(of: UInt8(ascii: "\n")) {
                var text = buffer[start..<newline]
                if text.last == UInt8(ascii: "\r") { text.removeLast() }
                start = newline + 1
                return String(decoding: text, as: UTF8.self)
            }
            searched = end - start
            do { try fill(patience) } catch TransportError.timedOut where buffer[start..<end].last == UInt8(ascii: "\r") {
                throw TransportError.malformed(line.name, reason: "answers end with CR alone: set the device's terminator to NL")
            }
        }
    }

    /// Makes a line that was taken the next one again.
    func putBack(_ text: String) {
        let bytes = Array(text.utf8) + [UInt8(ascii: "\n")]
        buffer.replaceSubrange(0..<end, with: bytes + buffer[start..<end])
        (start, end) = (0, bytes.count + end - start)
    }

    /// Drops bytes through the next NL and says what the last line before it ended with (for the search for a marker).
    func lineTail(_ patience: Patience, longest: Int) throws -> [UInt8] {
        while true {
            if let newline = buffer[start..<end].firstIndex(of: UInt8(ascii: "\n")) {
                let text = Array(buffer[max(start, newline - longest)..<newline])
                start = newline + 1
                return text.last == UInt8(ascii: "\r") ? text.dropLast() : text
            }
            // Keep only what a marker could begin with, so that a lost block of megabytes does not pile up.
            if end - start > longest + 1 { start = end - longest - 1 }
            try fill(patience)
        }
    }

    /// Reads `#<d><digits>`.
    /// - Returns: the number of bytes that follow.
    func blockLength(_ patience: Patience) throws -> Int {
        guard try byte(patience) == UInt8(ascii: "#") else {
            throw TransportError.malformed(line.name, reason: "a block must begin with #")
        }
        let digits = Int(try byte(patience)) - 0x30
        guard (1...9).contains(digits) else {
            throw TransportError.malformed(line.name, reason: "a block's length must have 1 to 9 digits")
        }
        var length = 0
        for _ in 0..<digits {
            let digit = Int(try byte(patience)) - 0x30
            guard (0...9).contains(digit) else { throw TransportError.malformed(line.name, reason: "a block's length must be decimal") }
            length = length * 10 + digit
        }
        return length
    }

    private func byte(_ patience: Patience) throws -> UInt8 {
        let value = try firstByte(patience)
        start += 1
        return value
    }

    /// Fills `target`: first from what came already, then straight from the line.
    func read(into target: UnsafeMutableRawBufferPointer, _ patience: Patience) throws {
        let ready = min(target.count, end - start)
        buffer.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<(start + ready)])) }
        start += ready
        var filled = ready
        while filled < target.count {
            filled += try line.read(into: UnsafeMutableRawBufferPointer(rebasing: target[filled...]), patience)
        }
    }

    /// Reads and drops `count` bytes.
    func skip(_ count: Int, _ patience: Patience) throws {
        var rest = count
        while rest > 0 {
            _ = try firstByte(patience)
            let part = min(rest, end - start)
            start += part
            rest -= part
        }
    }

    /// Takes the NL behind a block.
    func endOfBlock(_ patience: Patience) throws {
        var value = try byte(patience)
        if value == UInt8(ascii: "\r") { value = try byte(patience) }
        guard value == UInt8(ascii: "\n") else { throw TransportError.malformed(line.name, reason: "a block must be followed by NL") }
    }

    /// Forgets everything that came.
    func reset() { (start, end) = (0, 0) }
}
