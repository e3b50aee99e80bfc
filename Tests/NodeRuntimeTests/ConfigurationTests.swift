import Foundation
import NodeRuntime
import QKDModel
import Testing

private struct Link: Decodable, Equatable {
    var id: LinkID
    var loss_db: Double
    var block_symbols: Int
    var note: String?
}

private struct Node: Decodable, Equatable {
    var node: NodeID
    var enabled: Bool
    var links: [Link]
    var weights: [String: Int]?
}

private let good = """
    node: almagro
    enabled: true
    links:
      - { id: almagro-norte, loss_db: 6, block_symbols: 5e7 }
      - id: almagro-concepcion
        loss_db: 11.0
        block_symbols: 300_000_000
        note: "long"
    weights: { norte: 35, concepcion: 65 }
    """

@Suite struct ConfigurationTests {
    private func parse(_ text: String) throws -> Node { try Configuration.parse(Node.self, text: text, file: "node.yaml") }

    private func refusal(_ text: String) -> String {
        do {
            return "no error: \(try parse(text))"
        } catch {
            return "\(error)"
        }
    }

    @Test func readsTypesListsAndDictionaries() throws {
        let node = try parse(good)
        #expect(node.node.rawValue == "almagro")
        #expect(node.links.map(\.block_symbols) == [50_000_000, 300_000_000])
        #expect(node.links[0].loss_db == 6)
        #expect(node.links.map(\.note) == [nil, "long"])
        #expect(node.weights == ["norte": 35, "concepcion": 65])
    }

    @Test func unknownKeyNamesFileLineKeyAndKnownOnes() {
        let text = good.replacing("note:", with: "nota:")
        #expect(refusal(text) == "node.yaml:8: key 'links[1].nota': is unknown here; known: block_symbols, id, loss_db, note")
    }

    @Test func partialReadersLeaveOtherKeysAlone() throws {
        let text = good + "\nseed: 7\n"
        #expect(refusal(text).contains("key 'seed': is unknown here"))
        #expect(try Configuration.parse(Node.self, text: text, file: "node.yaml", partial: true) == parse(good))
        #expect(throws: NodeRuntimeError.self) { try Configuration.parse(Node.self, text: "node: a", file: "n", partial: true) }
    }

    @Test func missingKeyNamesItsPlace() {
        #expect(refusal("node: a\nlinks: []\n") == "node.yaml:1: 'enabled' is missing")
        #expect(refusal(good.replacing("loss_db: 6, ", with: "")) == "node.yaml:4: key 'links[0]': 'loss_db' is missing")
    }

    @Test(arguments: [
        ("loss_db: 11.0", "loss_db: much", "node.yaml:6: key 'links[1].loss_db': 'much' is no number"),
        ("loss_db: 11.0", "loss_db: .inf", "node.yaml:6: key 'links[1].loss_db': '.inf' is no number"),
        ("loss_db: 11.0", "loss_db: [1]", "node.yaml:6: key 'links[1].loss_db': needs number"),
        ("5e7", "5.5", "node.yaml:4: key 'links[0].block_symbols': '5.5' is no whole number from"),
        ("enabled: true", "enabled: yes", "node.yaml:2: key 'enabled': 'yes' is no true or false"),
        ("node: almagro", "node: al magro", "node.yaml:1: key 'node': 'al magro' is no NodeID"),
        ("node: almagro", "node: almagro\nnode: norte", "is given twice"),
        ("node: almagro", "node: [almagro", "node.yaml:"),
    ])
    func wrongValueNamesItsLine(old: String, new: String, message: String) {
        #expect(refusal(good.replacing(old, with: new)).contains(message))
    }

    /// Whoever misspelled a key hears of the misspelling too, not only of what is missing for it; and of everything else at once.
    @Test func everythingThatIsWrongIsToldAtOnceByLine() {
        let text = """
            nod: almagro
            enabled: perhaps
            links:
              - { id: "a b", los_db: 6, block_symbols: 5e7 }
            weights: { norte: much }
            """
        #expect(
            refusal(text).split(separator: "\n") == [
                "node.yaml:1: 'node' is missing",
                "node.yaml:1: key 'nod': is unknown here; known: enabled, links, node, weights",
                "node.yaml:2: key 'enabled': 'perhaps' is no true or false",
                "node.yaml:4: key 'links[0].id': 'a b' is no LinkID: use 1 to 64 letters, digits, '-', '_', '.' or ':', a letter or digit first",
                "node.yaml:4: key 'links[0]': 'loss_db' is missing",
                "node.yaml:4: key 'links[0].los_db': is unknown here; known: block_symbols, id, loss_db, note",
                "node.yaml:5: key 'weights.norte': 'much' is no whole number from \(Int.min) to \(Int.max)",
            ])
    }

    @Test func aWordThatIsNoneOfTheChoicesListsThem() {
        struct File: Decodable { var role: DeviceRole }
        #expect(throws: NodeRuntimeError.configuration(file: "f", line: 1, key: "role", problem: "'BOTH' is none of TRANSMITTER, RECEIVER"))
        {
            try Configuration.parse(File.self, text: "role: BOTH", file: "f")
        }
    }

    @Test func aWrongUUIDIsOneErrorAndTheOtherKeysAreStillKnown() {
        struct File: Decodable {
            var id: UUID?
            var node: NodeID
            var weight: Double
        }
        let text = "id: not-a-uuid\nnode: almagro\nweight: much\n"
        do {
            let file = try Configuration.parse(File.self, text: text, file: "f")
            Issue.record("no error: \(file)")
        } catch {
            let lines = "\(error)".split(separator: "\n")
            #expect(lines.count == 2 && lines[0].hasPrefix("f:1: key 'id': "), "\(error)")
            #expect(lines.last == "f:3: key 'weight': 'much' is no number")
        }
    }

    @Test func emptyAndAbsentFiles() throws {
        #expect(refusal("") == "node.yaml:1: the file is empty")
        #expect(throws: NodeRuntimeError.unreadable(file: "/nowhere/node.yaml", reason: "no such file")) {
            try Configuration.load(Node.self, from: "/nowhere/node.yaml")
        }
    }

    /// Random damage to a good file is an error or a value, never a crash.
    @Test func damagedTextNeverCrashes() {
        var random = SystemRandomNumberGenerator()
        let bytes = Array(good.utf8)
        for _ in 0..<2000 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                damaged[Int.random(in: 0..<damaged.count, using: &random)] = UInt8.random(in: 9...126, using: &random)
            }
            _ = refusal(String(decoding: damaged, as: UTF8.self))
        }
    }
}
