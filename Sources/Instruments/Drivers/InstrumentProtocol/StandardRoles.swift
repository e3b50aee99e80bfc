// The two roles of the instrument protocol, 1.5 and 1.6.

import QKDModel

final class StandardTransmitter: StandardModule, QuantumTransmitter, @unchecked Sendable {
    static func open(_ context: ModuleContext) async throws -> StandardTransmitter { try await StandardTransmitter(context) }

    private init(_ context: ModuleContext) async throws { try await super.init(context, role: .transmitter) }

    func setPath(_ name: String) async throws {
        guard capabilities.paths.contains(name) else {
            throw InstrumentError.outOfRange(what: "path", value: name, allowed: capabilities.paths.joined(separator: ", "))
        }
        try await scpi.run("ROUTe:PATH \(SCPIText.quoted(name))")
    }

    func path() async throws -> String { try await scpi.string("ROUTe:PATH?") }
    func pathSettled() async throws -> Bool { try await scpi.boolean("ROUTe:SETTled?") }

    func setModulationVariance(_ variance: Double) async throws {
        guard (0...20).contains(variance) else {
            throw InstrumentError.outOfRange(what: "modulation variance", value: "\(variance)", allowed: "0 to 20 SNU")
        }
        try await scpi.run("SOURce:MODulation:VARiance \(variance)")
    }

    func modulationVariance() async throws -> Double { try await scpi.number("SOURce:MODulation:VARiance?", in: 0...20) }
    func setOutput(_ isOn: Bool) async throws { try await scpi.run("OUTPut:STATe \(isOn ? "ON" : "OFF")") }

    func setPilot(_ isOn: Bool, ratio decibels: Double?) async throws {
        if let decibels { try await scpi.run("SOURce:PILot:RATio \(decibels)") }
        try await scpi.run("SOURce:PILot:STATe \(isOn ? "ON" : "OFF")")
    }

    func setFrequency(_ hertz: Double) async throws { try await scpi.run("SOURce:OPTical:FREQuency \(hertz)") }
    func frequency() async throws -> Double { try await scpi.number("SOURce:OPTical:FREQuency?", in: 1e13...1e15) }
}

final class StandardReceiver: StandardModule, QuantumReceiver, @unchecked Sendable {
    static func open(_ context: ModuleContext) async throws -> StandardReceiver { try await StandardReceiver(context) }

    private init(_ context: ModuleContext) async throws { try await super.init(context, role: .receiver) }

    func setLocalOscillator(_ isOn: Bool) async throws { try await scpi.run("INPut:LOSCillator:STATe \(isOn ? "ON" : "OFF")") }
    func setShutter(closed: Bool) async throws { try await scpi.run("INPut:SHUTter:STATe \(closed ? "ON" : "OFF")") }
    func pilotLocked() async throws -> Bool { try await scpi.boolean("INPut:PILot:LOCK?") }
    func relock() async throws { try await scpi.run("INPut:PILot:RELock") }

    func efficiency() async throws -> (eta: Double, sigma: Double) {
        let values = try await scpi.numbers("INPut:EFFiciency?", count: 2...2, in: 0...1)
        return (values[0], values[1])
    }

    func fullScale() async throws -> Int { try await scpi.integer("INPut:RANGe?", in: 1...32768) }
}
