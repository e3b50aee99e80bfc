// A recording is key material, deposits nothing, and runs again to the same decisions bit for bit.

import Foundation
import QKDModel
import QuantumLink
import Testing

@Suite("Recordings of a link", .serialized)
struct RecordingTests {
    @Test("Both ends of a run are replayed bit for bit; nothing of it was deposited; a changed symbol shows")
    func replay() async throws {
        // Near the limit, so that frames need more bits.
        let bench = try LinkBench(SyntheticChannel(seed: 61, phaseRate: 0.004), efficiency: 0.95, isRecorded: true)
        await bench.run { $0.last != nil && $1.last != nil }
        #expect(try bench.transmitter.keys().isEmpty && bench.receiver.keys().isEmpty)
        let report = try #require(bench.transmitter.context.monitor.blocks.first)
        #expect(report.secretBits == 0 && report.limitedBy.contains("recorded"))
        #expect(report.framesInRound.count > 1, "rounds of disclosure are part of what is replayed")

        for end in [bench.transmitter, bench.receiver] {
            let path = bench.recording(end)
            #expect(end.recorder?.trouble != nil)
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            let head = String(decoding: try Data(contentsOf: URL(filePath: path)).prefix(1500), as: UTF8.self)
            #expect(head.contains("\"keyMaterial\":true") && head.contains("has its key"))
            let replay = try await LinkReplay.run(path: path)
            #expect(replay.agrees, "\(replay.differences)")
            #expect(replay.role == end.context.settings.identity.role && replay.blocks >= 1)
            #expect(replay.frames >= report.framesDecoded && replay.decisions > report.framesDecoded)
            try await changed(path)
        }
    }

    /// One sample in the middle of the file is another: some decision is another too, or nothing fits any more.
    private func changed(_ path: String) async throws {
        var data = try Data(contentsOf: URL(filePath: path))
        // Samples of the first frame: kind 4 behind a length of their size.
        let size = UInt32(2 * 204_800 + 21)
        let mark: [UInt8] = withUnsafeBytes(of: size.littleEndian, Array.init) + [4]
        let found = try #require(data.range(of: Data(mark)))
        let place = found.upperBound + 20
        // Many of them: a decoder forgives a few.
        for offset in stride(from: 1, to: 2 * 204_800, by: 2) { data[place + offset] ^= 0x81 }
        let other = path + ".changed"
        try data.write(to: URL(filePath: other))
        #expect(await refusal(other)?.contains("altered") == true)
        // The state machines see it too.
        if let replay = try? await LinkReplay.run(path: other, anyway: true) { #expect(!replay.agrees) }
    }

    /// Why a file is not replayed; nil: it is.
    private func refusal(_ path: String) async -> String? {
        do { _ = try await LinkReplay.run(path: path) } catch let error as QuantumLinkError {
            guard case .recording(path, let problem) = error else { return "another error: \(error)" }
            return problem
        } catch { return "another error: \(error)" }
        return nil
    }

    @Test("What is no recording, or is cut short, is refused with a reason")
    func refused() async throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appendingPathComponent("x").path
        #expect(await refusal(path) == "is not there")
        #expect(await refusal(folder.path)?.contains("it is a folder") == true)
        for content in ["", "SDQKLREC", "SDQKLREC\u{4}\0\0\0{}..", "something else altogether"] {
            try Data(content.utf8).write(to: URL(filePath: path))
            #expect(await refusal(path)?.contains("no recording of a link") == true || content.hasSuffix(".."))
            #expect(await refusal(path) != nil)
        }
        let settings = LinkSettings(
            identity: LinkIdentity(
                node: NodeID(unchecked: "a"), peer: NodeID(unchecked: "b"), link: LinkID(unchecked: "a-b"), role: .receiver),
            path: "", loss: Decibels(3), blockSymbols: 4_000_000, slotSymbols: 2_000_000)
        // A file that is there already is never written over.
        #expect(throws: QuantumLinkError.self) { try LinkRecorder(path: path, settings: settings) }
        try FileManager.default.removeItem(atPath: path)
        let recorder = try LinkRecorder(path: path, settings: settings)
        recorder.take(.saturated(5))
        recorder.take(.random([1, 2, 3]))
        recorder.finish()
        let whole = try Data(contentsOf: URL(filePath: path))
        #expect(try await LinkReplay.run(path: path).records == 2)
        try await damaged(whole, path)
    }

    /// Wherever it is cut, whatever bit is another one, whatever stands behind it.
    private func damaged(_ whole: Data, _ path: String) async throws {
        let file = URL(filePath: path)
        let head = 12 + whole[8..<12].reversed().reduce(0) { $0 << 8 | Int($1) }
        for count in head..<whole.count {
            try whole.prefix(count).write(to: file)
            #expect(await refusal(path)?.contains("cut short") == true, "\(count) of \(whole.count) bytes")
        }
        for place in head..<whole.count {
            var other = whole
            other[place] ^= 4
            try other.write(to: file)
            #expect(await refusal(path) != nil, "byte \(place)")
        }
        try (whole + [0]).write(to: file)
        #expect(await refusal(path)?.contains("behind its end") == true)
        let text = String(decoding: whole[12..<head], as: UTF8.self).replacing("\"version\":2", with: "\"version\":3")
        try (whole.prefix(12) + Data(text.utf8) + whole.dropFirst(head)).write(to: file)
        #expect(await refusal(path) == "is of version 3; this program reads version 2")
        try await impossible(whole, head, path)
    }

    /// Numbers in the head that no configuration may have, also where damage is passed over.
    private func impossible(_ whole: Data, _ head: Int, _ path: String) async throws {
        let text = String(decoding: whole[12..<head], as: UTF8.self)
        for (name, value, words) in [
            ("calibrationRatio", "1e9", "calibration_ratio is"), ("blockSymbols", "9223372036854775807", "block_symbols is"),
            ("slotSymbols", "-5", "slot_symbols is"), ("epsilon", "0.5", "epsilon is"), ("maximumPasses", "-1", "passes are -1"),
            ("driftAllowance", "7", "drift_allowance is"), ("driftLimit", "1e300", "drift limit is"), ("weight", "0", "weight is"),
        ] {
            let place = try #require(text.range(of: "\"\(name)\":"))
            let number = text[place.upperBound...].prefix { !",}".contains($0) }
            let other = Data(text.replacingCharacters(in: number.startIndex..<number.endIndex, with: value).utf8)
            let size = withUnsafeBytes(of: UInt32(other.count).littleEndian) { Data($0) }
            try (whole.prefix(8) + size + other + whole.dropFirst(head)).write(to: URL(filePath: path))
            do {
                _ = try await LinkReplay.run(path: path, anyway: true)
                Issue.record("\(name) \(value) was taken")
            } catch { #expect("\(error)".contains(words), "\(error)") }
        }
    }
}
