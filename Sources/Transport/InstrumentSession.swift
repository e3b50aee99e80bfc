// The async face of a line: messages and answers.

/// A session with one instrument. Calls of many tasks queue; each has a deadline.
///
/// After a time-out, a cancellation or a framing error the session brings itself back into step before the next message.
public final class InstrumentSession: Sendable {
    public let address: String
    /// How long an exchange may take unless the call says otherwise.
    public let deadline: Duration
    /// What the line can carry at best, or `nil` where symbols are no burden to it.
    public let bytesPerSecond: Int?

    private let line: any ByteLine
    private let thread: LineThread
    private let exchange: Confined<Exchange>

    /// - Parameter line: owned by the session from now on.
    public init(line: any ByteLine, deadline: Duration = .seconds(5)) {
        self.line = line
        self.deadline = deadline
        address = line.name
        bytesPerSecond = line.bytesPerSecond
        thread = LineThread(name: line.name)
        exchange = Confined(Exchange(line))
    }

    deinit { line.close() }

    /// Opens an address.
    /// - Throws: `TransportError`.
    public static func open(_ address: Address, options: OpenOptions = OpenOptions()) async throws -> InstrumentSession {
        let opener = LineThread(name: "open")
        let line = try await opener.run { cancellation in
            try openLine(address, options, Patience(options.deadline, cancellation: cancellation))
        }
        return InstrumentSession(line: line, deadline: options.deadline)
    }

    /// Sends a message that has no answer: one line of at most 4095 bytes.
    public func send(_ message: String, within duration: Duration? = nil) async throws {
        try await run(duration) { try $0.send(message, $1) }
    }

    /// Sends a message that has no answer and a query behind it, in one go.
    /// - Returns: the query's answer.
    public func send(_ message: String, thenAsk query: String, within duration: Duration? = nil) async throws -> String {
        try await run(duration) { try $0.send(message, thenAsk: query, $1) }
    }

    /// - Returns: the answer line, without its terminator.
    /// - Throws: `TransportError.noAnswer` where the device answers nothing (the reason is in its error queue), `.timedOut`, `.closed`, `.malformed`.
    public func ask(_ query: String, within duration: Duration? = nil) async throws -> String {
        try await run(duration) { try $0.ask(query, $1) }
    }

    /// Asks for a definite-length block and reads it in parts.
    /// - Parameters:
    ///   - maximum: longest acceptable block, in bytes.
    ///   - receive: called on the line's thread with the block's length and a function that fills a buffer with its next bytes.
    public func askBlock<R: Sendable>(
        _ query: String, maximum: Int, within duration: Duration? = nil,
        _ receive: @escaping @Sendable (_ length: Int, _ read: (UnsafeMutableRawBufferPointer) throws -> Void) throws -> R
    ) async throws -> R {
        try await run(duration) { try $0.askBlock(query, maximum: maximum, $1, receive) }
    }

    /// - Returns: a block of at most `maximum` bytes.
    public func askBlock(_ query: String, maximum: Int, within duration: Duration? = nil) async throws -> [UInt8] {
        try await askBlock(query, maximum: maximum, within: duration) { length, read in
            var bytes = [UInt8](repeating: 0, count: length)
            try bytes.withUnsafeMutableBytes { try read($0) }
            return bytes
        }
    }

    /// Asks something of which nobody knows what the answer is, for consoles.
    public func askAnything(_ query: String, maximum: Int, within duration: Duration? = nil) async throws -> Answer {
        try await run(duration) { try $0.askAnything(query, maximum: maximum, $1) }
    }

    /// IEEE 488.1's serial poll; `nil` where the line has none.
    public func statusByte(within duration: Duration? = nil) async throws -> UInt8? {
        try await run(duration) { [line] _, patience in try line.statusByte(patience) }
    }

    /// Waits for the device to ask for service (`*SRE`); other calls wait meanwhile.
    /// - Returns: whether it did; `false` at once where the line has no such thing.
    public func serviceRequest(within duration: Duration) async throws -> Bool {
        try await run(duration) { [line] _, patience in try line.serviceRequest(patience) }
    }

    /// A device clear: pending input and output are dropped. - Returns: whether the line has one.
    public func clear(within duration: Duration? = nil) async throws -> Bool {
        try await run(duration) { [line] _, patience in try line.clear(patience) }
    }

    /// Whether symbols come on the same cable (`openData`).
    public var carriesSymbols: Bool { (line as? any SymbolCarrier)?.carriesSymbols ?? false }

    /// Opens the data connection on the same cable, which ends the one before.
    /// - Parameters:
    ///   - token: 16 bytes, from `DATA:TOKen?`.
    ///   - frameBytes: of one frame with its header; sizes the buffers.
    /// - Throws: `TransportError.dataRefused`, `.closed`.
    public func openData(token: [UInt8], frameBytes: Int) async throws -> DataConnection {
        try await run(nil) { [line, address] _, patience in
            guard let carrier = line as? any SymbolCarrier else {
                throw TransportError.dataRefused(address, reason: "symbols do not come on this line")
            }
            return try DataConnection.greet(carrier.openSymbols(frameBytes: frameBytes, patience), token, patience)
        }
    }

    /// Ends waiting and later calls with `TransportError.closed`.
    public func close() {
        line.close()
        thread.stop(.closed(address, reason: "closed on this side"))
    }

    private func run<R: Sendable>(
        _ duration: Duration?, _ body: @escaping @Sendable (Exchange, Patience) throws -> R
    ) async throws -> R {
        let duration = duration ?? deadline
        return try await thread.run { [exchange] cancellation in
            try exchange.withValue { try body($0, Patience(duration, cancellation: cancellation)) }
        }
    }
}

/// What a device answers.
public enum Answer: Sendable, Equatable {
    case line(String)
    case block([UInt8])
}

/// A value that only one thread touches, by construction of its owner.
private struct Confined<Value>: @unchecked Sendable {
    private let value: Value
    init(_ value: Value) { self.value = value }
    func withValue<R>(_ body: (Value) throws -> R) rethrows -> R { try body(value) }
}

/// How addresses are opened.
public struct OpenOptions: Sendable {
    /// Lets `tcp:` leave this machine.
    public var allowRemote: Bool
    /// For opening, and for each exchange that names none.
    public var deadline: Duration

    public init(allowRemote: Bool = false, deadline: Duration = .seconds(5)) {
        self.allowRemote = allowRemote
        self.deadline = deadline
    }
}

private func openLine(_ address: Address, _ options: OpenOptions, _ patience: Patience) throws -> any ByteLine {
    switch address {
    case .tcp(let host, let port): try TCPLine.open(host: host, port: port, allowRemote: options.allowRemote, patience)
    case .serial(let device, let baud, let flow): try SerialLine.open(device: device, baud: baud, flowControl: flow)
    case .usb(let serial): try USBOpening.open(serial: serial, patience)
    case .replay(let file): try ReplayLine(file: file)
    }
}
