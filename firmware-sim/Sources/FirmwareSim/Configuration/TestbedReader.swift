// From the YAML of a testbed file to `TestbedConfiguration`. firmware-sim/testbeds/madrid.yaml shows every key.

internal import Foundation
internal import QKDModel
internal import QuantumOptics

extension TestbedConfiguration {
    /// Reads and checks a testbed file.
    /// - Throws: `FirmwareSimError.unreadable` or `.badTestbed`, which names file, line and key.
    public init(file path: String) throws(FirmwareSimError) {
        let text: String
        do {
            text = try String(contentsOfFile: path, encoding: .utf8)
        } catch {
            throw .unreadable(file: path, reason: error.localizedDescription)
        }
        try self.init(yaml: text, file: URL(fileURLWithPath: path).lastPathComponent)
    }

    /// The same from text; `file` is what errors call it.
    public init(yaml text: String, file: String = "testbed") throws(FirmwareSimError) {
        let root = try StrictMapping.parse(text, file: file)
        self.init(plan: try Self.readPlan(root))
        name = try root.string("testbed")
        seed = UInt64(try root.int("seed", in: 0...(1 << 53), default: 1))
        symbolRateHz = try root.int("symbol_rate_hz", in: 1000...1_000_000_000, default: symbolRateHz)
        utcStartS = UInt64(try root.int("utc_start_s", in: 0...(1 << 34), default: Int(utcStartS)))
        guard root.has("sites") else { throw root.failure("sites", "is missing: a list of the places where fibres end and devices stand") }
        sites = try root.strings("sites")
        for item in try root.list("fibres") { fibres.append(try readFibre(item)) }
        for item in try root.list("devices") { devices.append(try DeviceReader(item, testbed: self).read()) }
        guard !devices.isEmpty else { throw root.failure("devices", root.has("devices") ? "is empty" : "is missing") }
        try checkNames(root)
        if let conflict = portConflict { throw root.failure("devices", conflict) }
        for item in try root.list("links") { links.append(try readLink(item)) }
        for item in try root.list("timeline") { timeline.append(try readEvent(item)) }
        try root.finish()
    }

    private static func readPlan(_ root: StrictMapping) throws(FirmwareSimError) -> WDMPlan {
        guard let item = try root.mapping("classical") else { throw root.failure("classical", "is missing") }
        let plan = WDMPlan(
            firstChannelHz: try item.double("first_channel_thz", in: 180...205) * 1e12,
            gridHz: try item.double("grid_ghz", in: 12.5...400) * 1e9,
            channelCount: try item.int("channels", in: 0...96),
            channelPowerDBm: try item.double("power_dbm", in: -60...20),
            channelBandwidthHz: try item.double("bandwidth_ghz", in: 1...200, default: 32) * 1e9,
            quantumHz: try item.double("quantum_thz", in: 180...205) * 1e12,
            pilotOffsetHz: try item.double("pilot_offset_mhz", in: -5000...5000, default: 20) * 1e6)
        try item.finish()
        return plan
    }

    private func readFibre(_ item: StrictMapping) throws(FirmwareSimError) -> FibreConfiguration {
        let name = try item.string("name")
        let from = try readSite(item, "from")
        let to = try readSite(item, "to")
        guard from != to else { throw item.failure("to", "is '\(to)', where fibre '\(name)' begins: a fibre joins two sites") }
        let span = try readSpan(item, name: name)
        var spans = [span]
        for spool in try item.list("spools") {
            var extra = try readSpan(spool, name: spool.string("name"))
            extra.carriesClassical = try spool.bool("carries_classical", default: false)
            try spool.finish()
            spans.append(extra)
        }
        let power = item.has("classical_power_dbm") ? try item.double("classical_power_dbm", in: -60...20) : plan.channelPowerDBm
        let fibre = FibreConfiguration(
            name: name, from: from, to: to, spans: spans,
            classicalPowerDBm: try item.bool("classical", default: true) ? power : nil,
            quantum: try item.bool("quantum", default: true))
        try item.finish()
        return fibre
    }

    private func readSite(_ item: StrictMapping, _ key: String) throws(FirmwareSimError) -> String {
        let site = try item.string(key)
        guard sites.contains(site) else { throw item.failure(key, "names no site: '\(site)'; sites are \(sites.joined(separator: ", "))") }
        return site
    }

    /// Length, attenuation and lumped losses, which must add up to `loss_db`.
    private func readSpan(_ item: StrictMapping, name: String) throws(FirmwareSimError) -> FibreSpan {
        var span = FibreSpan(
            name: name, lengthKm: try item.double("length_km", in: 0...500),
            attenuation: try item.double("attenuation_db_per_km", in: 0...2, default: 0.2))
        for lump in try item.list("connectors") {
            span.lumped.append(
                LumpedLoss(
                    atKm: try lump.double("at_km", in: 0...span.lengthKm), loss: Decibels(try lump.double("loss_db", in: 0...60)),
                    reflectionDB: try lump.double("reflection_db", in: 0...60, default: 6)))
            try lump.finish()
        }
        let total = try item.double("loss_db", in: 0...100)
        guard abs(total - span.loss.value) < 0.01 else {
            throw item.failure("loss_db", "is \(total), but attenuation and connectors add up to \(span.loss.value)")
        }
        return span
    }

    private func readLink(_ item: StrictMapping) throws(FirmwareSimError) -> LinkConfiguration {
        let link = LinkConfiguration(
            name: try item.string("name"), transmitter: try item.string("transmitter"), receiver: try item.string("receiver"),
            path: try item.string("path"), lossDB: try item.double("loss_db", in: 0...60),
            code: item.has("code") ? try item.string("code") : nil,
            efficiency: item.has("efficiency") ? try item.double("efficiency", in: 0.5...1) : nil,
            blockSymbols: try item.int("block_symbols", in: 1...100_000_000_000),
            slotSymbols: try item.int("slot_symbols", in: 1...100_000_000_000), weight: try item.double("weight", in: 0.001...1e6),
            referenceKeyRateBps: item.has("reference_key_rate_bps") ? try item.double("reference_key_rate_bps", in: 0...1e12) : nil)
        try item.finish()
        guard !links.contains(where: { $0.name == link.name }) else { throw item.failure("name", "'\(link.name)' is used twice") }
        guard let transmitter = device(link.transmitter), transmitter.role == .transmitter else {
            throw item.failure("transmitter", "names no transmitter: '\(link.transmitter)'")
        }
        guard let receiver = device(link.receiver), receiver.role == .receiver else {
            throw item.failure("receiver", "names no receiver: '\(link.receiver)'")
        }
        guard let path = transmitter.transmitter.paths.first(where: { $0.name == link.path }), path.receiver == link.receiver else {
            throw item.failure("path", "'\(link.path)' is no path of \(link.transmitter) to \(link.receiver)")
        }
        let loss = path.fibres.compactMap(fibre).flatMap(\.spans).loss.value
        guard abs(loss - link.lossDB) < 0.05 else { throw item.failure("loss_db", "is \(link.lossDB), but the path's fibres have \(loss)") }
        return link
    }

    private func readEvent(_ item: StrictMapping) throws(FirmwareSimError) -> TimelineEntry {
        let name = try item.string("fault")
        guard let fault = FaultKind(rawValue: name) else {
            throw item.failure("fault", "'\(name)' is none of \(FaultKind.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        let event = TimelineEntry(
            atS: try item.double("at_s", in: 0...1e9), device: try item.string("device"), fault: fault,
            value: item.has("value") ? try item.double("value", in: -1e9...1e9) : nil,
            forS: item.has("for_s") ? try item.double("for_s", in: 0...1e9) : nil)
        try item.finish()
        if event.value == nil, fault.needsValue { throw item.failure("value", "is missing: '\(name)' needs it, \(fault.values.words)") }
        if let value = event.value, !fault.values.allow(value) {
            throw item.failure("value", "must be \(fault.values.words) for '\(name)'")
        }
        guard let target = device(event.device) else { throw item.failure("device", "names no device: '\(event.device)'") }
        guard !fault.receiverOnly || target.role == .receiver else { throw item.failure("fault", "'\(name)' needs a receiver") }
        guard !fault.usbOnly || target.hasUSB else { throw item.failure("fault", "'\(name)' needs a device on USB") }
        return event
    }

    /// Names that are used twice, and paths that lead nowhere.
    private func checkNames(_ root: StrictMapping) throws(FirmwareSimError) {
        for (key, names) in [
            ("sites", sites), ("fibres", fibres.map(\.name)), ("devices", devices.map(\.serial.rawValue)),
        ] {
            if let twice = names.first(where: { name in names.filter { $0 == name }.count > 1 }) {
                throw root.failure(key, "uses the name '\(twice)' twice")
            }
        }
        for device in devices {
            for path in device.transmitter.paths {
                guard let receiver = self.device(path.receiver), receiver.role == .receiver else {
                    throw root.failure("devices", "path \(path.name) of \(device.serial) names no receiver: '\(path.receiver)'")
                }
                try checkRoute(path, from: device, to: receiver, root)
            }
        }
    }

    /// The fibres of a path follow each other from the transmitter's site to the receiver's.
    private func checkRoute(
        _ path: PathConfiguration, from device: DeviceConfiguration, to receiver: DeviceConfiguration, _ root: StrictMapping
    ) throws(FirmwareSimError) {
        func wrong(_ reason: String) -> FirmwareSimError { root.failure("devices", "path \(path.name) of \(device.serial)\(reason)") }
        var site = device.site
        for name in path.fibres {
            guard let fibre = fibre(name) else { throw wrong(" names no fibre: '\(name)'") }
            guard fibre.quantum else { throw wrong(": fibre \(name) is classical only") }
            switch site {
            case fibre.from: site = fibre.to
            case fibre.to: site = fibre.from
            default: throw wrong(" has reached \(site), where fibre \(name) (\(fibre.from) to \(fibre.to)) does not end")
            }
        }
        guard site == receiver.site else { throw wrong(" ends at \(site), but \(receiver.serial) stands at \(receiver.site)") }
    }
}
