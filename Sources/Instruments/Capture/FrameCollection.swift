// Collecting a given number of frames: what `capture` and `calibrate` have in common.

/// Starts something on a device and takes the frames that come of it.
public struct FrameCollection: Sendable {
    public enum Work: Sendable, Equatable {
        /// Signal frames.
        case acquisition
        /// DARK or SHOT frames.
        case calibration(CalibrationKind)
    }

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
    /// - Returns: frames taken.
    /// - Throws: what `body` throws, `InstrumentError.streamFailed`, `.calibrationFailed`, `CancellationError`.
    public func run(_ work: Work, symbols: Int, _ body: (SymbolFrame) throws -> Void) async throws -> Int {
        let frames = max(1, (symbols + module.capabilities.symbolsPerFrame - 1) / module.capabilities.symbolsPerFrame)
        do {
            try await start(work, frames: frames)
            try await take(frames, work, body)
        } catch {
            // Stopping must work although this task may be cancelled.
            await Task.detached { [module] in await Self.stop(module, work) }.value
            throw error
        }
        if work == .acquisition { try await module.stopAcquisition() }
        return frames
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

    private func take(_ frames: Int, _ work: Work, _ body: (SymbolFrame) throws -> Void) async throws {
        let kind: SymbolFrame.Kind =
            switch work {
            case .acquisition: .signal
            case .calibration(let calibration): calibration.frames ?? .signal
            }
        var taken = 0
        while taken < frames {
            let frame = try await next(work)
            if frame.kind == kind {
                try body(frame)
                taken += 1
            }
            try await stream.release(through: frame.number)
        }
    }

    private func next(_ work: Work) async throws -> SymbolFrame {
        let result: SymbolFrame? = try await withThrowingTaskGroup(of: SymbolFrame?.self) { group in
            group.addTask { try await stream.next() }
            group.addTask {
                try await Task.sleep(for: patience)
                throw InstrumentError.streamFailed(reason: "no frame came within \(patience)")
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
        if let result { return result }
        throw InstrumentError.streamFailed(reason: "it ended early")
    }
}
