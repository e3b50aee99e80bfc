// Ring 1 of the USB tests, without any kernel: clients that labs already have, PyVISA and python-usbtmc, on PyUSB's
// USB/IP backend.

import FirmwareSim
import Foundation
import Testing

@Suite(.serialized) struct USBClientTests {
    private static let clients = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("SystemTests/clients").path

    /// Devices in the order in which the client opens them, each by its serial number.
    @Test(arguments: [
        ("usbip_visa.py", ["USB-RX-2", "USB-TX-1", "USB-RX-1"]), ("usbip_tmc.py", ["USB-RX-1", "USB-TX-1", "USB-RX-2"]),
    ])
    func labsOwnClients(client: String, serials: [String]) async throws {
        guard let python = await python(with: "pyvisa, pyvisa_py, usb, usbip_backend, usbtmc") else {
            print("skipped: no Python with pyvisa, pyvisa-py, pyusb, pyusb-usbip-backend and python-usbtmc (make deps installs them)")
            return
        }
        var configuration = try TestbedConfiguration(file: testbedFile("usb"))
        configuration.useAnyPorts()
        let server = try await EmulatorServer.start(configuration, pace: .follow(speed: 20))
        do {
            let port = String(try #require(server.endpoints.first).uri.dropLast(4).split(separator: ":").last ?? "")
            let ended = try await run(python, ["-B", "\(Self.clients)/\(client)", "127.0.0.1", port] + serials)
            #expect(ended.status == 0, "\(ended.output)")
            for serial in serials { #expect(ended.output.contains(serial)) }
            for line in ended.output.split(separator: "\n") { print("ring 1 right: \(client), no kernel: \(line)") }
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }
}
