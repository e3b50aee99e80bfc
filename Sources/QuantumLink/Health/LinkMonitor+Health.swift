// What sessions and the service tell a link's health, and where its answers go.

internal import QKDModel
internal import Synchronization

extension LinkMonitor {
    private func tell(_ change: (inout LinkHealth) -> [LinkHealth.Effect]) { perform(health.withLock { change(&$0) }) }

    private func perform(_ effects: [LinkHealth.Effect]) {
        for effect in effects {
            switch effect {
            case .raise(let kind, let severity, let text): raise(kind.rawValue, severity, text)
            case .clear(let kind): clear(kind.rawValue)
            case .show(let state, let reason):
                // A link that earns nothing shows no figures of earlier symbols.
                if state != .active { update { ($0.snr, $0.alignmentSignificance) = (nil, nil) } }
                show(state, reason)
            case .countTampering: update { $0.tamperings += 1 }
            case .countInterruption: update { $0.interruptions += 1 }
            }
        }
    }

    /// A block was agreed on.
    func generating() { tell { $0.generating() } }
    /// - Parameter reason: empty when it did what it was meant to.
    func slotEnded(frames: Int, reason: String) { tell { $0.slotEnded(frames: frames, reason: reason, now: .now) } }
    func trouble(_ kind: AlarmKind, _ text: String) { tell { $0.trouble(kind, text) } }
    func over(_ kind: AlarmKind) { tell { $0.over(kind) } }
    func connected() { tell { $0.connected(now: .now) } }
    func ended(_ error: any Error) { tell { $0.ended(error, now: .now) } }
    func look(_ facts: LinkHealth.Facts) { tell { $0.look(facts, now: .now) } }
    func acknowledge() { tell { $0.acknowledge() } }
    func blockEnded(hasKey: Bool, reason: String) { tell { $0.blockEnded(hasKey: hasKey, reason: reason) } }

    /// A block was given up.
    func gaveUp(_ reason: String) {
        update { $0.blocksVoid += 1 }
        blockEnded(hasKey: false, reason: reason)
    }

    /// Raises the alarm while `body` takes longer than it should.
    func expecting<R>(
        _ kind: AlarmKind, _ text: String, within limit: Duration = LinkHealth.damping, isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws -> R
    ) async rethrows -> R {
        let watch = Task {
            guard (try? await Task.sleep(for: limit)) != nil else { return }
            tell { $0.overdue(kind, text) }
        }
        defer { watch.cancel() }
        return try await body()
    }
}
