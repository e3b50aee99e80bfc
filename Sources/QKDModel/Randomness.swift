// Randomness is a parameter everywhere below the programs: the kernel's generator in production, a seeded one in
// tests and in the emulator.

internal import Glibc

/// A source of uniform random bytes.
///
/// `SystemRandomNumberGenerator` is not used for secrets: this protocol makes the choice visible at every call.
public protocol RandomSource: Sendable {
    /// Overwrites every byte of `buffer` with fresh random bytes.
    func fill(_ buffer: UnsafeMutableRawBufferPointer)
}

extension RandomSource {
    /// - Returns: `count` fresh bytes. For values that may be public (seeds, nonces, positions), never for key.
    public func bytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            fill(UnsafeMutableRawBufferPointer(buffer))
            filled = count
        }
    }

    /// - Returns: a uniform 64-bit word.
    public func word() -> UInt64 {
        var value: UInt64 = 0
        withUnsafeMutableBytes(of: &value) { fill($0) }
        return value
    }
}

/// The kernel's generator (`getentropy(3)`).
public struct KernelRandom: RandomSource {
    public init() {}

    public func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        var rest = buffer[...]
        while !rest.isEmpty {
            // At most 256 bytes per call; with a valid buffer only a kernel without a generator could refuse.
            let part = UnsafeMutableRawBufferPointer(rebasing: rest.prefix(256))
            if getentropy(part.baseAddress, part.count) == 0 { rest = rest.dropFirst(part.count) }
        }
    }
}
