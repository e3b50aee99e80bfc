// The physics of a coherent-state link as numbers in, numbers out: fibre and its losses (`FibreSpan`), the classical
// channels that share it (`WDMPlan`) and the light that they scatter into the quantum channel (Raman, four-wave
// mixing), heterodyne detection (`HeterodyneDetector`), and the seeded streams from which modulation and noise are
// drawn (`SymbolStream`, `Reception`). `KeyRate` holds the secret-key bounds.
//
// Units: noise in shot-noise units (SNU: the variance of vacuum in one heterodyne quadrature is 1), powers in dBm or
// W, lengths in km, frequencies in Hz, every one named. Nothing here keeps state, reads a clock or does I/O.
//
// Sources: Laudenbach et al., "Continuous-variable QKD with Gaussian modulation" (2018); Eraerds et al., "Quantum key
// distribution and 1 Gbps data encryption over a single fibre" (2010) for Raman; Agrawal, "Nonlinear Fiber Optics" for
// four-wave mixing; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011) for the generator.

internal import Foundation

/// What can be wrong with numbers handed to this module.
public enum QuantumOpticsError: Error, Equatable, CustomStringConvertible {
    case outOfRange(quantity: String, value: Double, allowed: String)

    public var description: String {
        switch self {
        case .outOfRange(let quantity, let value, let allowed): "\(quantity) is \(value); it must be \(allowed)"
        }
    }
}

/// Constants of nature and of standard fibre.
public enum Constants {
    /// m/s.
    public static let speedOfLight = 299_792_458.0
    /// J s.
    public static let planck = 6.626_070_15e-34
    /// Group index of standard single-mode fibre near 1550 nm: light takes 4.9 us per km.
    public static let fibreGroupIndex = 1.468

    /// Wavelength in nm of an optical frequency in Hz.
    public static func wavelengthNM(frequencyHz: Double) -> Double { speedOfLight / frequencyHz * 1e9 }
    /// Frequency in Hz of a vacuum wavelength in nm.
    public static func frequencyHz(wavelengthNM: Double) -> Double { speedOfLight / (wavelengthNM * 1e-9) }
    /// W of a power in dBm.
    public static func watts(dBm: Double) -> Double { 1e-3 * pow(10, dBm / 10) }
    /// dBm of a power in W; -200 for nothing.
    public static func dBm(watts: Double) -> Double { watts > 1e-23 ? 10 * log10(watts / 1e-3) : -200 }
}
