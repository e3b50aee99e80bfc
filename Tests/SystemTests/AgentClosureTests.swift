// The agent never sees a key, because nothing that could hold one is in its program.

import Foundation
import Testing

@Suite struct AgentClosureTests {
    /// Modules as the names of their symbols begin: keys in memory, in store, on their way to it, and whatever makes them.
    private static let forbidden = [
        "$s11KeyMaterial", "$s8KeyStore", "$s10KeyDeposit", "$s14PostProcessing", "$s11QuantumLink", "$s11Instruments", "ckm_pages_make",
        "ldpc_code_open", "additive_fft_forward",
    ]

    private func count(_ symbol: String, in program: String) async throws -> Int {
        let command = ["/usr/bin/grep", "--only-matching", "--text", "--fixed-strings", symbol, Programs.path(program)]
        let outcome = await (try Running(command)).end(within: .seconds(60))
        try #require(outcome.status <= 1, "\(outcome.errors)")
        return outcome.output.split(separator: "\n").count
    }

    @Test("no symbol of a key module is in the agent's program") func noKeyModules() async throws {
        for symbol in Self.forbidden { #expect(try await count(symbol, in: "qkd-agentd") == 0, "qkd-agentd contains \(symbol)") }
        // The names are what they would be: the agent's own module is found, and so are these in the programs that have them.
        #expect(try await count("$s8SDNAgent", in: "qkd-agentd") > 0)
        for symbol in ["$s11KeyMaterial", "$s8KeyStore", "$s10KeyDeposit", "ckm_pages_make"] {
            #expect(try await count(symbol, in: "qkd-lkmsd") > 0, "qkd-lkmsd does not contain \(symbol)")
        }
        for symbol in ["$s14PostProcessing", "$s11QuantumLink", "$s11Instruments", "ldpc_code_open", "additive_fft_forward"] {
            #expect(try await count(symbol, in: "qkd-linkd") > 0, "qkd-linkd does not contain \(symbol)")
        }
    }

    @Test("nor a database or a device library") func noFurtherLibraries() async throws {
        let outcome = try await run("/usr/bin/ldd", Programs.path("qkd-agentd"))
        #expect(outcome.status == 0 && outcome.output.contains("libyang") && outcome.output.contains("librabbitmq"), "\(outcome)")
        for library in ["sqlite", "libusb", "libudev"] { #expect(!outcome.output.contains(library), "qkd-agentd needs \(library)") }
    }
}
