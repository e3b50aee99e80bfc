// Collecting a given number of frames: what `capture` and `calibrate` have in common.
//
// The device counts the frames that it makes, kept or lost (`ACQuire:STARt <frames>`), so this counts lost ones too: those whose
// numbers are missing between the frames that came, those that never passed their checksum, and, when the device has done its work
// and its ring is empty, those that are missing at the end.

import Transport

/// Starts something on a device and takes the frames that come of it.
public struct FrameCollection: Sendable {
    public enum Work: Sendable, Equatable {
        /// Signal frames.
        case acquisition
        /// DARK or SHOT frames.
        case calibration(CalibrationKind)
    }

    /// What became of the frames that were asked for.
    public struct Outcome: Sendable, Equatable {
        /// Handed on.
        public var taken = 0
        /// Made by the device and not handed on.
        public var lost = 0
        /// Of these, frames that failed their checksum each time that they were fetched.
        public var spoiled = 0

        public init(taken: Int = 0, lost: Int = 0, spoiled: Int = 0) { (self.taken, self.lost, self.spoiled) = (taken, lost, spoiled) }

        /// What was lost and why; `nil` where nothing was.
        public var complaint: String? {
            guard lost > 0 else { return nil }
            let overrun = lost - spoiled
            var reasons: [String] = []
            if overrun > 0 { reasons.append("\(overrun) to overruns of the device's ring: this end did not take them in time") }
            if spoiled > 0 { reasons.append("\(spoiled) failed their checksum each time that they were fetched") }
            return "\(lost) of \(taken + lost) frames were lost: \(reasons.joined(separator: ", "))"
        }
    }

    /// Longest run: 5.5 hours at 5 Mbaud, 400 GB.
    public static let mostSymbols = 100_000_000_000
    /// Frames in a row that fail their checksum however often they are fetched, after which more is not waited for.
    static let spoiledInARow: UInt64 = 3

    public var module: any QKDModule
    public var stream: any SymbolSource
    /// Nothing for so long is an error: the device does not produce.
    public var patience: Duration

    public init(_ module: any QKDModule, _ stream: any SymbolSource, patience: Duration = .seconds(60)) {
        self.module = module
        self.stream = stream
        self.patience = patience
    }

    /// Runs `work` for `symbols`, rounded up to whole frames; each frame is released in the device after `body`.
    ///
    /// Frames that were in the ring before are not taken. However it ends, the device is stopped.
    /// - Returns: what was taken, at least one frame, and what was lost.
    /// - Throws: what `body` throws, `InstrumentError.outOfRange`, `.streamFailed`, `.calibrationFailed`, `CancellationError`.
    public func run(_ work: Work, symbols: Int, _ body: (SymbolFrame) throws -> Void) async throws -> Outcome {
        guard (1...Self.mostSymbols).contains(symbols) else {
            throw InstrumentError.outOfRange(what: "number of symbols", value: "\(symbols)", allowed: "1 to \(Self.mostSymbols)")
        }
        let frames = (symbols - 1) / module.capabilities.symbolsPerFrame + 1
        let outcome: Outcome
        do {
            try await start(work, frames: frames)
            outcome = try await take(frames, work, body)
        } catch {
            // Stopping must work although this task may be cancelled.
            await Task.detached { [module] in await Self.stop(module, work) }.value
            throw error
        }
        if work == .acquisition { try await module.stopAcquisition() }
        return outcome
    }

    private func start(_ work: Work, frames: Int) async throws {
        switch work {
        case .acquisition: try await module.startAcquisition(frames: frames)
        case .calibration(let kind): try await module.startCalibration(kind, symbols: frames * module.capabilities.symbolsPerFrame)
        }
    }

    private static func stop(_ module: any QKDModule, _ work: Work) async {
        switch work {
        case .acquisition: try? await module.stopAcquisition()
        case .calibration: try? await module.abortCalibration()
        }
    }

    // MARK: - Taking frames

    private func take(_ frames: Int, _ work: Work, _ body: (SymbolFrame) throws -> Void) async throws -> Outcome {
        let kind: SymbolFrame.Kind =
            switch work {
            case .acquisition: .signal
            case .calibration(let calibration): calibration.frames ?? .signal
            }
        let before = stream.statistics
        var outcome = Outcome()
        while outcome.taken + outcome.lost < frames {
            let missing = frames - outcome.taken - outcome.lost
            guard let frame = try await next(allLost: before.lost + UInt64(frames - outcome.taken)) else {
                outcome.lost += missing
                break
            }
            outcome.lost += Int(clamping: frame.lostBefore)
            if frame.kind == kind {
                try body(frame)
                outcome.taken += 1
            }
            try await stream.release(through: frame.number)
        }
        outcome.spoiled = min(outcome.lost, Int(clamping: stream.statistics.spoiled - before.spoiled))
        guard outcome.taken > 0 else { throw InstrumentError.streamFailed(reason: outcome.complaint ?? "no frame came") }
        return outcome
    }

    /// - Parameter allLost: what the stream's count of lost frames is when no frame can come any more.
    /// - Returns: `nil` when none will.
    private func next(allLost: UInt64) async throws -> SymbolFrame? {
        try await withThrowingTaskGroup(of: SymbolFrame?.self) { group in
            // A stream that ends by itself knows that nothing more comes.
            group.addTask { try await stream.next() }
            group.addTask {
                try await Watch(module: module, stream: stream, allLost: allLost, patience: patience).wait()
                return nil
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
    }
}

/// Looks after a wait for a frame: is it still worth while?
private struct Watch {
    let module: any QKDModule
    let stream: any SymbolSource
    let allLost: UInt64
    let patience: Duration

    private static let pause = Duration.milliseconds(250)
    /// The device itself is asked every so many pauses.
    private static let looks = 4

    /// Returns when no frame will come any more.
    /// - Throws: `InstrumentError.streamFailed` where none came in time, or none came whole.
    func wait() async throws {
        let before = stream.statistics
        let deadline = ContinuousClock.now + patience
        var idle = 0
        var seen = before
        var round = 0
        while true {
            try await Task.sleep(for: Self.pause)
            let now = stream.statistics
            guard now.spoiled < before.spoiled + FrameCollection.spoiledInARow else {
                let (row, times) = (FrameCollection.spoiledInARow, FrameOrder.attempts + 1)
                throw InstrumentError.streamFailed(reason: "frames fail their checksum: \(row) in a row, each fetched \(times) times")
            }
            // Every number is accounted for: what was given up is known, though no frame came behind it.
            if now.frames == before.frames, now.lost >= allLost { return }
            round += 1
            if round.isMultiple(of: Self.looks) {
                let isActive = now != seen
                seen = now
                switch try await look() {
                case .working: idle = 0
                case .done(let isEmpty): idle = isActive ? 0 : idle + (isEmpty ? 3 : 1)
                }
                // A frame may be on its way from the ring; a ring with frames that nobody fetches is given more time.
                if idle >= 6 { return }
            }
            guard ContinuousClock.now < deadline else { throw InstrumentError.streamFailed(reason: "no frame came within \(patience)") }
        }
    }

    private enum Sight {
        case working
        case done(isEmpty: Bool)
    }

    /// Whether the device still makes frames, or has some.
    private func look() async throws -> Sight {
        do {
            if try await module.isAcquiring() { return .working }
            if try await module.calibrationProgress().running != nil { return .working }
            let ring = try await module.scpi.numbers("ACQuire:AVAilable?", count: 2...2, in: 0...0x1p53)
            return .done(isEmpty: ring[0] >= ring[1])
        } catch TransportError.timedOut {
            // A device that hangs for a moment may come back; the patience ends this otherwise.
            return .working
        }
    }
}

extension QKDModule {
    /// Whether an acquisition runs.
    func isAcquiring() async throws -> Bool { try await scpi.text("ACQuire:STATe?").uppercased() != "IDLE" }

    /// Ends what an earlier owner of the device left running: a program that was killed cannot do so itself. Only for who holds the lock.
    /// - Returns: what was stopped, in words.
    public func stopLeftovers() async throws -> [String] {
        var stopped: [String] = []
        if try await isAcquiring() {
            try await stopAcquisition()
            stopped.append("an acquisition")
        }
        if let kind = try await calibrationProgress().running {
            try await abortCalibration()
            stopped.append("calibration \(kind.rawValue)")
        }
        return stopped
    }
}
