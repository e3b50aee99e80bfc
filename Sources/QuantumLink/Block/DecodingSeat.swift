// Decoders, one core each, and what they make of frames.

internal import KeyMaterial
internal import NIOCore
internal import PostProcessing
internal import QKDModel

/// A frame that was decided.
struct DecidedFrame: Sendable {
    /// nil: failed, its values must be disclosed.
    var core: SecretBytes?
    /// Correlation of sent symbols and received quadratures, both in SNU.
    var sums = CorrelationSums()
    var passes: Int
    /// Rounds of disclosure it took.
    var rounds: Int
    /// How far the received quadratures are still turned, rad. Stays at this end.
    var residualPhase = 0.0
    /// What was sent as the receiver saw it.
    var sent: [Float]
}

/// A frame that wants more bits, with the decoder's messages as they stand.
struct OpenFrame: Sendable {
    var frame: UnfinishedFrame
    var sent: [Float]
}

enum FrameStep: Sendable {
    case decided(DecidedFrame)
    case unfinished(OpenFrame)
}

/// One decoder and the core it keeps busy.
package actor DecodingSeat {
    /// Codes change rarely; each decoder holds 1 or 5 MB.
    private static let mostDecoders = 2
    private var decoders: [FrameDecoder] = []

    package init() {}

    /// The first attempt, by the frame's message alone.
    /// - Parameter phase: by how much what was sent is turned to be as the receiver saw it, rad: what earlier frames of the slot showed. A
    ///   frame's own phase never enters, it would make every correlation look a little better than it is.
    func attempt(
        _ body: FrameBody, code: ReconciliationCode, sent samples: [Int16], scale: Float, phase: Double, snr: Double, maximumPasses: Int
    ) throws -> FrameStep {
        let sent = Quadratures.sent(samples, scale: scale, phase: phase)
        let message = try body.message.withUnsafeReadableBytes { try FrameMessage(decoding: $0, for: code) }
        let attempt = try sent.withUnsafeBufferPointer {
            try decoder(code).attempt(symbols: $0, message: message, snr: snr, hashKey: body.hashKey, maximumPasses: maximumPasses)
        }
        return Self.step(attempt, sent: sent)
    }

    /// Another attempt with the bits of a round.
    func resume(_ open: OpenFrame, with disclosure: ByteBuffer) throws -> FrameStep {
        let code = open.frame.code
        let bits = try disclosure.withUnsafeReadableBytes { try FrameDisclosure(decoding: $0, for: code) }
        return Self.step(try open.frame.resume(with: bits), sent: open.sent)
    }

    private static func step(_ attempt: FrameAttempt, sent: [Float]) -> FrameStep {
        switch attempt {
        case .unfinished(let frame): return .unfinished(OpenFrame(frame: frame, sent: sent))
        case .failed(let passes, let rounds): return .decided(DecidedFrame(core: nil, passes: passes, rounds: rounds, sent: sent))
        case .decoded(let frame):
            var decided = DecidedFrame(core: frame.core, passes: frame.passes, rounds: frame.rounds, sent: [])
            frame.quadratures.withFloats { received in
                sent.withUnsafeBufferPointer { x in
                    decided.sums.add(x: x, y: received)
                    decided.residualPhase = Quadratures.residualPhase(x: x, y: received)
                }
            }
            return .decided(decided)
        }
    }

    private func decoder(_ code: ReconciliationCode) throws -> FrameDecoder {
        if let decoder = decoders.first(where: { $0.code == code }) { return decoder }
        let decoder = try FrameDecoder(code: code)
        decoders = [decoder] + decoders.prefix(Self.mostDecoders - 1)
        return decoder
    }
}
