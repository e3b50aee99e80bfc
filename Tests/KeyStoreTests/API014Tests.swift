import Foundation
import KeyMaterial
import KeyStore
import QKDModel
import Synchronization
import Testing

@Suite(.serialized) struct API014Tests {
    @Test func statusHasTheStandardsFieldsAndNoOthers() async throws {
        try await served { pair, stores, ports in
            let answer = try await curl(pair, ports[0], "app-norte/status", as: "app-almagro")
            #expect(answer.status == 200, "\(answer)")
            let fields = try #require(try JSONSerialization.jsonObject(with: answer.body) as? [String: Any])
            #expect(
                Set(fields.keys) == [
                    "source_KME_ID", "target_KME_ID", "master_SAE_ID", "slave_SAE_ID", "key_size", "stored_key_count", "max_key_count",
                    "max_key_per_request", "max_key_size", "min_key_size", "max_SAE_ID_count",
                ])
            #expect(fields["source_KME_ID"] as? String == "kme-almagro" && fields["target_KME_ID"] as? String == "kme-norte")
            #expect(fields["master_SAE_ID"] as? String == "app-almagro" && fields["slave_SAE_ID"] as? String == "app-norte")
            #expect(fields["key_size"] as? Int == 256 && fields["max_SAE_ID_count"] as? Int == 0)
            let stored = try #require(fields["stored_key_count"] as? Int)
            // What it says is what it gives: the status's own link report agrees.
            #expect(try await stores[0].service.linkReports()[0].deliverableBits / 256 == stored)
        }
    }

    @Test func theSameKeyAtBothEndsByGetAndPost() async throws {
        try await served { pair, _, ports in
            let one = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro")
            let key = try #require(try one.keys().first)
            #expect(Data(base64Encoded: key.key)?.count == 32)
            let other = try await curl(pair, ports[1], "app-almagro/dec_keys?key_ID=\(key.key_ID)", as: "app-norte")
            #expect(try other.keys() == [key], "\(other)")
            // The other direction, several keys of another size, POST at both ends.
            let many = try await curl(pair, ports[1], "app-almagro/enc_keys", as: "app-norte", post(#"{"number": 5, "size": 128}"#))
            let keys = try many.keys()
            #expect(keys.count == 5 && keys.allSatisfy { Data(base64Encoded: $0.key)?.count == 16 })
            let ids = keys.map { #"{"key_ID":"\#($0.key_ID)"}"# }.joined(separator: ",")
            let fetched = try await curl(pair, ports[0], "app-norte/dec_keys", as: "app-almagro", post("{\"key_IDs\":[\(ids)]}"))
            #expect(try fetched.keys() == keys)
            let got = try await curl(pair, ports[0], "app-norte/enc_keys?number=2&size=64", as: "app-almagro")
            #expect(try got.keys().map { Data(base64Encoded: $0.key)?.count } == [8, 8])
        }
    }

    @Test func aKeyIsDeliveredOnceAndToItsOwnerOnly() async throws {
        try await served { pair, _, ports in
            let key = try #require(try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro").keys().first)
            let path = "app-almagro/dec_keys?key_ID=\(key.key_ID)"
            let stranger = try await curl(pair, ports[1], path, as: "app-second")
            #expect(stranger.status == 401, "\(stranger)")
            #expect(try await curl(pair, ports[1], path, as: "app-norte").status == 200)
            let again = try await curl(pair, ports[1], path, as: "app-norte")
            #expect(again.status == 400 && again.message == "one or more keys specified are not found on KME", "\(again)")
            let never = try await curl(pair, ports[1], "app-almagro/dec_keys?key_ID=\(UUID())", as: "app-norte")
            #expect(never.status == 400 && never.message == again.message)
        }
    }

    @Test func requestsThatBreakTheRulesAreRefusedInTheStandardsWords() async throws {
        try await served(bits: 20_000) { pair, _, ports in
            let cases: [(String, String?, Int, String?)] = [
                ("enc_keys?size=257", nil, 400, "size shall be a multiple of 8"),
                ("enc_keys?size=8", nil, 400, "size shall be from 64 to 8192"),
                ("enc_keys?size=16384", nil, 400, "size shall be from 64 to 8192"),
                ("enc_keys?number=0", nil, 400, "number shall be from 1 to 128"),
                ("enc_keys?number=129", nil, 400, "number shall be from 1 to 128"),
                ("enc_keys?size=256&size=128", nil, 400, "size stands twice in the request"),
                ("enc_keys?number=x", nil, 400, "number shall be an integer"),
                ("enc_keys", #"{"extension_mandatory":[{"a":1}]}"#, 400, "not all extension_mandatory parameters are supported"),
                (
                    "enc_keys", #"{"additional_slave_SAE_IDs":["app-second"]}"#, 400,
                    "additional_slave_SAE_IDs is not supported: max_SAE_ID_count is 0"
                ),
                ("enc_keys", "{", 400, "the body is not the JSON that ETSI GS QKD 014 asks for"),
                ("enc_keys", #"{"number":"3"}"#, 400, "the body is not the JSON that ETSI GS QKD 014 asks for"),
                ("enc_keys", #"{"number":1,"extension_optional":[{"a":{"b":[1]}}]}"#, 200, nil),
                ("dec_keys", #"{"key_IDs":[]}"#, 400, "key_IDs shall name at least one key"),
                ("dec_keys?key_ID=7", nil, 400, "key_ID shall be a UUID"),
            ]
            for (path, body, status, message) in cases {
                let answer = try await curl(pair, ports[0], "app-norte/\(path)", as: "app-almagro", body.map(post) ?? [])
                #expect(answer.status == status && answer.message == message, "\(path) \(body ?? ""): \(answer)")
            }
            let unknown = try await curl(pair, ports[0], "app-nobody/enc_keys", as: "app-almagro")
            #expect(unknown.status == 400 && unknown.message == "SAE app-nobody is not known to this KME")
            let large = try await curl(
                pair, ports[0], "app-norte/enc_keys", as: "app-almagro",
                post("{\"number\":1,\"x\":\"\(String(repeating: "y", count: 70_000))\"}"))
            #expect(large.status == 413, "\(large)")
            // Nothing of all this has used up a key beside the one that was good.
            let stored = try await curl(pair, ports[0], "app-norte/status", as: "app-almagro")
            #expect(
                (try JSONSerialization.jsonObject(with: stored.body) as? [String: Any])?["stored_key_count"] as? Int == 155, "\(stored)")
        }
    }

    @Test func onlyCertificatesOfTheAuthorityAndOfOwnApplicationsAreServed() async throws {
        try await served(bits: 5000) { pair, _, ports in
            let path = "app-norte/status"
            #expect(try await curl(pair, ports[0], path, as: nil).status <= 0)
            let stranger = try await curl(pair, ports[0], path, as: "app-stranger")
            #expect(stranger.status == 401, "\(stranger)")
            // An application of the other node.
            #expect(try await curl(pair, ports[0], path, as: "app-norte").status == 401)
            // By the subject alternative name.
            try pair.pki.issue("a person's laptop", alternatives: ["app-almagro"])
            #expect(try await curl(pair, ports[0], path, as: "a person's laptop").status == 200)
            // The right name, too late and too early.
            for (name, valid) in [("late", Date() - 7200..<Date() - 3600), ("early", Date() + 3600..<Date() + 7200)] {
                try pair.pki.issue(name, alternatives: ["app-almagro"], valid: valid)
                let answer = try await curl(pair, ports[0], path, as: name)
                #expect(answer.status <= 0, "\(name): \(answer)")
            }
            // The right name, another authority.
            let foreign = try TestPKI(pair.scratch, folder: "foreign", names: ["app-almagro"]).files("app-almagro")
            let refused = try await curl(pair, ports[0], path, as: nil, ["--cert", foreign.certificate, "--key", foreign.key])
            #expect(refused.status <= 0, "\(refused)")
        }
    }

    @Test func emptyPoolsAndAbsentPeersAre503() async throws {
        try await served(bits: 0) { pair, stores, ports in
            let empty = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro")
            #expect(empty.status == 503 && empty.message?.hasPrefix("not enough key") == true, "\(empty)")
            try await pair.deposit(noise(5000, 1), at: stores)
            #expect(try await eventually { try await pair.confirmedBits(stores[0], stores[1]) == [40_000, 40_000] })
            await stores[1].stop()
            #expect(await eventually { await stores[0].service.peerReports()[0].state == .down })
            let alone = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro")
            #expect(alone.status == 503 && alone.message?.contains("cannot be reached") == true, "\(alone)")
        }
    }

    @Test func emulatedKeysAreDeliveredOnlyWhereAllowed() async throws {
        try await served(bits: 5000, change: { $0.deliverEmulated = false }) { pair, _, ports in
            let refused = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro")
            #expect(refused.status == 503 && refused.message?.contains("deliver_emulated") == true, "\(refused)")
        }
        // One end only: the far end has a say too.
        try await served(bits: 5000, change: { $0.deliverEmulated = $0.node == almagro }) { pair, _, ports in
            let refused = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro")
            #expect(refused.status == 503 && refused.message?.contains("not delivered there") == true, "\(refused)")
        }
        try await served(bits: 5000, provenance: .hardware, change: { $0.deliverEmulated = false }) { pair, _, ports in
            let answer = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro")
            #expect(answer.status == 200, "\(answer)")
        }
    }

    @Test func aPublicClientIsSatisfied() async throws {
        let python = Programs.root + "/.venv/bin/python"
        let probe = try? await run([python, "-c", "import etsi_qkd_014_client"])
        guard probe?.status == 0 else {
            return print("not run: the Python package etsi-qkd-014-client is not in .venv (make deps installs it)")
        }
        try await served { pair, _, ports in
            let script = Programs.root + "/Tests/SystemTests/clients/etsi014.py"
            let done = try await run([
                python, script, "127.0.0.1:\(ports[0])", "127.0.0.1:\(ports[1])", pair.scratch.path + "/pki", "app-almagro", "app-norte",
            ])
            try #require(done.status == 0, "\(done)")
            let report = try #require(try JSONSerialization.jsonObject(with: Data(done.output.utf8)) as? [String: Any])
            #expect("\(report["status"] ?? "")" == "\([200, 256, "app-almagro", "app-norte", 0] as [Any])", "\(report)")
            #expect(report["equal"] as? [Bool] == [true, true, true, true])
            #expect(report["lengths"] as? [Int] == [44, 88, 88, 88])
            #expect("\(report["again"] ?? "")" == "\([400, "one or more keys specified are not found on KME"] as [Any])")
            #expect("\(report["size"] ?? "")" == "\([400, "size shall be a multiple of 8"] as [Any])")
            #expect("\(report["mandatory"] ?? "")" == "\([400, "not all extension_mandatory parameters are supported"] as [Any])")
        }
    }
}
