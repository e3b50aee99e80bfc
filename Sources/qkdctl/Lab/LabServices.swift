// How a lab starts each program, and how it knows that the program is ready.

import Foundation

extension Lab {
    /// The test PKI and the secrets between sites, by the commands that an operator would use.
    func makeSecrets() async throws {
    }

    func writeConfigurations(devices: DeviceURIs) throws {
        for site in plan.sites {
            try folder.write(plan.linkConfiguration(site, devices: devices), to: folder.site(site.name) + "/linkd.yaml")
            try folder.write(plan.storeConfiguration(site), to: folder.site(site.name) + "/lkmsd.yaml")
        }
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
        [:]
    }

    func startServices(_ site: LabSite, _ supervisor: Supervisor) async throws {
    }
}
