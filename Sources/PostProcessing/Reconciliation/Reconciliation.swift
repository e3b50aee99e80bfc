// Reverse reconciliation: the transmitter's end learns the word that the receiver's end chose.
//
// Life of a frame. The receiver's end takes N quadratures (two per symbol), draws a random word of N bits and hides it in the
// rotations that carry each group of eight quadratures to eight of its bits (`FrameEncoder`). It sends rotations, norms, the word's
// syndrome and a short universal hash of its core (`FrameMessage`). The transmitter's end rotates what it sent, has a noisy copy of
// the word, and decodes (`FrameDecoder`); the hash says whether rightly. Both then hold the same core bits: the frame's raw
// key. The transmitter's end also gets the receiver's quadratures back from word, rotations and norms, for the estimation.
//
// Accounting. The word has N bits; the message tells `syndromeBits` + 24 of them, and nothing more about it. Core bits and syndrome
// determine the word, so that the core bits are hashed in place of it. Rotations and norms are independent of the word.
//
// Units. Quadratures and symbols may come in any unit, each its own: both ends' variances are taken from the frame itself, the
// receiver's through the norms. Only the signal-to-noise ratio per quadrature comes from outside. The sign of the correlation
// is positive (the link's phase alignment sees to it).
//
// The group's members: quadratures 512 s + 64 k + l for k = 0 ..< 8 are one group, for each set s and lane l (layout of
// the kernels in PostProcessingKernels/include/rotation.h and ldpc.h; bytes in docs/wire/reconciliation-messages.md).
//
// Sources: A. Leverrier et al., Phys. Rev. A 77, 042325 (2008), multidimensional reconciliation; T. Richardson and R. Urbanke,
// Multi-edge type LDPC codes (2004); degree distributions, quantisation and schedule are ours.

/// What can go wrong in reconciliation. A frame that does not decode is no error but an outcome.
public enum ReconciliationError: Error, Equatable, CustomStringConvertible {
    case unknownCode(String)
    case frameLength(expected: Int, found: Int)
    case unusableQuadratures(group: Int)
    case signalToNoise(Double)
    case messageLength(expected: Int, found: Int)
    case messageField(String)
    case disclosedCore
    case disclosureRound(Int)
    case kernelUnavailable(KernelLevel)

    public var description: String {
        switch self {
        case .unknownCode(let id):
            "no reconciliation code is called \"\(id)\": use one of \(ReconciliationCode.all.map { "\($0.id) to +\($0.steps)" }.joined(separator: ", "))"
        case .frameLength(let expected, let found):
            "a frame of this code has \(expected) quadratures, not \(found): buffer the stream into whole frames"
        case .unusableQuadratures(let group):
            "quadratures of group \(group) are not finite: look at the receiver's scale"
        case .signalToNoise(let value):
            "signal-to-noise ratio \(value) cannot be used for decoding: estimate it first"
        case .messageLength(let expected, let found):
            "a reconciliation message of this code has \(expected) bytes, not \(found): both ends must use the same code"
        case .messageField(let field):
            "reconciliation message holds an impossible \(field): it was not made by a sound peer"
        case .disclosedCore:
            "the core that was disclosed for a failed frame does not fit the frame's message: it is not that frame's, or was changed"
        case .disclosureRound(let round):
            "round \(round) of disclosure is not the one that is due: rounds come in order, and there are only so many"
        case .kernelUnavailable(let level):
            "this processor or build has no \(level) kernel: use \(KernelLevel.best)"
        }
    }
}
