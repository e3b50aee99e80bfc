import Foundation
import Testing

/// The check that guards the house must itself catch what it is for.
@Suite struct CheckLayersTests {
    /// A package with one bad habit; `files` are contents by path.
    private func check(_ targets: String, _ files: [String: String]) async throws -> Outcome {
        let scratch = try Scratch()
        let manifest = """
            // swift-tools-version: 6.0
            import PackageDescription
            let package = Package(name: "p", targets: [\(targets)])
            """
        _ = try scratch.write(manifest, "Package.swift")
        for (path, text) in files {
            let folder = scratch.path + "/" + (path as NSString).deletingLastPathComponent
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            _ = try scratch.write(text, path)
        }
        return try await run(Programs.root + "/scripts/check-layers", scratch.path, within: .seconds(120))
    }

    @Test func undeclaredImportIsNamedWithFileAndLine() async throws {
        let outcome = try await check(
            #".target(name: "QKDModel", path: "A"), .target(name: "NodeAPI", dependencies: ["QKDModel"], path: "B")"#,
            [
                "A/a.swift": "import Foundation\n",
                "B/b.swift": "\n@preconcurrency public import struct KeyMaterial.SecretBytes\nimport QKDModel\n",
            ])
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("B/b.swift:2: NodeAPI imports KeyMaterial and does not declare it"))
        #expect(outcome.output.contains("2 targets, 1 problems"))
    }

    @Test func sidewaysDependencyIsRefused() async throws {
        let outcome = try await check(
            #".target(name: "PostProcessing", path: "A"), .target(name: "Instruments", dependencies: ["PostProcessing"], path: "B")"#,
            ["A/a.swift": "", "B/b.swift": "import PostProcessing\n"])
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("Instruments must not declare PostProcessing"))
    }

    /// Programs that face the outside world may not hold keys, however long the way.
    @Test func keysNeverReachTheAgent() async throws {
        let outcome = try await check(
            """
            .target(name: "KeyMaterial", path: "A"), .target(name: "SDNAgent", dependencies: ["KeyMaterial"], path: "B"),
            .executableTarget(name: "qkd-agentd", dependencies: ["SDNAgent"], path: "C")
            """,
            [
                "A/a.swift": "", "B/b.swift": "import KeyMaterial\n",
                "C/c.swift": "import SDNAgent\n@main struct P { static func main() {} }\n",
            ])
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("KeyMaterial stands in the closure of qkd-agentd"))
        #expect(outcome.errors.contains("SDNAgent must not declare KeyMaterial"))
    }

    @Test func emulatorNeverMeetsTheDriver() async throws {
        let outcome = try await check(
            #".target(name: "Transport", path: "A"), .target(name: "FirmwareSim", dependencies: ["Transport"], path: "B")"#,
            ["A/a.swift": "", "B/b.swift": "import Transport\n"])
        #expect(outcome.errors.contains("Transport stands in the closure of FirmwareSim"))
    }
}
