// Commands end in order whatever they are asked and wherever their words go.

import Foundation
import Glibc
import Testing

@Suite(.timeLimit(.minutes(2))) struct CommandEndsTests {
    /// Standard error that takes nothing, and pipes that nobody reads, are no crash.
    @Test(arguments: [
        "\"$0\" device tcp:127.0.0.1:1 status 2>/dev/full", "\"$0\" config check /none/x.yaml 2>/dev/full",
        "{ sleep 1; \"$0\" --help; } | true; exit ${PIPESTATUS[0]}",
        "{ sleep 1; \"$0\" device tcp:127.0.0.1:1 status 2>&1; } | true; exit ${PIPESTATUS[0]}",
    ])
    func wordsThatNobodyTakes(line: String) async throws {
        let outcome = try await run("/bin/bash", "-c", line, Programs.path("qkdctl"))
        #expect(outcome.status == 1 && !outcome.killed, "\(line): \(outcome)")
    }

    /// A device node that is replaced by a file is a machine that does not work any more. Pipes, sockets and links stand for it here.
    @Test func onlyPlainFilesAreEverReplaced() async throws {
        let scratch = try Scratch()
        func place(_ name: String) -> String { scratch.path + "/" + name }
        #expect(mkfifo(place("pipe.svg"), 0o600) == 0)
        try Self.makeSocket(place("socket.svg"))
        #expect(symlink("/nowhere", place("link.svg")) == 0)
        #expect(mkdir(place("folder.svg"), 0o700) == 0)
        for (name, word) in [("pipe", "a pipe"), ("socket", "a socket"), ("link", "a symbolic link"), ("folder", "a folder")] {
            let file = place(name + ".svg")
            let before = try Self.identity(file)
            // Nobody listens there: a file that is looked at first is refused before that can be known.
            for action in [["capture", "--out", file, "--force"], ["capture", "--out", file], ["otdr", "--plot", file, "--force"]] {
                let refused = await (try Running([Programs.path("qkdctl"), "device", "tcp:127.0.0.1:1"] + action)).end()
                #expect(
                    refused.status == 1 && refused.errors.contains(word) && refused.errors.contains("never replaced"),
                    "\(action): \(refused)")
            }
            #expect(try Self.identity(file) == before, "\(name)")
        }
    }

    /// What kind of thing it is, and which: of a link, not of what it leads to.
    private static func identity(_ path: String) throws -> String {
        let found = try FileManager.default.attributesOfItem(atPath: path)
        return "\(String(describing: found[.type])) \(String(describing: found[.systemFileNumber]))"
    }

    private static func makeSocket(_ path: String) throws {
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(number) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix($0.count - 1)) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        try #require(bound == 0, "\(String(cString: strerror(errno)))")
    }

    /// Options that one of would be passed over in silence.
    @Test(arguments: [
        (["bench", "--code", "r10-n204800", "--only", "lab"], "--only"),
        (["lab", "run", "firmware-sim/testbeds/small.yaml", "--pace", "real", "--speed", "3"], "--speed"),
    ])
    func pairsThatContradictAreRefused(arguments: [String], word: String) async throws {
        let refused = await (try Running([Programs.path("qkdctl")] + arguments)).end(within: .seconds(20))
        #expect(
            refused.status == 64 && refused.errors.contains(word) && refused.errors.contains("Usage: qkdctl \(arguments[0])"), "\(refused)")
    }

    /// Every term of the balance stands in the line that is the balance.
    @Test func theBalanceOfABlockNamesAllItsTerms() async throws {
        let scratch = try Scratch()
        let socket = scratch.path + "/s"
        let server = try Running(["/usr/bin/python3", "-c", Self.server, socket, Self.blocks])
        try #require(await eventually(within: .seconds(20)) { FileManager.default.fileExists(atPath: socket) }, "\(server.errors)")
        let shown = try await run("qkdctl", "link", "blocks", "--socket", socket, "a-b")
        #expect(
            shown.status == 0 && shown.output.contains("raw 1000000 - disclosed 900000 - Holevo 60000 - finite size 15000 = secret 25000"),
            "\(shown)")
    }

    private static let server = """
        import http.server, socketserver, sys
        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def address_string(self): return "-"
            def do_GET(self):
                text = sys.argv[2].encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
        socketserver.ThreadingUnixStreamServer(sys.argv[1], Answer).serve_forever()
        """

    private static let blocks = """
        [{"began":"2026-01-01T00:00:00Z","ended":"2026-01-01T00:01:00Z","block":{"uuid":"AB851B47-00BE-4D88-9432-FBA6D7CEA4A1"},"bytesReceived":1,
        "bytesSent":1,"calibrationSymbols":1000000,"code":"r10-n204800","depositedBits":24616,"deviceSeconds":1,"disclosedBits":900000,"disclosureBits":0,
        "efficiency":0.8,"electronicNoise":0.05,"epsilon":1e-10,"excessNoise":0.005,"excessNoiseWorst":0.02,"frameErrorRate":0,"framesDecoded":5,
        "framesFailed":0,"framesInRound":[5],"holevoBits":60000,"limitedBy":"-","modulationVariance":2,"padBits":384,"provenance":"emulated",
        "rawBits":1000000,"reconciliationEfficiency":0.92,"secretBits":25000,"secretBitsSelecting":25000,"slots":1,"snr":0.1,"stages":{},
        "symbols":500000,"tagBitsSpent":384,"terms":{"smoothing":14893.2,"hashing":107.1},"transmittance":0.1,"transmittanceWorst":0.09}]
        """
}
