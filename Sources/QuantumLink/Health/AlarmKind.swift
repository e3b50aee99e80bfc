// The alarms of a link, by the words that operators see (docs/operating.md lists them all).

/// What an alarm of a link is about.
package enum AlarmKind: String, Sendable, CaseIterable {
    /// Slots fail because no light arrives or the pilot does not lock.
    case noLight = "no-light"
    /// Slots fail because what is received has nothing to do with what was sent.
    case noCorrelation = "no-correlation"
    case device
    /// Slots fail for another reason.
    case slots
    /// The far end's receiver has not been ready for long.
    case receiver
    case calibration
    case channel
    case tampering
    case tagRefused = "tag-refused"
    case database
    case noKey = "no-key"
    case pad, provenance, verification, overrun, deposit

    /// What a slot that ended with this reason points at; nil: it says nothing about the link (both ends know each other's words).
    package init?(slotReason reason: String) {
        let kinds: [(AlarmKind, [String])] = [
            (.device, ["device "]), (.noLight, ["pilot", "lost its lock", "did not lock"]),
            (.noCorrelation, ["no correlation", "alignment was lost", "clock"]),
            (.calibration, ["calibration", "noise stepped", "noise moved"]),
        ]
        // A device's words may be about its pilot.
        let isLight = kinds[1].1.contains { reason.contains($0) }
        if reason.isEmpty || reason == SlotOver.overrun || Self.neutral.contains(where: { reason.hasPrefix($0) }) { return nil }
        if isLight {
            self = .noLight
        } else {
            let fits = kinds.first { kind, words in words.contains { kind == .device ? reason.hasPrefix($0) : reason.contains($0) } }
            self = fits?.0 ?? .slots
        }
    }

    /// Slots that were ended for something else, which has its own alarm.
    private static let neutral = ["the block is over", "the slot is over", "the slot was closed", "the session ended", "stopped", "block "]
}
