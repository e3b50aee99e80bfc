// How fast a link's device time ran, by the clock of the lab that watched it.

/// Device time of a link's blocks over the wall time that they took, both from the first slot to the end of the last block.
///
/// The wall time begins at the last look that found no slot yet and ends at the first look that found the block, so the factor
/// is rather too small than too large, by one interval of looking at each end.
struct LabPace: Sendable {
    private var began: Double?
    private var ended: Double?
    private(set) var deviceSeconds = 0.0

    /// One look at the link.
    ///
    /// - Parameters:
    ///   - slotSeen: whether it has opened a slot since its start.
    ///   - deviceSeconds: from the first slot to the end of the last block; nil before the first block.
    ///   - seconds: when, by a clock that never steps.
    mutating func look(slotSeen: Bool, deviceSeconds: Double?, at seconds: Double) {
        if !slotSeen, ended == nil { began = seconds }
        guard let deviceSeconds, deviceSeconds > self.deviceSeconds else { return }
        self.deviceSeconds = deviceSeconds
        ended = seconds
    }

    /// 1 keeps up with the hardware; 0 before the first block.
    var factor: Double {
        guard let ended, ended > began ?? 0 else { return 0 }
        return deviceSeconds / (ended - (began ?? 0))
    }
}
