// The testbed behind a lock: control from any thread, one step at a time.

internal import QKDModel
internal import Synchronization

/// Where the actions of devices go. Called without any lock held.
protocol TestbedObserver: Sendable {
    func perform(_ actions: [AddressedAction])
    /// A device has new frames.
    func framesReady(device: Int)
}

final class Testbed: Sendable {
    private let core: Mutex<TestbedCore>
    let serials: [String]

    init(_ configuration: TestbedConfiguration, pace: String, utcStart: UInt64? = nil) {
        core = Mutex(TestbedCore(configuration, pace: pace, utcStart: utcStart))
        serials = configuration.devices.map(\.serial.rawValue)
    }

    func withCore<R>(_ body: (inout TestbedCore) throws -> sending R) rethrows -> sending R { try core.withLock(body) }

    func index(of serial: String) throws(FirmwareSimError) -> Int {
        guard let index = serials.firstIndex(of: serial) else { throw .noSuchDevice(serial: serial, known: serials) }
        return index
    }

    /// One step: planned and committed under the lock, drawn outside it, so that control goes on meanwhile.
    /// - Returns: what the devices want done, and which of them have new frames.
    func advance(wall: UInt64) -> (actions: [AddressedAction], fresh: [Int]) {
        let plan = withCore { PlanBox($0.plan(wall: wall)) }
        for production in plan.productions { production?.draw() }
        let actions = withCore { ActionBox($0.commit(plan.productions, wall: wall)) }
        let fresh = plan.productions.indices.filter { !(plan.productions[$0]?.finished.isEmpty ?? true) }
        return (actions.actions, fresh)
    }

    private struct PlanBox: Sendable {
        let productions: [Production?]
        init(_ productions: [Production?]) { self.productions = productions }
    }

    private struct ActionBox: Sendable {
        let actions: [AddressedAction]
        init(_ actions: [AddressedAction]) { self.actions = actions }
    }
}
