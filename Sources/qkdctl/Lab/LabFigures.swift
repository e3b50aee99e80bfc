// What a link's blocks and the schedule of its transmitter say beyond the rate: sharing, rounds of disclosure, traffic, time by stage.

import Foundation
import NodeAPI

/// Of a link, over all its blocks.
struct LabFigures: Codable, Sendable, Equatable {
    var blocks = 0
    /// Given up because the machine was too slow.
    var blocksSkipped = 0
    /// The reconciliation code of the last block.
    var code = ""
    /// Decoded frames by the rounds of disclosure that they took: at once, after one, ...
    var framesInRound: [Int] = []
    var framesDisclosedWhole = 0
    /// Bits on the classical channel, both ways, per secret bit.
    var trafficPerSecretBit: Double?
    /// What the other convention for failed frames would have called secret; printed, never used.
    var secretBitsSelecting = 0
    /// Of the generating time of all links of the transmitter.
    var slotShare: Double?
    /// 1 - rate here / rate on a transmitter of its own.
    var sharingPenalty: Double?
    /// Seconds by stage at each end, over all blocks; stages run side by side.
    var stageSeconds = StageSeconds()

    struct StageSeconds: Codable, Sendable, Equatable {
        var transmitter: [String: Double] = [:]
        var receiver: [String: Double] = [:]
    }

    enum CodingKeys: String, CodingKey {
        case blocks, code
        case blocksSkipped = "blocks_skipped"
        case framesInRound = "frames_in_round"
        case framesDisclosedWhole = "frames_disclosed_whole"
        case trafficPerSecretBit = "traffic_per_secret_bit"
        case secretBitsSelecting = "secret_bits_selecting"
        case slotShare = "slot_share"
        case sharingPenalty = "sharing_penalty"
        case stageSeconds = "stage_seconds"
    }
}

/// How one transmitter was shared.
struct LabSharing: Codable, Sendable, Equatable {
    var site: String
    var device: String
    /// Least stored key / demand against shares by weight without any switching, locking and waiting.
    var scheduleEfficiency: Double

    enum CodingKeys: String, CodingKey {
        case site, device
        case scheduleEfficiency = "schedule_efficiency"
    }
}

extension LabFigures {
    /// - Parameters:
    ///   - blocks: what the transmitter's end keeps of them.
    ///   - far: the same at the receiver's end.
    init(_ blocks: [LinkBlock], far: [LinkBlock], skipped: Int, share: LinkSharing.Share?) {
        self.blocks = blocks.count
        blocksSkipped = skipped
        code = blocks.last?.code ?? ""
        let rounds = blocks.map(\.framesInRound.count).max() ?? 0
        framesInRound = (0..<rounds).map { round in
            blocks.reduce(0) { $0 + ($1.framesInRound.indices.contains(round) ? $1.framesInRound[round] : 0) }
        }
        framesDisclosedWhole = blocks.reduce(0) { $0 + $1.framesFailed }
        let secret = blocks.reduce(0) { $0 + $1.secretBits }
        let bytes = blocks.reduce(0.0) { $0 + Double($1.bytesSent) + Double($1.bytesReceived) }
        trafficPerSecretBit = secret > 0 ? bytes * 8 / Double(secret) : nil
        secretBitsSelecting = blocks.reduce(0) { $0 + $1.secretBitsSelecting }
        (slotShare, sharingPenalty) = (share?.share, share?.sharingPenalty)
        stageSeconds = StageSeconds(transmitter: Self.stages(blocks), receiver: Self.stages(far))
    }

    private static func stages(_ blocks: [LinkBlock]) -> [String: Double] {
        blocks.reduce(into: [:]) { $0.merge($1.stages, uniquingKeysWith: +) }
    }

    /// For people.
    var lines: [String] {
        var lines: [String] = []
        if blocksSkipped > 0 { lines.append("  \(blocksSkipped) blocks skipped: the machine was too slow") }
        if blocks > 0 {
            let rounds = framesInRound.enumerated().filter { $0.offset == 0 || $0.element > 0 }.map {
                $0.offset == 0 ? "\($0.element) frames at once" : "\($0.element) after \($0.offset)"
            }
            lines.append(
                "  \(blocks) blocks, code \(code): \((rounds + ["\(framesDisclosedWhole) disclosed whole"]).joined(separator: ", "))"
                    + (trafficPerSecretBit.map { String(format: "; %.1f bits of traffic per secret bit", $0) } ?? ""))
        }
        for (end, stages) in [("transmitter", stageSeconds.transmitter), ("receiver", stageSeconds.receiver)] where !stages.isEmpty {
            let text = stages.sorted { $0.value > $1.value }.map { String(format: "%@ %.1f", $0.key, $0.value) }
            lines.append("  seconds at the \(end): \(text.joined(separator: ", "))")
        }
        return lines
    }
}

/// How the transmitters were shared, for people.
func sharingLines(_ sharing: [LabSharing], _ links: [LabResult.Link]) -> [String] {
    sharing.map { entry in
        let penalties = links.compactMap { link in link.figures.sharingPenalty.map { String(format: "%@ %.3f", link.name, $0) } }
        return String(
            format: "%@ %@: schedule efficiency %.4f, %.2f %% lost against shares by weight without any switching, locking and waiting",
            entry.site, entry.device, entry.scheduleEfficiency, 100 * (1 - entry.scheduleEfficiency))
            + (penalties.isEmpty ? "" : "; sharing penalty \(penalties.joined(separator: ", "))")
    }
}
