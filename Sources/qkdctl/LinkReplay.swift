// `qkdctl link replay`: a recording of a link once more through the same state machines.

import ArgumentParser
import Foundation
import QKDModel
import QuantumLink

struct LinkReplayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay", abstract: "Run a link's recording again and compare every decision bit for bit.",
        discussion: """
            The file is key material: it holds the symbols of the link (links[].record in qkd-linkd's configuration). Ends with status 1 where a decision is \
            another one now, and where the file is absent, cut short, altered or of another version.
            """)
    @Flag(help: "Print the result as JSON.")
    var json = false
    @Flag(help: "Replay a file that is cut short or altered, too, as far as it makes sense.")
    var anyway = false
    @Argument(help: "The recording.")
    var file: String

    func run() async throws {
        let replay = try await LinkReplay.run(path: file, anyway: anyway)
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = .sortedKeys
            print(String(decoding: try encoder.encode(replay), as: UTF8.self))
        } else {
            print(
                "\(replay.link), \(replay.role.rawValue.lowercased())'s end: \(replay.records) entries, \(replay.frames) frames, "
                    + "\(replay.blocks) blocks, \(replay.decisions) decisions")
            for difference in replay.differences { print("  \(difference)") }
            let same = "bit for bit the same" + (anyway ? ", as far as the file goes" : "")
            print(replay.agrees ? same : replay.decisions == 0 ? "nothing to compare" : "NOT the same")
        }
        if !replay.agrees { throw ExitCode.failure }
    }
}
