import Foundation
import RESTCONF
import Testing

@Suite struct AccessRulesTests {
    @Test func yamlAndJSONSayTheSame() throws {
        let yaml = try AccessRules(parsing: "clients:\n  sdn.madrid: controller\n  noc: operator # night shift\n", file: "x")
        let json = try AccessRules(parsing: #"{"clients": {"sdn.madrid": "controller", "noc": "operator"}}"#, file: "x")
        #expect(yaml == json && yaml.clients == ["sdn.madrid": .controller, "noc": .operator])
        #expect(yaml.role(of: ["sdn.madrid"]) == .controller && yaml.role(of: ["nobody"]) == nil && yaml.role(of: []) == nil)
        // One certificate with two names that are known: the lesser role counts.
        #expect(yaml.role(of: ["sdn.madrid", "noc"]) == .operator)
    }

    @Test(arguments: [
        ("", "access rules 'r.yaml' line 1: it is empty: name at least 'clients'"),
        ("- a\n", "access rules 'r.yaml' line 1: it should be a mapping with the one key 'clients'"),
        ("clients:\n  a: controller\nclient: {}\n", "access rules 'r.yaml' line 3: unknown key 'client': only 'clients' is known"),
        (
            "clients:\n  a: controller\n  b: root\n",
            "access rules 'r.yaml' line 3: the role of 'b' is 'root', should be 'controller' or 'operator'"
        ),
        ("clients:\n  a: [controller]\n", "access rules 'r.yaml' line 2: the role of 'a' is '?', should be 'controller' or 'operator'"),
        ("clients: [a]\n", "access rules 'r.yaml' line 1: 'clients' should map certificate names to roles"),
        ("clients:\n  a: controller\n  a: operator\n", "access rules 'r.yaml' line 2: 'a' is given twice"),
        ("clients: {a: controller\n", "access rules 'r.yaml' line 2: not YAML: did not find expected ',' or '}'"),
    ]) func whatIsWrongIsSaid(_ text: String, _ message: String) {
        let error = #expect(throws: RESTCONFSetupError.self) { try AccessRules(parsing: text, file: "r.yaml") }
        #expect(error.map { "\($0)" } == message)
    }

    @Test func reloadKeepsTheOldRulesWhereTheNewAreWrong() throws {
        let scratch = try ServerScratch()
        let file = try scratch.write("clients: {a: controller}", "access.yaml")
        let list = try AccessList(file: file)
        try scratch.write("clients: {a: operator}", "access.yaml")
        try list.reload()
        #expect(list.current.clients == ["a": .operator])
        try scratch.write("clients: {a: king}", "access.yaml")
        #expect(throws: RESTCONFSetupError.self) { try list.reload() }
        #expect(list.current.clients == ["a": .operator])
        #expect(throws: RESTCONFSetupError.rules(file: scratch.path + "/none", line: 0, problem: "no such file")) {
            try AccessList(file: scratch.path + "/none")
        }
    }

    @Test func aFileThatChangesIsReadOnce() throws {
        let scratch = try ServerScratch()
        let file = try scratch.write("clients: {a: controller}", "access.yaml")
        let list = try AccessList(file: file)
        #expect(try list.reloadIfChanged() == (false, false))
        try scratch.write("clients: {a: operator, b: operator}", "access.yaml")
        #expect(try list.reloadIfChanged() == (true, true))
        #expect(list.current.clients["a"] == .operator)
        #expect(try list.reloadIfChanged() == (false, false))
        try scratch.write("clients: {a: king}", "access.yaml")
        #expect(throws: RESTCONFSetupError.self) { try list.reloadIfChanged() }
        // Said once; what was in force stays so, also where the file goes.
        #expect(try list.reloadIfChanged() == (false, false))
        try FileManager.default.removeItem(atPath: file)
        #expect(throws: RESTCONFSetupError.self) { try list.reloadIfChanged() }
        #expect(list.current.clients == ["a": .operator, "b": .operator])
    }

    @Test func aBucketGivesItsBurstAndThenItsRate() {
        let rate = RequestRate(rate: 10, burst: 3)
        let start = ContinuousClock.now
        #expect((0..<3).allSatisfy { _ in rate.wait(of: "a", now: start) == nil })
        #expect(rate.wait(of: "a", now: start) == 1)
        // Another client has a bucket of its own.
        #expect(rate.wait(of: "b", now: start) == nil)
        #expect(rate.wait(of: "a", now: start + .milliseconds(100)) == nil)
        #expect(rate.wait(of: "a", now: start + .milliseconds(110)) != nil)
        // However long the pause, no more than the burst.
        let later = start + .seconds(3600)
        #expect((0..<4).map { _ in rate.wait(of: "a", now: later) == nil } == [true, true, true, false])
    }
}
