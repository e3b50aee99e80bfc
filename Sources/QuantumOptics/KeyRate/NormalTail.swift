internal import Foundation

/// The normal distribution's tails, down to the probabilities that security budgets use.
public enum NormalTail {
    /// P(Z > z) of a standard normal Z.
    public static func probability(above z: Double) -> Double { erfc(z / 2.0.squareRoot()) / 2 }

    /// z such that P(Z > z) = `probability`, for a probability in (0, 0.5]; good to 1e-13 or so.
    ///
    /// Bisection: some sixty evaluations of `erfc`, and no approximation to trust at 1e-12.
    public static func quantile(above probability: Double) -> Double {
        precondition(probability > 0 && probability <= 0.5, "a tail probability in (0, 0.5]")
        var (low, high) = (0.0, 40.0)
        while true {
            let middle = (low + high) / 2
            guard middle > low, middle < high else { return high }
            if self.probability(above: middle) > probability { low = middle } else { high = middle }
        }
    }
}
