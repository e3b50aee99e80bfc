// docs/standards.md says which test shows what: every test and file that it names exists.

import Foundation
import Testing

@Suite struct StandardsTableTests {
    private let text = (try? String(contentsOfFile: Programs.root + "docs/standards.md", encoding: .utf8)) ?? ""

    private func paths(below folder: String) -> Set<String> {
        Set((try? FileManager.default.subpathsOfDirectory(atPath: Programs.root + folder)) ?? [])
    }

    /// `KeyStoreTests` is a folder of Tests, `RESTCONFTests/YANG/ModelTests` or `Datastore/EditingTests` the end of a file's path in it.
    @Test func everyTestThatIsNamedExists() throws {
        let names = Set(text.matches(of: /`((?:[A-Za-z0-9]+\/)*[A-Za-z0-9]+Tests)`/).map { String($0.output.1) })
        try #require(names.count > 20)
        let tests = paths(below: "Tests")
        let missing = names.filter { name in
            !tests.contains { $0 == name || $0.hasSuffix("/" + name) || $0 == name + ".swift" || $0.hasSuffix("/" + name + ".swift") }
        }
        #expect(missing.isEmpty, "docs/standards.md names tests that are not there: \(missing.sorted())")
    }

    @Test func everyVectorThatIsNamedExists() {
        for match in text.matches(of: /`(Tests\/[A-Za-z0-9\/]+)`/) {
            #expect(FileManager.default.fileExists(atPath: Programs.root + String(match.output.1)), "\(match.output.1)")
        }
    }
}
