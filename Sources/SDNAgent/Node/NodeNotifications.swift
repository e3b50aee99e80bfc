// The eleven notifications of ETSI GS QKD 015, clause 6, as JSON.

import Foundation
import NodeAPI
import QKDModel

extension NodeNotification {
    private static func link(_ id: UUID) -> String { "link/\(id.uuidString.lowercased())" }

    // MARK: Applications

    /// Without app_id: the controller gives it.
    static func applicationNew(_ application: StoreApplication, local: UUID) -> Self {
        let contents = JSON.made([
            "app_type": YANGNames.identity("CLIENT"), "server_app_id": .string(ApplicationURI.text(application.server)),
            "client_app_id": .array([.string(ApplicationURI.text(application.client))]), "app_priority": .count32(application.priority),
            "local_qkdn_id": .uuid(local), "app_qos": qos(application.qos),
        ])
        return Self(
            name: "sdqkdn_application_new", object: "application/\(application.id)", weight: .event,
            contents: .object(["qkd_application": contents]))
    }

    static func applicationQoS(_ application: StoreApplication) -> Self {
        let contents = JSON.made([
            "app_id": .uuid(application.appID), "app_qos": qos(application.qos), "app_priority": .count32(application.priority),
        ])
        return Self(
            name: "sdqkdn_application_qos_update", object: "application/\(application.id)", weight: .event,
            contents: .object(["qkd_application": contents]))
    }

    /// One that no controller has registered has no app_id: that is an event in words.
    static func applicationDisconnected(_ application: StoreApplication) -> Self {
        guard application.appID != nil else { return applicationEvent(application, "it has not asked for a while") }
        return Self(
            name: "sdqkdn_application_disconnected", object: "application/\(application.id)", weight: .event,
            contents: .object(["qkd_application": JSON.made(["app_id": .uuid(application.appID)])]))
    }

    static func applicationEvent(_ application: StoreApplication, _ message: String) -> Self {
        let contents = JSON.made([
            "app_id": .uuid(application.appID), "app_status": YANGNames.identity(application.connected ? "ON" : "DISCONNECTED"),
            "message": .string("\(application.server) with \(application.client): \(message)"), "severity": YANGNames.identity("MINOR"),
        ])
        return Self(name: "event", object: "application/\(application.id)", weight: .event, contents: .object(["application": contents]))
    }

    static func qos(_ qos: StoreApplicationQoS) -> JSON {
        .made([
            "max_bandwidth": .count32(qos.maxBandwidth), "min_bandwidth": .count32(qos.minBandwidth), "jitter": .count32(qos.jitter),
            "ttl": .count32(qos.ttl), "clients_shared_path_enable": qos.clientsSharedPathEnable.map { .bool($0) },
            "clients_shared_keys_required": qos.clientsSharedKeysRequired.map { .bool($0) },
        ])
    }

    // MARK: Interfaces

    static func interfaceNew(_ interface: NodeInterface, _ entry: JSON) -> Self {
        Self(
            name: "sdqkdn_interface_new", object: "interface/\(interface.number)", weight: .event,
            contents: .object(["qkd_interface": entry]))
    }

    static func interfaceDown(_ interface: NodeInterface) -> Self {
        Self(
            name: "sdqkdn_interface_down", object: "interface/\(interface.number)", weight: .event,
            contents: .object([
                "qkd_interface": .made([
                    "qkdi_id": .count32(Int(interface.number)),
                    "reason": .string(interface.reason.isEmpty ? "it cannot be reached" : interface.reason),
                ])
            ]))
    }

    static func interfaceOut(_ number: UInt32) -> Self {
        Self(
            name: "sdqkdn_interface_out", object: "interface/\(number)", weight: .event,
            contents: .object(["qkd_interface": .object(["qkdi_id": .number(Int(number))])]))
    }

    static func interfaceUp(_ interface: NodeInterface) -> Self {
        let contents = JSON.made([
            "qkdi_id": .number(Int(interface.number)), "qkdi_status": YANGNames.identity("ENABLED"),
            "message": .string("the device is back"),
            "severity": YANGNames.identity("MINOR"),
        ])
        return Self(name: "event", object: "interface/\(interface.number)", weight: .event, contents: .object(["interface": contents]))
    }

    // MARK: Links

    static func linkDown(_ id: UUID, _ reason: String) -> Self {
        Self(
            name: "sdqkdn_link_down", object: link(id), weight: .event,
            contents: .object([
                "qkd_link": .made(["qkdl_id": .uuid(id), "reason": .string(reason.isEmpty ? "it does not say why" : reason)])
            ]))
    }

    static func linkPerformance(_ id: UUID, _ performance: NodePerformance, _ block: LinkBlock?) -> Self {
        let estimate = JSON.made([
            "transmittance": .decimal(performance.transmittance, 9), "excess-noise": .decimal(performance.excessNoise, 6),
            "signal-to-noise-ratio": .decimal(performance.snr, 9), "frame-error-rate": .decimal(block?.frameErrorRate, 6),
            "estimated": .date(block?.ended),
        ])
        var figures = performance.figures
        figures["phys_perf"] = performance.physical
        figures[YANGNames.cv + "cv-qkd"] = estimate
        return Self(
            name: "sdqkdn_link_perf_update", object: link(id), weight: .performance,
            contents: .object(["qkd_link": .made(["qkdl_id": .uuid(id), "performance": .made(figures)])]))
    }

    static func linkOverloaded(_ id: UUID, _ performance: NodePerformance) -> Self {
        Self(
            name: "sdqkdn_link_overloaded", object: link(id), weight: .event,
            contents: .object(["qkd_link": .made(["qkdl_id": .uuid(id), "performance": .made(performance.figures)])]))
    }

    static func linkEvent(_ id: UUID, _ state: LinkState, _ message: String) -> Self {
        let contents = JSON.made([
            "qkdl_id": .uuid(id), "qkdl_status": YANGNames.identity(state.rawValue), "message": .string(message),
            "severity": YANGNames.identity("MINOR"),
        ])
        return Self(name: "event", object: link(id), weight: .event, contents: .object(["link": contents]))
    }

    /// Of the node itself, which the model has no place for: a link without an id.
    static func nodeEvent(_ message: String) -> Self {
        let contents = JSON.made(["message": .string(message), "severity": YANGNames.identity("MINOR")])
        return Self(name: "event", object: "node", weight: .event, contents: .object(["link": contents]))
    }

    // MARK: Alarms

    static func alarm(_ alarm: NodeAlarm, state: LinkState?) -> Self {
        Self(
            name: "alarm", object: alarm.link.map(link) ?? "node", weight: .alarm, contents: news(alarm, state, alarm.message))
    }

    static func over(_ alarm: NodeAlarm, state: LinkState?) -> Self {
        Self(
            name: "event", object: alarm.link.map(link) ?? "node", weight: .event, contents: news(alarm, state, "over: \(alarm.message)"))
    }

    /// What belongs to no link says so by having no id.
    private static func news(_ alarm: NodeAlarm, _ state: LinkState?, _ message: String) -> JSON {
        .object([
            "link": .made([
                "qkdl_id": .uuid(alarm.link), "qkdl_status": state.map { YANGNames.identity($0.rawValue) }, "message": .string(message),
                "severity": YANGNames.identity(alarm.severity.rawValue),
            ])
        ])
    }
}

extension NodePerformance {
    var figures: [String: JSON?] {
        ["expected_consumption": .count32(expectedConsumption), "skr": .count32(skr), "eskr": .count32(eskr)]
    }

    /// phys_perf: three digits after the point, so that excess noise goes in thousandths of a shot-noise unit.
    var physical: JSON {
        let values: [(JSON, Double?)] = [
            (YANGNames.identity("SNR"), snr), (.string(YANGNames.cv + "TRANSMITTANCE"), transmittance),
            (.string(YANGNames.cv + "EXCESS-NOISE"), excessNoise.map { $0 * 1000 }),
        ]
        return .array(
            values.compactMap { type, value in JSON.decimal(value, 3).map { .object(["perf_type": type, "value": $0]) } })
    }
}
