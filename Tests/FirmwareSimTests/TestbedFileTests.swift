// Testbed files: what is right is read, what is wrong is named with line and key.

import FirmwareSim
import Foundation
import QKDModel
import QuantumOptics
import Testing

@Suite struct TestbedFileTests {
    @Test func madridIsThePapers() throws {
        let madrid = try TestbedConfiguration(file: testbedFile("madrid"))
        #expect(madrid.sites == ["almagro", "norte", "concepcion"])
        func loss(_ name: String) -> Double { madrid.fibre(name)?.spans.reduce(0) { $0 + $1.loss.value } ?? 0 }
        func length(_ name: String) -> Double { madrid.fibre(name)?.spans.reduce(0) { $0 + $1.lengthKm } ?? 0 }
        #expect(abs(loss("almagro-norte") - 6) < 0.01 && length("almagro-norte") == 3.9)
        #expect(abs(loss("almagro-concepcion") - 11) < 0.01 && length("almagro-concepcion") == 26.4)
        #expect(abs(loss("norte-concepcion") - 7) < 0.01 && length("norte-concepcion") == 5.5)
        #expect(madrid.fibre("norte-concepcion")?.quantum == false)
        #expect(madrid.plan.channelCount == 17)
        #expect(
            madrid.plan.frequencyHz(channel: 11) > madrid.plan.quantumHz && madrid.plan.quantumHz > madrid.plan.frequencyHz(channel: 12))
        #expect(madrid.links.map(\.referenceKeyRateBps) == [70_000, 20_000])
        #expect(madrid.devices.map(\.role) == [.transmitter, .receiver, .receiver])
    }

    @Test(arguments: ["small", "serial"]) func theOthersAreRead(name: String) throws {
        #expect(try TestbedConfiguration(file: testbedFile(name)).devices.count == 2)
    }

    /// One edit, and what the error must say.
    @Test(arguments: [
        ("length_km: 1.0", "length_m: 1000", 17, "length_km", "'length_m' has another unit"),
        ("relock_s: 0.05", "relock_ms: 50", 44, "devices[1].relock_ms", "units stand in the key"),
        ("relock_s: 0.05", "relock_s: 50 ms", 44, "devices[1].relock_s", "plain number"),
        ("efficiency: 0.80", "efficiency: 80", 41, "devices[1].efficiency", "from 0.01 to 1.0"),
        ("site: beta", "site: gamma", 38, "devices[1].site", "names no site: 'gamma'"),
        ("from: alpha", "from: omega", 17, "fibres[0].from", "names no site"),
        ("loss_db: 1.0\n    connectors", "loss_db: 2.0\n    connectors", 20, "fibres[0].loss_db", "add up to 1.0"),
        ("fibres: [alpha-beta]", "fibres: [alpha-gamma]", 0, "devices", "names no fibre: 'alpha-gamma'"),
        ("receiver: SMALL-RX-1 }", "receiver: NOBODY }", 0, "devices", "names no receiver: 'NOBODY'"),
        ("path: BETA", "path: GAMMA", 0, "links[0].path", "no path of SMALL-TX-1"),
        ("role: receiver", "role: observer", 0, "devices[1].role", "transmitter or receiver"),
        ("seed: 7", "seed: 7\nseed: 8", 8, "seed", "twice"),
        ("sites: [alpha, beta]", "sites: [alpha, beta", 10, "sites", "no YAML"),
        ("    boot_s: 0.2\n", "    boot_s: 0.2\n    boot_s: 0.3\n", 0, "boot_s", "twice"),
        ("sites: [alpha, beta]\n", "\n", 0, "sites", "is missing"),
        ("    to: beta", "    to: alpha", 0, "fibres[0].to", "a fibre joins two sites"),
        ("site: beta", "site: alpha", 0, "devices", "ends at beta, but SMALL-RX-1 stands at alpha"),
        ("site: alpha", "site: beta", 0, "devices", "ends at alpha, but SMALL-RX-1 stands at beta"),
        ("port: 0, data_port: 0", "port: 5025, data_port: 5025", 0, "devices", "wanted by control of SMALL-TX-1 and by data of SMALL-TX-1"),
        ("transport: tcp", "transport: gpib", 0, "devices[0].endpoints[0].transport", "tcp, pty or usb"),
    ])
    func errorsNameLineAndKey(old: String, new: String, line: Int, key: String, reason: String) throws {
        let text = try String(contentsOfFile: testbedFile("small"), encoding: .utf8)
        #expect(text.contains(old))
        let edited = text.replacing(old, with: new, maxReplacements: 1)
        let error = #expect(throws: FirmwareSimError.self) { try TestbedConfiguration(yaml: edited, file: "small.yaml") }
        guard case .badTestbed(let file, let at, let name, let why) = error else {
            Issue.record("wrong error: \(String(describing: error))")
            return
        }
        #expect(file == "small.yaml" && at > 0)
        #expect(name.hasSuffix(key) && why.contains(reason), "\(name): \(why)")
        // The line is the one that was edited, unless the fault shows only when names are joined.
        if line > 0 {
            let lines = edited.split(separator: "\n", omittingEmptySubsequences: false)
            let wanted = lines.firstIndex { $0.contains(new.split(separator: "\n")[0]) }.map { $0 + 1 } ?? 0
            #expect(abs(at - wanted) <= 3, "line \(at), edited \(wanted)")
        }
    }

    @Test func twoDevicesOnOnePortAreSaid() throws {
        let text = try String(contentsOfFile: testbedFile("small"), encoding: .utf8)
        func testbed(_ endpoint: String) throws -> TestbedConfiguration {
            try TestbedConfiguration(yaml: text.replacing("{ transport: tcp, port: 0, data_port: 0 }", with: endpoint))
        }
        #expect(throws: FirmwareSimError.self) { try testbed("{ transport: tcp, port: 5025, data_port: 0 }") }
        #expect(try testbed("{ transport: usb, port: 3240 }").portConflict == nil, "devices on USB share a server")
        #expect(try testbed("{ transport: tcp, host: 0.0.0.0, port: 0 }").warnings.count == 2)
        #expect(try testbed("{ transport: tcp, host: localhost }").warnings.isEmpty)
    }

    @Test func missingFilesAreSaid() {
        #expect(throws: FirmwareSimError.self) { try TestbedConfiguration(file: "/nonexistent/testbed.yaml") }
    }

    @Test func timelineFaultsAreChecked() throws {
        let text = try String(contentsOfFile: testbedFile("small"), encoding: .utf8)
        for line in [
            "{ at_s: 1, device: SMALL-TX-1, fault: fibre-cut }", "{ at_s: 1, device: X, fault: slip }",
            "{ at_s: 1, device: SMALL-RX-1, fault: fire }", "{ at_s: 1, device: SMALL-RX-1, fault: added-loss }",
            "{ at_s: 1, device: SMALL-RX-1, fault: added-loss, value: -3 }", "{ at_s: 1, device: SMALL-RX-1, fault: unplug }",
        ] {
            #expect(throws: FirmwareSimError.self) { try TestbedConfiguration(yaml: text + "\ntimeline:\n  - \(line)\n") }
        }
    }
}
