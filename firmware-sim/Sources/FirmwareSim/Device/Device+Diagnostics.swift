// Optical spectrum and reflectometry as a lab would see them (the paper's Figure 4).

internal import Foundation
internal import QKDModel
internal import QuantumOptics

extension Device {
    /// Pilot power in dBm at the fibre's input, chosen so that it stands `pilotDB` above shot noise behind 13 dB.
    private var pilotLaunchDBm: Double { -79 + source.pilotDB }

    private var pathInUse: PathOptics? {
        role == .transmitter ? setting.paths[source.path] : setting.paths.first
    }

    /// Total power of what this device looks at, dBm.
    func opticalPowerDBm(_ moment: Moment) -> Double {
        if role == .transmitter { return source.output ? pilotLaunchDBm : -80 }
        return Constants.dBm(watts: lines().reduce(Constants.watts(dBm: -80)) { $0 + Constants.watts(dBm: $1.powerDBm) })
    }

    // MARK: - Spectrum

    private struct Line {
        var frequencyHz: Double
        var powerDBm: Double
        var widthNM: Double
    }

    /// Classical channels and pilot where this device looks: at the fibre's input or at its end.
    private func lines() -> [Line] {
        guard let path = pathInUse else { return [] }
        var lines: [Line] = []
        let loss = role == .transmitter ? 0 : pathLossDB
        if let plan = path.plan?.raised(byDB: fault(.classicalSurge) ?? 0) {
            let classicalLoss = role == .transmitter ? 0 : path.spans.filter(\.carriesClassical).loss.value + (loss - path.spans.loss.value)
            for (index, frequency) in plan.frequenciesHz.enumerated() {
                // Transponders are not levelled to better than a few dB.
                let level = plan.channelPowerDBm - classicalLoss + 1.5 * streams.traceNoise(UInt64(index)).clamped(to: -2...2)
                lines.append(Line(frequencyHz: frequency, powerDBm: level, widthNM: 0.06))
            }
        }
        let pilot: Double? =
            role == .transmitter ? (source.output && source.pilot ? pilotLaunchDBm : nil) : light.pilotDB.map { -79 + $0 - loss }
        if let pilot {
            lines.append(Line(frequencyHz: setting.plan.quantumHz + setting.plan.pilotOffsetHz, powerDBm: pilot, widthNM: 0.0))
        }
        return lines
    }

    /// `<start nm>,<stop nm>,<points>`: Float32 powers in dBm at .1 nm resolution over a floor of -75 dBm.
    func spectrum(_ arguments: Arguments, _ moment: Moment) throws(SCPIError) -> Outcome {
        let start = try arguments.number(0, in: 1200...1700, units: ["NM": 1])
        let stop = try arguments.number(1, in: 1200...1700, units: ["NM": 1])
        let points = Int(try arguments.whole(2, in: 2...100_000))
        guard stop > start else { throw SCPIError(-222, "stop must lie beyond start") }
        let lines = lines()
        let sweep = deviceTime(moment.time) / 1_000_000_000
        let values = (0..<points).map { index -> Float in
            let wavelength = start + (stop - start) * Double(index) / Double(points - 1)
            var power = Constants.watts(dBm: -75 + 0.8 * streams.traceNoise(1000 + sweep &* 131_072 + UInt64(index)))
            for line in lines {
                // The slit (.1 nm) and the modulation's own width, both near Gaussian.
                let sigma = (0.1 * 0.1 / 5.545 + line.widthNM * line.widthNM).squareRoot()
                let offset = (wavelength - Constants.wavelengthNM(frequencyHz: line.frequencyHz)) / sigma
                if abs(offset) < 12 { power += Constants.watts(dBm: line.powerDBm) * exp(-offset * offset / 2) }
            }
            return Float(Constants.dBm(watts: power))
        }
        return .block(values.littleEndianBytes)
    }

    // MARK: - Reflectometry

    private struct Event {
        var atKm: Double
        var lossDB: Double
        var spikeDB: Double
    }

    /// Float32 pairs (km, dB) every 5 m of the path looped back at its far end: mirrored about it, with twice its loss.
    func reflectometry() -> Outcome {
        guard let path = pathInUse else { return .block([]) }
        var events: [Event] = []
        var slopes: [(until: Double, dBPerKm: Double)] = []
        var at = 0.0
        for span in path.spans {
            events += span.lumped.map { Event(atKm: at + $0.atKm, lossDB: $0.loss.value, spikeDB: $0.reflectionDB) }
            at += span.lengthKm
            slopes.append((at, span.attenuation))
        }
        let length = at
        if let added = fault(.addedLoss) { events.append(Event(atKm: length * 0.4, lossDB: added, spikeDB: 0)) }
        let cut = fault(.fibreCut) != nil ? length * 0.4 : nil
        let mirrored = events.map { Event(atKm: 2 * length - $0.atKm, lossDB: $0.lossDB, spikeDB: $0.spikeDB) }
        slopes += slopes.reversed().map { (2 * length - $0.until, $0.dBPerKm) }
        return .block(trace(length: length, events: events + mirrored, spans: path.spans, cut: cut).littleEndianBytes)
    }

    private func trace(length: Double, events: [Event], spans: [FibreSpan], cut: Double?) -> [Float] {
        let pulse = 0.01  // km: 100 ns
        var values: [Float] = []
        var level = 0.0
        let stepKm = length > 10 ? 0.02 : 0.005
        let count = Int((2 * length + 0.5) / stepKm)
        for index in 0..<count {
            let km = Double(index) * stepKm
            let inside = km <= 2 * length && (cut.map { km < $0 } ?? true)
            level -= inside ? attenuation(at: km <= length ? km : 2 * length - km, spans) * stepKm : 0
            for event in events where event.atKm > km - stepKm && event.atKm <= km { level -= inside ? event.lossDB : 0 }
            var value = inside ? level : -30 + 2 * streams.traceNoise(500_000 + UInt64(index))
            for event in events where inside && km >= event.atKm && km < event.atKm + 3 * pulse && event.spikeDB > 0 {
                value += event.spikeDB * exp(-(km - event.atKm) / pulse)
            }
            // The loop-back connector at the far end is the big spike in the middle, the open end the last one.
            for end in [length, 2 * length] where km >= end && km < end + 3 * pulse && cut == nil {
                value = max(value, level + 14 * exp(-(km - end) / pulse))
            }
            value += 0.02 * streams.traceNoise(400_000 + UInt64(index)) * pow(10, max(0, -level - 8) / 10)
            values += [Float(km), Float(value)]
        }
        return values
    }

    private func attenuation(at km: Double, _ spans: [FibreSpan]) -> Double {
        var end = 0.0
        for span in spans {
            end += span.lengthKm
            if km <= end { return span.attenuation }
        }
        return spans.last?.attenuation ?? 0
    }
}

extension Double {
    fileprivate func clamped(to range: ClosedRange<Double>) -> Double { Swift.min(Swift.max(self, range.lowerBound), range.upperBound) }
}

extension [Float] {
    fileprivate var littleEndianBytes: [UInt8] {
        flatMap { value -> [UInt8] in Swift.withUnsafeBytes(of: value.bitPattern.littleEndian) { [UInt8]($0) } }
    }
}
