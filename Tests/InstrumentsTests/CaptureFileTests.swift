import Foundation
import Instruments
import QKDModel
import QKDTesting
import Synchronization
import Testing
import Transport

@Suite(.timeLimit(.minutes(1))) struct CaptureFileTests {
    private func folder() throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appending(path: "sdqkd-capture-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder
    }

    private func device(_ count: Int) throws -> FakeDevice {
        let device = try FakeDevice(frames: (0..<count).map { FrameSpecification(number: UInt64($0), symbols: 1024, flags: 1 << 31) })
        device.state.withLock { $0.answers["SYSTem:CAPability:BLOCk?"] = "1024,64" }
        return device
    }

    private func capture(_ device: FakeDevice, to path: String, frames: Int) async throws -> CaptureMetadata {
        let module = try await Modules.open(uri: device.uri)
        defer { module.close() }
        let writer = try CaptureWriter(
            path: path, metadata: try await CaptureMetadata(of: module, kind: .signal, created: Date(timeIntervalSince1970: 1_790_000_000)))
        let stream = try await module.openStream()
        for _ in 0..<frames {
            let frame = try #require(try await stream.next())
            try writer.append(frame)
        }
        try writer.finish()
        return writer.metadata
    }

    @Test func framesComeBackVerbatim() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "a.qcap").path
        let written = try await capture(try device(5), to: path, frames: 5)
        let reader = try CaptureReader(path: path)
        #expect(reader.metadata == written)
        #expect(reader.frames == 5)
        #expect(written.symbols == 5120 && written.firstFrame == 0 && written.lastFrame == 4 && written.lostFrames == 0)
        #expect(written.saturatedSamples == 15)
        #expect(written.scale == 0.001 && written.scaleUnit == "V")
        #expect(written.efficiency == 0.8 && written.fullScaleLsb == 2048)
        #expect(written.created == "2026-09-21T14:13:20Z")
        for index in 0..<5 {
            let specification = FrameSpecification(number: UInt64(index), flags: 1 << 31)
            #expect(try reader.frame(index).samples.withFrameBytes { Array($0) } == specification.bytes())
        }
    }

    /// Key-equivalent: nobody else may read it, and it says what it is.
    @Test func fileIsPrivateAndNeverOverwritten() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "a.qcap").path
        let metadata = try await capture(try device(2), to: path, frames: 2)
        #expect(metadata.keyEquivalent && metadata.warning.contains("key"))
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        #expect(throws: CaptureError.cannotWrite(path: path, reason: "it exists already: choose another name")) {
            _ = try CaptureWriter(path: path, metadata: metadata)
        }
        #expect(throws: CaptureError.self) { _ = try CaptureWriter(path: "\(folder.path)/no/such/folder.qcap", metadata: metadata) }
    }

    @Test func damagedFilesAreRefused() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "a.qcap").path
        _ = try await capture(try device(3), to: path, frames: 3)
        let good = try Data(contentsOf: URL(fileURLWithPath: path))
        func reader(_ change: (inout Data) -> Void) throws -> CaptureReader {
            var data = good
            change(&data)
            let other = folder.appending(path: "b.qcap")
            try data.write(to: other)
            return try CaptureReader(path: other.path)
        }
        #expect(throws: CaptureError.self) { try reader { $0[0] = 0 } }
        #expect(throws: CaptureError.self) { try reader { $0[8] = 9 } }
        #expect(throws: CaptureError.self) { try reader { $0[13] = 0xFF } }
        #expect(throws: CaptureError.self) { try reader { $0[20] = 0 } }
        #expect(throws: CaptureError.self) { try reader { $0 = $0.prefix(10) } }
        #expect(try reader { $0.removeLast(100) }.frames == 2, "a file that was cut short loses its last frame only")
        let flipped = try reader { $0[$0.count - 1] ^= 1 }
        #expect(throws: InstrumentError.badFrame(reason: "its payload's checksum is wrong")) { try flipped.frame(2) }
        #expect(try flipped.frame(1).number == 1)
    }

    /// The snippet of docs/wire/capture-file.md, as printed there.
    @Test func numpySnippetReadsIt() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "a.qcap").path
        _ = try await capture(try device(4), to: path, frames: 4)
        let page = try String(contentsOf: packageFolder.appending(path: "docs/wire/capture-file.md"), encoding: .utf8)
        let snippet = try #require(page.firstMatch(of: /```python\n((?s).*?)```/)).1
        let script =
            "import json, sys\nimport numpy as np\npath = sys.argv[1]\n\(snippet)\nprint(len(x), int(round(x[1500] / meta['scale'])), meta['kind'])"
        guard let output = try python(["-c", script, path]) else {
            print("skipped: python3 with numpy is not installed here (make deps installs it)")
            return
        }
        let sample = FrameSpecification(number: 1).sample(2 * (1500 - 1024))
        #expect(output == "4096 \(sample) signal\n")
    }

    /// - Returns: standard output; `nil` where numpy is missing.
    private func python(_ arguments: [String]) throws -> String? {
        func run(_ arguments: [String]) throws -> (status: Int32, output: String) {
            let process = Process()
            let pipe = Pipe()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            process.arguments = ["python3"] + arguments
            process.standardOutput = pipe
            process.standardError = FileHandle.nullDevice
            try process.run()
            let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
            process.waitUntilExit()
            return (process.terminationStatus, String(decoding: output, as: UTF8.self))
        }
        guard try run(["-c", "import numpy"]).status == 0 else { return nil }
        let result = try run(arguments)
        #expect(result.status == 0)
        return result.output
    }
}
