// Instruments' devices as a link needs them: kept open by ManagedModule, claimed exclusively, symbols from the one stream.

internal import Foundation
public import Instruments
public import QKDModel
internal import Synchronization

/// What both roles share: the module of the moment with its stream.
actor OpenDevice {
    let managed: ManagedModule
    nonisolated var name: String { managed.name }
    private var serial: ObjectIdentifier?
    private var source: (any SymbolSource)?
    private var cached: DeviceFacts?
    private var current: (any QKDModule)?

    init(_ managed: ManagedModule) { self.managed = managed }

    /// The open module, claimed for this session, with a stream.
    func module() async throws -> any QKDModule {
        let module: any QKDModule
        do { module = try await managed.module() } catch {
            forget()
            throw QuantumLinkError.device(name: managed.name, reason: "\(error)")
        }
        if let current, current === module, source != nil { return module }
        forget()
        guard try await run({ try await module.claim() }) else {
            // Who holds the lock may be capturing: nothing may be distilled meanwhile.
            throw QuantumLinkError.device(name: managed.name, reason: "another session holds its lock (a capture?)")
        }
        // What an earlier owner of the lock left running, a killed process for one, would make the device refuse all else.
        try await run {
            try await module.stopAcquisition()
            try await module.abortCalibration()
        }
        source = try await run { try await module.openStream() }
        current = module
        return module
    }

    func stream() async throws -> any SymbolSource {
        _ = try await module()
        guard let source else { throw QuantumLinkError.device(name: managed.name, reason: "it has no symbol stream") }
        return source
    }

    func facts() async throws -> DeviceFacts {
        let module = try await module()
        if let cached { return cached }
        let status = try await run { try await module.status() }
        guard status.phase != .boot, status.phase != .warmUp, status.phase != .fault else {
            throw QuantumLinkError.device(name: managed.name, reason: "it is in \(status.phase.rawValue)")
        }
        let rate = try await run { try await module.symbolRate() }
        var facts = DeviceFacts(serial: module.identity.serial.rawValue, emulated: module.isEmulated, symbolRate: rate)
        if let receiver = module as? any QuantumReceiver {
            (facts.efficiency, facts.efficiencyError) = try await run { try await receiver.efficiency() }
        }
        for calibration in module.capabilities.calibrations {
            if calibration.kind == .dark { facts.darkValidity = calibration.validity }
            if calibration.kind == .shot { facts.shotValidity = calibration.validity }
        }
        cached = facts
        return facts
    }

    /// An error of the device, told to whoever keeps it open.
    func run<R: Sendable>(_ body: @Sendable () async throws -> R) async throws -> R {
        do { return try await body() } catch is CancellationError { throw CancellationError() } catch {
            await managed.noteFailure(error)
            forget()
            throw QuantumLinkError.device(name: managed.name, reason: "\(error)")
        }
    }

    /// Makes a calibration that the device times itself (LOCK, BIAS), where its last one is stale: once per validity.
    func renew(_ kind: CalibrationKind, of module: any QKDModule) async throws {
        guard module.capabilities.calibrations.contains(where: { $0.kind == kind }),
            try await !run({ try await module.calibration(kind).isValid })
        else { return }
        try await run { try await module.startCalibration(kind, symbols: nil) }
        let deadline = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < deadline, try await run({ try await module.calibrationProgress().running != nil }) {
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// Whether it calibrates or acquires.
    func isBusy() async throws -> Bool {
        let module = try await module()
        let phase = try await run { try await module.status().phase }
        return [.calibrating, .settling, .acquiring].contains(phase)
    }

    func condition() async -> (state: DeviceState, reason: String) {
        let event = await managed.event
        return (event.state, event.reason)
    }

    private func forget() {
        source?.close()
        (source, current, cached) = (nil, nil, nil)
    }
}

/// Frames of the device's stream as batches; releases what was handed on.
final class StreamFeed: SymbolFeed {
    private struct Place {
        var next: UInt64?
        var frames = 0
    }

    private let device: OpenDevice
    private let source: any SymbolSource
    /// Frames of a calibration; nil: until the acquisition stops.
    private let wanted: Int?
    private let kind: SymbolFrame.Kind
    private let place = Mutex(Place())
    /// The device says when it is done, also where the last frames are lost.
    private let watch: SilenceWatch

    init(_ device: OpenDevice, _ source: any SymbolSource, kind: SymbolFrame.Kind, frames: Int?) {
        self.device = device
        self.source = source
        self.kind = kind
        wanted = frames
        watch = SilenceWatch(isBusy: { try await device.isBusy() }, cut: { source.end(at: 0) })
        watch.start()
    }

    deinit { watch.stop() }

    func next() async throws -> SymbolBatch? {
        while true {
            if let wanted, place.withLock({ $0.frames >= wanted }) { return over() }
            let source = source
            guard let frame = try await device.run({ try await source.next() }) else {
                guard watch.isStuck else { return over() }
                throw QuantumLinkError.device(name: device.name, reason: "it says that it works, and gives no symbols")
            }
            watch.saw()
            // The ring's frames before an acquisition are another one's.
            try await device.run { try await source.release(through: frame.number) }
            guard frame.kind == kind else { continue }
            return batch(frame)
        }
    }

    private func over() -> SymbolBatch? {
        watch.stop()
        return nil
    }

    private func batch(_ frame: SymbolFrame) -> SymbolBatch {
        let gap = place.withLock { place in
            defer {
                place.next = frame.firstSymbol &+ UInt64(frame.count)
                place.frames += 1 + Int(clamping: frame.lostBefore)
            }
            // A counter that jumps is a slip: the symbols behind it are not where they seem.
            return frame.lostBefore > 0 || place.next.map { $0 != frame.firstSymbol } ?? false
        }
        return SymbolBatch(
            kind: [.signal: .signal, .shot: .shot, .dark: .dark][frame.kind] ?? .signal, count: frame.count, deviceTime: frame.deviceTime,
            utc: frame.utc, scale: frame.scale, saturated: frame.saturated, afterGap: gap,
            disturbed: frame.flags.contains(.unlocked) || frame.flags.contains(.unsettled), storage: FrameStorage(buffer: frame.samples))
    }
}

private struct FrameStorage: SampleStorage {
    let buffer: SymbolBuffer
    func withSamples(_ body: (UnsafeBufferPointer<Int16>) -> Void) { buffer.withInt16(body) }
}

/// A transmitter of the driver table for a station.
public final class ManagedTransmitter: SlotTransmitter {
    private let device: OpenDevice
    /// The carrier before anybody asked for another one, Hz.
    private let ownCarrier = Mutex<Double?>(nil)

    public init(_ managed: ManagedModule) { device = OpenDevice(managed) }

    public func facts() async throws -> DeviceFacts { try await device.facts() }
    public func condition() async -> (state: DeviceState, reason: String) { await device.condition() }

    private func transmitter() async throws -> any QuantumTransmitter {
        guard let module = try await device.module() as? any QuantumTransmitter else {
            throw QuantumLinkError.device(name: device.managed.name, reason: "it is no transmitter")
        }
        return module
    }

    public func tune(to hertz: Double?) async throws {
        guard let wanted = hertz ?? ownCarrier.withLock({ $0 }) else { return }
        let module = try await transmitter()
        let now = try await device.run { try await module.frequency() }
        ownCarrier.withLock { $0 = $0 ?? now }
        if abs(now - wanted) >= 1 { try await device.run { try await module.setFrequency(wanted) } }
    }

    public func light(path: String, variance: Double) async throws {
        let module = try await transmitter()
        try await device.renew(.bias, of: module)
        try await device.run {
            if try await module.path() != path { try await module.setPath(path) }
            try await module.setModulationVariance(variance)
            try await module.setPilot(true, ratio: nil)
            try await module.setOutput(true)
        }
        try await settle(module)
    }

    private func settle(_ module: any QuantumTransmitter) async throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while ContinuousClock.now < deadline {
            if try await device.run({ try await module.pathSettled() }) { return }
            try await Task.sleep(for: .milliseconds(2))
        }
        throw QuantumLinkError.device(name: device.managed.name, reason: "its path did not settle within 30 s")
    }

    public func start(symbols: Int?) async throws -> any SymbolFeed {
        let module = try await transmitter()
        let source = try await device.stream()
        let perFrame = max(1, module.capabilities.symbolsPerFrame)
        let frames = symbols.map { ($0 + perFrame - 1) / perFrame }
        try await device.run { try await module.startAcquisition(frames: frames) }
        return StreamFeed(device, source, kind: .signal, frames: frames)
    }

    public func stop() async throws {
        let module = try await transmitter()
        try await device.run { try await module.stopAcquisition() }
    }
}

/// A receiver of the driver table for a station.
public final class ManagedReceiver: SlotReceiver {
    private let device: OpenDevice

    public init(_ managed: ManagedModule) { device = OpenDevice(managed) }

    public func facts() async throws -> DeviceFacts { try await device.facts() }
    public func condition() async -> (state: DeviceState, reason: String) { await device.condition() }

    private func receiver() async throws -> any QuantumReceiver {
        guard let module = try await device.module() as? any QuantumReceiver else {
            throw QuantumLinkError.device(name: device.managed.name, reason: "it is no receiver")
        }
        return module
    }

    public func lock() async throws {
        let module = try await receiver()
        try await device.run {
            try await module.setShutter(closed: false)
            try await module.setLocalOscillator(true)
        }
        // Without it every lock is a full search of seconds; it needs the light that is there now.
        try await device.renew(.lock, of: module)
        let deadline = ContinuousClock.now + .seconds(60)
        var nextRelock = ContinuousClock.now + .milliseconds(500)
        while ContinuousClock.now < deadline {
            if try await device.run({ try await module.pilotLocked() }) { return }
            // The loop locks by itself where it can; now and then it is started anew.
            if ContinuousClock.now > nextRelock {
                try await device.run { try await module.relock() }
                nextRelock = ContinuousClock.now + .seconds(8)
            }
            try await Task.sleep(for: .milliseconds(2))
        }
        throw QuantumLinkError.device(name: device.managed.name, reason: "its pilot did not lock within 60 s")
    }

    public func calibrate(_ kind: NoiseKind, symbols: Int) async throws -> any SymbolFeed {
        let module = try await receiver()
        let source = try await device.stream()
        let perFrame = max(1, module.capabilities.symbolsPerFrame)
        try await device.run { try await module.startCalibration(kind == .dark ? .dark : .shot, symbols: symbols) }
        return StreamFeed(device, source, kind: kind == .dark ? .dark : .shot, frames: (symbols + perFrame - 1) / perFrame)
    }

    public func start(symbols: Int?) async throws -> any SymbolFeed {
        let module = try await receiver()
        let source = try await device.stream()
        try await device.run { try await module.startAcquisition(frames: nil) }
        return StreamFeed(device, source, kind: .signal, frames: nil)
    }

    public func stop() async throws {
        let module = try await receiver()
        try await device.run { try await module.stopAcquisition() }
    }
}
