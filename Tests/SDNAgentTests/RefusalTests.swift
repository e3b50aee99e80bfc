// What a client's change is refused for in the first phase, with the place of the datum and nothing touched; and what heals by itself.

import Foundation
import NodeAPI
import QKDModel
import RESTCONF
import SDNAgent
import Synchronization
import Testing

private let second = UUID(uuidString: "c0000000-0000-4000-8000-0000000000ff") ?? UUID()

extension Bench {
    /// The edit is refused as the asker's mistake at `path`, and no service was asked to do anything.
    fileprivate func refuses(
        _ path: String, _ words: String, _ container: String, _ body: String, location: SourceLocation = #_sourceLocation
    ) async {
        let before = links.calls + store.calls
        await #expect(sourceLocation: location) {
            try await edit(.create, container, body)
        } throws: { error in
            guard let error = error as? RESTCONFError else { return false }
            let isIt =
                error.status == 400 && error.tag == .invalidValue && error.path?.hasSuffix(path) == true && error.message.contains(words)
            if !isIt { print("\(error.status) \(error.tag) \(error.path ?? "-"): \(error.message)") }
            return isIt
        }
        #expect(links.calls + store.calls == before, sourceLocation: location)
    }

    fileprivate func application(_ id: String, _ server: String, _ client: String) -> String {
        #"{"etsi-qkd-sdn-node:qkd_app":[{"app_id":"\#(id)","server_app_id":"\#(server)","client_app_id":["\#(client)"]}]}"#
    }

    /// With the peer.
    fileprivate func meet() async throws {
        appear()
        #expect(await eventually(within: .seconds(5)) { await has("qkd_interfaces", "qkd_interface") })
        try await edit(.create, "/sdqkd-cv-qkd:peers", Bench.peer)
    }
}

@Suite(.serialized) struct RefusalTests {
    @Test("a second link of one name is refused, and the first goes on")
    func linkNames() async throws {
        let bench = try Bench()
        try await bench.work {
            try await bench.connect()
            let copy = bench.link().replacing(low(linkID), with: low(second)).replacing(
                #""optical-path""#, with: #""link-name":"\#(low(linkID))","optical-path""#)
            await bench.refuses(
                "/qkd_link[qkdl_id='\(low(second))']/sdqkd-cv-qkd:cv-qkd/link-name", "is the name of link \(low(linkID)) already",
                "/qkd_links", copy)
            #expect(bench.links.parts.withLock { $0.status.links.map(\.link.rawValue) } == [low(linkID)])
            // Its own name again is no second one.
            try await bench.merge(#""sdqkd-cv-qkd:cv-qkd":{"link-name":"\#(low(linkID))"}"#)
        }
    }

    @Test("a second application of one pair is refused; the other way round is another pair")
    func applicationPairs() async throws {
        let bench = try Bench()
        try await bench.work {
            try await bench.meet()
            try await bench.edit(.create, "/qkd_applications", bench.application(low(appID), "app-alpha", "app-beta"))
            await bench.refuses(
                "/qkd_app[app_id='\(low(second))']", "is application \(low(appID)) already", "/qkd_applications",
                bench.application(low(second), "app-alpha", "sae:app-beta"))
            try await bench.edit(.create, "/qkd_applications", bench.application(low(second), "app-beta", "app-alpha"))
            #expect(bench.store.calls.suffix(2) == ["register", "register"])
        }
    }

    @Test("applications that the key store cannot serve are refused with their place")
    func applicationHomes() async throws {
        let bench = try Bench()
        try await bench.work {
            try await bench.meet()
            for (server, client, leaf, words) in [
                ("app-alpha", "app-alpha", "client_app_id", "server and client in one"),
                ("app-alpha", "app-alpha-2", "client_app_id", "has to be served by this node, the other by a peer"),
                ("app-gamma", "app-beta", "server_app_id", "serves an application 'app-gamma'"),
                ("app-alpha", "app-gamma", "client_app_id", "serves an application 'app-gamma'"),
            ] {
                await bench.refuses(
                    "/qkd_app[app_id='\(low(appID))']/\(leaf)", words, "/qkd_applications", bench.application(low(appID), server, client))
            }
        }
    }

    @Test("a UUID with capitals is refused where it stands")
    func canonicalIDs() async throws {
        let bench = try Bench()
        try await bench.work {
            try await bench.meet()
            let words = "write it in lower case"
            await bench.refuses(
                "/qkd_link[qkdl_id='\(linkID.uuidString)']/qkdl_id", words, "/qkd_links",
                bench.link().replacing(low(linkID), with: linkID.uuidString))
            await bench.refuses(
                "/qkd_link[qkdl_id='\(low(linkID))']/qkdl_remote/qkdn_id", words, "/qkd_links",
                bench.link().replacing(low(beta), with: beta.uuidString))
            await bench.refuses(
                "/qkd_app[app_id='\(appID.uuidString)']/app_id", words, "/qkd_applications",
                bench.application(appID.uuidString, "app-alpha", "app-beta"))
            try await bench.edit(.remove, "/sdqkd-cv-qkd:peers", nil)
            await bench.refuses(
                "/peer[qkdn_id='\(beta.uuidString)']/qkdn_id", words, "/sdqkd-cv-qkd:peers",
                Bench.peer.replacing(low(beta), with: beta.uuidString))
        }
    }

    @Test("a peer that a service refuses is the asker's mistake; what a service cannot do is not")
    func peerTerms() async throws {
        let bench = try Bench()
        try await bench.work {
            bench.appear()
            let words = "certificate name kme-beta belongs to peer gamma already"
            bench.store.change { $0.refusal["add peer"] = words }
            await #expect { try await bench.edit(.create, "/sdqkd-cv-qkd:peers", Bench.peer) } throws: { error in
                guard let error = error as? RESTCONFError else { return false }
                return error.status == 400 && error.tag == .invalidValue && error.message == words
                    && error.path?.hasSuffix("/peer[qkdn_id='\(low(beta))']/key-management-certificate") == true
            }
            #expect(bench.links.parts.withLock { $0.status.peers.isEmpty }, "the link service has it no more")
            bench.store.change { ($0.refusal, $0.failure) = ([:], ["add peer": "the disk is full"]) }
            await #expect { try await bench.edit(.create, "/sdqkd-cv-qkd:peers", Bench.peer) } throws: { error in
                (error as? RESTCONFError).map { $0.status == 500 && $0.tag == .operationFailed } ?? false
            }
        }
    }

    @Test("no state is published for a peer that is deleted while the services are asked")
    func deletedPeer() async throws {
        let bench = try Bench()
        try await bench.work {
            try await bench.meet()
            #expect(
                await eventually(within: .seconds(5)) {
                    (try? await bench.tree()["sdqkd-cv-qkd:peers"]["peer"].array.first?["state"].isNull) == false
                })
            bench.store.change {
                // Its state is another, so that it is to be told.
                $0.status.peers[0].storedBits += 256
                $0.afterStatus = { try? await bench.edit(.remove, "/sdqkd-cv-qkd:peers", nil) }
            }
            #expect(await eventually(within: .seconds(5)) { await !bench.has("sdqkd-cv-qkd:peers", "peer") })
            try await Task.sleep(for: .milliseconds(200))
            #expect(await !bench.has("sdqkd-cv-qkd:peers", "peer"))
        }
        #expect(await bench.agent.status.refused == 0)
    }

    @Test("a link that the link service lost while it answered is put in force again; a deleted one is not", .timeLimit(.minutes(1)))
    func repair() async throws {
        let bench = try Bench()
        try await bench.work {
            try await bench.connect()
            bench.links.change { ($0.status.links, $0.plans) = ([], [:]) }
            #expect(await eventually(within: .seconds(10)) { bench.links.calls == ["add peer", "prepare", "commit", "prepare", "commit"] })
            #expect(bench.links.parts.withLock { $0.status.links.map(\.link.rawValue) } == [low(linkID)])
            bench.links.change { $0.status.peers = [] }
            #expect(await eventually(within: .seconds(10)) { bench.links.calls.last == "add peer" })
            try await bench.edit(.remove, "/qkd_links/qkd_link=\(low(linkID))", nil)
            try await Task.sleep(for: .milliseconds(2500))
            #expect(bench.links.calls.last == "remove")
        }
    }
}
