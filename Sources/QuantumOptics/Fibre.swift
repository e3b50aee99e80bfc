// Passive optics between two sites.

public import QKDModel
internal import Foundation

/// One lumped loss on a fibre: a connector, a patch panel, a passive element of a site on the way.
public struct LumpedLoss: Sendable, Equatable, Codable {
    /// Distance from the fibre's beginning in km.
    public var atKm: Double
    public var loss: Decibels
    /// Height of its spike in an OTDR trace, dB above the backscatter.
    public var reflectionDB: Double

    public init(atKm: Double, loss: Decibels, reflectionDB: Double = 6) {
        self.atKm = atKm
        self.loss = loss
        self.reflectionDB = reflectionDB
    }
}

/// A run of fibre: distributed attenuation and lumped losses.
public struct FibreSpan: Sendable, Equatable, Codable {
    public var name: String
    public var lengthKm: Double
    /// dB per km.
    public var attenuation: Double
    public var lumped: [LumpedLoss]
    /// Whether the classical channels travel here too (a spool outside the multiplexers does not carry them).
    public var carriesClassical: Bool

    public init(name: String, lengthKm: Double, attenuation: Double = 0.2, lumped: [LumpedLoss] = [], carriesClassical: Bool = true) {
        self.name = name
        self.lengthKm = lengthKm
        self.attenuation = attenuation
        self.lumped = lumped
        self.carriesClassical = carriesClassical
    }

    /// Loss from end to end.
    public var loss: Decibels { lumped.reduce(Decibels(attenuation * lengthKm)) { $0 + $1.loss } }
    /// Attenuation in 1/km, as exponents want it.
    public var attenuationPerKm: Double { attenuation * log(10) / 10 }
    /// Time of flight in seconds.
    public var delay: Double { lengthKm * 1e3 * Constants.fibreGroupIndex / Constants.speedOfLight }
}

extension [FibreSpan] {
    /// Loss of all spans in a row.
    public var loss: Decibels { reduce(Decibels(0)) { $0 + $1.loss } }
    public var lengthKm: Double { reduce(0) { $0 + $1.lengthKm } }
    /// Time of flight in seconds.
    public var delay: Double { reduce(0) { $0 + $1.delay } }
}
