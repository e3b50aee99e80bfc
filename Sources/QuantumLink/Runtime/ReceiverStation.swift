// The receiver of a node: calibrates whenever no slot runs, and lends its device to slots.
//
//     run      DARK when it is missing or old; SHOT until the running block has its statistics; then waits
//     slot     takes the turnstile between two windows, so a slot never cuts a window in two

internal import Foundation
internal import PostProcessing
public import QKDModel

public actor ReceiverStation {
    public let name: String
    let device: any SlotReceiver
    let turnstile = Turnstile()
    private(set) var log = CalibrationLog()
    private(set) var facts: DeviceFacts?
    private(set) var trouble = "not opened yet"
    /// The device that the log is about; it outlives losses of the device.
    private var lastSerial: String?
    /// What the running block needs.
    private var need = Need()
    private var listener: (@Sendable () async -> Void)?
    /// Holds every window against the receiver's long-term noise.
    private var noise = ShotNoiseWatch()
    /// The last window of a kind was thrown away, and why.
    private var spoilt: (kind: NoiseKind, reason: String)?
    private var failures = 0
    private let memory: LinkDatabase?
    private let patience: Duration

    /// Symbols of the longest SHOT window: a slot waits for the end of one, and other work of the device too.
    static let mostWindow = 2_000_000

    struct Need: Sendable, Equatable {
        /// Device time from which windows count.
        var since: UInt64 = 0
        /// SHOT symbols wanted since then, and the most for one window.
        var shotSymbols: UInt64
        var windowSymbols: Int
        var darkSymbols: UInt64

        init(since: UInt64 = 0, shotSymbols: UInt64 = 2_000_000, windowSymbols: Int = 2_000_000, darkSymbols: UInt64 = 2_000_000) {
            self.since = since
            self.shotSymbols = shotSymbols
            self.windowSymbols = windowSymbols
            self.darkSymbols = darkSymbols
        }
    }

    /// - Parameters:
    ///   - memory: keeps the receiver's long-term noise.
    ///   - patience: for the next symbols of a calibration.
    public init(name: String, device: any SlotReceiver, memory: LinkDatabase? = nil, patience: Duration = .seconds(60)) {
        self.memory = memory
        self.patience = patience
        self.name = name
        self.device = device
    }

    /// Calibrates until cancelled. Trouble with the device is a state, not an end.
    public func run() async {
        while !Task.isCancelled {
            do {
                let work = try await nextWindow()
                if spoilt != nil { try await Task.sleep(for: .milliseconds(200)) }
                if let work { try await window(work.kind, symbols: work.symbols) } else { try await Task.sleep(for: .milliseconds(50)) }
            } catch is CancellationError {
                return
            } catch {
                await failed(error)
                try? await Task.sleep(for: .seconds(1))
            }
        }
    }

    func onChange(_ listener: (@Sendable () async -> Void)?) { self.listener = listener }

    func needs(_ need: Need) { self.need = need }

    public func condition() async -> (state: DeviceState, reason: String) { await device.condition() }

    /// Slots tell how far the device's clock is.
    func saw(deviceTime: UInt64) { log.saw(deviceTime: deviceTime) }

    /// Sums of both kinds for a block that counts windows since a device time.
    func calibration(since time: UInt64) -> (dark: CalibrationSums, shot: CalibrationSums)? {
        // DARK changes slowly: its validity is the device's word, not the block's start.
        let darkSince = log.time(secondsAgo: facts?.darkValidity ?? 0)
        guard let dark = log.merged(.dark, since: min(darkSince, time)), let shot = log.merged(.shot, since: time) else { return nil }
        return (dark, shot)
    }

    /// Sums for the frames between two device times, and how far the noise moved meanwhile.
    /// - Returns: nil when there are none, or a moment of `ends` has no SHOT window within the validity.
    func calibration(since time: UInt64, frames: ClosedRange<UInt64>, ends: [UInt64]) -> (
        dark: CalibrationSums, shot: CalibrationSums, drift: Double
    )? {
        let validity = facts?.shotValidity ?? 0
        let reach = UInt64(min(max(0, validity), 1e9) * 1e9)
        guard ends.allSatisfy({ log.serves($0, .shot, within: validity) }) else { return nil }
        let earliest = frames.lowerBound > reach ? frames.lowerBound - reach : 0
        let shots = log.sums(.shot, from: max(time, earliest), to: frames.upperBound.addingReportingOverflow(reach).partialValue)
        let darkSince = log.time(secondsAgo: facts?.darkValidity ?? 0)
        let darks = log.sums(.dark, from: min(darkSince, time), to: .max)
        guard let dark = CalibrationLog.merged(darks[...]), let shot = CalibrationLog.merged(shots[...]) else { return nil }
        return (dark, shot, max(CalibrationLog.drift(darks), CalibrationLog.drift(shots)))
    }

    var generation: Int { log.generation }

    func shotSymbols(since time: UInt64) -> UInt64 { log.symbols(.shot, since: time) }
    func ages() -> (dark: Double?, shot: Double?) { (log.age(.dark), log.age(.shot)) }

    /// Where the windows of a block that starts now begin to count.
    func blockStart() -> UInt64 { log.time(secondsAgo: min(facts?.shotValidity ?? 0, 60)) }

    /// Why no slot can be accepted now, or nil.
    func obstacle() async -> String? {
        guard let facts else { return trouble }
        if let fault { return fault }
        if facts.captured { return "the receiver is being captured: nothing may be distilled" }
        guard let dark = log.age(.dark), dark <= facts.darkValidity else { return "dark calibration is missing or past its validity" }
        guard let shot = log.age(.shot), shot <= facts.shotValidity else { return "shot-noise calibration is missing or past its validity" }
        let condition = await device.condition()
        if condition.state == .fault || condition.state == .off { return condition.reason }
        return nil
    }

    private func nextWindow() async throws -> (kind: NoiseKind, symbols: Int)? {
        let facts = try await device.facts()
        if facts != self.facts {
            // Another device, or the same after a restart: what was measured before says nothing about it.
            if let lastSerial, lastSerial != facts.serial { log.reset() }
            if lastSerial != facts.serial { noise = ShotNoiseWatch(try memory?.noiseReference(of: facts.serial)) }
            (self.facts, lastSerial) = (facts, facts.serial)
            await listener?()
        }
        if facts.captured || noise.step != nil { return nil }
        if let spoilt { return (spoilt.kind, spoilt.kind == .dark ? Int(need.darkSymbols) : need.windowSymbols) }
        let darkAge = log.age(.dark) ?? .infinity
        if darkAge > 0.7 * facts.darkValidity || log.symbols(.dark, since: log.time(secondsAgo: facts.darkValidity)) < need.darkSymbols {
            return (.dark, Int(need.darkSymbols))
        }
        let have = log.symbols(.shot, since: need.since)
        if have < need.shotSymbols { return (.shot, min(need.windowSymbols, max(65536, Int(need.shotSymbols - have)))) }
        if log.age(.shot) ?? .infinity > 0.7 * facts.shotValidity { return (.shot, need.windowSymbols) }
        return nil
    }

    private func window(_ kind: NoiseKind, symbols: Int) async throws {
        await turnstile.enter()
        do {
            try await measure(kind, symbols: symbols)
            failures = 0
        } catch {
            if !(error is CancellationError) { failures += 1 }
            await turnstile.leave()
            throw error
        }
        await turnstile.leave()
        await listener?()
    }

    private func measure(_ kind: NoiseKind, symbols: Int) async throws {
        let feed = try await device.calibrate(kind, symbols: symbols)
        var sums = CalibrationSums()
        var begin: UInt64?
        var end: UInt64 = 0
        var count = 0
        let rate = facts?.symbolRate ?? 1
        while let batch = try await withTimeout(patience, "symbols of a calibration", { try await feed.next() }) {
            guard batch.kind == (kind == .dark ? .dark : .shot) else { continue }
            batch.storage.withSamples { sums.add(samples: $0, saturated: batch.saturated) }
            begin = begin ?? batch.deviceTime
            end = batch.deviceTime + UInt64(Double(batch.count) / rate * 1e9)
            count += batch.count
        }
        guard let begin, count > 0 else {
            throw QuantumLinkError.device(name: name, reason: "a \(kind.rawValue) calibration gave no symbols")
        }
        // The clock went back: the device restarted.
        if end < log.now {
            log.reset()
            noise.restarted()
        }
        guard isGood(sums, kind, end: end) else { return }
        log.add(.init(kind: kind, begin: begin, end: end, sums: sums, symbols: UInt64(count)))
        log.expire(before: min(need.since, log.time(secondsAgo: max(facts?.darkValidity ?? 0, facts?.shotValidity ?? 0))))
        trouble = ""
    }

    /// Windows that show something wrong never count.
    private func isGood(_ sums: CalibrationSums, _ kind: NoiseKind, end: UInt64) -> Bool {
        guard sums.saturatedShare <= NoiseCalibration.saturationLimit else {
            let reason = "the \(kind.rawValue) calibration is saturated: \(sums.saturated) of \(sums.count) samples"
            // The numbers differ from window to window: the first ones stay.
            if spoilt?.kind != kind { spoilt = (kind, reason) }
            return false
        }
        if spoilt?.kind == kind { spoilt = nil }
        guard kind == .shot, let dark = log.windows.last(where: { $0.kind == .dark }) else { return true }
        if noise.saw(shot: sums, dark: dark.sums, time: end) { keepReference() }
        return noise.step == nil
    }

    private func keepReference() {
        // A disk that does not take it shows elsewhere; the step holds in memory.
        if let lastSerial { try? memory?.keep(noise.reference, of: lastSerial) }
    }

    /// Why no block may go on and none may begin, or nil.
    var fault: String? { noise.step ?? spoilt?.reason }

    /// What an operator must know, or nil.
    var alarm: String? { fault ?? (failures >= 2 ? "calibrations fail: \(trouble)" : nil) }

    /// An operator says that the receiver is right as it is now.
    package func acknowledge() async {
        guard noise.step != nil else { return }
        noise.acknowledge()
        keepReference()
        log.drop()
        await listener?()
    }

    private func failed(_ error: any Error) async {
        trouble = describe(error)
        facts = nil
        await listener?()
    }
}
