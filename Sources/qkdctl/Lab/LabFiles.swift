// The configuration files of a lab's services, as a person would write them.

import Foundation
import Glibc
import KeyMaterial
import QuantumLink

/// Where one device answers: `tcp:host:port`.
typealias DeviceURIs = [String: String]

extension LabPlan {
    /// `qkd-linkd`'s file for one site.
    /// - Throws: `LabError.noEndpoint` where a device of the site has no URI.
    func linkConfiguration(_ site: LabSite, devices: DeviceURIs) throws -> String {
        var lines = [
            "# Written by qkdctl lab for testbed '\(name)'. Paths are relative to this folder.",
            "node: \(site.name)",
            "socket: run/linkd.sock",
            "state: state/linkd",
            "deposit: run/deposit.sock",
            "secrets: secrets",
            "channel: { listen: \"127.0.0.1:\(site.channelPort)\" }",
            "devices:",
        ]
        for (index, serial) in site.devices.enumerated() {
            guard let uri = devices[serial] else { throw LabError.noEndpoint(device: serial) }
            lines.append("  - { name: \(Self.deviceName(index)), uri: \"\(uri)\" }")
        }
        if bare { return (lines + ["peers: []", "links: []"]).joined(separator: "\n") + "\n" }
        lines.append("peers:")
        for peer in site.peers.compactMap(self.site) {
            lines.append("  - { node: \(peer.name), channel: \"127.0.0.1:\(peer.channelPort)\", secret: secrets/\(peer.name) }")
        }
        lines.append("links:")
        for link in links {
            guard let peer = link.peer(of: site.name) else { continue }
            lines += linkLines(link, at: site, peer: peer)
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func linkLines(_ link: LabLink, at site: LabSite, peer: String) -> [String] {
        let transmits = link.transmitterSite == site.name
        let serial = transmits ? link.bed.transmitter : link.bed.receiver
        let device = Self.deviceName(site.devices.firstIndex(of: serial) ?? 0)
        let lines = [
            "  - id: \(link.name)",
            "    peer: \(peer)",
            "    role: \(transmits ? "TRANSMITTER" : "RECEIVER")",
            "    device: \(device)",
            "    path: \(link.bed.path)",
            "    loss_db: \(link.bed.lossDB)",
            "    code: \(link.bed.code ?? LinkSettings.automatic)",
            "    block_symbols: \(link.bed.blockSymbols)",
            "    slot_symbols: \(link.bed.slotSymbols)",
            "    weight: \(link.bed.weight)",
            "    epsilon: 1.0e-10",
        ]
        return lines + (link.bed.efficiency.map { ["    efficiency: \($0)"] } ?? []) + (records ? ["    record: \(Self.recordings)"] : [])
    }

    /// Where a site's recordings lie, in its folder.
    static let recordings = "recordings"

    private static func deviceName(_ index: Int) -> String { "device\(index + 1)" }

    /// `qkd-lkmsd`'s file for one site. Keys of the emulator are delivered: this is a lab.
    func storeConfiguration(_ site: LabSite) -> String {
        func tls(_ port: Int) -> String {
            "{ listen: \"127.0.0.1:\(port)\", certificate: pki/\(site.kme).crt, key: pki/\(site.kme).key, ca: pki/ca.crt }"
        }
        var lines = [
            "# Written by qkdctl lab for testbed '\(name)'. Paths are relative to this folder.",
            "node: \(site.name)",
            "socket: run/lkmsd.sock",
            "deposit: run/deposit.sock",
            "database: state/lkms.sqlite",
            "master_key: secrets/lkms.master",
            "api014: \(tls(site.keyPort))",
            "km: \(tls(site.kmPort))",
            "secrets: secrets",
            bare ? "peers: []" : "peers:",
        ]
        for peer in site.peers.compactMap(self.site) where !bare {
            lines.append(
                "  - { node: \(peer.name), km: \"127.0.0.1:\(peer.kmPort)\", certificate_name: \(peer.kme), secret: secrets/km-\(peer.name) }"
            )
        }
        lines.append("applications:")
        for name in [site.name] + (bare ? [] : site.peers) { lines.append("  - { sae: app-\(name), node: \(name) }") }
        lines += ["deliver_emulated: true", "key_size: 256"]
        return lines.joined(separator: "\n") + "\n"
    }
}

/// The folder of a lab and what stands where in it.
struct LabFolder: Sendable {
    let path: String
    /// Says that a lab made the folder, for ever.
    private var marker: String { path + "/.lab" }
    /// Says which process works in it, as long as one does.
    private var owner: String { path + "/lab.pid" }

    func site(_ name: String) -> String { path + "/" + name }
    func output(_ child: String) -> String { path + "/logs/" + child }

    /// Empties a folder that an earlier lab made, or makes a new one, and marks it as this process's.
    ///
    /// - Throws: `LabError.folderTaken` or `.folderInUse`; nothing is removed then.
    func claim(sites: [String]) throws {
        let files = FileManager.default
        let entries = (try? files.contentsOfDirectory(atPath: path)) ?? []
        if !entries.isEmpty {
            let text = (try? String(contentsOfFile: owner, encoding: .utf8)) ?? ""
            guard files.fileExists(atPath: marker) || files.fileExists(atPath: owner) else { throw LabError.folderTaken(path: path) }
            if let pid = Int32(text.trimmingCharacters(in: .whitespacesAndNewlines)), pid > 0, kill(pid, 0) == 0, pid != getpid() {
                throw LabError.folderInUse(path: path, pid: pid)
            }
            for entry in entries {
                do { try files.removeItem(atPath: path + "/" + entry) } catch {
                    throw LabError.output(file: path + "/" + entry, reason: "an earlier lab's file cannot be removed")
                }
            }
        }
        for folder in [path + "/logs"] + sites.flatMap({ site in ["run", "state", "secrets", "pki"].map { self.site(site) + "/" + $0 } }) {
            do {
                try files.createDirectory(atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o750])
            } catch {
                throw LabError.output(file: folder, reason: "the folder cannot be made: may you write there? choose another --folder")
            }
        }
        try write("Made by qkdctl lab; the next lab here removes all of it.\n", to: marker)
        try write("\(getpid())\n", to: owner)
    }

    func write(_ text: String, to file: String, mode: Int = 0o640) throws {
        do { try Data(text.utf8).write(to: URL(filePath: file)) } catch { throw LabError.cannotWrite(file: file) }
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file)
    }

    /// Readable by the owner alone from the first moment on.
    func write(_ secret: SecretBytes, to file: String) throws {
        let handle = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        defer { close(handle) }
        let written = secret.withBytes { Glibc.write(handle, $0.baseAddress, $0.count) }
        guard handle >= 0, written == secret.count else { throw LabError.cannotWrite(file: file) }
    }

    /// The folder stays for a person to read; it may be claimed again.
    func release() { try? FileManager.default.removeItem(atPath: owner) }
}
