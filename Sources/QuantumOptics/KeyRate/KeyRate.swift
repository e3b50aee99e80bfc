internal import Foundation

/// Key rates per symbol. See the head of `KeyRateParameters.swift`.
public enum KeyRate {
    /// Information between the two ends, heterodyne detection [bits per symbol].
    public static func mutualInformation(_ link: KeyRateParameters) -> Double {
        let total = link.channelNoise + link.receiverNoise / link.transmittance
        // log2((V + chi) / (1 + chi)) with V = Va + 1, in a form that keeps its digits when the information is small.
        return log1p(link.modulationVariance / (1 + total)) / log(2)
    }

    /// chi_BE: the Holevo bound on what an eavesdropper knows of the receiver's data [bits per symbol].
    ///
    /// Under the trusted model the receiver's loss and electronic noise are purified outside the eavesdropper's reach (Fossier et al. 2009).
    public static func holevoBound(_ link: KeyRateParameters, receiver: ReceiverTrust) throws(KeyRateError) -> Double {
        let link = receiver == .trusted ? link : try link.withReceiverInChannel
        let v = link.modulationVariance + 1
        let t = link.transmittance
        let (line, het) = (link.channelNoise, link.receiverNoise)
        let total = line + het / t

        let a = v * v * (1 - 2 * t) + 2 * t + t * t * (v + line) * (v + line)
        let rootB = t * (v * line + 1)
        let b = rootB * rootB
        let scale = t * (v + total)
        let c = (a * het * het + b + 1 + 2 * het * (v * rootB + t * (v + line)) + 2 * t * (v * v - 1)) / (scale * scale)
        let rootD = (v + rootB * het) / scale

        let open = symplecticPair(sum: a, productRoot: rootB)
        let conditional = symplecticPair(sum: c, productRoot: rootD)
        // The fifth eigenvalue is 1 and has no entropy.
        return max(0, thermalEntropy(open.0) + thermalEntropy(open.1) - thermalEntropy(conditional.0) - thermalEntropy(conditional.1))
    }

    /// Infinitely many symbols: `key = beta I_AB - chi_BE`, negative where there is none.
    ///
    /// - Parameter beta: reconciliation efficiency in (0, 1].
    public static func asymptotic(_ link: KeyRateParameters, beta: Double, receiver: ReceiverTrust) throws(KeyRateError)
        -> AsymptoticKeyRate
    {
        try require(beta > 0 && beta <= 1, "beta", beta, "in (0, 1]")
        let information = mutualInformation(link)
        let holevo = try holevoBound(link, receiver: receiver)
        return AsymptoticKeyRate(mutualInformation: information, holevoBound: holevo, key: beta * information - holevo)
    }
}

/// Bits per symbol. JSON names: `i_ab`, `chi_be`, `key`.
public struct AsymptoticKeyRate: Codable, Hashable, Sendable {
    public var mutualInformation: Double
    public var holevoBound: Double
    public var key: Double

    enum CodingKeys: String, CodingKey {
        case mutualInformation = "i_ab"
        case holevoBound = "chi_be"
        case key
    }
}

/// Two eigenvalues of which the sum of squares and the product are known.
///
/// Their squares are `(sum +- sqrt(sum^2 - 4 product^2)) / 2`. Near degeneracy rounding may make the root's argument slightly negative: it is
/// taken as 0. The smaller one comes from the product, because the difference would lose its digits. Neither is below 1.
private func symplecticPair(sum: Double, productRoot: Double) -> (Double, Double) {
    // sum^2 - 4 product^2, as a product to keep its digits.
    let root = sqrt(max(0, (sum - 2 * productRoot) * (sum + 2 * productRoot)))
    let larger = sqrt(max(1, (sum + root) / 2))
    return (larger, max(1, productRoot / larger))
}

/// Von Neumann entropy of a thermal state with symplectic eigenvalue `nu >= 1` [bits].
private func thermalEntropy(_ nu: Double) -> Double {
    let (up, down) = ((nu + 1) / 2, (nu - 1) / 2)
    guard down > 1e-300 else { return 0 }
    return up * log2(up) - down * log2(down)
}
