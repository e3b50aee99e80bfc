import Foundation
import Testing

/// The part of a command's self-description that names its subcommands.
private struct Described: Decodable {
    struct Command: Decodable {
        var commandName: String
        var subcommands: [Command]?
    }
    var command: Command
}

private func paths(_ command: Described.Command, after path: [String] = []) -> [[String]] {
    let own = path + [command.commandName]
    return [own] + (command.subcommands ?? []).filter { $0.commandName != "help" }.flatMap { paths($0, after: own) }
}

@Suite struct HelpTests {
    @Test(arguments: ["qkdctl", "qkd-linkd", "qkd-lkmsd", "qkd-emulator"])
    func everyCommandExplainsItself(program: String) async throws {
        let dump = try await run(program, "--experimental-dump-help")
        #expect(dump.status == 0)
        let described = try JSONDecoder().decode(Described.self, from: Data(dump.output.utf8))
        for path in paths(described.command) {
            let running = try Running([Programs.path(program)] + path.dropFirst() + ["--help"])
            let help = await running.end()
            #expect(help.status == 0, "\(path)")
            #expect(help.output.contains("OVERVIEW:"), "\(path.joined(separator: " ")) has no overview")
            #expect(help.output.contains("USAGE: \(path.joined(separator: " "))"), "\(path)")
        }
    }

    @Test(arguments: ["qkdctl", "qkd-linkd", "qkd-lkmsd", "qkd-emulator"])
    func unknownArgumentsAreRefusedWithUsage(program: String) async throws {
        let outcome = try await run(program, "--no-such-option")
        #expect(outcome.status == 64)
        #expect(outcome.errors.contains("Usage: \(program)"))
        #expect(outcome.output.isEmpty)
    }
}
