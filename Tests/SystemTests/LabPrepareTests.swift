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
