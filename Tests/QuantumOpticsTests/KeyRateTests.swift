import Foundation
import QuantumOptics
import Testing

@Suite struct KeyRateTests {
    struct Vectors: Decodable { let vectors: [Vector] }
    struct Vector: Decodable, Sendable, CustomTestStringConvertible {
        let kind: String
        let trusted: Bool
        let inputs: [String: Double]
        let qkd: [String: Double]
        let qosst_skr: [String: Double]?

        var testDescription: String { "\(kind) \(trusted ? "trusted" : "untrusted") \(inputs)" }
        var receiver: ReceiverTrust { trusted ? .trusted : .untrusted }

        func input(_ name: String) throws -> Double { try #require(inputs[name]) }

        func link() throws -> KeyRateParameters {
            try KeyRateParameters(
                modulationVariance: input("Va"), transmittance: input("T"), excessNoise: input("xi"), efficiency: input("eta"),
                electronicNoise: input("vel"))
        }
    }

    static let all: [Vector] = {
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let data = (try? Data(contentsOf: tests.appending(path: "Vectors/keyrate/keyrate.json"))) ?? Data()
        return (try? JSONDecoder().decode(Vectors.self, from: data))?.vectors ?? []
    }()

    @Test func vectorsAreThere() { #expect(Self.all.count == 51) }

    @Test(arguments: all.filter { $0.kind == "asymptotic" }) func asymptoticRateAgrees(vector: Vector) throws {
        let rate = try KeyRate.asymptotic(vector.link(), beta: vector.input("beta"), receiver: vector.receiver)
        try expectClose(rate.mutualInformation, #require(vector.qkd["i_ab"]))
        try expectClose(rate.holevoBound, #require(vector.qkd["chi_be"]))
        try expectClose(rate.key, #require(vector.qkd["key"]))
        if let other = vector.qosst_skr {
            try expectClose(rate.mutualInformation, #require(other["iab"]))
            try expectClose(rate.holevoBound, #require(other["chi_be"]))
        }
    }

    @Test(arguments: all.filter { $0.kind == "finite_leverrier2010_collective" }) func finiteRateAgrees(vector: Vector) throws {
        let epsilons = try FiniteEpsilons(
            parameterEstimation: vector.input("eps_pe"), smoothing: vector.input("eps_smooth"), hashing: vector.input("eps_pa"),
            correctness: 1e-10)
        let rate = try KeyRate.leverrier2010(
            vector.link(), beta: vector.input("beta"), symbols: vector.input("n_total"), estimationFraction: vector.input("pe_fraction"),
            epsilons: epsilons, receiver: vector.receiver)
        try expectClose(rate.mutualInformation, #require(vector.qkd["i_ab"]))
        try expectClose(rate.worstHolevoBound, #require(vector.qkd["chi_worst"]))
        try expectClose(rate.key, #require(vector.qkd["key"]))
        try expectClose(rate.minimalTransmittance, #require(vector.qkd["t_min"]))
        try expectClose(rate.maximalExcessNoise, #require(vector.qkd["xi_max"]))
        try expectClose(rate.delta, #require(vector.qkd["delta"]))
    }

    func expectClose(_ a: Double, _ b: Double, location: SourceLocation = #_sourceLocation) {
        #expect(abs(a - b) <= 1e-9, "\(a) is not \(b)", sourceLocation: location)
    }

    static func link(
        variance: Double = 1.7, transmittance: Double = 0.25, noise: Double = 0.005, efficiency: Double = 0.8, electronic: Double = 0.05
    ) throws -> KeyRateParameters {
        try KeyRateParameters(
            modulationVariance: variance, transmittance: transmittance, excessNoise: noise, efficiency: efficiency,
            electronicNoise: electronic)
    }

    @Test func survivesDegenerateLinks() throws {
        // A perfect channel leaves an eavesdropper nothing; next to nothing transmitted gives next to nothing.
        #expect(try KeyRate.holevoBound(Self.link(transmittance: 1, noise: 0), receiver: .trusted) < 1e-9)
        for transmittance in [1, 1 - 1e-15, 1e-3, 1e-6, 1e-9, 1e-12] {
            for noise in [0, 1e-12, 1e-3, 1, 100] {
                for variance in [1e-6, 1, 1e4] {
                    let link = try Self.link(variance: variance, transmittance: transmittance, noise: noise)
                    for receiver in ReceiverTrust.allCases {
                        let holevo = try KeyRate.holevoBound(link, receiver: receiver)
                        #expect(holevo.isFinite && holevo >= 0)
                    }
                    let information = KeyRate.mutualInformation(link)
                    #expect(information.isFinite && information > 0)
                }
            }
        }
    }

    @Test func noiseHelpsOnlyTheEavesdropper() throws {
        var last = -1.0
        for noise in stride(from: 0, through: 0.5, by: 0.01) {
            let holevo = try KeyRate.holevoBound(Self.link(noise: noise), receiver: .trusted)
            #expect(holevo > last)
            last = holevo
        }
    }

    @Test func trustIsWorthSomething() throws {
        for transmittance in [0.01, 0.1, 0.5, 0.9] {
            let link = try Self.link(transmittance: transmittance)
            #expect(try KeyRate.holevoBound(link, receiver: .trusted) < KeyRate.holevoBound(link, receiver: .untrusted))
        }
    }

    @Test func compositionApproachesTheAsymptote() throws {
        let epsilons = try FiniteEpsilons(parameterEstimation: 4e-12, smoothing: 2e-11, hashing: 2e-11, correctness: 1e-11)
        let link = try Self.link()
        let limit = try KeyRate.asymptotic(link, beta: 0.92, receiver: .trusted).key
        var last = -1.0
        for symbols in [1e7, 1e8, 1e9, 1e10, 1e12, 1e16] {
            let key = try KeyRate.composable(
                link, beta: 0.92, symbols: symbols, calibrationSymbols: symbols, epsilons: epsilons, receiver: .trusted
            ).key
            #expect(key > last && key < limit)
            last = key
        }
        #expect(limit - last < 1e-5)
        let perfect = try KeyRate.composable(
            link, beta: 0.92, symbols: 1e8, calibrationSymbols: .infinity, epsilons: epsilons, receiver: .trusted)
        let measured = try KeyRate.composable(
            link, beta: 0.92, symbols: 1e8, calibrationSymbols: 1e8, epsilons: epsilons, receiver: .trusted)
        #expect(perfect.key > measured.key)
    }

    /// Figures computed by hand from the formula for d = 4: 8 sqrt(log2(2e20) / 1e8) and -log2(2e-30) / 1e8.
    @Test func compositionTermIsTheFormula() {
        #expect(abs(KeyRate.smoothingTerm(symbols: 1e8, epsilon: 1e-10) - 0.006_569_678_806) < 1e-11)
        #expect(abs(KeyRate.hashingTerm(symbols: 1e8, hashing: 1e-10, correctness: 1e-10) - 9.865_784_285e-7) < 1e-15)
    }

    @Test func badInputsAreNamed() {
        #expect(throws: KeyRateError.outOfRange(quantity: "transmittance", value: 1.5, allowed: "in (0, 1]")) {
            try Self.link(transmittance: 1.5)
        }
        let bad: [[Double]] = [
            [0, 0.5, 0, 0.5, 0], [1, 0, 0, 0.5, 0], [1, 0.5, -1, 0.5, 0], [1, 0.5, 0, 1.01, 0], [1, 0.5, 0, 0.5, -0.1],
            [.nan, 0.5, 0, 0.5, 0], [.infinity, 0.5, 0, 0.5, 0],
        ]
        for v in bad {
            #expect(throws: KeyRateError.self) {
                try KeyRateParameters(
                    modulationVariance: v[0], transmittance: v[1], excessNoise: v[2], efficiency: v[3], electronicNoise: v[4])
            }
        }
        #expect(throws: KeyRateError.self) { try KeyRate.asymptotic(Self.link(), beta: 1.01, receiver: .trusted) }
    }

    @Test func tailsAgreeWithTables() {
        // Abramowitz and Stegun, table 26.2 and 26.6.
        #expect(abs(NormalTail.quantile(above: 0.5)) < 1e-12)
        #expect(abs(NormalTail.quantile(above: 0.025) - 1.959_963_984_540_054) < 1e-12)
        #expect(abs(NormalTail.quantile(above: 1e-10) - 6.361_340_902_404) < 1e-9)
        #expect(abs(NormalTail.probability(above: NormalTail.quantile(above: 4e-12)) / 4e-12 - 1) < 1e-9)
    }
}
