// State data of the whole node as one JSON document (config false nodes and the keys they hang on).

public import Foundation
import NodeAPI
import QKDModel

extension NodeModel {
    public func state(at now: Date) -> JSON {
        let node = JSON.made([
            "qkdn_status": YANGNames.identity(status),
            "qkd_applications": .made(["qkd_app": .array(applicationStates(now))]),
            "qkd_interfaces": .made(["qkd_interface": .array(interfaces.values.sorted { $0.number < $1.number }.map(state))]),
            "qkd_links": .made(["qkd_link": .array(links.values.sorted { $0.id.uuidString < $1.id.uuidString }.compactMap(state))]),
            YANGNames.cv + "peers": .made(["peer": .array(peerStates())]),
            YANGNames.cv + "key-store": keyStore(),
        ])
        return .object([YANGNames.node: node])
    }

    // MARK: Applications

    /// Those that the configuration has: the list's key is what the controller gave.
    private func applicationStates(_ now: Date) -> [JSON] {
        let known = Dictionary(applications.values.compactMap { entry in entry.status.appID.map { ($0, entry) } }) { first, _ in first }
        return desired.applications.keys.sorted { $0.uuidString < $1.uuidString }.compactMap { id in
            guard let application = known[id] else { return nil }
            return state(application, id, now)
        }
    }

    private func state(_ entry: NodeApplication, _ id: UUID, _ now: Date) -> JSON {
        let application = entry.status
        let intervals = entry.account.filter { $0.end <= now }.map { interval in
            JSON.made([
                "end_time": .date(interval.end), "start_time": .date(interval.start), "consumed_bits": .count32(interval.bits),
            ])
        }
        let totals = JSON.made([
            "consumed-bits": .count64(application.consumedBits), "consumed-keys": .count64(application.consumedKeys),
            "refused-requests": .count64(application.refusedRequests), "enforced-bandwidth": .count32(application.enforcedBandwidth),
            "first-request": .date(application.firstRequest), "last-request": .date(application.lastRequest),
        ])
        return .made([
            "app_id": .uuid(id), "app_status": YANGNames.identity(word(application, now)), "creation_time": .date(application.created),
            "app_statistics": .made(["statistics": .array(intervals)]), YANGNames.cv + "consumption": totals,
        ])
    }

    // MARK: Interfaces

    private func state(_ interface: NodeInterface) -> JSON {
        let device = interface.device
        let words: [DeviceState: String] = [
            .off: "off", .initialising: "initialising", .calibrating: "calibrating", .ready: "ready", .generating: "generating",
            .fault: "fault",
        ]
        let group = sharing.first { $0.device == device.name }
        let link = links.values.compactMap(\.status).first { $0.device == device.name && $0.role == .receiver }
        let cv = JSON.made([
            "device": .string(device.name), "serial-number": .text(device.serial), "firmware": .text(device.firmware),
            "emulated": device.emulated.map { .bool($0) }, "device-state": .text(words[device.state]), "reason": .string(interface.reason),
            "symbol-rate": .count64(device.symbolRateHz.map { Int($0) }), "optical-path": .array(device.paths.map { .string($0) }),
            "shared-transmitter-group": group.map { .string($0.device) }, "schedule-efficiency": .fraction(group?.scheduleEfficiency),
            "calibration": link.map(calibration), "spectrum": device.spectrum.map { spectrum($0, device.name) },
        ])
        return .made([
            "qkdi_id": .number(Int(interface.number)), "qkdi_status": YANGNames.identity(interface.status.rawValue),
            YANGNames.cv + "cv-qkd": cv,
        ])
    }

    private func spectrum(_ spectrum: LinkSpectrum, _ instrument: String) -> JSON {
        let peaks = spectrum.peaks.filter { (1...9999).contains($0.channel) }.map {
            JSON.made(["number": .string("\($0.channel)"), "power": .decimal($0.power, 3)])
        }
        return .made([
            "measured": .date(spectrum.measured), "instrument": .string(instrument), "total-power": .decimal(spectrum.totalPower, 3),
            "noise-floor": .decimal(spectrum.noiseFloor, 3), "peak": .array(peaks),
        ])
    }

    private func calibration(_ link: LinkStatus) -> JSON {
        let device = interfaces.values.first { $0.device.name == link.device }?.device
        // The ages are known where the receiver is.
        let state: String? =
            if link.alarms.contains(where: { $0.kind == "calibration" }) { "expired" } else if device?.state == .calibrating {
                "running"
            } else {
                link.shotAge != nil ? "valid" : link.role == .receiver ? "missing" : nil
            }
        return .made([
            "state": .text(state), "shot-age": .decimal(link.shotAge.map { max(0, $0) }, 3),
            "dark-age": .decimal(link.darkAge.map { max(0, $0) }, 3), "symbols": .string("\(link.calibrationSymbols)"),
            "shot-noise-variance": .decimal(link.shotNoise, 6), "electronic-noise": .decimal(link.electronicNoise, 6),
        ])
    }

    // MARK: Links

    private func state(_ link: NodeLink) -> JSON? {
        // Writable in the model; answers show what is.
        var members: [String: JSON?] = ["qkdl_id": .uuid(link.id), "qkdl_status": YANGNames.identity(link.told.rawValue)]
        guard desired.links[link.id] != nil else { return nil }
        guard let status = link.status else { return .made(members) }
        members["qkdl_type"] = YANGNames.identity("PHYS")
        var figures = link.performance.figures
        figures["phys_perf"] = link.performance.physical
        members["qkdl_performance"] = .made(figures)
        members[YANGNames.cv + "cv-qkd-state"] = cvState(link, status)
        return .made(members)
    }

    /// Of `LinkStatus.stage`, as the module lists them.
    private static let stages: Set = [
        "committed", "generating", "waiting", "reconciled", "verified", "estimated", "amplified", "tagged", "deposited", "void",
    ]

    private func cvState(_ link: NodeLink, _ status: LinkStatus) -> JSON {
        let performance = link.performance
        let share = sharing.flatMap { group in group.links.map { (group.device, $0) } }.first { $0.1.link == status.link }
        let device = interfaces.values.first { $0.device.name == status.device }?.device
        let pads = [status.padForward, status.padBackward].compactMap { $0 }
        return .made([
            "reason": .string(link.reason), "connected": .bool(status.connected),
            "symbol-rate": .count64(device?.symbolRateHz.map { Int($0) }), "modulation-variance": .decimal(status.modulationVariance, 6),
            "transmittance": .decimal(performance.transmittance.map { min(max($0, 0), 1) }, 9),
            "excess-noise": .decimal(performance.excessNoise, 6), "signal-to-noise-ratio": .decimal(performance.snr, 9),
            "frame-error-rate": .fraction(status.performance.frameErrorRate), "estimated": .date(status.last?.ended),
            "calibration": calibration(status), "shared-transmitter-group": share.map { .string($0.0) },
            "block-stage": status.stage.flatMap { Self.stages.contains($0) ? .string($0) : nil },
            "block-progress": status.stage.flatMap { _ in .fraction(status.progress) },
            "block-expected-bits": .count64(status.expectedBits),
            "slot-share": .fraction(share?.1.share), "slots": .count64(status.slots), "blocks": .count64(status.blocksDeposited),
            "blocks-void": .count64(status.blocksVoid), "deposited-bits": .count64(status.bitsDeposited),
            "authentication-key": .count64(pads.min()),
        ])
    }

    // MARK: Peers and the key store

    private func peerStates() -> [JSON] {
        desired.peers.values.sorted { $0.id.uuidString < $1.id.uuidString }.map { peer in
            let pool = store?.peers.first { $0.peer == peer.node }
            let connected = links.values.contains { $0.status?.peer == peer.node && $0.status?.connected == true }
            let link = linkService.isHere != true ? "unknown" : peers[peer.node] == nil ? "absent" : connected ? "connected" : "known"
            let km = storeService.isHere != true ? "unknown" : pool == nil ? "absent" : pool?.state == .up ? "connected" : "known"
            let state = JSON.made([
                "link-service": .string(link), "key-management": .string(km), "reason": .text(pool?.reason),
                "stored-bits": .count64(pool?.storedBits), "in-rate": .decimal(pool?.inRate, 3), "out-rate": .decimal(pool?.outRate, 3),
            ])
            return .object(["qkdn_id": .string(peer.id.uuidString.lowercased()), "state": state])
        }
    }

    private func keyStore() -> JSON {
        guard let store, storeService.isHere == true else { return .null }
        let consumers = applications.values.map(\.status).sorted { ($0.server, $0.client) < ($1.server, $1.client) }.map { application in
            let running = application.consumption.last
            let rate = running.map { Double($0.bits) / max(1, min($0.end, application.lastRequest ?? $0.end).timeIntervalSince($0.start)) }
            return JSON.made([
                "server": .string(application.server.rawValue), "client": .string(application.client.rawValue),
                "app_id": .uuid(application.appID), "peer": .string(application.peer.rawValue),
                "standing": .string(application.state.rawValue.lowercased()), "consumed-bits": .count64(application.consumedBits),
                "consumption-rate": .decimal(rate, 3), "refused-requests": .count64(application.refusedRequests),
                "first-request": .date(application.firstRequest), "last-request": .date(application.lastRequest),
            ])
        }
        func sum(_ part: (StorePeerStatus) -> Double) -> Double { store.peers.map(part).reduce(0, +) }
        return .made([
            "stored-bits": .count64(store.links.map(\.storedBits).reduce(0, +)), "in-rate": .decimal(sum(\.inRate), 3),
            "out-rate": .decimal(sum(\.outRate), 3), "delivered-bits": .count64(store.links.map(\.deliveredBits).reduce(0, +)),
            "consumer": .array(consumers),
        ])
    }
}

extension JSON {
    /// A part of a whole: decimal64 with six digits in 0...1.
    static func fraction(_ value: Double?) -> JSON? { value.flatMap { $0.isFinite ? .decimal(min(max($0, 0), 1), 6) : nil } }
}
