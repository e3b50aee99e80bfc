// SCPI as types: queries with ranges, commands whose errors are read at once.

import Synchronization
public import Transport

/// A typed SCPI session over an instrument session.
///
/// Every command is followed by `SYSTem:ERRor?` in the same write, so that a refusal belongs to the command that caused it.
public final class SCPISession: Sendable {
    public let line: InstrumentSession

    private let notices = Mutex<[SCPIError]>([])

    /// Times that errors are read in a row: the protocol's queue holds 16.
    private static let errorQueue = 20

    public init(_ line: InstrumentSession) { self.line = line }

    // MARK: Commands

    /// Sends a command and reads the error queue.
    ///
    /// Errors that a device queues by itself (SCPI's -3xx and positive numbers: a calibration that failed meanwhile) are no
    /// refusal: they are kept for `takeNotices`.
    /// - Throws: `InstrumentError.refused`, `.locked`, `TransportError`.
    public func run(_ command: String, within duration: Duration? = nil) async throws {
        let answer = try await line.send(command, thenAsk: "SYSTem:ERRor?", within: duration)
        let first = try SCPIError(answer)
        guard first.code != 0 else { return }
        let found = [first] + (try await errors())
        notices.withLock { $0 = ($0 + found.filter(\.isNotice)).suffix(Self.errorQueue) }
        if let refusal = found.first(where: { !$0.isNotice }) { throw refusal.thrown(command) }
    }

    /// What the device queued by itself since this was asked last.
    public func takeNotices() -> [SCPIError] {
        notices.withLock { notices in
            defer { notices = [] }
            return notices
        }
    }

    /// Reads the error queue until it is empty.
    public func errors() async throws -> [SCPIError] {
        var found: [SCPIError] = []
        for _ in 0..<Self.errorQueue {
            let error = try SCPIError(await line.ask("SYSTem:ERRor?"))
            guard error.code != 0 else { break }
            found.append(error)
        }
        return found
    }

    // MARK: Queries

    /// - Returns: the answer as it came.
    /// - Throws: `InstrumentError.refused` where the device answers nothing and queues an error.
    public func text(_ query: String, within duration: Duration? = nil) async throws -> String {
        do {
            return try await line.ask(query, within: duration)
        } catch TransportError.noAnswer(let address, let query) {
            guard let first = try await errors().first(where: { !$0.isNotice }) else {
                throw TransportError.noAnswer(address, query: query)
            }
            throw first.thrown(query)
        }
    }

    public func integer<Value: FixedWidthInteger>(_ query: String, in range: ClosedRange<Value>) async throws -> Value {
        let answer = try await text(query)
        guard let value = Value(answer), range.contains(value) else {
            throw unexpected(query, answer, "an integer from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    public func number(_ query: String, in range: ClosedRange<Double>) async throws -> Double {
        let answer = try await text(query)
        guard let value = Double(answer), range.contains(value) else {
            throw unexpected(query, answer, "a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    public func boolean(_ query: String) async throws -> Bool {
        switch try await text(query) {
        case "1": return true
        case "0": return false
        case let answer: throw unexpected(query, answer, "1 or 0")
        }
    }

    /// - Parameter count: how many numbers there must be.
    public func numbers(_ query: String, count: ClosedRange<Int>, in range: ClosedRange<Double>) async throws -> [Double] {
        let answer = try await text(query)
        let values = try SCPIText.fields(answer).compactMap { Double($0) }
        guard count.contains(values.count), try SCPIText.fields(answer).count == values.count, values.allSatisfy(range.contains) else {
            throw unexpected(
                query, answer, "\(count.lowerBound) to \(count.upperBound) numbers from \(range.lowerBound) to \(range.upperBound)")
        }
        return values
    }

    /// Comma-separated fields; quoted ones without their quotes.
    public func fields(_ query: String, count: ClosedRange<Int>) async throws -> [String] {
        let answer = try await text(query)
        guard let fields = try? SCPIText.fields(answer), count.contains(fields.count) else {
            throw unexpected(query, answer, "\(count.lowerBound) to \(count.upperBound) fields")
        }
        return fields
    }

    /// One string; quotes taken off.
    public func string(_ query: String) async throws -> String { try await fields(query, count: 1...1)[0] }

    public func word<Word: RawRepresentable & CaseIterable>(_ query: String, _ type: Word.Type = Word.self) async throws -> Word
    where Word.RawValue == String {
        let answer = try await text(query)
        guard let word = Word(rawValue: answer.uppercased()) else {
            throw unexpected(query, answer, "one of \(Word.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return word
    }

    /// A block of little-endian Float32.
    public func floats(_ query: String, maximum: Int, within duration: Duration? = nil) async throws -> [Float] {
        let bytes = try await block(query, maximum: 4 * maximum, within: duration)
        guard bytes.count.isMultiple(of: 4) else { throw unexpected(query, "\(bytes.count) bytes", "a multiple of four bytes") }
        return bytes.withUnsafeBytes { bytes in
            stride(from: 0, to: bytes.count, by: 4).map {
                Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self)))
            }
        }
    }

    public func block(_ query: String, maximum: Int, within duration: Duration? = nil) async throws -> [UInt8] {
        try await block(query, maximum: maximum, within: duration) { length, read in
            var bytes = [UInt8](repeating: 0, count: length)
            try bytes.withUnsafeMutableBytes { try read($0) }
            return bytes
        }
    }

    public func block<R: Sendable>(
        _ query: String, maximum: Int, within duration: Duration? = nil,
        _ receive: @escaping @Sendable (_ length: Int, _ read: (UnsafeMutableRawBufferPointer) throws -> Void) throws -> R
    ) async throws -> R {
        do {
            return try await line.askBlock(query, maximum: maximum, within: duration, receive)
        } catch TransportError.noAnswer(let address, let query) {
            guard let first = try await errors().first(where: { !$0.isNotice }) else {
                throw TransportError.noAnswer(address, query: query)
            }
            throw first.thrown(query)
        }
    }

    private func unexpected(_ query: String, _ answer: String, _ wanted: String) -> InstrumentError {
        .unexpectedAnswer(query: query, answer: excerpt(answer), wanted: wanted)
    }
}

/// One entry of the error queue.
public struct SCPIError: Sendable, Equatable {
    public var code: Int
    public var text: String

    init(_ answer: String) throws {
        let fields = (try? SCPIText.fields(answer)) ?? []
        guard fields.count == 2, let code = Int(fields[0]) else {
            throw InstrumentError.unexpectedAnswer(query: "SYSTem:ERRor?", answer: excerpt(answer), wanted: "<number>,\"<text>\"")
        }
        self.code = code
        text = excerpt(fields[1])
    }

    /// Queued by the device itself, not because of a message.
    public var isNotice: Bool { (-399 ... -300).contains(code) || code > 0 }

    func thrown(_ command: String) -> InstrumentError {
        code == -200 && text.contains("locked")
            ? .locked(command: excerpt(command)) : .refused(command: excerpt(command), code: code, text: text)
    }
}

/// Answers taken apart.
enum SCPIText {
    /// Splits at commas outside quotes, drops quotes (`""` inside is one quote) and blanks around fields.
    static func fields(_ answer: String) throws -> [String] {
        var fields: [String] = []
        var field = ""
        var isQuoted = false
        var previous: Character?
        for character in answer {
            switch character {
            case "\"":
                isQuoted.toggle()
                // The second of two quotes inside a string opens it again: it stands for one.
                if isQuoted, previous == "\"", !field.isEmpty { field.append("\"") }
            case ",":
                isQuoted
                    ? field.append(",")
                    : {
                        fields.append(field.trimmed); field = ""
                    }()
            default: field.append(character)
            }
            previous = character
        }
        guard !isQuoted else {
            throw InstrumentError.unexpectedAnswer(query: "", answer: excerpt(answer), wanted: "a string with its closing quote")
        }
        return fields + [field.trimmed]
    }

    /// A string as a parameter.
    static func quoted(_ text: String) -> String { "\"\(text.replacing("\"", with: "\"\""))\"" }
}

extension String {
    fileprivate var trimmed: String {
        var text = self[...]
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
