import ArgumentParser
import Foundation
import PostProcessing
import QuantumOptics

/// `qkdctl keyrate`: what the formulas give for a link that is only imagined.
struct Keyrate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keyrate",
        abstract: "Compute key rates of a CV-QKD link from its parameters.",
        discussion: """
            Gaussian modulation, heterodyne detection, reverse reconciliation, collective attacks. All noise is in shot-noise units, rates are \
            in bits per symbol (both quadratures). Without --symbols the rate is asymptotic: key = beta i_ab - chi_be.

              qkdctl keyrate --variance 1.7 --transmittance 0.25 --excess-noise 0.005 --efficiency 0.8 --electronic-noise 0.05 --beta 0.92 \
            --symbols 5e7
            """)

    enum Bound: String, ExpressibleByArgument, CaseIterable { case leverrier2010, composable }

    @Option(help: "Modulation variance Va per quadrature [SNU].") var variance: Double
    @Option(help: "Transmittance T of the channel alone, in (0, 1].") var transmittance: Double
    @Option(help: "Excess noise xi at the channel's input [SNU].") var excessNoise: Double
    @Option(help: "Efficiency eta of the receiver, in (0, 1].") var efficiency: Double
    @Option(help: "Electronic noise v_el of the receiver per quadrature [SNU].") var electronicNoise: Double
    @Option(help: "Reconciliation efficiency, in (0, 1].") var beta: Double
    @Option(help: "Symbols of a block: gives a finite-size rate.") var symbols: Double?
    @Option(help: "composable: failure probability of the whole block; leverrier2010: of each step.") var epsilon: Double = 1e-10
    @Option(help: "leverrier2010: share of symbols that is given up for estimation (default: 0.5).") var peFraction: Double?
    @Option(help: "composable: symbols of the shot-noise calibration (default: as many as --symbols).") var calibrationSymbols: Double?
    @Option(help: "Finite-size bound: leverrier2010 or composable.") var bound: Bound = .composable
    @Flag(help: "The receiver's loss and noise are out of an eavesdropper's reach (the default).") var trusted = false
    @Flag(help: "An eavesdropper holds what the receiver loses.") var untrusted = false
    @Flag(help: "Print JSON: i_ab, chi_be, key; with --symbols also chi_worst, t_min, xi_max, delta.") var json = false

    /// Beyond these the difference of entropies, of which a key is made, is lost in rounding: what came out would look like a number.
    static let soundTransmittance = 1e-6
    static let soundVariance = 1e6

    func validate() throws {
        if transmittance > 0, transmittance < Self.soundTransmittance {
            throw ValidationError(
                "--transmittance \(transmittance) is below 1e-6 (60 dB): the result would be rounding errors, and no key is possible there")
        }
        if variance > Self.soundVariance {
            throw ValidationError("--variance \(variance) is above 1e6 SNU: the result would be rounding errors")
        }
        if trusted && untrusted { throw ValidationError("--trusted and --untrusted exclude each other") }
        if symbols == nil {
            if peFraction != nil || calibrationSymbols != nil {
                throw ValidationError("--pe-fraction and --calibration-symbols need --symbols")
            }
        } else if bound == .composable, peFraction != nil {
            throw ValidationError("--pe-fraction belongs to --bound leverrier2010: the composable bound uses every symbol for both")
        } else if bound == .leverrier2010, calibrationSymbols != nil {
            throw ValidationError("--calibration-symbols belongs to --bound composable")
        }
        // Here rather than when it runs: a value that is refused is told with this command's usage.
        _ = try rate()
    }

    func run() throws { try show(rate()) }

    private func rate() throws -> any Encodable {
        do {
            let link = try KeyRateParameters(
                modulationVariance: variance, transmittance: transmittance, excessNoise: excessNoise, efficiency: efficiency,
                electronicNoise: electronicNoise)
            if let symbols {
                return try finite(link, symbols: symbols)
            } else {
                return try KeyRate.asymptotic(link, beta: beta, receiver: receiver)
            }
        } catch let error as KeyRateError {
            throw ValidationError("\(error)")
        } catch let error as PostProcessingError {
            throw ValidationError("\(error)")
        }
    }

    private var receiver: ReceiverTrust { untrusted ? .untrusted : .trusted }

    private func finite(_ link: KeyRateParameters, symbols: Double) throws -> FiniteKeyRate {
        switch bound {
        case .leverrier2010:
            let epsilons = try FiniteEpsilons(parameterEstimation: epsilon, smoothing: epsilon, hashing: epsilon, correctness: epsilon)
            return try KeyRate.leverrier2010(
                link, beta: beta, symbols: symbols, estimationFraction: peFraction ?? 0.5, epsilons: epsilons, receiver: receiver)
        case .composable:
            let budget = try SecurityBudget(total: epsilon)
            let epsilons = try FiniteEpsilons(
                parameterEstimation: budget.parameterEstimation, smoothing: budget.smoothing, hashing: budget.hashing,
                correctness: budget.correctness)
            return try KeyRate.composable(
                link, beta: beta, symbols: symbols, calibrationSymbols: calibrationSymbols ?? symbols, epsilons: epsilons,
                receiver: receiver)
        }
    }

    private func show(_ rate: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let data = try encoder.encode(rate)
        guard !json else { return print(String(decoding: data, as: UTF8.self)) }
        let meanings = [
            ("i_ab", "information between the ends [bits/symbol]"),
            ("chi_be", "Holevo bound on an eavesdropper's information [bits/symbol]"),
            ("t_min", "lower bound of the transmittance"), ("xi_max", "upper bound of the excess noise [SNU]"),
            ("chi_worst", "Holevo bound at these bounds [bits/symbol]"), ("delta", "what finite length costs besides [bits/symbol]"),
            ("key", "secret key [bits/symbol]"),
        ]
        let values = try JSONDecoder().decode([String: Double].self, from: data)
        for (name, meaning) in meanings {
            guard let value = values[name] else { continue }
            print(name.padding(toLength: 10, withPad: " ", startingAt: 0), String(format: "%-14.8g", value), meaning)
        }
        print("claim: Gaussian collective attacks, \(receiver.rawValue) receiver,", symbols == nil ? "asymptotic" : "finite size")
    }
}
