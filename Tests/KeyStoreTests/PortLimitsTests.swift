// What the application port refuses: too many connections, connections that say nothing, bodies too large, wrong methods; and
// that none of it keeps others from their keys.

import Foundation
import Glibc
import KeyStore
import QKDModel
import Testing

/// A plain TCP connection to the port.
private final class Line: Sendable {
    let number: Int32

    init?(_ port: Int) {
        number = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let done = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(number, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        if done != 0 { return nil }
    }

    /// Whether the other end has closed it.
    var isClosed: Bool {
        var byte: UInt8 = 0
        let count = recv(number, &byte, 1, Int32(MSG_DONTWAIT))
        return count == 0 || (count < 0 && errno != EAGAIN)
    }

    deinit { close(number) }
}

@Suite(.serialized) struct PortLimitsTests {
    /// Whoever does not finish the handshake is gone after 5 s, and meanwhile keeps nobody out.
    @Test func silentConnectionsAreClosedAndKeepNobodyOut() async throws {
        try await served(bits: 5000) { pair, _, ports in
            let lines = (0..<100).compactMap { _ in Line(ports[0]) }
            #expect(lines.count == 100)
            let start = ContinuousClock.now
            let answer = try await curl(pair, ports[0], "app-norte/status", as: "app-almagro")
            #expect(answer.status == 200)
            #expect(ContinuousClock.now - start < .seconds(4))
            #expect(lines.allSatisfy { !$0.isClosed })
            let closed = await eventually(within: .seconds(12)) { lines.allSatisfy(\.isClosed) }
            #expect(closed && ContinuousClock.now - start > .seconds(3))
        }
    }

    /// Bytes that are no TLS end their own connection only.
    @Test func noiseEndsItsOwnConnectionOnly() async throws {
        try await served(bits: 5000) { pair, _, ports in
            for seed in 0..<20 {
                guard let line = Line(ports[0]) else { continue }
                let bytes = noise(500, UInt64(seed))
                _ = bytes.withUnsafeBytes { send(line.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                #expect(await eventually(within: .seconds(8)) { line.isClosed })
            }
            let answer = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro")
            #expect(answer.status == 200)
        }
    }

    @Test func wrongMethodsAndPathsAreRefusedWithoutAKey() async throws {
        try await served(bits: 5000) { pair, stores, ports in
            for method in ["PUT", "DELETE", "PATCH"] {
                let answer = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro", ["-X", method])
                #expect(answer.status == 405, "\(method): \(answer)")
            }
            for path in ["", "app-norte", "app-norte/nothing", "app-norte/enc_keys/more", "%00/enc_keys", "../../etc/passwd"] {
                let answer = try await curl(pair, ports[0], path, as: "app-almagro", ["--path-as-is"])
                #expect((400..<500).contains(answer.status), "\(path): \(answer)")
            }
            #expect(try await stores[0].service.linkReports()[0].deliveredBits == 0)
        }
    }

    @Test func malformedBodiesAreRefusedInTheStandardsForm() async throws {
        try await served(bits: 5000) { pair, stores, ports in
            let deep = String(repeating: "[", count: 20_000)
            for body in [
                "{", "[]", "null", "\"x\"", "{\"number\":1e400}", "{\"number\":-1}", "{\"size\":true}", deep, "{\"number\":1}garbage",
            ] {
                let answer = try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro", post(body))
                #expect(answer.status == 400 && answer.message != nil, "\(body.prefix(40)): \(answer)")
            }
            #expect(try await stores[0].service.linkReports()[0].deliveredBits == 0)
        }
    }

    /// A body that is larger than allowed is refused before it was read whole.
    @Test func hugeBodiesAreNotRead() async throws {
        try await served(bits: 5000) { pair, _, ports in
            let file = pair.scratch.path + "/huge"
            try Data(count: 20 << 20).write(to: URL(filePath: file))
            let answer = try await curl(
                pair, ports[0], "app-norte/enc_keys", as: "app-almagro",
                ["-H", "content-type: application/json", "--data-binary", "@\(file)", "-H", "Expect:"])
            // The answer, or the end of the connection before all was sent.
            #expect(answer.status == 413 || answer.status <= 0, "\(answer)")
            #expect(try await curl(pair, ports[0], "app-norte/enc_keys", as: "app-almagro").status == 200)
        }
    }

    /// Blocks that came before the link was up are confirmed by its greeting, with nobody depositing again.
    @Test func depositsThatWaitedAreWokenByTheHandshake() async throws {
        let pair = try StorePair()
        let early = try pair.start(0)
        let first = try await pair.deposit(noise(5000, 1), at: [early])
        #expect(try await pair.confirmedBits(early) == [0])
        let late = try pair.start(1)
        // The far end gets its copy before, and another one after the link came up.
        _ = try await late.service.deposit(
            link: link("almagro-norte"), block: first, peer: almagro, bits: secret(noise(5000, 1)), provenance: .emulated, firstEnd: false)
        #expect(await pair.isUp(early, late))
        #expect(try await eventually { try await pair.confirmedBits(early, late) == [40_000, 40_000] })
        await late.stop()
        #expect(await eventually { await early.service.peerReports()[0].state == .down })
        let second = try await pair.deposit(noise(5000, 2), at: [early])
        let again = try pair.start(1)
        #expect(await pair.isUp(early, again))
        _ = try await again.service.deposit(
            link: link("almagro-norte"), block: second, peer: almagro, bits: secret(noise(5000, 2)), provenance: .emulated, firstEnd: false)
        #expect(try await eventually { try await pair.confirmedBits(early, again) == [80_000, 80_000] })
        for store in [early, again] { await store.stop() }
    }
}
