// The configuration file of qkd-linkd, as written in YAML.

import Foundation
import NodeAPI
import QKDModel
import QuantumLink

/// The keys of the file; paths are relative to the file's folder.
struct LinkdConfiguration: Decodable, Sendable {
    struct Face: Decodable, Sendable {
        /// Where receivers' ends wait for their transmitters' ends.
        var listen: String
    }
    struct Device: Decodable, Sendable {
        var name: String
        var uri: String
    }
    struct Peer: Decodable, Sendable {
        var node: NodeID
        var channel: String
        /// A path, or a bare name where there is a secrets folder. Absent: installed already.
        var secret: String?
    }
    /// A number, or `auto`: what gives the longest key.
    struct Chosen: Decodable, Sendable {
        var number: Double?

        init(_ number: Double?) { self.number = number }

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let number = try? container.decode(Double.self) {
                self.number = number
            } else if try container.decode(String.self) != LinkSettings.automatic {
                throw DecodingError.dataCorruptedError(in: container, debugDescription: "a number or auto is meant")
            }
        }
    }
    struct Link: Decodable, Sendable {
        var id: LinkID
        var peer: NodeID
        var role: DeviceRole
        var device: String
        var path: String?
        /// Of the DWDM grid with 100 GHz; absent: as the device is set.
        var grid_channel: Int?
        var loss_db: Double?
        /// A code's name; absent or `auto`: the two ends choose.
        var code: String?
        var efficiency: Chosen?
        /// Modulation variance, SNU.
        var variance: Chosen?
        var block_symbols: Int
        var slot_symbols: Int
        var weight: Double?
        var epsilon: Double?
        /// A folder: the link is recorded there, symbols and all, and deposits nothing.
        var record: String?
        /// SHOT symbols that a slot needs per generated symbol of its block.
        var calibration_ratio: Double?
        /// A known bound on what the receiver's noise moves between calibration and signal, a share of it.
        var drift_allowance: Double?
    }

    var node: NodeID
    var socket: String
    var state: String
    /// The folder of secret files that peers are given by name; needed for peers that are added at run time.
    var secrets: String?
    var deposit: String
    var channel: Face?
    var devices: [Device]
    var peers: [Peer]
    var links: [Link]
    /// Decoders that work side by side; by default one per processor, four at most.
    var decoders: Int?

    func service(folder: String) throws -> LinkServiceConfiguration {
        LinkServiceConfiguration(
            node: node, state: resolve(state, folder), listen: try channel.map { try address($0.listen, "channel.listen") },
            devices: devices.map { .init(name: $0.name, uri: $0.uri) },
            peers: try peers.map {
                .init(
                    node: $0.node, channel: try address($0.channel, "channel of peer \($0.node)"),
                    secret: $0.secret.map { secret($0, folder) })
            },
            links: links.map { link in
                var made = self.link(link)
                made.record = link.record.map { resolve($0, folder) }
                return made
            }, decoders: decoders ?? min(4, ProcessInfo.processInfo.activeProcessorCount),
            secrets: secrets.map { resolve($0, folder) })
    }

    private func address(_ text: String, _ key: String) throws -> LinkServiceConfiguration.Endpoint {
        do { return try .init(text) } catch {
            throw QuantumLinkError.configuration("\(key): '\(text)' is no host:port")
        }
    }

    private func secret(_ name: String, _ folder: String) -> String {
        secrets != nil && !name.contains("/") ? name : resolve(name, folder)
    }

    private func link(_ link: Link) -> LinkServiceConfiguration.Link {
        var settings = LinkSettings(
            identity: LinkIdentity(node: node, peer: link.peer, link: link.id, role: link.role), path: link.path ?? "",
            loss: Decibels(link.loss_db ?? 6), code: link.code ?? LinkSettings.automatic, efficiency: link.efficiency?.number,
            variance: link.variance?.number, blockSymbols: link.block_symbols, slotSymbols: link.slot_symbols, weight: link.weight ?? 1,
            epsilon: link.epsilon ?? 1e-10, calibrationRatio: link.calibration_ratio ?? 0.5, driftAllowance: link.drift_allowance ?? 0)
        settings.gridChannel = link.grid_channel
        return .init(settings: settings, device: link.device)
    }

    /// A link that somebody asks for at run time.
    func link(_ id: LinkID, _ plan: LinkPlan) -> LinkServiceConfiguration.Link {
        link(
            Link(
                id: id, peer: plan.peer, role: plan.role, device: plan.device, path: plan.path, grid_channel: plan.gridChannel,
                loss_db: plan.lossDB, code: plan.code,
                efficiency: .init(plan.efficiency), variance: .init(plan.variance), block_symbols: plan.blockSymbols,
                slot_symbols: plan.slotSymbols, weight: plan.weight,
                epsilon: plan.epsilon, calibration_ratio: plan.calibrationRatio, drift_allowance: plan.driftAllowance))
    }

    func resolve(_ path: String, _ folder: String) -> String { path.hasPrefix("/") || folder.isEmpty ? path : folder + "/" + path }
}
