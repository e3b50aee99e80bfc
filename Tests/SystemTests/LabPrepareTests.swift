import Foundation
import Testing

@Suite struct LabPrepareTests {
    @Test func missingAndBrokenTestbedsAreNamed() async throws {
        let scratch = try Scratch()
        let absent = try await run("qkdctl", "lab", "prepare", scratch.path + "/none.yaml")
        #expect(absent.status == 1)
        #expect(absent.errors.contains("none.yaml: no such file"))
        let broken = try scratch.write("testbed: x\ndevices: []\nlinks: []\n", "empty.yaml")
        let empty = try await run("qkdctl", "lab", "prepare", broken)
        #expect(empty.status == 1)
        #expect(empty.errors.contains("has no links"))
    }

    /// Names become folders: none may lead out of the lab's.
    @Test(arguments: ["../x", "a/b", ".hidden"]) func namesThatAreNoPlainOnesAreRefused(name: String) async throws {
        let scratch = try Scratch()
        let text = try String(contentsOfFile: Programs.root + "/firmware-sim/testbeds/small.yaml", encoding: .utf8)
        let file = try scratch.write(text.replacing("testbed: small", with: "testbed: \"\(name)\""), "named.yaml")
        let outcome = try await run("qkdctl", "lab", "prepare", file)
        #expect(outcome.status == 1 && outcome.errors.contains("'\(name)' cannot be a name"), "\(outcome)")
    }

    /// Minutes of work are not lost to a mistyped path.
    @Test func unwritableResultIsSaidFirst() async throws {
        let scratch = try Scratch()
        let outcome = try await run(
            "qkdctl", "lab", "run", "firmware-sim/testbeds/small.yaml", "--folder", scratch.path + "/lab", "--json", "/nonexistent/r.json")
        #expect(outcome.status == 1 && outcome.errors.contains("there is no folder /nonexistent"), "\(outcome)")
        #expect(!FileManager.default.fileExists(atPath: scratch.path + "/lab"))
    }

    /// A folder with somebody else's files is left alone.
    @Test func foreignFolderIsNotEmptied() async throws {
        let scratch = try Scratch()
        let thesis = try scratch.write("years of work", "thesis.txt")
        let outcome = try await run("qkdctl", "lab", "prepare", "firmware-sim/testbeds/small.yaml", "--folder", scratch.path)
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("is not empty and no lab made it"))
        #expect(FileManager.default.fileExists(atPath: thesis))
    }
}
