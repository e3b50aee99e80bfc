import Foundation
import RESTCONF
import Synchronization
import Testing

@Suite("transactions, and the configuration on disk") struct TransactionTests {
    let rig: DatastoreRig

    init() throws { rig = try DatastoreRig(YANGRig.shopSchema(), initial: ReadingTests.shop) }

    @Test("two phases; an entry of a list is told without its siblings, unless it depends on them") func phases() async throws {
        try await rig.edit(.merge, "test-shop:shop/shelf=a,1", #"{"test-shop:shelf":[{"row":"a","column":1,"label":"y"}]}"#)
        #expect(rig.target.calls == ["prepare", "commit"])
        let change = try #require(rig.target.changes.first)
        #expect(!change.isWhole)
        #expect(change.changedPaths == ["/test-shop:shop/shelf[row='a'][column='1']/label"])
        #expect(change.before.contains(#""label":"x""#))
        #expect(change.after.contains(#""label":"y""#))
        #expect(!change.after.contains(#""column":2"#))
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:customer":[{"id":1}]}"#)
        #expect(rig.target.changes.last?.isWhole == true)
        #expect(rig.target.changes.last?.changedPaths == ["/test-shop:shop/customer[id='1']"])
        try await rig.edit(.remove, "test-shop:shop/shelf=a,2")
        #expect(rig.target.changes.last?.changedPaths == ["/test-shop:shop/shelf[row='a'][column='2']"])
    }

    @Test("what changes nothing asks nobody") func unchanged() async throws {
        try await rig.edit(.replace, "test-shop:shop/motto", #"{"test-shop:motto":"hi"}"#)
        #expect(rig.target.calls.isEmpty)
    }

    @Test("a target that refuses: nothing has changed") func refused() async throws {
        let before = try await rig.store.configuration()
        rig.target.script.withLock { $0.refusePrepare = ["the device is busy"] }
        let error = await YANGRig.refusal { try await rig.edit(.replace, "test-shop:shop/motto", #"{"test-shop:motto":"x"}"#) }
        #expect(error?.message == "the device is busy")
        #expect(try await rig.store.configuration() == before)
        #expect(try await DatastoreRig(rig.schema, folder: rig.folder).store.configuration() == before)
    }

    @Test("a commit that fails is undone by the reverse change") func undone() async throws {
        let before = try await rig.store.configuration()
        rig.target.script.withLock { $0.refuseCommit = ["the laser went out"] }
        let error = await YANGRig.refusal { try await rig.edit(.replace, "test-shop:shop/motto", #"{"test-shop:motto":"x"}"#) }
        #expect(error?.tag == .operationFailed)
        #expect(error?.message == "the change was undone: the laser went out")
        #expect(rig.target.calls == ["prepare", "commit", "prepare", "commit"])
        #expect(rig.target.changes.last?.after == rig.target.changes.first?.before)
        #expect(try await rig.store.configuration() == before)
    }

    @Test("RFC 8040, section 7: undoing that fails is rollback-failed") func notUndone() async throws {
        rig.target.script.withLock {
            $0.refusePrepare = [nil, "no"]
            $0.refuseCommit = ["the laser went out"]
        }
        let error = await YANGRig.refusal { try await rig.edit(.replace, "test-shop:shop/motto", #"{"test-shop:motto":"x"}"#) }
        #expect(error?.tag == .rollbackFailed)
        #expect(error?.status == 500)
    }

    @Test("a folder that vanished: the target goes back, the configuration stays") func diskGone() async throws {
        let before = try await rig.store.configuration()
        try FileManager.default.removeItem(atPath: rig.folder.path)
        for (path, body) in [
            ("test-shop:shop/motto", #"{"test-shop:motto":"x"}"#), ("test-shop:shop/shelf=a,1/label", #"{"test-shop:label":"other"}"#),
        ] {
            let error = await YANGRig.refusal { try await rig.edit(.replace, path, body) }
            #expect(error?.tag == .operationFailed)
            #expect(error?.message.contains("cannot be kept") == true)
        }
        #expect(rig.target.calls.count == 8)
        #expect(try await rig.store.configuration() == before)
    }

    @Test("everything is there after a restart, journal or not") func restart() async throws {
        try await rig.edit(.merge, "test-shop:shop/shelf=a,1", #"{"test-shop:shelf":[{"row":"a","column":1,"label":"j1"}]}"#)
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:shelf":[{"row":"j","column":9}]}"#)
        try await rig.edit(.remove, "test-shop:shop/shelf=a,2")
        let text = try await rig.store.configuration()
        let second = try DatastoreRig(rig.schema, initial: "{}", folder: rig.folder)
        #expect(second.store.origin == .restored)
        #expect(try await YANGRig.json(second.store.configuration()) == YANGRig.json(text))
        try await second.edit(.replace, "test-shop:shop/motto", #"{"test-shop:motto":"whole"}"#)
        try await second.edit(.create, "test-shop:shop/shelf=j,9", #"{"test-shop:label":"after"}"#)
        let third = try DatastoreRig(rig.schema, folder: rig.folder)
        #expect(try await YANGRig.json(third.store.configuration()) == YANGRig.json(second.store.configuration()))
        #expect(try await third.get("test-shop:shop/shelf=j,9/label") == #"{"test-shop:label":"after"}"#)
    }

    @Test("a journal's last line that broke off is dropped") func torn() async throws {
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:shelf":[{"row":"j","column":1}]}"#)
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:shelf":[{"row":"j","column":2}]}"#)
        let journal = rig.folder.path + "/running.journal"
        let bytes = try Data(contentsOf: URL(fileURLWithPath: journal))
        try bytes.dropLast(7).write(to: URL(fileURLWithPath: journal))
        let again = try DatastoreRig(rig.schema, folder: rig.folder)
        #expect(again.store.origin == .restored)
        let text = try await again.store.configuration()
        #expect(text.contains(#"{"row":"j","column":1}"#))
        #expect(!text.contains(#"{"row":"j","column":2}"#))
    }

    @Test("a journal damaged in the middle is told; one of another snapshot is ignored") func damagedJournal() async throws {
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:shelf":[{"row":"j","column":1}]}"#)
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:shelf":[{"row":"j","column":2}]}"#)
        let journal = URL(fileURLWithPath: rig.folder.path + "/running.journal")
        let text = try String(contentsOf: journal, encoding: .utf8)
        try text.replacingOccurrences(of: "column=", with: "colunm=").replacingOccurrences(of: "j,1", with: "j,7").write(
            to: journal, atomically: true, encoding: .utf8)
        let again = try DatastoreRig(rig.schema, folder: rig.folder)
        guard case .damaged(let files, let reason) = again.store.origin else {
            Issue.record("\(again.store.origin)")
            return
        }
        #expect(reason.contains("line 2"))
        #expect(files.count == 1 && files.allSatisfy { $0.contains("running.journal.unusable-") })
        #expect(try files.first.map { try String(contentsOfFile: $0, encoding: .utf8).contains("j,7") } == true)
        try ("0\n" + text).write(to: journal, atomically: true, encoding: .utf8)
        #expect(try DatastoreRig(rig.schema, folder: rig.folder).store.origin == .restored)
    }

    @Test(
        "what cannot be used is put aside and told",
        arguments: ["{", "", #"{"test-shop:gone":1}"#, #"{"test-shop:shop":{"order":[{"id":1,"customer":9}]}}"#])
    func corrupt(_ text: String) async throws {
        let file = rig.folder.path + "/running.json"
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        let again = try DatastoreRig(rig.schema, initial: #"{"test-shop:shop":{"motto":"start"}}"#, folder: rig.folder)
        guard case .setAside(let files, let reason) = again.store.origin else {
            Issue.record("\(again.store.origin)")
            return
        }
        #expect(!reason.isEmpty)
        #expect(try files.map { try String(contentsOfFile: $0, encoding: .utf8) } == [text])
        #expect(try await again.store.configuration() == #"{"test-shop:shop":{"motto":"start"}}"#)
    }

    /// What a full disk does, too: nothing new can be written. Files by name with what is in them.
    private func contents() throws -> [String: Data] {
        let names = try FileManager.default.contentsOfDirectory(atPath: rig.folder.path).filter { $0 != "running.json.new" }
        return Dictionary(
            uniqueKeysWithValues: names.map { ($0, FileManager.default.contents(atPath: rig.folder.path + "/" + $0) ?? Data()) })
    }

    @Test("a disk that takes nothing at the start: no start, and what was kept stays as it is", arguments: ["sound", "journal", "both"])
    func fullDisk(_ damage: String) async throws {
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:shelf":[{"row":"j","column":1}]}"#)
        try await rig.edit(.create, "test-shop:shop", #"{"test-shop:shelf":[{"row":"j","column":2}]}"#)
        let journal = rig.folder.path + "/running.journal"
        if damage == "journal" {
            let text = try String(contentsOfFile: journal, encoding: .utf8)
            try text.replacing("j,1", with: "j,7").write(toFile: journal, atomically: true, encoding: .utf8)
        }
        if damage == "both" { try "{".write(toFile: rig.folder.path + "/running.json", atomically: true, encoding: .utf8) }
        let obstacle = rig.folder.path + "/running.json.new"
        try FileManager.default.createDirectory(atPath: obstacle, withIntermediateDirectories: false)
        let before = try contents()
        for _ in 0..<2 {
            let error = #expect(throws: RESTCONFError.self) { try DatastoreRig(rig.schema, folder: rig.folder) }
            #expect(error?.message.contains("the configuration cannot be kept: \(obstacle) cannot be written") == true, "\(error as Any)")
            #expect(try contents() == before)
        }
        try FileManager.default.removeItem(atPath: obstacle)
        let again = try DatastoreRig(rig.schema, folder: rig.folder)
        let text = try await again.store.configuration()
        switch (damage, again.store.origin) {
        case ("sound", .restored): #expect(text.contains(#"{"row":"j","column":1}"#) && text.contains(#"{"row":"j","column":2}"#))
        case ("journal", .damaged(let files, _)): #expect(files.count == 1)
        case ("both", .setAside(let files, _)): #expect(files.count == 2)
        default: Issue.record("\(damage): \(again.store.origin)")
        }
    }

    @Test("what the server configures itself asks no target and is kept") func own() async throws {
        try await rig.store.apply(#"{"test-shop:shop":{"shelf":[{"row":"plugged","column":1}]}}"#)
        try await rig.store.apply(nil, at: rig.path("test-shop:shop/shelf=a,1"))
        #expect(rig.target.calls.isEmpty)
        let text = try await DatastoreRig(rig.schema, folder: rig.folder).store.configuration()
        #expect(text.contains("plugged"))
        #expect(!text.contains(#""row":"a","column":1"#))
    }

    @Test("edits from many sides wait for each other and all arrive") func concurrent() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<50 {
                group.addTask { try await rig.edit(.create, "test-shop:shop", #"{"test-shop:shelf":[{"row":"c","column":\#(index)}]}"#) }
                group.addTask { _ = try await rig.get("test-shop:shop") }
            }
            try await group.waitForAll()
        }
        let text = try await rig.store.configuration()
        #expect((0..<50).allSatisfy { text.contains(#"{"row":"c","column":\#($0)}"#) })
        #expect(rig.target.calls == Array(repeating: ["prepare", "commit"], count: 50).flatMap { $0 })
    }

    @Test("state data of a deleted entry go with it") func deletedState() async throws {
        try await rig.store.setState(#"{"test-shop:shop":{"shelf":[{"row":"a","column":1,"label":"seen"}]}}"#)
        #expect(try await rig.get("test-shop:shop/shelf=a,1/label").contains("seen"))
        try await rig.edit(.remove, "test-shop:shop/shelf=a,1")
        #expect(await YANGRig.refusal { try await rig.get("test-shop:shop/shelf=a,1") }?.status == 404)
    }
}
