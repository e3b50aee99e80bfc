import Foundation
import Testing

/// `qkdctl pki` and `qkdctl keys` as an operator types them; openssl judges the certificates.
@Suite struct KeyCommandsTests {
    private func mode(_ path: String) throws -> Int {
        try #require(FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? NSNumber).intValue
    }

    @Test func onePKIForANetworkInOneCommand() async throws {
        let scratch = try Scratch()
        let folder = scratch.path + "/pki"
        let made = try await run("qkdctl", "pki", "make", "--out", folder, "--nodes", "almagro,norte", "--saes", "app-almagro,app-norte")
        try #require(made.status == 0, "\(made)")
        let names = ["kme-almagro", "kme-norte", "app-almagro", "app-norte"]
        for name in names {
            let verified = try await run(
                "/usr/bin/openssl", "verify", "-x509_strict", "-CAfile", folder + "/ca.crt", folder + "/\(name).crt")
            #expect(verified.status == 0, "\(verified)")
            #expect(try mode(folder + "/\(name).key") == 0o600)
        }
        #expect(try mode(folder + "/ca.key") == 0o600)
        let text = try await run("/usr/bin/openssl", "x509", "-in", folder + "/kme-norte.crt", "-noout", "-text").output
        for part in [
            "CN = kme-norte", "DNS:kme-norte", "DNS:localhost", "IP Address:127.0.0.1", "TLS Web Server Authentication", "prime256v1",
        ] {
            #expect(text.contains(part), "\(part) is missing in \(text)")
        }
        let client = try await run("/usr/bin/openssl", "x509", "-in", folder + "/app-norte.crt", "-noout", "-text").output
        #expect(client.contains("TLS Web Client Authentication") && !client.contains("TLS Web Server Authentication"))
    }

    @Test func anAuthorityIsUsedAgainAndNothingIsReplaced() async throws {
        let scratch = try Scratch()
        let folder = scratch.path + "/pki"
        #expect(try await run("qkdctl", "pki", "make", "--out", folder, "--nodes", "almagro").status == 0)
        let before = try ["ca.crt", "kme-almagro.key"].map { try Data(contentsOf: URL(filePath: folder + "/" + $0)) }
        let again = try await run("qkdctl", "pki", "make", "--out", folder, "--nodes", "almagro,norte")
        #expect(again.status == 0 && again.output.contains("exists already"), "\(again)")
        #expect(try ["ca.crt", "kme-almagro.key"].map { try Data(contentsOf: URL(filePath: folder + "/" + $0)) } == before)
        let verified = try await run("/usr/bin/openssl", "verify", "-CAfile", folder + "/ca.crt", folder + "/kme-norte.crt")
        #expect(verified.status == 0, "\(verified)")
        try FileManager.default.removeItem(atPath: folder + "/ca.key")
        let half = try await run("qkdctl", "pki", "make", "--out", folder, "--nodes", "third")
        #expect(half.status == 1 && half.errors.contains("only one of ca.crt and ca.key"), "\(half)")
    }

    @Test func badNamesAreRefused() async throws {
        let scratch = try Scratch()
        let refused = try await run("qkdctl", "pki", "make", "--out", scratch.path, "--nodes", "../almagro")
        #expect(refused.status == 64 && refused.errors.contains("cannot be a file name"), "\(refused)")
    }

    /// Lives that no calendar has, names that are somebody's already, and folders that are none: sentences, and nothing is made.
    @Test func whatNoCertificateCanBeIsRefused() async throws {
        let scratch = try Scratch()
        let folder = scratch.path + "/pki"
        for (arguments, words) in [
            (["--nodes", "d", "--days", "9223372036854775807"], "from 1 to 36500"),
            (["--nodes", "d", "--days", "5000000"], "from 1 to 36500"),
            (["--nodes", "d", "--days", "0"], "from 1 to 36500"), (["--nodes", "d", "--saes", "ca"], "the authority's own name"),
            (["--nodes", "d", "--saes", "kme-d"], "key stores are named"), (["--nodes", "d", "--clients", "agent-e"], "agents are named"),
            (["--nodes", "d", "--saes", "x", "--clients", "x"], "'x' is asked for twice"),
        ] {
            let refused = await (try Running([Programs.path("qkdctl"), "pki", "make", "--out", folder] + arguments)).end()
            #expect(refused.status == 64 && !refused.killed && refused.errors.contains(words), "\(arguments): \(refused)")
        }
        #expect(!FileManager.default.fileExists(atPath: folder))
        let file = try scratch.write("no folder", "file")
        for (path, words) in [(file, "is a file"), (file + "/under", "cannot be made as a folder")] {
            let refused = try await run("qkdctl", "pki", "make", "--out", path, "--nodes", "d")
            #expect(refused.status == 1 && refused.errors.contains(words) && !refused.errors.contains("NSCocoa"), "\(refused)")
        }
        let long = try await run("qkdctl", "pki", "make", "--out", folder, "--nodes", "d", "--days", "36500")
        #expect(long.status == 0, "\(long)")
        _ = try scratch.write("no certificate", "pki/ca.crt")
        let junk = try await run("qkdctl", "pki", "make", "--out", folder, "--nodes", "e")
        #expect(junk.status == 1 && junk.errors.contains("ca.crt' holds no certificate"), "\(junk)")
    }

    @Test func keysSayWhyThereAreNone() async throws {
        let scratch = try Scratch()
        let folder = scratch.path + "/pki"
        #expect(try await run("qkdctl", "pki", "make", "--out", folder, "--nodes", "almagro", "--saes", "app").status == 0)
        let outcome = try await run(
            "qkdctl", "keys", "get", "--kme", "https://127.0.0.1:1", "--cert", folder + "/app.crt", "--key", folder + "/app.key", "--ca",
            folder + "/ca.crt", "--peer", "app-norte")
        #expect(outcome.status == 1 && outcome.errors.contains("no answer from https://127.0.0.1:1"), "\(outcome)")
    }

    /// Files and addresses that are wrong are named in words, and `--output` leaves nothing behind where nothing came.
    @Test func wrongFilesAndAddressesAreNamed() async throws {
        let scratch = try Scratch()
        let folder = scratch.path + "/pki"
        #expect(try await run("qkdctl", "pki", "make", "--out", folder, "--nodes", "almagro", "--saes", "app").status == 0)
        let junk = try scratch.write("no PEM", "junk.pem")
        func get(kme: String = "https://127.0.0.1:1", key: String? = nil, ca: String? = nil, output: String) async throws -> Outcome {
            try await run(
                "qkdctl", "keys", "get", "--kme", kme, "--cert", folder + "/app.crt", "--key", key ?? folder + "/app.key", "--ca",
                ca ?? folder + "/ca.crt", "--peer", "app-norte", "--output", output)
        }
        let output = scratch.path + "/keys.json"
        for (outcome, words) in [
            (try await get(ca: junk, output: output), "junk.pem': it holds no certificate"),
            (try await get(ca: scratch.path + "/none", output: output), "none': No such file"),
            (try await get(key: junk, output: output), "junk.pem': it holds no private key"),
            (try await get(key: folder + "/kme-almagro.key", output: output), "it is not the private key of the certificate"),
            (try await get(kme: "http://127.0.0.1:1", output: output), "is no address of a key store"),
            (try await get(kme: "127.0.0.1:1", output: output), "is no address of a key store"),
            (try await get(output: scratch.path + "/none/keys.json"), "none/keys.json': No such file"),
            (try await get(output: output), "no answer from"),
        ] {
            #expect(outcome.status == 1 && outcome.errors.contains(words), "\(words): \(outcome)")
        }
        #expect(!FileManager.default.fileExists(atPath: output))
    }
}
