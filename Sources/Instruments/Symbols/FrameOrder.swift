// Which frame comes next, and what to do when another one does. A value without input or output.

/// Keeps the frames of a stream in order: decides for each arriving frame whether it is delivered, dropped, or asked for again.
package struct FrameOrder: Sendable {
    package enum Verdict: Equatable, Sendable {
        /// Hand it on; `lost` frames before it are gone for good.
        case deliver(lost: UInt64)
        /// Not the one that is waited for.
        case drop
        /// Drop it and make the device go back to this frame.
        case seek(UInt64)
        /// The device counts backwards: it restarted, or is not what it seems.
        case restarted
    }

    /// How often one frame is asked for again before it counts as lost.
    package static let attempts = 3
    /// Old frames in a row after which the device is taken to have restarted.
    static let oldFrames = 256

    /// The number that comes next; `nil` before the first frame.
    package private(set) var expected: UInt64?
    package private(set) var lost: UInt64 = 0
    package private(set) var corrupt: UInt64 = 0
    package private(set) var refetched: UInt64 = 0
    /// Frames of `lost` that came, but never whole.
    package private(set) var spoiled: UInt64 = 0

    private var tries = 0
    /// After a SEEK: frames that may still come from before it, and the first that was dropped meanwhile.
    private var inFlight: Int?
    private var firstDropped: UInt64?
    private var lastSeen: UInt64 = 0
    private var owed: UInt64 = 0
    private var old = 0

    package init(expected: UInt64? = nil) { self.expected = expected }

    /// - Parameters:
    ///   - overrun: the device says that it lost frames before this one.
    ///   - isWhole: the payload's checksum is right.
    ///   - outstanding: frames that the device may still send on credits given before now.
    package mutating func input(_ number: UInt64, overrun: Bool, isWhole: Bool, outstanding: Int) -> Verdict {
        defer { lastSeen = number }
        if !isWhole { corrupt += 1 }
        guard let expected else {
            self.expected = number
            return here(number, isWhole, outstanding)
        }
        if number == expected { return here(number, isWhole, outstanding) }
        if number < expected {
            old += 1
            return old > Self.oldFrames ? .restarted : .drop
        }
        return ahead(number, expected, overrun: overrun, isWhole, outstanding)
    }

    /// After a reconnection every frame from `expected` on is sent anew.
    package mutating func reconnected() { (inFlight, firstDropped, old) = (nil, nil, 0) }

    /// Frames before `number` are not wanted any more, and are not missed.
    package mutating func skip(to number: UInt64) {
        guard (expected ?? 0) < number || expected == nil else { return }
        expected = number
        (tries, owed, old) = (0, 0, 0)
        (inFlight, firstDropped) = (nil, nil)
    }

    private mutating func here(_ number: UInt64, _ isWhole: Bool, _ outstanding: Int) -> Verdict {
        (old, firstDropped) = (0, nil)
        guard isWhole else {
            tries += 1
            guard tries <= Self.attempts else {
                spoiled += 1
                giveUp(1)
                inFlight = nil
                return .drop
            }
            return seek(number, outstanding)
        }
        if tries > 0 || inFlight != nil { refetched += 1 }
        (tries, inFlight) = (0, nil)
        expected = number + 1
        defer { owed = 0 }
        return .deliver(lost: owed)
    }

    private mutating func ahead(_ number: UInt64, _ expected: UInt64, overrun: Bool, _ isWhole: Bool, _ outstanding: Int) -> Verdict {
        if let waiting = inFlight {
            // A step back that still is not the wanted frame is the device's answer to SEEK: it has no older one.
            let isAnswer = number <= lastSeen
            if !isAnswer, waiting > 0 {
                inFlight = waiting - 1
                firstDropped = firstDropped ?? number
                return .drop
            }
            let resume = isAnswer ? number : firstDropped ?? number
            giveUp(resume - expected)
            inFlight = nil
            return resume == number ? here(number, isWhole, outstanding) : seek(resume, outstanding)
        }
        guard overrun else { return seek(expected, outstanding, from: number) }
        giveUp(number - expected)
        return here(number, isWhole, outstanding)
    }

    private mutating func seek(_ number: UInt64, _ outstanding: Int, from dropped: UInt64? = nil) -> Verdict {
        inFlight = outstanding
        firstDropped = dropped
        return .seek(number)
    }

    private mutating func giveUp(_ count: UInt64) {
        lost += count
        owed += count
        tries = 0
        expected = (expected ?? 0) + count
    }
}
