// A recorded session in the place of a device: answers only what was asked when it was recorded, in the same order.

import Foundation
import Synchronization

/// Plays a transcript. A message that differs from the recorded one ends the session; a wait for an answer that the
/// recording does not have times out at once.
public final class ReplayLine: ByteLine {
    private struct State {
        var next = 0
        var partial: [UInt8] = []
        var output: [UInt8] = []
        var failure: TransportError?
        var isClosed = false
    }

    public let name: String
    public let bytesPerSecond: Int?
    private let entries: [Transcript.Entry]
    private let state = Mutex(State())

    public init(_ transcript: Transcript, name: String, bytesPerSecond: Int? = nil) {
        self.name = name
        self.bytesPerSecond = bytesPerSecond
        entries = transcript.entries
    }

    public convenience init(file: String) throws {
        self.init(try Transcript(contentsOf: URL(fileURLWithPath: file)), name: "replay:\(file)")
    }

    public func write(_ bytes: UnsafeRawBufferPointer, _ patience: Patience) throws {
        try state.withLock { state in
            try check(state)
            state.partial += bytes
            while let newline = state.partial.firstIndex(of: UInt8(ascii: "\n")) {
                let message = String(decoding: state.partial[..<newline], as: UTF8.self)
                state.partial.removeFirst(newline + 1)
                do { try answer(message, &state) } catch let error as TransportError {
                    state.failure = error
                    throw error
                }
            }
        }
    }

    private func answer(_ message: String, _ state: inout State) throws {
        guard state.next < entries.count else {
            throw TransportError.offScript(name, reason: "'\(excerpt(message))' was sent after the end")
        }
        guard case .sent(let expected) = entries[state.next], expected == message else {
            throw TransportError.offScript(name, reason: "'\(excerpt(message))' was sent where \(Self.words(entries[state.next])) stands")
        }
        state.next += 1
        while state.next < entries.count {
            switch entries[state.next] {
            case .sent: return
            case .line(let text): state.output += Array(text.utf8)
            case .pattern(let pattern, let example):
                guard let example else {
                    throw TransportError.offScript(name, reason: "the answer '\(excerpt(pattern))' is a pattern without an example")
                }
                state.output += Array(example.utf8)
            case .block(let bytes):
                let digits = String(bytes.count)
                state.output += Array("#\(digits.count)\(digits)".utf8) + bytes
            }
            state.output.append(UInt8(ascii: "\n"))
            state.next += 1
        }
    }

    private static func words(_ entry: Transcript.Entry) -> String {
        switch entry {
        case .sent(let text): "'\(excerpt(text))'"
        case .line(let text): "the answer '\(excerpt(text))'"
        case .pattern(let text, _): "the answer '\(excerpt(text))'"
        case .block(let bytes): "a block of \(bytes.count) bytes"
        }
    }

    public func read(into buffer: UnsafeMutableRawBufferPointer, _ patience: Patience) throws -> Int {
        try state.withLock { state in
            try check(state)
            guard !state.output.isEmpty else { throw TransportError.timedOut(name, doing: "waiting for an answer that was not recorded") }
            let count = min(buffer.count, state.output.count)
            buffer.copyBytes(from: state.output[..<count])
            state.output.removeFirst(count)
            return count
        }
    }

    private func check(_ state: State) throws {
        if let failure = state.failure { throw failure }
        if state.isClosed { throw TransportError.closed(name, reason: "closed on this side") }
    }

    public func clear(_ patience: Patience) throws -> Bool { false }

    public func close() { state.withLock { $0.isClosed = true } }

    /// - Throws: `TransportError.offScript` where the session went wrong, or messages or answers are left over.
    public func finish() throws {
        try state.withLock { state in
            if let failure = state.failure { throw failure }
            guard state.next == entries.count else {
                throw TransportError.offScript(name, reason: "\(Self.words(entries[state.next])) was never sent")
            }
            guard state.output.isEmpty else {
                throw TransportError.offScript(name, reason: "the last answer was not read")
            }
        }
    }
}
