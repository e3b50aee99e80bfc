// What a key store does by the clock: rates, reservations that nobody fetched, blocks that nobody confirmed.

import QKDModel
import Synchronization

extension KeyStoreService {
    func keepHouse() async {
        var round = 0
        var before = ContinuousClock.now
        if let figures = try? await store.look({ try $0.figures() }) { sample(figures, at: 0) }
        while (try? await Task.sleep(for: .seconds(2))) != nil {
            round += 1
            if let figures = try? await store.look({ try $0.figures() }) { sample(figures, at: Double(round) * 2) }
            do {
                try await applications.keepHouse()
                // An empty change: the queue of changes moves, and the disk takes them.
                try await store.change { _ in }
                progress("store", true)
            } catch { journal.raise(.database, .major, "\(error)") }
            guard round % 15 == 0 else { continue }
            do {
                let now = ContinuousClock.now
                let elapsed = (now - before) / .seconds(1)
                let expired = try await store.change { try $0.expire(elapsed: elapsed) }
                before = now
                if expired.keys > 0 {
                    journal.note(.voided, keys: expired.keys, "\(expired.keys) reserved keys were never fetched and erased")
                }
                for (node, peer) in book.all where !expired.blocks.isEmpty {
                    peer.link.void(try await store.look { try $0.voidsToTell(node) }, .tooOld)
                }
                for block in expired.blocks { journal.note(.voided, block: block, "block erased: the peer never confirmed it") }
                try await store.tidy()
            } catch { journal.raise(.database, .major, "\(error)") }
        }
    }

    private func sample(_ figures: [LinkFigures], at time: Double) {
        rates.withLock { rates in
            for link in figures {
                rates[link.link, default: RateWindow()].add(
                    time: time, confirmed: link.tallies["confirmed"] ?? 0, delivered: link.tallies["delivered"] ?? 0)
            }
        }
    }
}

/// Rates in bits per second over the last five minutes.
struct RateWindow {
    private var samples: [(time: Double, confirmed: Int, delivered: Int)] = []

    mutating func add(time: Double, confirmed: Int, delivered: Int) {
        samples.append((time, confirmed, delivered))
        samples.removeAll { time - $0.time > 300 }
    }

    var rates: (Double, Double) {
        guard let first = samples.first, let last = samples.last, last.time > first.time else { return (0, 0) }
        let span = last.time - first.time
        return (Double(last.confirmed - first.confirmed) / span, Double(last.delivered - first.delivered) / span)
    }
}
