// How device time follows the wall clock.

internal import Dispatch
internal import Foundation
internal import Synchronization

/// What drives device time.
public enum Pace: Sendable, Equatable {
    /// Device time is wall time. Frames that nobody takes in time are lost and counted.
    case real
    /// Device time waits for the readers of running acquisitions and calibrations. It runs at most `speed` times as fast
    /// as the wall clock while devices are at work (booting, settling, calibrating, acquiring) and with the wall clock
    /// while they are idle, so that the hosts' own pauses cost no more than they would in a laboratory. A reader that
    /// stalls for 10 s is overrun.
    case follow(speed: Double)

    public var name: String {
        switch self {
        case .real: "real"
        case .follow: "follow"
        }
    }

    var speed: Double {
        switch self {
        case .real: 1
        case .follow(let speed): speed
        }
    }
}

/// A thread that steps a testbed.
final class Pacer: Sendable {
    private let testbed: Testbed
    private let pace: Pace
    /// ns of wall time after which a stalled reader is overrun.
    private let patience: UInt64
    /// Let go when time stops: it holds the pacer in turn.
    private let observer: Mutex<(any TestbedObserver)?>
    private let wake = DispatchSemaphore(value: 0)
    private let stopping = Atomic(false)
    private let stopped = DispatchSemaphore(value: 0)

    init(_ testbed: Testbed, pace: Pace, patience: Double, observer: any TestbedObserver) {
        self.testbed = testbed
        self.pace = pace
        self.patience = UInt64(patience * 1e9)
        self.observer = Mutex(observer)
    }

    /// A monotonic clock in ns.
    static func wall() -> UInt64 { DispatchTime.now().uptimeNanoseconds }

    func start() {
        let thread = Thread { [self] in
            run()
            stopped.signal()
        }
        thread.name = "testbed"
        thread.start()
    }

    /// Ends the thread and waits for it.
    func stop() {
        stopping.store(true, ordering: .releasing)
        wake.signal()
        stopped.wait()
        observer.withLock { $0 = nil }
    }

    /// Something happened that may let time go on.
    func nudge() { wake.signal() }

    private func run() {
        let stepDuration = Double(testbed.withCore { $0.stepDuration })
        var due = Double(Self.wall())
        while !stopping.load(ordering: .acquiring) {
            let now = Self.wall()
            if case .follow = pace, testbed.withCore({ $0.isHeldBack(wall: now, patience: patience) }) {
                due = Double(now)
                _ = wake.wait(timeout: .now() + .milliseconds(20))
                continue
            }
            guard Double(now) >= due else {
                rest(until: due, now: now)
                continue
            }
            step(now)
            // Falling behind is not made up for beyond a tenth of a second, so that time does not jump after a pause.
            let speed = testbed.withCore { $0.isAtWork } ? pace.speed : 1
            due = max(due + stepDuration / speed, Double(now) - 1e8)
        }
    }

    private func step(_ now: UInt64) {
        let result = testbed.advance(wall: now)
        guard let observer = observer.withLock({ $0 }) else { return }
        if !result.actions.isEmpty { observer.perform(result.actions) }
        for device in result.fresh { observer.framesReady(device: device) }
    }

    /// Idle testbeds rest in longer pieces and catch up.
    private func rest(until due: Double, now: UInt64) {
        let idle = !testbed.withCore { $0.isProducing }
        let pause = max(due - Double(now), idle ? 5e6 : 2e5)
        _ = wake.wait(timeout: .now() + .nanoseconds(Int(min(pause, 1e9))))
    }
}
