// What the devices' optical spectrum analysers see, in a few figures for whoever plans the fibres.

public import Foundation
internal import Instruments
internal import Logging
public import QKDModel

/// An optical spectrum as a coexistence plan needs it: which channels of the grid have light, and what is between them.
public struct SpectrumSummary: Sendable, Equatable {
    public struct Peak: Sendable, Equatable {
        public var channel: GridChannel
        /// dBm, over the channel.
        public var power: Double
    }

    public var measured: Date
    /// dBm, over the whole span.
    public var totalPower: Double
    /// dBm per resolution bandwidth (.1 nm): the median between occupied channels.
    public var noiseFloor: Double
    /// Occupied channels, by number.
    public var peaks: [Peak]

    /// nm, a Gaussian slit of .1 nm: the width of the rectangle of the same area.
    private static let slit = 0.1 * 1.0645
    /// A channel is occupied where it stands so many dB above the floor.
    private static let significance = 6.0

    /// - Returns: nil for a spectrum of nothing.
    init?(_ spectrum: Spectrum, at moment: Date) {
        let powers = spectrum.powers.map(Double.init).filter(\.isFinite)
        guard powers.count == spectrum.powers.count, powers.count >= 2, spectrum.stop > spectrum.start else { return nil }
        let step = (spectrum.stop - spectrum.start) / Double(powers.count - 1)
        func sum(_ indices: some Sequence<Int>) -> Double {
            10 * log10(max(indices.reduce(0) { $0 + pow(10, powers[$1] / 10) } * step / Self.slit, 1e-30))
        }
        let rough = powers.sorted()[powers.count / 2]
        let byChannel = Dictionary(grouping: powers.indices) { GridChannel.nearest(nanometres: spectrum.wavelength($0)) }
        let occupied = byChannel.filter { _, indices in indices.contains { powers[$0] > rough + Self.significance } }
        let free = powers.indices.filter { powers[$0] <= rough + Self.significance }.map { powers[$0] }.sorted()
        measured = moment
        totalPower = sum(powers.indices)
        noiseFloor = free.isEmpty ? rough : free[free.count / 2]
        peaks = occupied.map { Peak(channel: $0, power: sum($1)) }.sorted { $0.channel < $1.channel }
    }
}

extension LinkService {
    private static let spectrumEvery = Duration.seconds(60)

    /// Until cancelled: one look through each open device's analyser a minute. A device without one is not asked again until it is
    /// opened anew.
    func watchSpectra() async {
        var without: [String: ObjectIdentifier] = [:]
        var due: [String: ContinuousClock.Instant] = [:]
        repeat {
            for device in configuration.devices {
                guard let module = try? await module(device.name)?.module() else {
                    due[device.name] = nil
                    continue
                }
                guard without[device.name] != ObjectIdentifier(module), due[device.name].map({ $0 <= .now }) ?? true else { continue }
                due[device.name] = .now + Self.spectrumEvery
                if await !look(through: module, of: device.name) { without[device.name] = ObjectIdentifier(module) }
            }
        } while (try? await Task.sleep(for: .seconds(1))) != nil
    }

    /// - Returns: false where the device has no analyser.
    private func look(through module: any QKDModule, of device: String) async -> Bool {
        let range = module.capabilities.wavelengths
        guard range.count == 2, range[0] < range[1], range[1] - range[0] <= 200 else { return false }
        // Points as far apart as the slit is wide.
        let points = max(2, Int((range[1] - range[0]) / 0.1) + 1)
        do {
            let spectrum = try await module.spectrum(from: range[0], to: range[1], points: points)
            spectra[device] = SpectrumSummary(spectrum, at: Date())
            return true
        } catch InstrumentError.refused {
            logger.info("has no optical spectrum analyser", metadata: ["device": "\(device)", "kind": "device"])
            return false
        } catch {
            return true
        }
    }
}
