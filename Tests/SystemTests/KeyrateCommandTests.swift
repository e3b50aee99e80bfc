import Foundation
import Testing

/// `qkdctl keyrate` against the vectors of two published packages.
@Suite struct KeyrateCommandTests {
    struct Vectors: Decodable { let vectors: [Vector] }
    struct Vector: Decodable {
        let kind: String
        let trusted: Bool
        let inputs: [String: Double]
        let qkd: [String: Double]
    }

    static func arguments(_ vector: Vector) throws -> [String] {
        let names = [
            ("--variance", "Va"), ("--transmittance", "T"), ("--excess-noise", "xi"), ("--efficiency", "eta"),
            ("--electronic-noise", "vel"),
            ("--beta", "beta"),
        ]
        var arguments =
            try names.flatMap { [$0.0, "\(try #require(vector.inputs[$0.1]))"] } + ["--json", vector.trusted ? "--trusted" : "--untrusted"]
        if vector.kind != "asymptotic" {
            arguments += ["--bound", "leverrier2010"]
            for (option, name) in [("--symbols", "n_total"), ("--pe-fraction", "pe_fraction"), ("--epsilon", "eps_pe")] {
                arguments += [option, "\(try #require(vector.inputs[name]))"]
            }
        }
        return arguments
    }

    @Test func printsTheVectors() async throws {
        let data = try Data(contentsOf: URL(filePath: Programs.root + "/Tests/Vectors/keyrate/keyrate.json"))
        let vectors = try JSONDecoder().decode(Vectors.self, from: data).vectors
        #expect(vectors.count == 51)
        for vector in vectors {
            let outcome = await (try Running([Programs.path("qkdctl"), "keyrate"] + Self.arguments(vector))).end()
            #expect(outcome.status == 0, "\(outcome)")
            let printed = try JSONDecoder().decode([String: Double].self, from: Data(outcome.output.utf8))
            for (name, value) in vector.qkd {
                let found = try #require(printed[name], "\(name)")
                #expect(abs(found - value) <= 1e-9, "\(name) of \(vector.inputs)")
            }
        }
    }

    @Test(arguments: [
        ["--variance", "0"], ["--transmittance", "1.2"], ["--beta", "nan"], ["--symbols", "10"], ["--pe-fraction", "0.5"],
        ["--trusted", "--untrusted"], ["--symbols", "1e8", "--bound", "guesswork"],
    ])
    func badInputIsAnError(extra: [String]) async throws {
        var link = [
            "--variance": "1.7", "--transmittance": "0.25", "--excess-noise": "0.005", "--efficiency": "0.8", "--electronic-noise": "0.05",
            "--beta": "0.92",
        ]
        if extra.count == 2, link[extra[0]] != nil { link[extra[0]] = nil }
        let arguments = link.flatMap { [$0.key, $0.value] } + extra
        let outcome = await (try Running([Programs.path("qkdctl"), "keyrate"] + arguments)).end()
        #expect(outcome.status == 64, "\(outcome)")
        #expect(outcome.output.isEmpty && outcome.errors.contains("Error: "))
        #expect(outcome.errors.contains("Usage: qkdctl keyrate"), "\(outcome)")
    }

    /// A difference of entropies that is lost in rounding is refused, not printed.
    @Test(arguments: [("1e-9", "1.7", "--transmittance"), ("0.25", "1e9", "--variance")])
    func absurdNumbersAreRefused(transmittance: String, variance: String, option: String) async throws {
        let outcome = try await run(
            "qkdctl", "keyrate", "--variance", variance, "--transmittance", transmittance, "--excess-noise", "0.005", "--efficiency", "0.8",
            "--electronic-noise", "0.05", "--beta", "0.92")
        #expect(outcome.status == 64 && outcome.errors.contains(option) && outcome.errors.contains("rounding errors"), "\(outcome)")
        #expect(outcome.output.isEmpty)
    }
}
