// How a lab starts each program, and how it knows that the program is ready.

import Foundation
import Glibc
import KeyMaterial
import QKDModel

extension Lab {
    /// The test PKI and the secrets between sites, by the commands that an operator would use.
    func makeSecrets() async throws {
        try await makePKI()
        for link in plan.links {
            let (here, there) = (link.transmitterSite, link.receiverSite)
            try installStoreSecret(here, there)
            try await installLinkSecret(here, there)
        }
    }

    /// Every site gets the authority's certificate and its own; nobody gets the authority's key.
    private func makePKI() async throws {
        let (nodes, applications) = (plan.sites.map(\.name), plan.sites.map(\.application))
        try await command(
            "qkdctl",
            [
                "pki", "make", "--out", "pki", "--nodes", nodes.joined(separator: ","), "--saes", applications.joined(separator: ","),
                "--agents", nodes.joined(separator: ","), "--clients", "controller,operator",
            ])
        for site in plan.sites {
            let names = ["ca.crt"] + [site.kme, site.agent, site.application].flatMap { ["\($0).crt", "\($0).key"] }
            for name in names {
                try FileManager.default.copyItem(atPath: "\(folder.path)/pki/\(name)", toPath: "\(folder.site(site.name))/pki/\(name)")
            }
        }
    }

    /// Made once and carried to the far end, for the classical channel (docs/wire/classical-channel.md).
    private func installLinkSecret(_ here: String, _ there: String) async throws {
        let made = folder.site(here) + "/secrets/" + there
        try await command("qkdctl", ["secret", "make", made])
        try FileManager.default.copyItem(atPath: made, toPath: folder.site(there) + "/secrets/" + here)
    }

    /// The same random file at both ends, for the KM link (docs/wire/km-link.md).
    private func installStoreSecret(_ here: String, _ there: String) throws {
        let secret = SecretBytes(count: 1 << 16, random: KernelRandom())
        for (site, peer) in [(here, there), (there, here)] {
            try folder.write(secret, to: folder.site(site) + "/secrets/km-\(peer)")
        }
    }

    func writeConfigurations(devices: DeviceURIs) throws {
        for site in plan.sites {
            try folder.write(plan.linkConfiguration(site, devices: devices), to: folder.site(site.name) + "/linkd.yaml")
            try folder.write(plan.storeConfiguration(site), to: folder.site(site.name) + "/lkmsd.yaml")
        }
        try writeAgentConfigurations()
    }

    /// Runs a program of this build to its end, in the lab's folder.
    /// - Throws: `LabError.commandFailed` with its last words.
    func command(_ name: String, _ arguments: [String]) async throws {
        let label = ([name] + arguments.prefix(2)).joined(separator: "-").replacing("/", with: "_")
        let child = try await ChildProcess.start(
            ChildPlan(name: label, command: [program(name)] + arguments, folder: folder.path, output: folder.output(label)))
        let end = await child.wait()
        guard end == .exited(0) else {
            throw LabError.commandFailed(command: ([name] + arguments).joined(separator: " "), end: end, tail: child.tail())
        }
    }

    /// - Returns: each device's address.
    /// - Throws: `LabError.silent` where the emulator did not say all of them in time.
    func startEmulator(_ supervisor: Supervisor) async throws -> DeviceURIs {
        let name = "emulator"
        try await supervisor.start(emulatorPlan(name), restarting: true)
        let limit = 20
        let deadline = ContinuousClock.now + .seconds(limit)
        while ContinuousClock.now < deadline {
            let devices = Self.endpoints(in: folder.output(name) + ".out")
            if bed.devices.allSatisfy({ devices[$0.serial] != nil }) { return devices }
            if let problem = await supervisor.problem { throw problem }
            // What does not even begin will not do so the next time.
            if let end = await supervisor.child(name)?.ended, end != .killed(signal: SIGKILL) {
                throw LabError.childEnded(name: name, end: end, tail: await supervisor.child(name)?.tail() ?? [])
            }
            try await Task.sleep(for: .milliseconds(50))
        }
        throw LabError.silent(name: name, seconds: limit, tail: await supervisor.child(name)?.tail() ?? [])
    }

    /// The same ports whenever it is started, so that services find their devices again as after a reboot. Another seed each
    /// time: no device of this world sends the same symbols twice.
    private func emulatorPlan(_ name: String) throws -> ChildPlan {
        var command = [
            program("qkd-emulator"), "--testbed", testbedFile, "--pace", pace.rawValue, "--speed", "\(speed)", "--any-ports", "--json",
        ]
        for device in bed.devices where device.hasTCP {
            command += ["--ports", "\(device.serial)=\(try FreePorts.next()),\(try FreePorts.next())"]
        }
        let (first, seed) = (command, bed.seed ?? 1)
        var plan = ChildPlan(name: name, command: first, folder: folder.path, output: folder.output(name))
        plan.again = { restarts in first + ["--seed", "\(seed &+ UInt64(restarts))"] }
        return plan
    }

    /// The emulator's endpoint lines; TCP before pty where a device has both.
    private static func endpoints(in file: String) -> DeviceURIs {
        struct Line: Decodable {
            var device: String
            var transport: String
            var uri: String
        }
        var devices: DeviceURIs = [:]
        for text in ((try? String(contentsOfFile: file, encoding: .utf8)) ?? "").split(separator: "\n") {
            guard let line = try? JSONDecoder().decode(Line.self, from: Data(text.utf8)) else { continue }
            if line.transport == "tcp" || devices[line.device] == nil { devices[line.device] = line.uri }
        }
        return devices
    }

    /// The services of a site. No order is needed: each waits for what it needs.
    func startServices(_ site: LabSite, _ supervisor: Supervisor) async throws {
        for service in ["lkmsd", "linkd", "agentd"] {
            let name = "\(site.name)-\(service)"
            let command = [program("qkd-\(service)"), "--config", "\(service).yaml"]
            try await supervisor.start(
                ChildPlan(name: name, command: command, folder: folder.site(site.name), output: folder.output(name)), restarting: true)
        }
    }
}
