// Asks the services how they are, twice a second, and keeps what the table and the result need.

import Foundation
import NodeAPI
import NodeRuntime
import QKDModel
import Synchronization

/// What the lab knows of its links. A service that does not answer leaves what was known before.
final class LabWatch: Sendable {
    private let lab: Lab
    private let started: ContinuousClock.Instant
    private let state = Mutex(State())
    private let stores: [String: LocalClient]

    private struct State {
        var stores: [String: StoreStatus] = [:]
        /// Seconds after the start at which a link's first key stood in both stores.
        var firstKey: [String: Double] = [:]
    }

    init(lab: Lab, started: ContinuousClock.Instant) {
        self.lab = lab
        self.started = started
        stores = Self.clients(lab, "lkmsd")
    }

    private static func clients(_ lab: Lab, _ service: String) -> [String: LocalClient] {
        Dictionary(
            lab.plan.sites.map { ($0.name, LocalClient(socketPath: "\($0.name)/run/\(service).sock", timeout: .seconds(5))) }
        ) { first, _ in first }
    }

    /// Since the services were started.
    var seconds: Double { (ContinuousClock.now - started) / .seconds(1) }

    /// One round of questions.
    func poll() async throws {
        await withTaskGroup(of: Void.self) { group in
            for (site, client) in stores {
                group.addTask {
                    guard let status: StoreStatus = try? await client.get(StoreRoutes.status) else { return }
                    self.state.withLock { $0.stores[site] = status }
                }
            }
        }
        for link in lab.plan.links where storedBits(link) > 0 {
            let now = seconds
            state.withLock { state in
                guard state.firstKey[link.name] == nil else { return }
                state.firstKey[link.name] = now
                lab.say("\(link.name): first key stored at both ends after \(Int(now)) s")
            }
        }
    }

    /// Ever confirmed bits, the lesser of both ends.
    func storedBits(_ link: LabLink) -> Int {
        state.withLock { state in
            [link.transmitterSite, link.receiverSite].map { site in
                state.stores[site]?.links.first { $0.link.rawValue == link.name }?.confirmedBits ?? 0
            }.min() ?? 0
        }
    }

    func hasKey(_ link: LabLink) -> Bool { storedBits(link) > 0 }
    var everyLinkHasKey: Bool { lab.plan.links.allSatisfy(hasKey) }

    var table: [String] {
        let rows = lab.plan.links.map { link in
            LabRow(
                link: link.name, state: "-", transmitter: "-", receiver: "-", activity: "-", storedBits: storedBits(link), blocks: 0)
        }
        return LabTable.lines(rows, seconds: seconds)
    }

    /// What keeps the result from being a success, in words.
    func missing(in result: LabResult) -> [String] {
        result.links.compactMap { link in
            if link.secretBitsStored == 0 { return "\(link.name) stored no key (\(link.limitedBy))" }
            return link.keysEqual ? nil : "\(link.name): the keys at its ends are not equal"
        }
    }

    func result(keysEqual: [String: Bool]) -> LabResult {
        LabResult(links: [], realTimeFactor: 0, seconds: seconds)
    }
}
