// The real emulator program for tests, where it has been built.

import Foundation
import Testing

/// One run of `qkd-emulator` on free ports; ends with its last reference.
final class EmulatorProcess: @unchecked Sendable {
    // `process` is started in `init` and only terminated in `deinit`.
    private let process = Process()
    private var addresses: [String: String] = [:]

    private struct Endpoint: Decodable {
        var event: String
        var device: String?
        var uri: String?
    }

    /// Beside the tests' own executable, or in another release build of this tree.
    static let program: String? = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        let beside = URL(fileURLWithPath: own).deletingLastPathComponent().path
        let builds = ((try? FileManager.default.contentsOfDirectory(atPath: packageFolder.path)) ?? []).filter { $0.hasPrefix(".build") }
            .sorted()
        let folders = [beside] + builds.map { packageFolder.appending(path: "\($0)/release").path }
        return folders.map { $0 + "/qkd-emulator" }.first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    /// - Returns: `nil`, and says why, where no emulator has been built.
    static func start(_ testbed: String, devices: Int = 2, _ options: String...) throws -> EmulatorProcess? {
        guard let program else {
            print("skipped: no qkd-emulator in a release build of this tree (swift build -c release builds it)")
            return nil
        }
        return try EmulatorProcess(program, testbed, devices, options)
    }

    private init(_ program: String, _ testbed: String, _ devices: Int, _ options: [String]) throws {
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments =
            ["--testbed", packageFolder.appending(path: "firmware-sim/testbeds/\(testbed).yaml").path, "--json", "--any-ports"] + options
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        var text = ""
        while addresses.count < devices {
            let data = output.fileHandleForReading.availableData
            try #require(!data.isEmpty, "the emulator ended: \(text)")
            text += String(decoding: data, as: UTF8.self)
            for line in text.split(separator: "\n") {
                guard let endpoint = try? JSONDecoder().decode(Endpoint.self, from: Data(line.utf8)) else { continue }
                if let device = endpoint.device, let uri = endpoint.uri { addresses[device] = uri }
            }
        }
        // What it says later must not fill the pipe.
        output.fileHandleForReading.readabilityHandler = { _ = $0.availableData }
    }

    deinit {
        process.terminate()
        process.waitUntilExit()
    }

    func uri(_ device: String) throws -> String { try #require(addresses[device]) }
}
