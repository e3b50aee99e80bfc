import Foundation
import RESTCONF
import Testing

/// The modules of yang/ against facts, against other people's copies, and in the eyes of three validators: libyang through our
/// own wrapper, libyang's yanglint, and yangson, which shares no code with it.
@Suite("the modules in yang/") struct ModelTests {
    static let yanglint = "/usr/bin/yanglint"
    static let python = YANGRig.root + "/.venv/bin/python"
    static let pyang = YANGRig.root + "/.venv/bin/pyang"
    static let theirs = YANGRig.root + "/.venv/share/yang/modules/ietf"
    static let files = ["etsi-qkd-node-types", "etsi-qkd-sdn-node", "sdqkd-cv-qkd"].map { YANGRig.modules + "/\($0).yang" }

    @Test("ETSI GS QKD 015 V2.1.1, annex A: every node, type and access of the published tree, and no other") func tree() throws {
        let outcome = try YANGRig.run(Self.pyang, ["-p", YANGRig.modules, "-f", "tree", Self.files[1]])
        #expect(outcome.output == (try YANGRig.vector("etsi-qkd-sdn-node.tree")))
    }

    @Test(
        "RFC 8040, sections 8 and 9: ours has the tree of pyang's copy", arguments: ["ietf-restconf", "ietf-restconf-monitoring"])
    func copies(_ name: String) throws {
        let trees = try [YANGRig.modules, Self.theirs].map { folder in
            try YANGRig.run(Self.pyang, ["-f", "tree", "--tree-print-yang-data", "\(folder)/\(name).yang"])
        }
        #expect(trees[0].status == 0)
        #expect(trees[0].output == trees[1].output)
        #expect(trees[0].output.split(separator: "\n").count > 10)
    }

    @Test(
        "namespaces, prefixes, revisions and enumerations are those of the RFCs",
        arguments: ["ietf-restconf", "ietf-restconf-monitoring", "ietf-netconf-with-defaults"])
    func heads(_ name: String) throws {
        func facts(_ folder: String) throws -> Set<String> {
            let text = try String(contentsOfFile: "\(folder)/\(name).yang", encoding: .utf8)
            let lines = text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
            return Set(
                lines.filter { line in
                    ["namespace ", "revision ", "enum "].contains { line.hasPrefix($0) }
                }.map { $0.replacingOccurrences(of: " {", with: "").replacingOccurrences(of: "\"", with: "") })
        }
        let (ours, published) = (try facts(YANGRig.modules), try facts(Self.theirs))
        #expect(!ours.isEmpty)
        #expect(ours.isSubset(of: published), "\(ours.subtracting(published))")
    }

    @Test("yanglint takes the modules and the examples", arguments: [("config", "config"), ("data", "state")])
    func lint(_ kind: String, _ file: String) throws {
        let outcome = try YANGRig.run(Self.yanglint, ["-t", kind] + Self.files + ["\(YANGRig.vectors)/\(file).json"])
        #expect(outcome.status == 0, "\(outcome.output)")
    }

    @Test("yangson takes the modules and the examples", arguments: ["config", "state", "notifications"])
    func yangson(_ kind: String) throws {
        let outcome = try yangson(kind, "\(YANGRig.vectors)/\(kind).json")
        #expect(outcome.output.hasSuffix("valid\n"), "\(outcome.output)")
    }

    private func yangson(_ kind: String, _ file: String) throws -> YANGRig.Outcome {
        let folders = YANGRig.modules + ":" + YANGRig.libyangModules
        return try YANGRig.run(Self.python, ["\(YANGRig.vectors)/check-with-yangson.py", folders, kind, file])
    }

    @Test("all 11 notifications: yanglint takes what our wrapper has made of them") func notifications() throws {
        let schema = try YANGRig.nodeSchema()
        let examples = try YANGRig.json(YANGRig.vector("notifications.json"))
        #expect(Set(examples.allKeys.compactMap { $0 as? String }) == Set(schema.notifications().filter { $0.hasPrefix("etsi") }))
        #expect(examples.count == 11)
        let folder = try YANGRig.Folder()
        for case let (name as String, value) in examples {
            let contents = String(decoding: try JSONSerialization.data(withJSONObject: value), as: UTF8.self)
            let time = Date(timeIntervalSince1970: 1_790_000_000.25)
            let body = try YANGRig.json(try schema.notification(name, contents: contents, time: time, encoding: .json))
            let envelope = try #require(body["ietf-restconf:notification"] as? NSDictionary)
            #expect(envelope["eventTime"] as? String == "2026-09-21T14:13:20.250Z")
            let file = folder.path + "/notification.json"
            try JSONSerialization.data(withJSONObject: [name: envelope[name]]).write(to: URL(fileURLWithPath: file))
            let outcome = try YANGRig.run(Self.yanglint, ["-t", "notif"] + Self.files + [file])
            #expect(outcome.status == 0, "\(name): \(outcome.output)")
        }
    }

    @Test("RFC 8040, section 6.4: a notification in XML") func notificationXML() throws {
        let body = try YANGRig.nodeSchema().notification(
            "etsi-qkd-sdn-node:sdqkdn_interface_out", contents: #"{"qkd_interface":{"qkdi_id":1}}"#, time: Date(timeIntervalSince1970: 0),
            encoding: .xml)
        #expect(
            String(decoding: body, as: UTF8.self) == """
                <notification xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"><eventTime>1970-01-01T00:00:00.000Z</eventTime>\
                <sdqkdn_interface_out xmlns="urn:etsi:qkd:yang:etsi-qkd-node"><qkd_interface><qkdi_id>1</qkdi_id></qkd_interface>\
                </sdqkdn_interface_out></notification>
                """)
    }

    @Test(
        "a notification that the model does not have, or not so, is refused",
        arguments: [
            ("etsi-qkd-sdn-node:nothing", "{}"), ("alarm", "{}"), ("x:alarm", "{}"), ("etsi-qkd-sdn-node:qkd_node", "{}"),
            ("etsi-qkd-sdn-node:alarm", #"{"qkd_link":{}}"#), ("etsi-qkd-sdn-node:alarm", #"{"link":{"severity":"MAJOR"}}"#),
            ("etsi-qkd-sdn-node:sdqkdn_interface_out", #"{"qkd_interface":{"qkdi_id":"one"}}"#), ("etsi-qkd-sdn-node:alarm", "{"),
        ])
    func refusedNotification(_ name: String, _ contents: String) async throws {
        let schema = try YANGRig.nodeSchema()
        let error = await YANGRig.refusal { try schema.notification(name, contents: contents, time: Date(), encoding: .json) }
        #expect(error?.status == 400)
    }

    // MARK: Wrong data

    struct Wrong: CustomTestStringConvertible, Sendable {
        var what: String
        var old: String
        var new: String
        var testDescription: String { what }
    }

    static let wrong = [
        Wrong(what: "an identity without its module", old: #""etsi-qkd-node-types:PHYS""#, new: #""PHYS""#),
        Wrong(what: "an identity with a prefix", old: #""etsi-qkd-node-types:PHYS""#, new: #""etsi-qkdn-types:PHYS""#),
        Wrong(what: "a wavelength in nanometres", old: #""phys_wavelength": "34""#, new: #""phys_wavelength": "1550.12""#),
        Wrong(what: "a range of wavelengths with a gap", old: #""20-40,50""#, new: #""20-,50""#),
        Wrong(
            what: "a physical leaf on a virtual link", old: #""virt_bandwidth": 500"#,
            new: #""virt_bandwidth": 500, "phys_wavelength": "34""#),
        Wrong(
            what: "a virtual leaf on a physical link", old: #""phys_wavelength": "34""#,
            new: #""phys_wavelength": "34", "virt_bandwidth": 1"#),
        Wrong(what: "CV-QKD settings on a virtual link", old: #""virt_bandwidth": 500"#, new: #""sdqkd-cv-qkd:cv-qkd": {"code": "x"}"#),
        Wrong(what: "a decimal as a number", old: #""phys_channel_att": "6.0""#, new: #""phys_channel_att": 6.0"#),
        Wrong(what: "no UUID", old: #""22222222-2222-4222-8222-222222222222""#, new: #""norte""#),
        Wrong(what: "a node without its id", old: #""qkdn_id": "11111111-1111-4111-8111-111111111111","#, new: ""),
        Wrong(what: "a peer without a name", old: #""node-name": "norte","#, new: ""),
        Wrong(what: "a path for a secret's file", old: #""link-secret-file": "norte""#, new: #""link-secret-file": "../norte""#),
        Wrong(what: "an address without a port", old: #""127.0.0.1:7002""#, new: #""127.0.0.1""#),
        Wrong(what: "an epsilon of 1", old: #""epsilon": "0.0000000001""#, new: #""epsilon": "1""#),
        Wrong(what: "a node that does not exist", old: #""qkdn_version": "0.2""#, new: #""qkdn_vendor": "x""#),
    ]

    @Test("wrong data are refused by libyang, in ours and in yanglint's hands, and by yangson", arguments: wrong)
    func refused(_ wrong: Wrong) async throws {
        let text = try YANGRig.vector("config.json").replacingOccurrences(of: wrong.old, with: wrong.new)
        #expect(text != (try YANGRig.vector("config.json")))
        let folder = try YANGRig.Folder()
        let file = folder.path + "/config.json"
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        #expect(try YANGRig.run(Self.yanglint, ["-t", "config"] + Self.files + [file]).status != 0)
        #expect(try yangson("config", file).status != 0)
        let rig = try DatastoreRig(YANGRig.nodeSchema(), initial: YANGRig.vector("config.json"))
        let inner = text.trimmingCharacters(in: .whitespacesAndNewlines)
        let error = await YANGRig.refusal { try await rig.edit(.replace, nil, "{\"ietf-restconf:data\":\(inner)}") }
        #expect(error.map { (400..<500).contains($0.status) } == true, "\(String(describing: error))")
        #expect(rig.target.calls.isEmpty)
    }

    @Test("the examples go through a datastore and come back") func roundTrip() async throws {
        let rig = try DatastoreRig(YANGRig.nodeSchema(), initial: YANGRig.vector("config.json"))
        #expect(try await YANGRig.json(rig.store.configuration()) == normalised(YANGRig.vector("config.json")))
        try await rig.store.setState(YANGRig.vector("state.json"))
        let path = "etsi-qkd-sdn-node:qkd_node/qkd_links/qkd_link=33333333-3333-4333-8333-333333333333"
        #expect(try await rig.get(path + "/qkdl_status") == #"{"etsi-qkd-sdn-node:qkdl_status":"etsi-qkd-node-types:ACTIVE"}"#)
        #expect(
            try await rig.get(path + "/qkdl_performance/phys_perf=etsi-qkd-node-types%3ASNR/value")
                == #"{"etsi-qkd-sdn-node:value":"0.163"}"#)
        #expect(try await rig.get(path + "/sdqkd-cv-qkd:cv-qkd-state/slot-share") == #"{"sdqkd-cv-qkd:slot-share":"0.35"}"#)
        #expect(try await rig.get(path + "/sdqkd-cv-qkd:cv-qkd/code") == #"{"sdqkd-cv-qkd:code":"r10-n204800"}"#)
    }

    @Test("a physical link that becomes virtual loses its physical leafs, and its physical state") func becomesVirtual() async throws {
        let rig = try DatastoreRig(YANGRig.nodeSchema(), initial: YANGRig.vector("config.json"))
        try await rig.store.setState(YANGRig.vector("state.json"))
        let path = "etsi-qkd-sdn-node:qkd_node/qkd_links/qkd_link=33333333-3333-4333-8333-333333333333"
        try await rig.edit(.replace, path + "/qkdl_type", #"{"etsi-qkd-sdn-node:qkdl_type":"etsi-qkd-node-types:VIRT"}"#)
        let link = try await rig.get(path)
        #expect(!link.contains("phys_"))
        #expect(!link.contains("cv-qkd"))
    }

    /// Canonical forms (RFC 7950, section 9.3.2; libyang writes UTC as an offset).
    private func normalised(_ text: String) throws -> NSDictionary {
        let pairs = [("\"35\"", "\"35.0\""), ("T00:00:00Z", "T00:00:00+00:00")]
        return try YANGRig.json(pairs.reduce(text) { $0.replacingOccurrences(of: $1.0, with: $1.1) })
    }
}
