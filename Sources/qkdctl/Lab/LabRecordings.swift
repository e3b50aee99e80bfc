// The recordings of a lab that was started with --record, run again.

import Foundation
import QuantumLink

/// One recording and what its replay found.
struct LabRecording: Codable, Sendable {
    /// From the lab's folder.
    var file: String
    var bytes: Int
    var decisions = 0
    var frames = 0
    var blocks = 0
    /// Why it is not bit for bit the same, in words.
    var problem: String?
}

extension Lab {
    /// Each file of each site, one after the other.
    func replayRecordings() async -> [LabRecording] {
        var found: [LabRecording] = []
        for site in plan.sites {
            let folder = folder.site(site.name) + "/" + LabPlan.recordings
            let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
            if names.isEmpty {
                found.append(LabRecording(file: "\(site.name)/\(LabPlan.recordings)", bytes: 0, problem: "\(site.name) recorded nothing"))
            }
            for name in names { found.append(await replay("\(site.name)/\(LabPlan.recordings)/\(name)")) }
        }
        for recording in found { say(recording.line) }
        return found
    }

    private func replay(_ file: String) async -> LabRecording {
        let path = folder.path + "/" + file
        let size = (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
        var recording = LabRecording(file: file, bytes: size)
        do {
            let replay = try await LinkReplay.run(path: path)
            (recording.decisions, recording.frames, recording.blocks) = (replay.decisions, replay.frames, replay.blocks)
            if let difference = replay.differences.first { recording.problem = "\(file): \(difference)" }
            if replay.blocks == 0 { recording.problem = recording.problem ?? "\(file): no whole block is in it" }
        } catch { recording.problem = "\(error)" }
        return recording
    }
}

extension LabRecording {
    /// For people.
    fileprivate var line: String {
        if let problem { return "replay: \(problem)" }
        let size = String(format: "%.0f MB", Double(bytes) / 1e6)
        return "replay of \(file) (\(size)): \(blocks) blocks, \(frames) frames, \(decisions) decisions, bit for bit the same"
    }
}
