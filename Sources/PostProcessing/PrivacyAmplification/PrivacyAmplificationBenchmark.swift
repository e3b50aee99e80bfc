internal import KeyMaterial
internal import QKDModel

/// How quickly this machine hashes a block of given size.
public struct PrivacyAmplificationBenchmark: Codable, Hashable, Sendable {
    public let inputBits: Int
    public let outputBits: Int
    public let seconds: Double
    public var inputBitsPerSecond: Double { Double(inputBits) / seconds }

    /// Hashes random bits once. Making input and seed is not counted.
    ///
    /// - Throws: `PostProcessingError.outOfRange` for lengths that cannot be hashed.
    public static func run(inputBits: Int, outputBits: Int) throws(PostProcessingError) -> PrivacyAmplificationBenchmark {
        guard inputBits > 0, inputBits <= ToeplitzHash.maximumBits, outputBits >= 0, outputBits <= inputBits else {
            throw .outOfRange(quantity: "input bits", value: Double(inputBits), allowed: "positive and not fewer than output bits")
        }
        let random = KernelRandom()
        let input = SecretBytes(count: (inputBits + 7) / 8, random: random)
        let seed = random.bytes(ToeplitzHash.seedBytes(inputBits: inputBits, outputBits: outputBits))
        let clock = ContinuousClock()
        let start = clock.now
        let output = try ToeplitzHash.hash(input: [input], inputBits: inputBits, outputBits: outputBits, seed: seed)
        let elapsed = start.duration(to: clock.now)
        precondition(output.count == (outputBits + 7) / 8, "a hash of the wrong length")
        return PrivacyAmplificationBenchmark(inputBits: inputBits, outputBits: outputBits, seconds: elapsed / .seconds(1))
    }
}
