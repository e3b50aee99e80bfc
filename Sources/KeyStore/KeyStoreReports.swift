// What a key store tells of itself: counts, rates and states, never bits.

public import Foundation
public import QKDModel
import Synchronization

/// One link as the status shows it.
public struct StoreLinkReport: Sendable {
    public var link: LinkID
    public var peer: NodeID
    public var storedBits, deliverableBits, heldBits, reservedBits: Int
    public var depositedBits, confirmedBits, deliveredBits, padBits: Int
    public var blocks, storedKeys, emulatedBits: Int
    public var inRate, outRate: Double
    public var lastDeposit: Date?
}

/// One peer as the status shows it.
public struct StorePeerReport: Sendable {
    public enum State: String, Sendable { case down, connecting, up }
    public var peer: NodeID
    public var state: State
    public var reason: String?
    public var padSendBytes, padReceiveBytes, connections, refusedMessages: Int
    public var address: HostPort
    public var certificateName: String
    public var addedAtRunTime: Bool
    public var applications: [SAEID]
    /// Of all links to it.
    public var storedBits: Int
    public var inRate, outRate: Double
}

extension KeyStoreService {
    public func linkReports() async throws -> [StoreLinkReport] {
        let size = configuration.keySizeBits / 8
        let (figures, keys) = try await store.look { transaction in
            let figures = try transaction.figures()
            let peers = Set(figures.map(\.peer))
            let counts = try peers.map { ($0, try transaction.storedKeys(peer: $0, keyBytes: size).deliverable) }
            return (figures, Dictionary(uniqueKeysWithValues: counts))
        }
        return figures.map { figures in
            let tallies = figures.tallies
            let rate = rates.withLock { $0[figures.link]?.rates ?? (0, 0) }
            return StoreLinkReport(
                link: figures.link, peer: figures.peer, storedBits: figures.deliverable + figures.peerFree + figures.offered,
                deliverableBits: figures.deliverable + figures.offered, heldBits: figures.held, reservedBits: figures.reserved,
                depositedBits: tallies["deposited"] ?? 0, confirmedBits: tallies["confirmed"] ?? 0,
                deliveredBits: tallies["delivered"] ?? 0, padBits: tallies["pad"] ?? 0, blocks: figures.blocks,
                storedKeys: keys[figures.peer] ?? 0, emulatedBits: figures.emulated, inRate: rate.0, outRate: rate.1,
                lastDeposit: figures.lastDeposit.map { Date(timeIntervalSince1970: $0) })
        }
    }

    public func peerReports() async -> [StorePeerReport] {
        let links = (try? await linkReports()) ?? []
        var reports: [StorePeerReport] = []
        for (node, entry) in book.all.sorted(by: { $0.key < $1.key }) {
            let figures = await entry.link.status()
            let own = links.filter { $0.peer == node }
            let state: StorePeerReport.State = [.down: .down, .greeting: .connecting, .up: .up][figures.phase] ?? .down
            reports.append(
                StorePeerReport(
                    peer: node, state: state, reason: state == .up ? nil : figures.reason, padSendBytes: figures.padSend,
                    padReceiveBytes: figures.padReceive, connections: figures.connections, refusedMessages: figures.refused,
                    address: entry.link.settings.address, certificateName: entry.link.settings.certificateName,
                    addedAtRunTime: entry.added != nil, applications: directory.applications(of: node),
                    storedBits: own.reduce(0) { $0 + $1.storedBits }, inRate: own.reduce(0) { $0 + $1.inRate },
                    outRate: own.reduce(0) { $0 + $1.outRate }))
        }
        return reports
    }
}

extension KMSession.Phase: Hashable {}
