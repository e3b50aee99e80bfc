// `qkdctl bench`: how fast the heavy parts are on this machine, beside what a 5 Mbaud network needs of them.

import ArgumentParser
import Foundation
import PostProcessing

struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure decoder, privacy amplification, authentication, emulator and a lab on this machine.",
        discussion: """
            Baselines are what real time at 5 Mbaud needs, unless the name says otherwise: 5e6 symbols/s, 1e7 code bits/s. One thread each, \
            by its processor time but for the lab. Confidence is 95 %.
            """)

    @Option(help: "Write the figures to this file, as a list of name, value, unit, baseline and ratio.")
    var json: String?

    @Option(help: "Frames per code; more give a finer frame error rate.")
    var frames = 40

    @Option(help: "The testbed of the end-to-end run.")
    var testbed = "firmware-sim/testbeds/madrid.yaml"

    @Flag(help: "Leave the end-to-end run out.")
    var noLab = false

    @Option(
        help: ArgumentHelp(
            "Only these sections: \(Bench.sections.map { $0.name }.joined(separator: ", ")). Repeatable.", valueName: "section"))
    var only: [String] = []

    @Option(help: "Only the decoder, with this code or step of one.")
    var code: String?

    @Option(help: "Reconciliation efficiency of the decoder's frames.")
    var efficiency = 0.92

    @Option(help: "A Python that has the package information-reconciliation, which is run beside ours.")
    var python = ".venv/bin/python"

    func validate() throws {
        guard frames > 0 else { throw ValidationError("--frames must be more than 0") }
        guard code == nil || only.isEmpty else { throw ValidationError("--code measures the decoder alone: it cannot go with --only") }
        guard (0.5...1.2).contains(efficiency) else { throw ValidationError("--efficiency must be from 0.5 to 1.2") }
        for name in only where !Bench.sections.contains(where: { $0.name == name }) {
            throw ValidationError("--only \(name): there is no such section")
        }
    }

    func run() async throws {
        if let json { try OutputFile.check(absolutePath(json)) }
        let bench = Bench(frames: frames, efficiency: efficiency, testbed: testbed, python: python)
        if let code {
            return try report(DecoderSection.rows(code: .named(code), efficiency: efficiency, frames: frames, disclosing: true))
        }
        let sections = Bench.sections.filter { section in
            only.isEmpty ? !section.onRequest && !(noLab && section == LabSection.self) : only.contains(section.name)
        }
        // Known now rather than after minutes.
        if sections.contains(where: { $0 == LabSection.self }) { _ = try Lab(testbed: testbed, folder: nil) }
        var figures: [BenchFigure] = []
        for section in sections {
            Output.complain("bench: \(section.name)")
            figures += try await section.init().figures(bench)
        }
        try report(figures)
    }

    private func report(_ figures: [BenchFigure]) throws {
        print(BenchFigure.table(figures))
        if let json { try OutputFile.write(BenchFigure.json(figures), to: absolutePath(json)) }
    }
}
