// What a device produces in one step: which symbols, through which channel, into which frames.

internal import Foundation
internal import QKDModel
internal import QuantumOptics

/// A run of symbols to draw into a frame. Independent of all others.
struct Segment: Sendable {
    enum Source: Sendable {
        case modulation(SymbolStream)
        case reception(Reception)
    }

    var frame: FrameBuffer
    var offset: Int
    var count: Int
    var first: UInt64
    var source: Source

    func draw() {
        let samples = frame.samples(offset, count)
        switch source {
        case .modulation(let stream): stream.fill(samples, first: first)
        case .reception(let reception): frame.saturated += reception.fill(samples, first: first)
        }
    }
}

/// All that one device produces in a step.
struct Production: Sendable {
    struct Finished: Sendable {
        var frame: FrameBuffer
        var header: FrameHeader
    }

    var epoch: UInt64
    var segments: [Segment] = []
    var finished: [Finished] = []

    /// The expensive part: no state of the testbed is touched.
    func draw() {
        for segment in segments { segment.draw() }
        for item in finished { item.frame.checkPayload() }
    }
}

extension Device {
    /// Plans the symbols `range` (of this device's rate) that pass during the coming step.
    mutating func plan(_ range: Range<UInt64>, _ moment: Moment) -> Production? {
        guard var work = producer else { return nil }
        var production = Production(epoch: epoch)
        let skipped = min(work.skip, range.count)
        work.skip -= skipped
        var next = range.lowerBound + UInt64(skipped)
        let source = self.segmentSource(work.kind, moment)
        let flags = frameFlags(work.kind, moment)
        while next < range.upperBound, work.frame != nil || work.framesLeft != 0 {
            let size = configuration.frameSymbols
            let frame = work.frame ?? FrameBuffer(count: size)
            if work.frame == nil {
                work.frame = frame
                work.filled = 0
                work.header = header(first: next, kind: work.kind)
            }
            let part = min(size - work.filled, Int(range.upperBound - next))
            production.segments.append(
                Segment(frame: frame, offset: work.filled, count: part, first: next &+ reportSlip, source: source))
            work.filled += part
            next += UInt64(part)
            work.header?.flags.formUnion(flags)
            if work.filled == size, let header = work.header {
                production.finished.append(.init(frame: frame, header: header))
                work.frame = nil
                work.framesLeft = work.framesLeft.map { $0 - 1 }
            }
        }
        producer = work
        return production
    }

    /// Puts finished frames into the ring. Production of a former start is dropped.
    mutating func commit(_ production: Production, _ moment: Moment) {
        guard production.epoch == epoch else { return }
        for item in production.finished {
            var header = item.header
            if item.frame.saturated > 0 { header.flags.insert(.saturated) }
            let kept = ring.append(item.frame, header: header, lose: takesOverrun())
            if !kept { forEachSession { $0.questionable.pulse(Questionable.overrun) } }
            countFrame(moment)
        }
    }

    private mutating func takesOverrun() -> Bool {
        guard let index = faults.firstIndex(where: { $0.kind == .overrun }) else { return false }
        faults[index].value -= 1
        if faults[index].value < 1 { faults.remove(at: index) }
        return true
    }

    private mutating func countFrame(_ moment: Moment) {
        if let left = calibration?.framesLeft {
            calibration?.framesLeft = left - 1
            if left == 1, let kind = calibration?.kind {
                calibrations[kind] = CalibrationRecord(finished: moment.time, passed: true)
                calibration = nil
                stopProducing()
            }
        } else if let left = acquisition?.framesLeft {
            acquisition?.framesLeft = left - 1
            if left == 1 {
                acquisition = nil
                stopProducing()
            }
        }
    }

    // MARK: - Headers

    /// A slip of a transmitter shifts what it reports against what it sends.
    private var reportSlip: UInt64 { role == .transmitter ? UInt64(bitPattern: slip) : 0 }

    private func header(first: UInt64, kind: FrameKind) -> FrameHeader {
        let (whole, rest) = first.quotientAndRemainder(dividingBy: UInt64(symbolRateHz))
        let time = whole * 1_000_000_000 + rest * 1_000_000_000 / UInt64(symbolRateHz)
        let scale =
            role == .transmitter ? modulation.scale(modulationVariance: source.activeVariance) : Float(configuration.receiver.voltsPerLSB)
        return FrameHeader(
            count: configuration.frameSymbols, firstSymbol: first &+ streams.counterOffset(powerCycle), deviceTime: deviceTime(time),
            utc: utc(time), kind: kind, flags: .emulated, scale: scale)
    }

    private func frameFlags(_ kind: FrameKind, _ moment: Moment) -> FrameFlags {
        var flags: FrameFlags = []
        if role == .transmitter {
            if moment.time < source.settledAt { flags.insert(.unsettled) }
            if !isValid(.bias, moment) { flags.insert(.stale) }
        } else if kind == .signal {
            if !input.lock.isLocked { flags.insert(.unlocked) }
            if input.lock.isSearching || light.settling { flags.insert(.unsettled) }
            if !isValid(.shot, moment) || !isValid(.dark, moment) { flags.insert(.stale) }
        }
        return flags
    }

    // MARK: - Channel

    private mutating func segmentSource(_ kind: FrameKind, _ moment: Moment) -> Segment.Source {
        role == .transmitter ? .modulation(modulation) : .reception(reception(kind, moment))
    }

    /// What reaches the converter during a step, in its steps.
    private mutating func reception(_ kind: FrameKind, _ moment: Moment) -> Reception {
        let receiver = configuration.receiver
        let step = receiver.shotNoiseSigmaLSB * gain(moment.time)
        let oscillator = kind != .dark && (input.oscillator || kind == .shot) ? oscillatorPower(moment.time) : 0
        let transmittance = kind == .signal && !isShuttered ? pow(10, -pathLossDB / 10) : 0
        var light = kind == .shot ? fault(.calibrationLight) ?? 0 : 0
        light += receiver.efficiency * transmittance * excessNoise() / 2
        let noise = step * (oscillator * (1 + light) + receiver.electronicNoiseSNU).squareRoot()
        let amplitude = (receiver.efficiency * transmittance * polarisationMatch(moment.time) / 2 * oscillator).squareRoot()
        let locked = input.lock.isLocked
        return Reception(
            modulation: self.light.modulation, signalGain: carriesSignal ? step * amplitude * launchedScale : 0, delay: flight - slip,
            noise: streams.noise, noiseSigmaLSB: noise, phase: phase(moment.time), phaseSigma: receiver.phaseVarianceRad2.squareRoot(),
            phaseStep: locked ? 0 : 0.1372, fullScaleLSB: Int32(fullScale))
    }

    /// Symbols that light is on its way to this receiver.
    private var flight: Int64 { Int64((setting.paths.first?.spans.delay ?? 0) * Double(symbolRateHz)) }

    /// This device's counter for the light that leaves the transmitter in slot 0.
    var counterOfLight: UInt64 {
        let offset = streams.counterOffset(powerCycle) &- UInt64(bitPattern: slip)
        return role == .transmitter ? offset : offset &+ UInt64(bitPattern: flight)
    }

    private var carriesSignal: Bool { light.signal && light.variance > 0 && light.symbolRateHz == symbolRateHz }
    private var launchedScale: Double { Double(light.modulation.scale(modulationVariance: light.variance)) }

    /// Noise of the channel at its input in SNU: scattered classical light, the transmitter's own, and an eavesdropper's.
    private mutating func excessNoise() -> Double {
        let surge = fault(.classicalSurge) ?? 0
        let scattered: Double
        if let known = fibreNoise, known.surge == surge {
            scattered = known.value
        } else {
            let path = setting.paths.first
            scattered = path?.plan.map { $0.raised(byDB: surge).excessNoise(over: path?.spans ?? []) } ?? 0
            fibreNoise = (surge, scattered)
        }
        return scattered + (light.signal ? light.transmitterNoise : 0) + (fault(.excessNoise) ?? 0)
    }

    /// rad; constant over a lock but for a slow wander that the pilot loop leaves.
    private func phase(_ time: UInt64) -> Double { streams.phase(input.locks) + 0.01 * sin(Double(time) * 1e-9 * 0.3) }
}
