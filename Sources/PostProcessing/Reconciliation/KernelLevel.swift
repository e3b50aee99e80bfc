internal import PostProcessingKernels

/// Which instructions the kernels use. All levels give the same results bit for bit.
public enum KernelLevel: String, CaseIterable, Sendable, CustomStringConvertible {
    case portable, avx2, avx512

    /// The best level of this processor that this build has.
    public static var best: KernelLevel { allCases.last { $0.isAvailable } ?? .portable }

    public var isAvailable: Bool { kernel_level_available(raw) }
    public var description: String { rawValue }

    var raw: kernel_level {
        switch self {
        case .portable: KERNEL_PORTABLE
        case .avx2: KERNEL_AVX2
        case .avx512: KERNEL_AVX512
        }
    }
}
