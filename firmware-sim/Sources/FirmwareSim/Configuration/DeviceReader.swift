// One entry of `devices:` in a testbed file.

internal import QKDModel

struct DeviceReader {
    private let item: StrictMapping
    private let testbed: TestbedConfiguration

    init(_ item: StrictMapping, testbed: TestbedConfiguration) {
        self.item = item
        self.testbed = testbed
    }

    func read() throws(FirmwareSimError) -> DeviceConfiguration {
        var device = try readIdentity()
        device.bootS = try item.double("boot_s", in: 0...3600, default: device.bootS)
        device.warmupS = try item.double("warmup_s", in: 0...7200, default: device.warmupS)
        device.frameSymbols = try readFrameSymbols(default: device.frameSymbols)
        device.ringFrames = try item.int("ring_frames", in: 2...4096, default: device.ringFrames)
        device.symbolRatesHz = try readRates()
        device.endpoints = try readEndpoints()
        device.calibrations = try readCalibrations(device.role)
        if let slow = try item.mapping("temperature") { device.temperature = try readTemperature(slow) }
        switch device.role {
        case .transmitter: device.transmitter = try readTransmitter()
        case .receiver: device.receiver = try readReceiver()
        }
        try item.finish()
        return device
    }

    private func readIdentity() throws(FirmwareSimError) -> DeviceConfiguration {
        let serialText = try item.string("serial")
        guard let serial = DeviceSerial(rawValue: serialText) else {
            throw item.failure("serial", "'\(serialText)' must be 1 to 64 letters, digits, '-', '_', '.' or ':'")
        }
        let roleText = try item.string("role")
        guard let role = DeviceRole(rawValue: roleText.uppercased()) else { throw item.failure("role", "must be transmitter or receiver") }
        let site = try item.string("site")
        guard testbed.sites.contains(site) else { throw item.failure("site", "names no site: '\(site)'") }
        var device = DeviceConfiguration(serial: serial, role: role, site: site)
        device.maker = try readWord("maker", default: device.maker)
        device.model = try readWord("model", default: role == .transmitter ? "CVTX-1" : "CVRX-1")
        device.firmware = try readWord("firmware", default: device.firmware)
        return device
    }

    /// `*IDN?` separates its fields by commas.
    private func readWord(_ key: String, default value: String) throws(FirmwareSimError) -> String {
        let text = try item.string(key, default: value)
        guard text.count <= 24, text.allSatisfy({ $0.isASCII && $0 != "," && $0 != ";" && !$0.isNewline }) else {
            throw item.failure(key, "must be at most 24 plain characters without ',' or ';'")
        }
        return text
    }

    private func readFrameSymbols(default value: Int) throws(FirmwareSimError) -> Int {
        let symbols = try item.int("frame_symbols", in: 1024...262_144, default: value)
        guard symbols & (symbols - 1) == 0 else { throw item.failure("frame_symbols", "must be a power of two") }
        return symbols
    }

    private func readRates() throws(FirmwareSimError) -> [Int] {
        var rates: [Int] = []
        for text in try item.strings("symbol_rates_hz") {
            guard let value = Double(text.filter { $0 != "_" }), value >= 1000, testbed.symbolRateHz % max(1, Int(value)) == 0 else {
                throw item.failure("symbol_rates_hz", "'\(text)' does not divide symbol_rate_hz (\(testbed.symbolRateHz))")
            }
            rates.append(Int(value))
        }
        return rates.isEmpty ? [testbed.symbolRateHz] : rates
    }

    private func readEndpoints() throws(FirmwareSimError) -> [EndpointConfiguration] {
        var endpoints: [EndpointConfiguration] = []
        for entry in try item.list("endpoints") {
            switch try entry.string("transport") {
            case "tcp":
                endpoints.append(
                    .tcp(
                        host: try entry.string("host", default: "127.0.0.1"), port: try entry.int("port", in: 0...65535, default: 0),
                        dataPort: try entry.int("data_port", in: 0...65535, default: 0)))
            case "pty": endpoints.append(.pty(link: entry.has("link") ? try entry.string("link") : nil))
            case "usb": endpoints.append(try readUSB(entry))
            case let other: throw entry.failure("transport", "'\(other)' must be tcp, pty or usb")
            }
            try entry.finish()
        }
        return endpoints.isEmpty ? [.tcp(host: "127.0.0.1", port: 0, dataPort: 0)] : endpoints
    }

    private func readUSB(_ entry: StrictMapping) throws(FirmwareSimError) -> EndpointConfiguration {
        let name = try entry.string("speed", default: USBSpeed.high.rawValue)
        guard let speed = USBSpeed(rawValue: name) else { throw entry.failure("speed", "'\(name)' must be high or super") }
        return .usb(
            host: try entry.string("host", default: "127.0.0.1"), port: try entry.int("port", in: 0...65535, default: 3240), speed: speed)
    }

    private func readCalibrations(_ role: DeviceRole) throws(FirmwareSimError) -> [CalibrationKind: CalibrationConfiguration] {
        var kinds: [CalibrationKind: CalibrationConfiguration] = [
            .dark: .init(symbols: 5_000_000, durationS: 0, validityS: 3600),
            .shot: .init(symbols: 10_000_000, durationS: 0, validityS: 600),
            .lock: .init(symbols: 0, durationS: 3, validityS: 3600), .bias: .init(symbols: 0, durationS: 5, validityS: 3600),
        ].filter { $0.key.role == role }
        guard let section = try item.mapping("calibrations") else { return kinds }
        for (kind, standard) in kinds {
            guard let entry = try section.mapping(kind.rawValue.lowercased()) else { continue }
            kinds[kind] = CalibrationConfiguration(
                symbols: kind.hasFrames ? try entry.int("symbols", in: 1...10_000_000_000, default: standard.symbols) : 0,
                durationS: kind.hasFrames ? 0 : try entry.double("duration_s", in: 0...3600, default: standard.durationS),
                validityS: try entry.double("validity_s", in: 1...1e7, default: standard.validityS))
            try entry.finish()
        }
        try section.finish()
        return kinds
    }

    private func readTemperature(_ entry: StrictMapping) throws(FirmwareSimError) -> TemperatureConfiguration {
        var value = TemperatureConfiguration()
        value.meanC = try entry.double("mean_c", in: -40...100, default: value.meanC)
        value.swingK = try entry.double("swing_k", in: 0...50, default: value.swingK)
        value.periodS = try entry.double("period_s", in: 1...1e6, default: value.periodS)
        try entry.finish()
        return value
    }

    private func readTransmitter() throws(FirmwareSimError) -> TransmitterConfiguration {
        var value = TransmitterConfiguration()
        value.sigmaLSB = try item.double("modulation_sigma_lsb", in: 64...8000, default: value.sigmaLSB)
        value.limitLSB = try item.int("modulation_limit_lsb", in: 256...32767, default: value.limitLSB)
        guard Double(value.limitLSB) >= 4 * value.sigmaLSB else {
            throw item.failure("modulation_limit_lsb", "must be at least 4 standard deviations (\(4 * value.sigmaLSB))")
        }
        value.excessNoiseSNU = try item.double("excess_noise_snu", in: 0...1, default: value.excessNoiseSNU)
        value.switchS = try item.double("path_switch_s", in: 0...60, default: value.switchS)
        value.biasDriftPerHour = try item.double("bias_drift_per_hour", in: -1...1, default: value.biasDriftPerHour)
        value.pilotDB = try item.double("pilot_db", in: 0...60, default: value.pilotDB)
        for entry in try item.list("paths") {
            value.paths.append(
                PathConfiguration(
                    name: try entry.string("name"), fibres: try entry.strings("fibres"), receiver: try entry.string("receiver")))
            try entry.finish()
        }
        guard !value.paths.isEmpty else { throw item.failure("paths", "must name at least one optical path") }
        return value
    }

    private func readReceiver() throws(FirmwareSimError) -> ReceiverConfiguration {
        var value = ReceiverConfiguration()
        value.efficiency = try item.double("efficiency", in: 0.01...1, default: value.efficiency)
        value.efficiencySigma = try item.double("efficiency_sigma", in: 0...0.5, default: value.efficiencySigma)
        value.electronicNoiseSNU = try item.double("electronic_noise_snu", in: 0...10, default: value.electronicNoiseSNU)
        value.shotNoiseSigmaLSB = try item.double("shot_noise_sigma_lsb", in: 4...8000, default: value.shotNoiseSigmaLSB)
        value.adcBits = try item.int("adc_bits", in: 6...16, default: value.adcBits)
        value.voltsPerLSB = try item.double("volts_per_lsb", in: 1e-9...10, default: value.voltsPerLSB)
        value.phaseVarianceRad2 = try item.double("phase_variance_rad2", in: 0...1, default: value.phaseVarianceRad2)
        value.relockS = try item.double("relock_s", in: 0...60, default: value.relockS)
        value.lockThresholdDB = try item.double("lock_threshold_db", in: -20...60, default: value.lockThresholdDB)
        value.gainPerKelvin = try item.double("gain_per_kelvin", in: -0.1...0.1, default: value.gainPerKelvin)
        value.loPowerPerHour = try item.double("lo_power_per_hour", in: -1...1, default: value.loPowerPerHour)
        value.loPowerPerKelvin = try item.double("lo_power_per_kelvin", in: -0.1...0.1, default: value.loPowerPerKelvin)
        value.polarisationRadPerS = try item.double("polarisation_rad_per_s", in: 0...10, default: value.polarisationRadPerS)
        return value
    }
}
