// The command line of lab engineers and operators: one file or folder per command, listed here.
//
// Results go to standard output (`--json` for programs), everything else to standard error. Exit status: 0 done, 1 it
// did not work, 64 the arguments were wrong.

import ArgumentParser
import NodeRuntime

@main
struct Program: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "qkdctl",
        abstract: "Operate a CV-QKD node: devices, links, keys, labs.",
        version: Release.version,
        subcommands: [
            DeviceCommand.self, DevicesCommand.self, Keyrate.self, PKICommand.self, KeysCommand.self, LabCommand.self, BenchCommand.self,
            LinkCommand.self, SecretCommand.self, ConfigCommand.self,
        ])

    static func main() async {
        Output.watch()
        await main(nil)
    }
}
