// `qkdctl link`: what the link service of a node does, once or for as long as one looks.

import ArgumentParser
import Foundation
import Glibc
import NodeAPI
import NodeRuntime
import QKDModel

struct LinkCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "link", abstract: "Look at quantum links, switch them on and off.",
        subcommands: [
            Status.self, Watch.self, Blocks.self, Enable.self, Disable.self, Acknowledge.self, Peers.self, AddPeer.self, RemovePeer.self,
            LinkReplayCommand.self,
        ])

    struct Face: ParsableArguments {
        @Option(help: "Socket of qkd-linkd.")
        var socket: String
        @Flag(help: "Print the answer as JSON.")
        var json = false

        var client: LocalClient { LocalClient(socketPath: socket) }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Devices, links and the schedule.")
        @OptionGroup var face: Face

        func run() async throws {
            let client = face.client
            if face.json { return print(String(decoding: try await client.text(LinkRoutes.status), as: UTF8.self)) }
            let status: LinkServiceStatus = try await client.get(LinkRoutes.status)
            LinkText.lines(status).forEach { print($0) }
            await client.shutdown()
        }
    }

    struct Watch: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print what happens until interrupted.")
        @OptionGroup var face: Face

        func run() async throws {
            for try await event in face.client.events(LinkRoutes.events) {
                if face.json {
                    print(String(decoding: event.json, as: UTF8.self))
                } else if let event = try? event.decode(LinkServiceEvent.self) {
                    let who = event.link?.rawValue ?? event.device ?? "-"
                    print("\(event.time.formatted(.iso8601)) \(who) \(event.kind): \(event.text)")
                }
                Output.flush()
            }
        }
    }

    struct Blocks: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The key balance of a link's last blocks.")
        @OptionGroup var face: Face
        @Option(help: "The newest so many only.")
        var limit: Int?
        @Argument(help: "The link's id.")
        var link: String

        func validate() throws {
            if let limit, limit < 1 { throw ValidationError("'--limit' is 1 or more") }
        }

        func run() async throws {
            let client = face.client
            let path = "/links/\(link)/blocks" + (limit.map { "?limit=\($0)" } ?? "")
            if face.json { return print(String(decoding: try await client.text(path), as: UTF8.self)) }
            let blocks: [LinkBlock] = try await client.get(path)
            blocks.flatMap(LinkText.lines).forEach { print($0) }
            await client.shutdown()
        }
    }

    struct Enable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Let a link generate key.")
        @OptionGroup var face: Face
        @Argument(help: "The link's id.")
        var link: String
        func run() async throws { try await LinkCommand.post("enable", link, face) }
    }

    struct Disable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Stop a link after its running block.")
        @OptionGroup var face: Face
        @Argument(help: "The link's id.")
        var link: String
        func run() async throws { try await LinkCommand.post("disable", link, face) }
    }

    struct Acknowledge: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say that a link's lasting alarms were seen, and that its receiver is right as it is now.")
        @OptionGroup var face: Face
        @Argument(help: "The link's id.")
        var link: String
        func run() async throws { try await LinkCommand.post("acknowledge", link, face) }
    }

    struct Peers: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The far nodes that this one knows.")
        @OptionGroup var face: Face

        func run() async throws {
            let client = face.client
            if face.json { return print(String(decoding: try await client.text(LinkRoutes.peers), as: UTF8.self)) }
            let peers: [LinkPeer] = try await client.get(LinkRoutes.peers)
            peers.map(LinkText.line).forEach { print($0) }
            await client.shutdown()
        }
    }

    struct AddPeer: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add-peer", abstract: "Make a far node known that the configuration file does not have, or change its address.")
        @OptionGroup var face: Face
        @Option(help: "Name of its secret's file in the service's secrets folder.")
        var secret: String?
        @Argument(help: "The far node's id.")
        var node: String
        @Argument(help: "HOST:PORT of its classical channel.")
        var channel: String

        func run() async throws {
            let client = face.client
            let request = LinkPeerRequest(node: try NodeID(node), channel: channel, secretName: secret)
            let peer: LinkPeer = try await client.post(LinkRoutes.peers, request)
            try LinkCommand.show(peer, face)
            await client.shutdown()
        }
    }

    struct RemovePeer: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove-peer", abstract: "Forget a far node that was added at run time.")
        @OptionGroup var face: Face
        @Argument(help: "The far node's id.")
        var node: String

        func run() async throws {
            let client = face.client
            let peer: LinkPeer = try await client.delete("/peers/\(try NodeID(node))")
            try LinkCommand.show(peer, face)
            await client.shutdown()
        }
    }

    private static func show(_ peer: LinkPeer, _ face: Face) throws {
        guard face.json else { return print(LinkText.line(peer)) }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        print(String(decoding: try encoder.encode(peer), as: UTF8.self))
    }

    private static func post(_ verb: String, _ link: String, _ face: Face) async throws {
        let client = face.client
        let status: LinkStatus = try await client.post("/links/\(link)/\(verb)")
        if face.json {
            let encoder = JSONEncoder()
            encoder.dateEncodingStrategy = .iso8601
            encoder.outputFormatting = [.sortedKeys]
            print(String(decoding: try encoder.encode(status), as: UTF8.self))
        } else {
            print("\(status.link): \(status.enabled ? "enabled" : "disabled"), \(status.state.rawValue)")
        }
        await client.shutdown()
    }
}

/// The service's answers as lines for people.
enum LinkText {
    static func line(_ peer: LinkPeer) -> String {
        "peer \(peer.node) at \(peer.channel) (\(peer.origin == .file ? "configuration file" : "added at run time"))"
            + (peer.links.isEmpty ? ", no links" : ", links " + peer.links.map(\.rawValue).joined(separator: ", "))
    }

    static func lines(_ status: LinkServiceStatus) -> [String] {
        var lines = ["node \(status.node), up \(Int(status.uptimeSeconds)) s"]
        for device in status.devices {
            let reason = device.reason.isEmpty ? "" : ": \(device.reason)"
            lines.append("device \(device.name) (\(device.role.rawValue.lowercased()), \(device.uri)): \(device.state.rawValue)\(reason)")
        }
        for link in status.links { lines += self.lines(link) }
        for sharing in status.sharing {
            lines.append("schedule of \(sharing.device): efficiency \(format(sharing.scheduleEfficiency, 3))")
            for share in sharing.links {
                lines.append(
                    "  \(share.link): \(share.slots) slots, \(share.refusals) refused, share \(format(share.share, 3)), "
                        + "sharing penalty \(format(share.sharingPenalty, 3))")
            }
        }
        return lines
    }

    static func lines(_ link: LinkStatus) -> [String] {
        var lines = [
            "link \(link.link) to \(link.peer) (\(link.role.rawValue.lowercased()) here): \(link.state.rawValue)"
                + (link.reason.isEmpty ? "" : ", \(link.reason)")
        ]
        lines.append(
            "  channel \(link.connected ? "up" : "down"), receiver \(link.receiverReady ? "ready" : "not ready")"
                + (link.receiverReason.isEmpty ? "" : " (\(link.receiverReason))") + ", \(link.calibrationSymbols) calibration symbols")
        if let block = link.block {
            let snr = link.snr.map { ", SNR \(format($0, 4))" } ?? ""
            lines.append(
                "  block \(block) \(link.stage ?? "-"): \(format(100 * link.progress, 1)) %, \(link.framesDecoded) frames decoded, "
                    + "\(link.framesFailed) failed, slot \(link.slot.map(String.init) ?? "-")\(snr)")
        }
        if let last = link.last {
            lines.append(
                "  last block: T \(format(last.transmittance, 5)), xi \(format(last.excessNoise, 5)) (at most \(format(last.excessNoiseWorst, 5))), "
                    + "SNR \(format(last.snr, 4)), FER \(format(last.frameErrorRate, 4)), \(last.depositedBits) bits; \(last.limitedBy)")
        }
        lines.append(
            "  \(link.blocksDeposited) blocks, \(link.bitsDeposited) bits, \(format(link.keyRate, 0)) b/s of device time, "
                + "\(format(link.wallRate, 0)) b/s on the wall; pads \(link.padForward ?? 0) and \(link.padBackward ?? 0) bytes")
        if link.blocksSkipped > 0 || link.slotsOverrun > 0 {
            lines.append("  too slow: \(link.blocksSkipped) blocks skipped, \(link.slotsOverrun) slots lost symbols; \(link.skipReason)")
        }
        for alarm in link.alarms { lines.append("  \(alarm.severity.rawValue) \(alarm.kind): \(alarm.text)") }
        return lines
    }

    static func lines(_ block: LinkBlock) -> [String] {
        [
            "block \(block.block): \(block.symbols) symbols in \(block.slots) slots, \(block.framesDecoded) frames decoded, \(block.framesFailed) failed",
            "  T \(format(block.transmittance, 5)) (at least \(format(block.transmittanceWorst, 5))), "
                + "xi \(format(block.excessNoise, 5)) (at most \(format(block.excessNoiseWorst, 5))) SNU, "
                + "SNR \(format(block.snr, 4)), beta \(format(block.reconciliationEfficiency, 4)), \(block.calibrationSymbols) calibration symbols",
            "  \(block.code): \(rounds(block)); \(block.disclosureBits) bits charged for rounds",
            "  raw \(block.rawBits) - disclosed \(block.disclosedBits) - Holevo \(block.holevoBits) - finite size \(finite(block)) = secret \(block.secretBits) bits "
                + "(conservative; \(block.secretBitsSelecting) if failed frames' share were given back)",
            "  secret \(block.secretBits) - pads \(block.padBits) = deposited \(block.depositedBits) bits (\(block.provenance.rawValue), "
                + "epsilon \(block.epsilon)); \(block.limitedBy)",
            "  seconds: \(stages(block.stages)); channel \(block.bytesSent) bytes out, \(block.bytesReceived) in"
                + (block.trafficPerSecretBit.map { ", \(format($0, 0)) bits per secret bit" } ?? ""),
        ]
    }

    /// What finite size costs, rounded down so that the line adds up but for the bits of a last byte.
    private static func finite(_ block: LinkBlock) -> String {
        format(((block.terms["smoothing"] ?? 0) + (block.terms["hashing"] ?? 0)).rounded(.down), 0)
    }

    private static func rounds(_ block: LinkBlock) -> String {
        let after = block.framesInRound.enumerated().dropFirst().filter { $0.element > 0 }.map { "\($0.element) after round \($0.offset)" }
        return (["\(block.framesInRound.first ?? 0) frames decoded at once"] + after + ["\(block.framesFailed) disclosed whole"])
            .joined(separator: ", ")
    }

    private static func stages(_ stages: [String: Double]) -> String {
        stages.sorted { $0.value > $1.value }.map { "\($0.key) \(format($0.value, 2))" }.joined(separator: ", ")
    }

    private static func format(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
}
