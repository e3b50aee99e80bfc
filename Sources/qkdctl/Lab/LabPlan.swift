// A lab on paper: which site runs what, on which ports and files. Made from the testbed file's sites, devices and
// links; everything that a plan names is relative to its site's folder, so that socket paths stay short.

import Foundation
import NodeRuntime
import PostProcessing
import QuantumLink

/// The part of a testbed file that a lab needs; `qkd-emulator` checks the whole of it.
struct Testbed: Decodable, Sendable {
    struct Device: Decodable, Sendable {
        struct Endpoint: Decodable, Sendable { var transport: String }
        var serial: String
        var site: String
        var endpoints: [Endpoint]?
        var hasTCP: Bool { endpoints?.contains { $0.transport == "tcp" } ?? false }
    }

    struct Link: Decodable, Sendable {
        var name: String
        var transmitter: String
        var receiver: String
        var path: String
        var lossDB: Double
        /// A code's name; absent or `auto`: the two ends choose.
        var code: String?
        /// Absent: chosen.
        var efficiency: Double?
        var blockSymbols: Int
        var slotSymbols: Int
        var weight: Double
        var referenceKeyRateBps: Double?

        enum CodingKeys: String, CodingKey {
            case name, transmitter, receiver, path, code, efficiency, weight
            case lossDB = "loss_db"
            case blockSymbols = "block_symbols"
            case slotSymbols = "slot_symbols"
            case referenceKeyRateBps = "reference_key_rate_bps"
        }
    }

    var testbed: String
    var seed: UInt64?
    var devices: [Device]
    var links: [Link]

    /// - Throws: `NodeRuntimeError` with file, line and key, or `LabError.testbed`.
    static func load(_ path: String) throws -> Testbed {
        let bed = try Configuration.load(Testbed.self, from: path, partial: true)
        guard !bed.links.isEmpty else { throw LabError.testbed(file: path, problem: "it has no links, so there is nothing to run") }
        return bed
    }

    /// What the link services would refuse minutes later.
    /// - Throws: `LabError.testbed` for a code that does not exist, or slots or blocks that are shorter than one of its frames.
    func checkCodes(file: String) throws {
        for link in links {
            guard let name = link.code, name != LinkSettings.automatic else { continue }
            guard let code = try? ReconciliationCode.named(name) else {
                let known = ReconciliationCode.all.map(\.id).joined(separator: ", ")
                throw LabError.testbed(
                    file: file, problem: "link \(link.name): code '\(name)' is none of \(LinkSettings.automatic), \(known)")
            }
            for (name, symbols) in [("slot_symbols", link.slotSymbols), ("block_symbols", link.blockSymbols)]
            where symbols < code.frameSymbols {
                throw LabError.testbed(
                    file: file,
                    problem: "link \(link.name): \(name) is \(symbols), a frame of \(code.id) needs at least \(code.frameSymbols)")
            }
        }
    }

    /// Names become folders and files, and words of configuration files.
    /// - Throws: `LabError.testbed` for a name that is no plain one.
    func checkNames(file: String) throws {
        for name in [testbed] + devices.flatMap({ [$0.serial, $0.site] }) + links.map(\.name) where !Self.isPlain(name) {
            throw LabError.testbed(
                file: file, problem: "'\(name)' cannot be a name: use 1 to 64 letters, digits, '.', '_' and '-', no '.' or '-' at the start"
            )
        }
    }

    static func isPlain(_ name: String) -> Bool {
        guard let first = name.utf8.first, (1...64).contains(name.utf8.count), first != UInt8(ascii: "."), first != UInt8(ascii: "-") else {
            return false
        }
        return name.unicodeScalars.allSatisfy { $0.isASCII && ($0.properties.isAlphabetic || "0123456789._-".unicodeScalars.contains($0)) }
    }
}

/// One site of the lab: a node with its two services.
struct LabSite: Sendable {
    var name: String
    var channelPort: Int
    var keyPort: Int
    var kmPort: Int
    var restconfPort: Int
    /// Device serials that stand here, in the testbed's order.
    var devices: [String]
    /// Sites with which it shares a link, and a secret.
    var peers: [String]

    var application: String { "app-\(name)" }
    var kme: String { "kme-\(name)" }
    var agent: String { "agent-\(name)" }
}

/// A link between two sites of the lab.
struct LabLink: Sendable {
    var bed: Testbed.Link
    var transmitterSite: String
    var receiverSite: String
    var name: String { bed.name }
}

struct LabPlan: Sendable {
    let name: String
    let sites: [LabSite]
    let links: [LabLink]
    /// Services know no peers and no links: a controller makes them.
    let bare: Bool
    /// Links are recorded, and deposit nothing.
    let records: Bool

    /// - Parameter freePort: a loopback TCP port that nobody uses.
    init(_ bed: Testbed, file: String, bare: Bool = false, records: Bool = false, freePort: () throws -> Int) throws {
        let siteOf = Dictionary(bed.devices.map { ($0.serial, $0.site) }) { first, _ in first }
        func site(of device: String) throws -> String {
            guard let site = siteOf[device] else { throw LabError.testbed(file: file, problem: "a link names no device: '\(device)'") }
            return site
        }
        name = bed.testbed
        (self.bare, self.records) = (bare, records)
        links = try bed.links.map {
            LabLink(bed: $0, transmitterSite: try site(of: $0.transmitter), receiverSite: try site(of: $0.receiver))
        }
        var names: [String] = []
        for link in links {
            for site in [link.transmitterSite, link.receiverSite] where !names.contains(site) { names.append(site) }
        }
        let links = links
        sites = try names.map { name in
            LabSite(
                name: name, channelPort: try freePort(), keyPort: try freePort(), kmPort: try freePort(), restconfPort: try freePort(),
                devices: bed.devices.filter { $0.site == name }.map(\.serial),
                peers: links.compactMap { $0.peer(of: name) })
        }
    }

    func site(_ name: String) -> LabSite? { sites.first { $0.name == name } }
}

extension LabLink {
    func peer(of site: String) -> String? {
        site == transmitterSite ? receiverSite : site == receiverSite ? transmitterSite : nil
    }
}
