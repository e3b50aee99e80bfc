// The programs themselves, killed at any moment. Afterwards both databases and all that applications ever got are
// audited: no confirmed key is lost, none is given out twice, both ends agree.

import Foundation
import Glibc
import GRDB
import KeyDeposit
import KeyMaterial
import KeyStore
import QKDModel
import QKDTesting
import Synchronization
import Testing

/// `qkd-lkmsd` of one node, as a process.
private final class LKMS {
    let folder: String
    private var process: Process?

    init(folder: String) { self.folder = folder }

    func start() throws {
        let process = Process()
        process.executableURL = URL(filePath: Programs.path("qkd-lkmsd"))
        process.arguments = ["--config", "lkmsd.yaml"]
        process.currentDirectoryURL = URL(filePath: folder)
        let log = folder + "/log"
        if !FileManager.default.fileExists(atPath: log) { try Data().write(to: URL(filePath: log)) }
        let handle = try #require(FileHandle(forWritingAtPath: log))
        try handle.seekToEnd()
        process.standardError = handle
        process.standardOutput = handle
        try process.run()
        self.process = process
    }

    func end(_ signal: Int32) -> Int32? {
        guard let process else { return nil }
        kill(process.processIdentifier, signal)
        process.waitUntilExit()
        self.process = nil
        return process.terminationStatus
    }

    var processIdentifier: Int32? { process?.processIdentifier }

    var log: String { (try? String(contentsOfFile: folder + "/log", encoding: .utf8)) ?? "" }

    deinit { _ = end(SIGKILL) }
}

@Suite(.serialized) struct CrashTests {
    private static var isBuilt: Bool {
        let found = FileManager.default.isExecutableFile(atPath: Programs.path("qkd-lkmsd"))
        if !found { print("not run: \(Programs.path("qkd-lkmsd")) is not built (build the whole package)") }
        return found
    }

    /// Two nodes' folders with everything that their services need.
    private struct Site {
        let scratch: Scratch
        let pki: TestPKI
        let ports: [Int]
        let folders: [String]
        let nodes = ["almagro", "norte"]

        init() throws {
            scratch = try Scratch()
            pki = try TestPKI(scratch, names: ["kme-almagro", "kme-norte", "app-almagro", "app-norte"])
            ports = try freePorts(4)
            let scratch = scratch
            folders = nodes.map { scratch.path + "/" + $0 }
            for index in 0..<2 {
                let (own, peer) = (nodes[index], nodes[1 - index])
                _ = try scratch.write(noise(4 << 20, 3), "\(own)/km")
                let tls = "certificate: ../pki/kme-\(own).crt, key: ../pki/kme-\(own).key, ca: ../pki/ca.crt"
                let text = """
                    node: \(own)
                    socket: run/lkmsd.sock
                    deposit: run/deposit.sock
                    database: state/lkms.sqlite
                    master_key: master
                    api014: { listen: "127.0.0.1:\(ports[index])", \(tls) }
                    km: { listen: "127.0.0.1:\(ports[2 + index])", \(tls) }
                    peers: [ { node: \(peer), km: "127.0.0.1:\(ports[3 - index])", certificate_name: kme-\(peer), secret: km } ]
                    applications: [ { sae: app-almagro, node: almagro }, { sae: app-norte, node: norte } ]
                    deliver_emulated: true

                    """
                _ = try scratch.write(Array(text.utf8), "\(own)/lkmsd.yaml")
            }
        }

        func deposit(_ bytes: [UInt8], _ id: BlockID, _ index: Int) async throws {
            try await KeyDepositClient(socketPath: folders[index] + "/run/deposit.sock", timeout: .seconds(5)).deposit(
                DepositedBlock(
                    link: link("almagro-norte"), block: id, peer: node(nodes[1 - index]), bits: secret(bytes), provenance: .emulated,
                    firstEnd: index == 0))
        }

        func status(_ index: Int) async -> String {
            let command = ["/usr/bin/curl", "-sS", "-m", "5", "--unix-socket", folders[index] + "/run/lkmsd.sock", "http://local/status"]
            return (try? await run(command).output) ?? ""
        }

        /// Keys by curl; nil where the store did not answer with keys.
        func keys(_ index: Int, _ method: String, _ json: String) async -> [(id: String, key: String)]? {
            let own = "app-\(nodes[index])"
            let files = pki.files(own)
            let done = try? await run([
                "/usr/bin/curl", "-sS", "-f", "-m", "5", "--cacert", files.ca, "--cert", files.certificate, "--key", files.key, "-H",
                "content-type: application/json", "-d", json,
                "https://127.0.0.1:\(ports[index])/api/v1/keys/app-\(nodes[1 - index])/\(method)",
            ])
            struct Container: Decodable {
                struct Key: Decodable {
                    var key_ID: String
                    var key: String
                }
                var keys: [Key]
            }
            guard let done, done.status == 0 else { return nil }
            return (try? JSONDecoder().decode(Container.self, from: Data(done.output.utf8)))?.keys.map { ($0.key_ID, $0.key) }
        }
    }

    @Test(.enabled(if: CrashTests.isBuilt)) func killedAtAnyMomentNoKeyIsLostAndNoneRepeated() async throws {
        let site = try Site()
        let services = site.folders.map { LKMS(folder: $0) }
        for service in services { try service.start() }
        let random = SeededRandom(UInt64(Date().timeIntervalSince1970))
        var content: [BlockID: [UInt8]] = [:]
        /// Every key that any application got: by end and id, with the bits.
        var got: [[String: String]] = [[:], [:]]
        let rounds = 20
        for round in 0..<rounds {
            // Deposits at both ends, repeated until they are accepted, as the link service does.
            if round % 4 == 0 {
                let (id, bytes) = (BlockID(UUID()), noise(20_000, UInt64(round) + 1000))
                content[id] = bytes
                for index in 0..<2 {
                    let accepted = await eventually { (try? await site.deposit(bytes, id, index)) != nil }
                    #expect(accepted, "\(services[index].log.suffix(2000))")
                }
            }
            // Both stores recover from the kill before: keys come again in both directions.
            var taken: [(Int, [(id: String, key: String)])] = []
            for index in 0..<2 {
                var keys: [(id: String, key: String)] = []
                let recovered = await eventually {
                    keys = await site.keys(index, "enc_keys", "{}") ?? []
                    return !keys.isEmpty
                }
                #expect(recovered, "round \(round): \(services[index].log.suffix(3000))")
                taken.append((index, keys))
            }
            // Applications at both ends work while one service is killed in the middle of it.
            let victim = Int(random.word() % 2)
            let late = (id: BlockID(UUID()), bytes: noise(20_000, UInt64(round) + 2000))
            let delay = Duration.milliseconds(20 + Int(random.word() % 150))
            taken += await withTaskGroup(of: (Int, [(id: String, key: String)]).self) { group in
                for worker in 0..<6 {
                    group.addTask {
                        let index = worker % 2
                        guard let keys = await site.keys(index, "enc_keys", #"{"number": 4}"#) else { return (index, []) }
                        return (index, keys)
                    }
                }
                // Every third round a block arrives at both ends in the middle of it, too.
                if round % 3 == 1 {
                    for index in 0..<2 {
                        group.addTask {
                            _ = try? await site.deposit(late.bytes, late.id, index); return (index, [])
                        }
                    }
                }
                try? await Task.sleep(for: delay)
                _ = services[victim].end(SIGKILL)
                return await group.reduce(into: [(Int, [(id: String, key: String)])]()) { $0.append($1) }
            }
            try services[victim].start()
            if round % 3 == 1 {
                content[late.id] = late.bytes
                for index in 0..<2 {
                    let accepted = await eventually { (try? await site.deposit(late.bytes, late.id, index)) != nil }
                    #expect(accepted, "\(services[index].log.suffix(2000))")
                }
            }
            for (index, keys) in taken {
                for key in keys { #expect(got[index].updateValue(key.key, forKey: key.id) == nil, "key \(key.id) came out twice") }
            }
            // The other application fetches what was taken; again where the store was down.
            for (index, keys) in taken where !keys.isEmpty {
                let json = #"{"key_IDs":[\#(keys.map { #"{"key_ID":"\#($0.id)"}"# }.joined(separator: ","))]}"#
                var fetched: [(id: String, key: String)] = []
                let answered = await eventually {
                    fetched = await site.keys(1 - index, "dec_keys", json) ?? []
                    return !fetched.isEmpty
                }
                #expect(answered, "keys that the master got cannot be fetched: \(services[1 - index].log.suffix(3000))")
                for key in fetched {
                    #expect(got[1 - index].updateValue(key.key, forKey: key.id) == nil, "key \(key.id) came out twice")
                    #expect(got[index][key.id] == key.key, "key \(key.id) differs between the ends")
                }
            }
        }
        #expect(got[0].count > 2 * rounds + 8 && got[0].count == got[1].count)
        #expect(await eventually { await site.keys(0, "enc_keys", "{}") != nil })
        for index in 0..<2 {
            let agreed = await eventually { await site.status(index).contains("\"confirmedBits\":\(content.count * 160_000)") }
            let status = await site.status(index)
            #expect(agreed, "\(status)")
        }
        for service in services { #expect(service.end(SIGTERM) == 0, "\(service.log.suffix(1000))") }
        try audit(site, content, got)
    }

    /// Looks into both databases: every byte of every block is accounted for, and no two keys share one.
    private func audit(_ site: Site, _ content: [BlockID: [UInt8]], _ got: [[String: String]]) throws {
        var spans: [[BlockID: [Range<Int>]]] = []
        for folder in site.folders {
            let database = try DatabaseQueue(path: folder + "/state/lkms.sqlite")
            try database.read { database in
                #expect(try String.fetchOne(database, sql: "PRAGMA integrity_check") == "ok")
                let states = try String.fetchAll(database, sql: "SELECT state FROM block")
                #expect(states.count == content.count && states.allSatisfy { $0 == "confirmed" || $0 == "spent" }, "\(states)")
                var taken: [BlockID: [Range<Int>]] = [:]
                for row in try Row.fetchAll(
                    database,
                    sql:
                        "SELECT key.start, key.bytes, key.master, key.state, block.id FROM key JOIN block ON block.number = key.block ORDER BY key.block, key.start"
                ) {
                    let id = BlockID(try uuid(row["id"]))
                    taken[id, default: []].append(row["start"]..<(row["start"] as Int + (row["bytes"] as Int)))
                }
                for (_, ranges) in taken {
                    for (left, right) in zip(ranges, ranges.dropFirst()) { #expect(left.upperBound <= right.lowerBound) }
                }
                // What is neither pad nor key is free still: nothing has vanished.
                for row in try Row.fetchAll(database, sql: "SELECT * FROM block") {
                    let id = BlockID(try uuid(row["id"]))
                    let keys = (taken[id] ?? []).reduce(0) { $0 + $1.count }
                    let free = (row["own_free"] as Int) + (row["peer_free"] as Int)
                    #expect((row["start"] as Int) + keys + free == row["bytes"] as Int, "bytes of block \(id) are missing")
                }
                spans.append(taken)
            }
        }
        // What applications hold is what the blocks hold, under the id that the place gives.
        var known: [String: [UInt8]] = [:]
        for taken in spans {
            for (id, ranges) in taken {
                guard let bytes = content[id] else { continue }
                for range in ranges { known[KeyID(block: id, range: range).description] = Array(bytes[range]) }
            }
        }
        for keys in got {
            for (id, key) in keys {
                #expect(Data(base64Encoded: key).map(Array.init) == known[id.lowercased()], "key \(id) is not what was distilled")
            }
        }
    }

    private func uuid(_ data: Data) throws -> UUID {
        try #require(data.count == 16)
        return data.withUnsafeBytes { UUID(uuid: $0.loadUnaligned(as: uuid_t.self)) }
    }

    @Test(.enabled(if: CrashTests.isBuilt)) func checkingChangesNothing() async throws {
        let site = try Site()
        let config = site.folders[0] + "/lkmsd.yaml"
        let before = try FileManager.default.subpathsOfDirectory(atPath: site.folders[0]).sorted()
        let done = try await run([Programs.path("qkd-lkmsd"), "--config", config, "--check"])
        #expect(done.status == 0 && done.output.contains("usable"), "\(done)")
        #expect(try FileManager.default.subpathsOfDirectory(atPath: site.folders[0]).sorted() == before)
        _ = try site.scratch.write(noise(100, 1), "almagro/km")
        let short = try await run([Programs.path("qkd-lkmsd"), "--config", config, "--check"])
        #expect(short.status != 0 && short.errors.contains("100 bytes"), "\(short)")
    }

    /// The kernel keeps the process's memory to itself, key leaves no trace in it, and a shortage of descriptors passes.
    @Test(.enabled(if: CrashTests.isBuilt)) func keyLeavesNoTraceInMemoryAndShortagesPass() async throws {
        let site = try Site()
        let services = site.folders.map { LKMS(folder: $0) }
        for service in services { try service.start() }
        for index in 0..<2 { #expect(await eventually { (try? await site.deposit(noise(20_000, 8), BlockID(deposited), index)) != nil }) }
        var keys: [(id: String, key: String)] = []
        #expect(
            await eventually {
                keys = await site.keys(0, "enc_keys", #"{"number": 8}"#) ?? []
                return !keys.isEmpty
            })
        let pid = try #require(services[0].processIdentifier)
        let limits = try String(contentsOfFile: "/proc/\(pid)/limits", encoding: .utf8)
        #expect(
            limits.split(separator: "\n").contains {
                $0.hasPrefix("Max core file size") && $0.split(separator: " ").dropFirst(4).first == "0"
            })
        if let memory = try? await Self.memory(of: pid) {
            #expect(memory.range(of: Data("sdqkd key store 1".utf8)) != nil)
            for key in keys { #expect(memory.range(of: Data(key.key.utf8)) == nil, "the text of a delivered key is still in memory") }
        } else {
            print("not run: the memory of process \(pid) may not be read here")
        }
        // Fewer descriptors than are open: no connection can be taken, and afterwards all is well again.
        let prlimit = "/usr/bin/prlimit"
        #expect(try await run([prlimit, "--pid", "\(pid)", "--nofile=1:"]).status == 0)
        // The one that waits already has its descriptor; the next has none.
        _ = try? await site.deposit(noise(20_000, 9), BlockID(UUID()), 0)
        #expect((try? await site.deposit(noise(20_000, 9), BlockID(UUID()), 0)) == nil)
        #expect(try await run([prlimit, "--pid", "\(pid)", "--nofile=1024:"]).status == 0, "\(services[0].log.suffix(3000))")
        #expect(await eventually { (try? await site.deposit(noise(20_000, 9), BlockID(UUID()), 0)) != nil })
        #expect(services[0].log.contains("no deposit can be taken for now"))
        #expect(services.allSatisfy { $0.end(SIGTERM) == 0 })
    }

    private let deposited = UUID()

    /// All that the process can write to, as far as this one may read it.
    private static func memory(of pid: Int32) async throws -> Data {
        let maps = try String(contentsOfFile: "/proc/\(pid)/maps", encoding: .utf8)
        let handle = try FileHandle(forReadingFrom: URL(filePath: "/proc/\(pid)/mem"))
        defer { try? handle.close() }
        var memory = Data()
        for line in maps.split(separator: "\n") {
            let words = line.split(separator: " ")
            let ends = words[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
            guard words[1].hasPrefix("rw"), ends.count == 2, ends[1] - ends[0] < 1 << 30 else { continue }
            // Parts that were never touched, or that the kernel keeps to itself, are left out.
            guard (try? handle.seek(toOffset: ends[0])) != nil, let part = try? handle.read(upToCount: Int(ends[1] - ends[0])) else {
                continue
            }
            memory += part
        }
        return memory
    }

    @Test(.enabled(if: CrashTests.isBuilt)) func theLocalSocketTellsStatusAndNeverKey() async throws {
        let site = try Site()
        let services = site.folders.map { LKMS(folder: $0) }
        for service in services { try service.start() }
        let bytes = noise(20_000, 8)
        let id = BlockID(UUID())
        for index in 0..<2 { #expect(await eventually { (try? await site.deposit(bytes, id, index)) != nil }) }
        #expect(await eventually { await site.status(0).contains(#""confirmedBits":160000"#) })
        let text = await site.status(0)
        #expect(text.contains(#""state":"UP""#) && text.contains(#""emulatedBits":"#), "\(text)")
        #expect(services.allSatisfy { $0.end(SIGTERM) == 0 })
        // No socket is left behind, and no log names a bit of key.
        #expect(!FileManager.default.fileExists(atPath: site.folders[0] + "/run/lkmsd.sock"))
        #expect(!FileManager.default.fileExists(atPath: site.folders[0] + "/run/deposit.sock"))
    }
}
