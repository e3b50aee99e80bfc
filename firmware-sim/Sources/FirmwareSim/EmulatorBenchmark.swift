// How fast symbols can be made.

internal import Dispatch
internal import QKDModel
internal import QuantumOptics

/// Throughput of the emulator on this machine.
public enum EmulatorBenchmark {
    /// Symbols per second of one core for the whole chain: one transmitter and one lit receiver, frames with check sums,
    /// rings, devices in virtual time.
    ///
    /// - Parameter symbols: how many symbols each of the two shall produce.
    public static func run(symbols: Int) throws(FirmwareSimError) -> Double {
        let testbed = VirtualTestbed(configuration)
        let transmitter = try testbed.device("TX")
        let receiver = try testbed.device("RX")
        testbed.advance(seconds: 0.1)
        try transmitter.order("OUTP:STAT ON;:SOUR:MOD:VAR 1.7")
        try receiver.order("INP:LOSC:STAT ON;:INP:SHUT:STAT OFF")
        testbed.advance(seconds: 0.1)
        try transmitter.order("ACQ:STAR")
        try receiver.order("ACQ:STAR")
        let started = DispatchTime.now().uptimeNanoseconds
        let steps = max(1, symbols / 65_536)
        for _ in 0..<steps {
            testbed.step()
            transmitter.release(through: .max)
            receiver.release(through: .max)
        }
        let seconds = Double(DispatchTime.now().uptimeNanoseconds - started) * 1e-9
        return Double(steps * 65_536) / seconds
    }

    private static var configuration: TestbedConfiguration {
        let plan = WDMPlan(firstChannelHz: 194.45e12, gridHz: 100e9, channelCount: 17, channelPowerDBm: -7, quantumHz: 193.4e12)
        var configuration = TestbedConfiguration(plan: plan)
        configuration.sites = ["a", "b"]
        let span = FibreSpan(name: "fibre", lengthKm: 3.9, lumped: [LumpedLoss(atKm: 0, loss: Decibels(5.22))])
        configuration.fibres = [
            FibreConfiguration(name: "fibre", from: "a", to: "b", spans: [span], classicalPowerDBm: -7, quantum: true)
        ]
        var transmitter = DeviceConfiguration(serial: DeviceSerial(unchecked: "TX"), role: .transmitter, site: "a")
        transmitter.transmitter.paths = [PathConfiguration(name: "P", fibres: ["fibre"], receiver: "RX")]
        let receiver = DeviceConfiguration(serial: DeviceSerial(unchecked: "RX"), role: .receiver, site: "b")
        configuration.devices = [transmitter, receiver].map { device in
            var quick = device
            quick.bootS = 0
            quick.warmupS = 0
            quick.symbolRatesHz = [configuration.symbolRateHz]
            quick.calibrations = device.role == .receiver ? [.lock: .init(symbols: 0, durationS: 0.05, validityS: 3600)] : [:]
            return quick
        }
        return configuration
    }
}
