// When to put a configuration in force again that a service has lost while it answered all the time.

import NodeAPI
import QKDModel

/// A change that is under way looks like a loss for a moment: only what is lacking for a while, with nothing changed meanwhile, is lost.
/// Where putting it right fails, the next attempt waits twice as long, up to a minute.
struct RepairWatch: Sendable {
    private let shortest: Duration
    private var wait: Duration
    private var seen: (since: ContinuousClock.Instant, mark: String)?

    init(shortest: Duration) { (self.shortest, wait) = (shortest, shortest) }

    /// - Parameter mark: differs when the configuration does; nil while a change is under way.
    mutating func isDue(lacking: Bool, mark: String?, at now: ContinuousClock.Instant) -> Bool {
        guard lacking else {
            (seen, wait) = (nil, shortest)
            return false
        }
        guard let mark, let seen, seen.mark == mark else {
            self.seen = mark.map { (now, $0) }
            return false
        }
        guard now - seen.since >= wait else { return false }
        self.seen = nil
        wait = min(wait * 2, .seconds(60))
        return true
    }
}

extension DesiredConfiguration {
    /// What is configured and the link service does not have, in words; nil where it has all.
    func lacks(_ status: LinkServiceStatus) -> String? {
        let links = Set(status.links.map(\.link))
        if let link = self.links.values.first(where: { !$0.isVirtual && !links.contains($0.name) }) { return "link \(link.name)" }
        let peers = Set(status.peers.map(\.node))
        return self.peers.values.first { $0.linkAddress != nil && !peers.contains($0.node) }.map { "peer \($0.node)" }
    }
}
