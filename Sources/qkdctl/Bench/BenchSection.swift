// A part of the bench: a file of its own that conforms to `BenchSection`, and one line in `Bench.sections`.

import Foundation
import PostProcessing

protocol BenchSection: Sendable {
    /// For `--only`, one word.
    static var name: String { get }
    /// Not run unless it is asked for by name.
    static var onRequest: Bool { get }
    init()
    func figures(_ bench: Bench) async throws -> [BenchFigure]
}

extension BenchSection {
    static var onRequest: Bool { false }
}

/// What sections share: the command's options, and other programs.
struct Bench: Sendable {
    static let sections: [any BenchSection.Type] = [
        DecoderSection.self, PackageSection.self, PrivacyAmplificationSection.self, AuthenticationSection.self, EstimationSection.self,
        EmulatorSection.self, AgentSection.self, LabSection.self, MemorySection.self,
    ]

    /// Symbols per second that have to be kept up with.
    static let symbolRate = 5e6

    var frames: Int
    var efficiency: Double
    var testbed: String
    var python: String

    /// Standard output of a program of this build, or of the one at a path.
    /// - Throws: `LabError.commandFailed` where it fails.
    func output(of name: String, _ arguments: [String]) async throws -> Data {
        try await withScratch { folder in
            let plan = try ChildPlan(
                name: name, command: [name.contains("/") ? name : Lab.programFolder() + "/" + name] + arguments,
                folder: FileManager.default.currentDirectoryPath, output: folder + "/run")
            let child = try await ChildProcess.start(plan)
            let end = await child.wait()
            guard end == .exited(0) else {
                throw LabError.commandFailed(command: ([name] + arguments).joined(separator: " "), end: end, tail: child.tail())
            }
            return try Data(contentsOf: URL(filePath: plan.output + ".out"))
        }
    }

    /// A folder that is gone afterwards.
    func withScratch<R: Sendable>(_ body: (String) async throws -> R) async throws -> R {
        let folder = NSTemporaryDirectory() + "/bench-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        return try await body(folder)
    }

    /// Seconds of processor time of the quickest of some runs.
    static func quickest(of repeats: Int, _ body: () throws -> Void) rethrows -> Double {
        try (0..<max(1, repeats)).map { _ in
            let start = ThreadTime.now
            try body()
            return ThreadTime.now - start
        }.min() ?? 0
    }
}
