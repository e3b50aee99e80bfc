import ArgumentParser
import Foundation
import Instruments
import QKDModel

struct CaptureAction: DeviceAction {
    static let configuration = CommandConfiguration(
        commandName: "qkdctl device <uri> capture", abstract: "Write symbols to a file.",
        discussion: """
            The device is locked meanwhile, so that nobody distils key from the same symbols. A capture of signal symbols is as good as
            that key: the file is made with mode 0600. Frames that are lost are counted; the file keeps the others, and the exit status
            is 1. docs/wire/capture-file.md has the format, five lines of numpy that read it, and how to take two captures that
            belong together.
            """)

    @OptionGroup var options: DeviceOptions

    @Option(help: "The file; it must not exist, unless --force.")
    var out: String

    @Flag(help: "Replace the file if it exists; only plain files are ever replaced.")
    var force = false

    @Option(help: "signal, shot or dark.")
    var kind = "signal"

    @Option(help: "How many symbols, rounded up to whole frames.")
    var symbols = 1_000_000

    @Option(help: ArgumentHelp("Transmitters: modulation variance for this capture, in SNU.", valueName: "snu"))
    var variance: Double?

    @Option(help: "Transmitters: optical path for this capture.")
    var path: String?

    private var frameKind: SymbolFrame.Kind? { SymbolFrame.Kind.allCases.first { "\($0)" == kind.lowercased() } }

    func validate() throws {
        guard frameKind != nil else { throw ValidationError("--kind must be signal, shot or dark") }
        guard (1...FrameCollection.mostSymbols).contains(symbols) else {
            throw ValidationError("--symbols must be from 1 to \(FrameCollection.mostSymbols)")
        }
    }

    func run(at uri: String) async throws {
        try NewFile.check(out, replaces: force)
        let (metadata, outcome) = try await options.withClaimed(uri) { try await capture($0) }
        if options.json {
            try Output.json(metadata)
        } else {
            Output.table([
                ("file", "\(out)\(metadata.keyEquivalent ? ", as good as key: delete it when done" : "")"),
                ("symbols", "\(metadata.symbols) in \(metadata.frames) frames of \(metadata.kind), \(metadata.lostFrames) frames lost"),
                ("saturated", "\(metadata.saturatedSamples) samples"),
                ("scale", "\(metadata.scale.map { Output.number(Double($0)) } ?? "-") \(metadata.scaleUnit) per step"),
            ])
        }
        if let complaint = outcome.complaint { throw DeviceFailure.lost("\(complaint); \(out) has the others") }
    }

    private func capture(_ module: any QKDModule) async throws -> (CaptureMetadata, FrameCollection.Outcome) {
        guard let frameKind else { throw ValidationError("--kind must be signal, shot or dark") }
        let work = try work(frameKind, module)
        try await module.checkThroughput()
        try await prepare(module, work)
        let metadata = try await CaptureMetadata(of: module, kind: frameKind, created: Date())
        try NewFile.check(out, replaces: force)
        let writer = try CaptureWriter(path: out, metadata: metadata, replaces: force)
        let outcome: FrameCollection.Outcome
        do {
            let stream = try await module.openStream()
            defer { stream.close() }
            outcome = try await FrameCollection(module, stream).run(work, symbols: symbols) { frame in
                try writer.append(frame)
                Output.progress("\(writer.metadata.symbols) of \(symbols) symbols")
            }
        } catch {
            // What came is kept: a long capture is worth having. Where even its counts cannot be written, the first error is the one to tell.
            try? writer.finish()
            Output.endProgress()
            leave(writer.metadata)
            throw error
        }
        try writer.finish(lost: outcome.lost)
        Output.endProgress()
        return (writer.metadata, outcome)
    }

    /// After a capture that failed or was interrupted: a file with frames stays, a stub goes.
    private func leave(_ metadata: CaptureMetadata) {
        guard metadata.frames > 0 else {
            try? FileManager.default.removeItem(atPath: out)
            return Output.complain("nothing was captured: \(out) was removed again")
        }
        Output.complain("\(out) stays, with \(metadata.symbols) of \(symbols) symbols\(metadata.keyEquivalent ? ", as good as key" : "")")
    }

    private func work(_ kind: SymbolFrame.Kind, _ module: any QKDModule) throws -> FrameCollection.Work {
        switch kind {
        case .signal: return .acquisition
        case .shot, .dark:
            guard module.role == .receiver else { throw DeviceFailure.wrongKind("a transmitter has no \(kind) frames: capture signal") }
            return .calibration(kind == .shot ? .shot : .dark)
        }
    }

    private func prepare(_ module: any QKDModule, _ work: FrameCollection.Work) async throws {
        if let transmitter = module as? any QuantumTransmitter {
            if let path { try await transmitter.setPath(path) }
            if let variance { try await transmitter.setModulationVariance(variance) }
            try await transmitter.setOutput(true)
            while try await !transmitter.pathSettled() { try await Task.sleep(for: .milliseconds(50)) }
        } else if variance != nil || path != nil {
            throw DeviceFailure.wrongKind("--variance and --path are for transmitters")
        }
        if let receiver = module as? any QuantumReceiver, work == .acquisition {
            try await receiver.setLocalOscillator(true)
            try await receiver.setShutter(closed: false)
            try await waitForPilot(receiver)
        }
    }

    /// Symbols before the lock have no phase; but a dark fibre may be just what somebody wants to see.
    private func waitForPilot(_ receiver: any QuantumReceiver) async throws {
        for _ in 0..<60 {
            if try await receiver.pilotLocked() { return }
            try await Task.sleep(for: .milliseconds(50))
        }
        Output.complain("the pilot is not locked: frames are marked so (is the transmitter's output on?)")
    }
}
